"""What `patterns` reports of a moment of its search."""

from igniter_opt.formulations.columns.generation import ColumnGeneration
from igniter_opt.formulations.columns.incumbent import Incumbent
from igniter_opt.formulations.columns.share import ShareBound
from igniter_opt.result import Progress

# A linear master with less left uncovered has a value.
COVERED = 1e-6


def moment(
    elapsed_s: float,
    phase: str,
    incumbent: Incumbent,
    bounds: tuple[int, float],
    root: ColumnGeneration | None,
    share: ShareBound | None,
    share_bound: float,
    source: str | None,
) -> Progress:
    """Return a moment as `solve` hands it on.

    Parameters
    ----------
    bounds
        Lower bound on the cost in steps of the price grid, and what it was before it was rounded up to a cost.
    root, share
        Column generation for cost and for total share, as far as they have begun.
    share_bound
        On the total share, in percent.
    source
        Where a plan comes from that was found just now.
    """
    grid, best = incumbent.grid, incumbent.patterns
    cost = None if best is None else incumbent.cost
    currency = float(grid.cost(max(grid.units))) / max(grid.units)
    lower, raw = bounds[0], bounds[1] * currency
    nodes, columns, cells, lp_value = 0, None, None, None
    if root is not None:
        nodes, columns, cells = root.pricer.nodes, len(root.master.patterns), len(root.pricer.partition.alive_rows)
        if root.solution is not None and root.solution.uncovered < COVERED:
            lp_value = root.solution.objective * root.scale * currency
    if share is not None:
        nodes += share.pricer.nodes
        columns, cells, lp_value, raw = len(share.master.patterns), share.cells, share.lp_value, share.raw_bound
    by_share = phase == "share" and best is not None
    return Progress(
        elapsed_s=elapsed_s,
        phase=phase,
        cost=None if cost is None else float(grid.cost(cost)),
        lower_bound=float(grid.cost(lower)),
        gap=None if cost is None else (cost - lower) / cost,
        nodes=nodes,
        improved=source is not None,
        total_share_percent=incumbent.share_percent(best or []) if by_share else None,
        columns=columns,
        lp_value=lp_value,
        cells=cells,
        raw_bound=raw,
        share_lower_bound_percent=share_bound if by_share else None,
        source=source,
    )

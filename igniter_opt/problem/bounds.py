"""Quick lower bounds that need no solver."""

import numpy as np

from igniter_opt.base.errors import InfeasibleError
from igniter_opt.base.schema import in_short
from igniter_opt.base.text import counted
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.costs import PriceGrid

# Sums of shares leave this much (percent) to rounding.
_SHARE_GUARD = 1e-6


def price_grid(problem: Problem) -> PriceGrid:
    """Return the exact price grid of a problem's GPU types."""
    gpu_types = problem.gpu_types
    most = sum(problem.replica_limit(workload) for workload in range(len(problem.workloads)))
    return PriceGrid.of([gpu.price_per_hour for gpu in gpu_types], [gpu.count for gpu in gpu_types], most)


def share_bound_units(problem: Problem, grid: PriceGrid) -> float:
    """Lower bound on the cost, in steps of the price grid, from shares alone, and from whole GPUs.

    A placement never takes less share than its workload needs alone on the type (monotone model), and a
    percent of share of type g is never cheaper than price_g / 100, since a GPU has 100 of them. So every plan
    costs at least ``Σ_i min_g price_g r_ig / 100`` with r_ig the least total share of workload i on type g.
    And every workload is on some GPU that could carry it alone, so no plan is cheaper than the cheapest such GPU
    of any workload. Without a monotone model neighbours might help, and the bound is the price of the cheapest GPU.
    """
    if not all(problem.monotone):
        return float(min(grid.units))
    prices = np.array(grid.units, dtype=float)
    shares = problem.least_share_percent
    whole = np.where(np.isfinite(shares), prices, np.inf).min(axis=1).max()
    return float(max(whole, (shares * prices / 100.0).min(axis=1).sum()))


def require_enough_gpus(problem: Problem) -> None:
    """Raise InfeasibleError if the GPUs that there are have less share than workloads need at the very least.

    For every set of GPU types: the workloads that no other type can serve take at least their least shares alone
    (monotone model), each on the type of the set where that is least, and a GPU has 100 percent of share. That is
    necessary for a plan, not sufficient.
    """
    if not all(problem.monotone):
        return
    shares = problem.least_share_percent
    able = np.isfinite(shares)
    for hosts in sorted({(True,) * able.shape[1], *(tuple(row) for row in able.tolist())}):
        chosen = np.array(hosts)
        counts = [gpu.count for gpu, member in zip(problem.gpu_types, hosts, strict=True) if member]
        if any(count is None for count in counts):
            continue
        only = ~(able & ~chosen).any(axis=1)
        needed = float(shares[only].min(axis=1).sum())
        gpus = sum(count or 0 for count in counts)
        if needed > 100.0 * gpus + _SHARE_GUARD:
            names = ", ".join(gpu.name for gpu, member in zip(problem.gpu_types, hosts, strict=True) if member)
            whose = in_short(entry.name for entry, member in zip(problem.workloads, only, strict=True) if member)
            raise InfeasibleError(
                f"no plan exists: {counted(int(only.sum()), 'workload')} that only {names} can serve ({whose}) take at"
                f" least {needed:.1f} % of a GPU, each alone with the least share that serves it, and {gpus} GPU(s)"
                f" have {100 * gpus} %; a larger count, another GPU type, looser SLOs or lower rates would help",
                proven=True,
            )


def one_gpu_units(problem: Problem, grid: PriceGrid) -> int:
    """Lower bound on the cost of any plan that holds, in steps: every workload is on a GPU whose profile knows it."""
    types = range(len(problem.gpu_types))
    return max(
        min(grid.units[g] for g in types if problem.knows(workload, g)) for workload in range(len(problem.workloads))
    )


def least_total_share_percent(problem: Problem) -> float:
    """Lower bound on the total share of any plan, in percent: every workload alone on its thriftiest type."""
    if not all(problem.monotone):
        return 0.0
    return float(problem.least_share_percent.min(axis=1).sum())

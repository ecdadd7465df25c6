"""The rows of `bench.stress` as Markdown and CSV, and the check that no surviving plan is below a proven bound."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from bench.exact.table import ContradictionError
from bench.tables import markdown_row, read_grouped_csv, write_grouped_csv
from igniter_opt.data.instance import SloRule

# Costs are sums of prices with few decimals; bounds are such costs, too.
_COST_TOLERANCE = 1e-6
FACTORS = (1.1, 1.25, 1.5)


class Perturbation(NamedTuple):
    """Factors on all GPU latencies and rates, and the squared variation of gaps, 1 for Poisson arrivals."""

    words: str
    latency: float = 1.0
    rate: float = 1.0
    burstiness: float = 1.0


BOX = tuple(Perturbation(f"both {factor:g}", factor, factor) for factor in FACTORS)
PERTURBATIONS = (
    Perturbation("none"),
    *(Perturbation(f"latency {factor:g}", latency=factor) for factor in FACTORS),
    *(Perturbation(f"rate {factor:g}", rate=factor) for factor in FACTORS),
    *BOX,
    *(Perturbation(f"burstiness {factor:g}", burstiness=factor) for factor in FACTORS),
)


class Held(BaseModel):
    """Number of workloads that hold, and of those that are over their SLO for certain."""

    held: int
    over: int


class Row(BaseModel):
    """One plan, and how many workloads hold under every perturbation, by its words.

    Attributes
    ----------
    status
        ``optimal`` (proven), ``feasible`` (bound known), ``heuristic``, ``no plan`` or ``infeasible`` (proven).
    """

    instance: str
    workloads: int
    rule: SloRule
    method: str
    setting: str
    margin: float = 0.0
    headroom: float = 0.0
    burstiness: float = 1.0
    status: str = "failed"
    gpus: int | None = None
    cost_per_hour: float | None = None
    bound_per_hour: float | None = None
    seconds: float = 0.0
    held: dict[str, Held] = {}
    message: str = ""

    def survives(self, perturbation: str) -> bool:
        """Whether no workload is over its SLO for certain."""
        return perturbation in self.held and self.held[perturbation].over == 0


def _alike(rows: Sequence[Row]) -> list[tuple[str, SloRule]]:
    return list(dict.fromkeys((row.instance, row.rule) for row in rows))


def _matched(rows: Sequence[Row], setting: str) -> Row | None:
    return next((row for row in rows if row.method == "patterns" and row.setting == setting), None)


def proven_bound(rows: Sequence[Row], matched: Mapping[str, str], perturbation: str) -> float | None:
    """Return the best bound on plans, of one instance and rule, that survive a perturbation.

    What survives a perturbation survives every smaller one, so that bounds of these are bounds of it, too. Not under
    `p99`, where nobody has proven that lower rates and calmer gaps are easier.
    """
    asked = next(entry for entry in PERTURBATIONS if entry.words == perturbation)
    found = []
    for entry in PERTURBATIONS:
        smaller = all(own <= other for own, other in zip(entry[1:], asked[1:], strict=True))
        row = _matched(rows, matched[entry.words]) if smaller and (rows[0].rule == "half" or entry == asked) else None
        if row is not None and row.bound_per_hour is not None:
            found.append(row.bound_per_hour)
    return max(found, default=None)


def check(rows: Sequence[Row], matched: Mapping[str, str]) -> None:
    """Compare plans of `half` that survive a perturbation with the bound of the setting that matches it.

    Not under `p99`: bounds are those of plans within limits on the safe side there, and survival is sampled.

    Raises
    ------
    ContradictionError
        A bound is above a plan that survives, or the plan with a matching setting does not survive.
    """
    for instance, rule in _alike(rows):
        mine = [row for row in rows if (row.instance, row.rule) == (instance, rule)]
        for perturbation, setting in matched.items() if rule == "half" else ():
            exact = _matched(mine, setting)
            if exact is not None and perturbation in exact.held and not exact.survives(perturbation):
                raise ContradictionError(f"{instance}: the plan with {setting} does not survive {perturbation}")
            bound = proven_bound(mine, matched, perturbation)
            for row in mine:
                cost = row.cost_per_hour
                if bound is None or cost is None or not row.survives(perturbation):
                    continue
                if bound > cost + _COST_TOLERANCE:
                    raise ContradictionError(
                        f"{instance}: {row.method} with {row.setting} survives {perturbation} at {cost:g}, below the"
                        f" bound {bound:g}"
                    )


def least_costs(rows: Sequence[Row], matched: Mapping[str, str]) -> str:
    """Render, for rows of one instance and rule, what surviving each perturbation costs at least."""
    first = _matched(rows, "as predicted")
    head = ("survives", "least cost/h", "proven bound/h", "price", "that plan survives", "cheapest here by method")
    lines = [markdown_row(head), markdown_row(["---"] * len(head))]
    for perturbation, setting in matched.items():
        found = _matched(rows, setting)
        if found is None:
            continue
        if found.cost_per_hour is None:
            lines.append(markdown_row([perturbation, found.status, "-", "-", "-", "-"]))
            continue
        cheapest, bound = [], proven_bound(rows, matched, perturbation)
        for method in dict.fromkeys(row.method for row in rows):
            costs = [
                (row.cost_per_hour, row.setting)
                for row in rows
                if row.method == method and row.cost_per_hour is not None and row.survives(perturbation)
            ]
            cheapest.append(f"`{method}` {min(costs)[0]:.2f} ({min(costs)[1]})" if costs else f"`{method}` none")
        price = found.cost_per_hour / first.cost_per_hour if first is not None and first.cost_per_hour else None
        lines.append(
            markdown_row(
                [
                    perturbation,
                    f"{found.cost_per_hour:.2f}",
                    "-" if bound is None else f"{bound:.2f}",
                    "-" if price is None else f"{price:.2f}",
                    "yes" if found.survives(perturbation) else "no",
                    "; ".join(cheapest),
                ]
            )
        )
    return "\n".join(lines) + "\n"


def line(row: Row) -> str:
    """Render one plan's row."""
    cells = [row.setting, f"`{row.method}`", row.status]
    cells += ["-"] * 3 if row.cost_per_hour is None else [str(row.gpus), f"{row.cost_per_hour:.2f}", _bound(row)]
    cells += [_held(row.held[words], row.rule) for words in _words(row.rule) if words in row.held]
    return markdown_row(cells)


def _bound(row: Row) -> str:
    return "-" if row.bound_per_hour is None else f"{row.bound_per_hour:.2f}"


def _held(held: Held, rule: SloRule) -> str:
    return str(held.held) if rule == "half" else f"{held.held} ({held.over})"


def _words(rule: SloRule) -> list[str]:
    return [entry.words for entry in PERTURBATIONS if rule != "half" or entry.burstiness == 1.0]


def markdown(rows: Sequence[Row], matched: Mapping[str, str], notes: str) -> str:
    """Render everything below the header."""
    least, plans = [], []
    for instance, rule in _alike(rows):
        mine = [row for row in rows if (row.instance, row.rule) == (instance, rule)]
        title = f"{instance}, `{rule}` ({mine[0].workloads} workloads)"
        head = ("planned with", "method", "status", "GPUs", "cost/h", "bound/h", *_words(rule))
        least.append(f"\n### {title}\n\n{least_costs(mine, matched)}")
        lines = "\n".join([markdown_row(head), markdown_row(["---"] * len(head)), *map(line, mine)])
        said = "".join(f"\n- {row.setting}, `{row.method}`: {row.message}" for row in mine if row.message)
        plans.append(f"\n### {title}\n\n{lines}\n" + (f"\nWithout a plan:\n{said}\n" if said else ""))
    return (
        "\n## The least cost that survives\n\n*Price*: over the least cost of plans as predicted.\n"
        + "".join(least)
        + "\n## Workloads that hold under every perturbation\n"
        + "".join(plans)
        + "\n## How it was done\n"
        + notes
    )


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write all rows, every perturbation in columns of its own."""
    write_grouped_csv(rows, Row, "held", Held, _words("p99"), path)


def read_rows(path: Path) -> list[Row]:
    """Read what `write_csv` wrote."""
    return read_grouped_csv(Row, "held", Held, path)

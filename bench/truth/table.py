"""The rows of `bench.truth` as Markdown and CSV, their summary, and the check that no bound contradicts a plan."""

import csv
import io
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import BaseModel

from bench.exact.table import ContradictionError
from bench.tables import markdown_row
from igniter_opt.base.files import write_bytes_atomically
from igniter_opt.data.instance import SloRule
from igniter_opt.data.instance_files import shipped_instances
from igniter_opt.data.known_results import best_known
from igniter_opt.slo.rules import RULES

# Costs are sums of prices with few decimals; bounds are such costs, too.
_COST_TOLERANCE = 1e-6
REFERENCE: tuple[SloRule, int] = ("half", 1)
PLAN_COLUMNS = (
    "instance",
    "workloads",
    "rule",
    "replicas",
    "method",
    "status",
    "GPUs",
    "cost/h",
    "bound/h",
    "gap %",
    "seconds",
    "CPU s",
    "over SLO %",
    "worst P99/SLO",
    "hold",
    "surely over",
)
RESCUE_COLUMNS = (
    "instance",
    "rule",
    "replicas",
    "method",
    "workloads",
    "hold",
    "best batch",
    "hold then",
    "over SLO %",
    "over SLO % then",
    "worst P99/SLO",
    "worst P99/SLO then",
)


class Rescue(BaseModel):
    """What a plan does under Poisson arrivals with other batcher settings."""

    policy: str
    held: int
    violation_ratio: float
    worst_p99_over_slo: float


class Row(BaseModel):
    """One method on one instance under one rule.

    Attributes
    ----------
    status
        ``optimal`` (proven), ``feasible`` (bound known), ``heuristic``, ``no plan`` or ``infeasible`` (proven);
        `message` says more.
    bound_per_hour
        Proven lower bound.
    seconds, cpu_seconds
        Of the solve, by the clock and of this process.
    violation_ratio, worst_p99_over_slo, held, surely_over
        Under Poisson arrivals: the part of all requests over their SLO, the largest P99 over SLO of a workload, and
        the number of workloads whose P99 is within the SLO, and of those that are over for certain.
    rescues
        With other batcher settings, the best first; empty for plans that hold, and of rule p99.
    """

    instance: str
    workloads: int
    rule: SloRule
    replicas: int
    method: str
    status: str = "failed"
    gpus: int | None = None
    cost_per_hour: float | None = None
    bound_per_hour: float | None = None
    total_share_percent: float | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    violation_ratio: float | None = None
    worst_p99_over_slo: float | None = None
    held: int | None = None
    surely_over: int | None = None
    rescues: list[Rescue] = []
    message: str = ""

    @property
    def gap_percent(self) -> float | None:
        """Relative distance of the cost from the bound."""
        if self.cost_per_hour is None or self.bound_per_hour is None:
            return None
        return 100.0 * (1.0 - self.bound_per_hour / self.cost_per_hour)

    @property
    def case(self) -> tuple[SloRule, int, str]:
        """Rule, replicas and method."""
        return self.rule, self.replicas, self.method


def check_bounds(rows: Sequence[Row]) -> None:
    """Compare every bound with every plan of the same instance and rule that it holds for.

    A bound for up to K replicas is one for fewer, too. The best known plans and bounds of the shipped instances are
    those of rule half with one replica.

    Raises
    ------
    ContradictionError
        Some bound is above some plan's cost, or something is called infeasible that has a plan.
    """
    for instance, rule in dict.fromkeys((row.instance, row.rule) for row in rows):
        mine = [row for row in rows if (row.instance, row.rule) == (instance, rule)]
        plans = [(row.cost_per_hour, row.replicas, row.method) for row in mine if row.cost_per_hour is not None]
        bounds = [(row.bound_per_hour, row.replicas, row.method) for row in mine if row.bound_per_hour is not None]
        bounds += [(float("inf"), row.replicas, row.method) for row in mine if row.status == "infeasible"]
        known = best_known(instance) if rule == "half" and instance in shipped_instances() else None
        if known is not None:
            plans.append((known.best_cost.cost_per_hour, 1, f"instances/results ({known.best_cost.command})"))
            bounds.append((known.best_bound.cost_per_hour, 1, f"instances/results ({known.best_bound.command})"))
        for bound, most, prover in bounds:
            for cost, replicas, planner in plans:
                if replicas <= most and bound > cost + _COST_TOLERANCE:
                    raise ContradictionError(
                        f"{instance}, {rule}: the bound {bound:g} by {prover} for up to {most} replicas is above the"
                        f" plan of {cost:g} by {planner} with up to {replicas}"
                    )


def least_cost_under_half(instance: str, rows: Sequence[Row]) -> float | None:
    """Return the cost of the cheapest plan known under half with one replica: of these rows, or the best known."""
    found = [
        row.cost_per_hour
        for row in rows
        if row.instance == instance and row.case[:2] == REFERENCE and row.cost_per_hour is not None
    ]
    known = best_known(instance) if instance in shipped_instances() else None
    return min([*found, *([] if known is None else [known.best_cost.cost_per_hour])], default=None)


def summary(rows: Sequence[Row]) -> str:
    """Render what every rule costs and what its plans are worth, means over instances."""
    groups = _by_case(rows)
    common = _common_instances(groups)
    compared = {instance for instance in common if least_cost_under_half(instance, rows)}
    head = (
        "rule",
        "replicas",
        "method",
        "instances",
        "no plan exists",
        "proven optimal",
        "cost / optimum under half",
        "requests over SLO, mean %",
        "least %",
        "most %",
        "workloads that hold",
        "plans of which all hold",
        "surely over",
    )
    lines = [markdown_row(head), markdown_row(["---"] * len(head))]
    for case, group in groups.items():
        mine = [row for row in group if row.instance in compared]
        planned = [row for row in mine if row.cost_per_hour is not None]
        if not planned:
            continue
        ratios = [(row.cost_per_hour or 0.0) / (least_cost_under_half(row.instance, rows) or 1.0) for row in planned]
        late = [100.0 * (row.violation_ratio or 0.0) for row in planned]
        holding, workloads = sum(row.held or 0 for row in planned), sum(row.workloads for row in planned)
        cells = [
            f"`{case[0]}`",
            str(case[1]),
            f"`{case[2]}`",
            str(len(planned)),
            str(len(mine) - len(planned)),
            "-" if case[2] == "igniter" else str(sum(row.status == "optimal" for row in planned)),
            f"{statistics.mean(ratios):.3f}",
            f"{statistics.mean(late):.2f}",
            f"{min(late):.2f}",
            f"{max(late):.2f}",
            f"{holding:,} of {workloads:,}",
            f"{sum(row.held == row.workloads for row in planned)} of {len(planned)}",
            str(sum(row.surely_over or 0 for row in planned)),
        ]
        lines.append(markdown_row(cells))
    left_out = sorted({row.instance for row in rows} - compared)
    note = f"Means over the {len(compared)} instances that were run under all three rules"
    note += f" (not among them: {', '.join(left_out)})" if left_out else ""
    note += (
        "; a row with fewer had no plan on the others, or was not run there. *Optimum under half*: the cheapest plan"
    )
    note += " known with one replica, of this run or in `instances/results/`, proven optimal for"
    note += f" {sum(_is_proven(instance, rows) for instance in compared)} of them."
    return f"{note}\n\n" + "\n".join(lines) + "\n"


def _is_proven(instance: str, rows: Sequence[Row]) -> bool:
    """Whether the least cost under half is proven."""
    bounds = [
        row.bound_per_hour
        for row in rows
        if row.instance == instance and row.case[:2] == REFERENCE and row.bound_per_hour is not None
    ]
    known = best_known(instance) if instance in shipped_instances() else None
    bounds += [] if known is None else [known.best_bound.cost_per_hour]
    cost = least_cost_under_half(instance, rows)
    return cost is not None and max(bounds, default=0.0) >= cost - _COST_TOLERANCE


def rescue_summary(rows: Sequence[Row]) -> str:
    """Render how many failing plans other batcher settings rescue."""
    head = (
        "rule",
        "replicas",
        "method",
        "plans that fail",
        "rescued",
        "workloads that hold",
        "then",
        "requests over SLO, mean %",
        "then",
        "best batch: planned, doubled, profiled",
    )
    lines = [markdown_row(head), markdown_row(["---"] * len(head))]
    for case, group in _by_case(rows).items():
        failing = [row for row in group if row.rescues]
        if not failing:
            continue
        best = [row.rescues[0] for row in failing]
        workloads = sum(row.workloads for row in failing)
        chosen = [entry.policy for entry in best]
        cells = [
            f"`{case[0]}`",
            str(case[1]),
            f"`{case[2]}`",
            str(len(failing)),
            str(sum(entry.held == row.workloads for entry, row in zip(best, failing, strict=True))),
            f"{sum(row.held or 0 for row in failing):,} of {workloads:,}",
            f"{sum(entry.held for entry in best):,} of {workloads:,}",
            f"{statistics.mean(100.0 * (row.violation_ratio or 0.0) for row in failing):.2f}",
            f"{statistics.mean(100.0 * entry.violation_ratio for entry in best):.2f}",
            ", ".join(str(chosen.count(policy)) for policy in ("planned", "doubled", "profiled")),
        ]
        lines.append(markdown_row(cells))
    return "\n".join(lines) + "\n"


def _by_case(rows: Sequence[Row]) -> dict[tuple[SloRule, int, str], list[Row]]:
    cases = sorted({row.case for row in rows}, key=lambda case: (list(RULES).index(case[0]), *case[1:]))
    return {case: [row for row in rows if row.case == case] for case in cases}


def _common_instances(groups: dict[tuple[SloRule, int, str], list[Row]]) -> set[str]:
    """Instances that have rows of all rules that there are."""
    rules = {case[0] for case in groups}
    by_rule = [{row.instance for case, group in groups.items() if case[0] == rule for row in group} for rule in rules]
    return set.intersection(*by_rule) if by_rule else set()


def markdown(rows: Sequence[Row], notes: str) -> str:
    """Render everything below the header."""
    ordered = sorted(rows, key=lambda row: (row.workloads, row.instance, list(RULES).index(row.rule), *row.case[1:]))
    plans = [markdown_row(PLAN_COLUMNS), markdown_row(["---"] * len(PLAN_COLUMNS)), *(line(row) for row in ordered)]
    failing = [row for row in ordered if row.rescues]
    rescued = [
        markdown_row(RESCUE_COLUMNS),
        markdown_row(["---"] * len(RESCUE_COLUMNS)),
        *(rescue_line(row) for row in failing),
    ]
    said = dict.fromkeys(
        f"- {row.instance}, `{row.rule}`, up to {row.replicas} replica{'s' if row.replicas > 1 else ''}: {row.message}"
        for row in ordered
        if row.message
    )
    return (
        "\n## At a glance: what truth costs, and which cheap plans are false\n\n"
        + summary(rows)
        + "\nWould larger batches rescue the plans that fail?\n\n"
        + rescue_summary(rows)
        + "\n## How it was done\n"
        + notes
        + "\n## All plans\n\n"
        + "\n".join(plans)
        + "\n"
        + ("\nWithout a plan:\n\n" + "\n".join(said) + "\n" if said else "")
        + ("\n## All rescues\n\n" + "\n".join(rescued) + "\n" if failing else "")
    )


def line(row: Row) -> str:
    """Render one plan's row."""
    return markdown_row(
        [
            row.instance,
            f"{row.workloads:,}",
            f"`{row.rule}`",
            str(row.replicas),
            f"`{row.method}`",
            row.status,
            _number(row.gpus, ",d"),
            _number(row.cost_per_hour, ",.2f"),
            _number(row.bound_per_hour, ",.2f"),
            _number(row.gap_percent, ".2f"),
            _number(row.seconds, ".2f"),
            _number(row.cpu_seconds, ".2f"),
            _number(row.violation_ratio, ".2f", 100.0),
            _number(row.worst_p99_over_slo, ".2f"),
            "-" if row.held is None else f"{row.held:,} of {row.workloads:,}",
            _number(row.surely_over, ",d"),
        ]
    )


def rescue_line(row: Row) -> str:
    """Render one failing plan's best rescue."""
    best = row.rescues[0]
    return markdown_row(
        [
            row.instance,
            f"`{row.rule}`",
            str(row.replicas),
            f"`{row.method}`",
            f"{row.workloads:,}",
            _number(row.held, ",d"),
            best.policy,
            f"{best.held:,}",
            _number(row.violation_ratio, ".2f", 100.0),
            f"{100.0 * best.violation_ratio:.2f}",
            _number(row.worst_p99_over_slo, ".2f"),
            f"{best.worst_p99_over_slo:.2f}",
        ]
    )


def _number(value: float | None, form: str, scale: float | None = None) -> str:
    if value is None:
        return "-"
    return format(value if scale is None else scale * value, form)


_RESCUE_FIELDS: tuple[tuple[str, Callable[[Rescue], float]], ...] = (
    ("held", lambda entry: entry.held),
    ("violation_ratio", lambda entry: entry.violation_ratio),
    ("worst_p99_over_slo", lambda entry: entry.worst_p99_over_slo),
)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write all rows, every rescue in columns of its own."""
    policies = {entry.policy for row in rows for entry in row.rescues}
    fields = [name for name in Row.model_fields if name not in {"rescues", "message"}]
    columns = [f"{policy}_{name}" for policy in sorted(policies) for name, _ in _RESCUE_FIELDS]
    names = [*fields, "gap_percent", *columns, "message"]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        data = row.model_dump(exclude={"rescues"}) | {"gap_percent": row.gap_percent}
        data |= {f"{entry.policy}_{name}": get(entry) for entry in row.rescues for name, get in _RESCUE_FIELDS}
        writer.writerow(data)
    write_bytes_atomically(path, text.getvalue().encode())

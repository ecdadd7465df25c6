"""Tables of plans: what was solved, verified or reported."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from igniter_opt.base.text import counted, rounded
from igniter_opt.cli.console import stdout
from igniter_opt.cli.tables.late import late_line
from igniter_opt.cli.tables.layout import new_table, print_table
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.gpu_type import PRICE_DECIMALS
from igniter_opt.data.instance import Instance
from igniter_opt.data.plan import Placement, Plan
from igniter_opt.report.tables import number
from igniter_opt.result import Result, limits_of_proof
from igniter_opt.simulation.traffic import planned_words
from igniter_opt.slo.rules import rule_of
from igniter_opt.verify import PlacementCheck, Verification

if TYPE_CHECKING:
    from igniter_opt.report.findings import Findings

_MOST_GPUS_SHOWN = 60


def print_result(result: Result) -> None:
    """Print a plan: a line on cost and proof, then every GPU."""
    console = stdout()
    print_table(console, _gpu_table(result.plan, result.verification), keys=2)
    console.print(_summary(result.plan))
    if result.status == "feasible" and result.ended:
        console.print(f"ended: {escape(result.ended)}", soft_wrap=True)
    console.print(f"{result.plan.solver.runtime_s:.2f} s; checked by the predictor: {_verdict(result.verification)}")
    late = late_line(result.plan)
    if late is not None:
        console.print(escape(late), soft_wrap=True)


def print_report(findings: "Findings", path: Path) -> None:
    """Print where the page is and its headline."""
    console = stdout()
    console.print(_summary(findings.plan), soft_wrap=True)
    for baseline in (findings.headline_baseline, findings.dedicated_baseline):
        if findings.verification.ok and baseline is not None and baseline.saving_percent is not None:
            console.print(_compared(baseline.saving_percent, baseline.description), soft_wrap=True)
    for entry in findings.measurements:
        if entry.verdict is not None:
            console.print(f"{escape(entry.source.name)} ({entry.kind}): {escape(entry.verdict.text)}", soft_wrap=True)
    console.print(f"{_verdict(findings.verification)}; the page is {escape(str(path))}", soft_wrap=True)


def _compared(saving_percent: float, baseline: str) -> str:
    if saving_percent == 0:
        return f"costs as much as {baseline}"
    if saving_percent < 0:
        return f"costs {rounded(-saving_percent)} % more than {baseline}"
    return f"saves {rounded(saving_percent)} % against {baseline}"


def _summary(plan: Plan) -> str:
    """GPUs, cost, proof, share, method, rule and margin in one line."""
    solver = plan.solver
    proof = "it misses SLOs or rates" if solver.status == "violates" else "no lower bound (heuristic)"
    if solver.status == "optimal":
        proof = "proven optimal"
    elif solver.lower_bound_per_hour is not None and solver.gap is not None:
        proof = f"lower bound {rounded(solver.lower_bound_per_hour, PRICE_DECIMALS)}, gap {100 * solver.gap:.2f} %"
    within = limits_of_proof(plan)
    proof += _busy(plan) if within is None else f" (within {within})"
    share, least = solver.total_share_percent, solver.total_share_lower_bound_percent
    at_least = f" (at least {rounded(least)} %)" if least is not None and least < share - 1e-6 else ""
    margin = f", margin {solver.margin:g}" if solver.margin or solver.confidence else ""
    if solver.confidence is not None:
        margin += f" (confidence {solver.confidence:g})"
    headroom = plan.instance.headroom_words
    headroom = f", headroom {headroom}" if headroom is not None else ""
    return (
        f"{escape(plan.instance.name)}: {counted(len(plan.gpus), 'GPU')},"
        f" {rounded(solver.cost_per_hour, PRICE_DECIMALS)} {escape(plan.instance.currency)} per hour, {proof};"
        f" total share {rounded(share)} %{at_least}; method {solver.method}, SLO rule {_rule(plan.instance)},"
        f" coefficients {plan.instance.coefficients}{headroom}{margin}"
    )


def _busy(plan: Plan) -> str:
    """Say what neighbours were taken for, and what the plan would cost if they were busy all the time."""
    note = plan.neighbours
    if note is None:
        return ""
    bound = note.busy_lower_bound_per_hour
    proof = "" if bound is None else f", bound {rounded(bound, PRICE_DECIMALS)}"
    return f" (neighbours as they are; busy all the time {rounded(note.busy_cost_per_hour, PRICE_DECIMALS)}{proof})"


def _rule(instance: Instance) -> str:
    details = [] if instance.percentile is None else [f"percentile {instance.percentile:.10g}"]
    if rule_of(instance).has_percentile:
        words = planned_words(instance)
        details += [] if words == Arrivals().words else [words]
        details += [] if instance.split is None else [f"{instance.split} split"]
    return f"{instance.slo_rule} ({'; '.join(details)})" if details else instance.slo_rule


def _verdict(verification: Verification) -> str:
    basis = "" if verification.basis is None else f" ({escape(verification.basis)})"
    if verification.ok:
        return f"all SLOs hold{basis}"
    over = len(verification.workloads_over_slo)
    return f"{counted(over, 'workload')} {'misses its' if over == 1 else 'miss their'} SLO or rate{basis}"


def _gpu_table(plan: Plan, verification: Verification) -> Table:
    table = new_table()
    margin = plan.solver.margin > 0
    name = rule_of(plan.instance).latency_name
    placed = {(gpu.name, p.workload, p.replica): p for gpu in plan.gpus for p in gpu.placements}
    cut = any(placement.slice is not None for placement in placed.values())
    for title, justify in (
        ("GPU", "left"),
        ("workload", "left"),
        ("model", "left"),
        *([("slice", "left"), ("processes", "right")] if cut else []),
        ("batch", "right"),
        ("share %", "right"),
        ("ms" if name == "latency" else f"{name.removesuffix(' latency')} ms", "right"),
        *([("with margin", "right")] if margin else []),
        ("limit", "right"),
        ("req/s", "right"),
        ("rate", "right"),
        ("", "left"),
    ):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    order: dict[str, list[PlacementCheck]] = {}
    for check in verification.placements:
        order.setdefault(check.gpu, []).append(check)
    shown = plan.gpus[:_MOST_GPUS_SHOWN]
    for gpu in shown:
        for position, check in enumerate(order.get(gpu.name, [])):
            placement = placed[gpu.name, check.workload, check.replica]
            table.add_row(
                gpu.name if position == 0 else "",
                check.workload if check.replica == 1 else f"{check.workload}#{check.replica}",
                check.model,
                *(_slice(placement) if cut else []),
                str(check.batch),
                rounded(check.share_percent),
                number(check.latency_ms, 2),
                *([number(check.limit_ms - check.slack_ms, 2)] if margin else []),
                number(check.limit_ms, 2),
                number(check.throughput_rps, 1),
                rounded(check.rate_rps),
                "" if check.ok else "[red]violated[/red]",
                end_section=position == len(order[gpu.name]) - 1,
            )
    if len(plan.gpus) > len(shown):
        table.add_row(f"... and {counted(len(plan.gpus) - len(shown), 'more GPU')}")
    return table


def _slice(placement: Placement) -> tuple[str, str]:
    """Return which slice a placement is and where, and its number of processes."""
    if placement.slice is None:
        return "-", "-"
    return escape(f"{placement.slice} at {placement.slot}"), str(placement.processes)


def print_verification(plan: Plan, verification: Verification) -> None:
    """Print every placement judged, then what is wrong, then the verdict."""
    console = stdout()
    print_table(console, _gpu_table(plan, verification), keys=2)
    # Stored predictions that no longer fit follow from other edits, so they come last.
    for entry in sorted(verification.violations, key=lambda entry: entry.kind == "prediction"):
        console.print(f"[red]{entry.kind}[/red] {escape(entry.where)}: {escape(entry.message)}", soft_wrap=True)
    console.print(_summary(plan) + " (cost and proof as the file states them)")
    if verification.basis is not None:
        console.print(f"judged so: {escape(verification.basis)}", soft_wrap=True)
    count = len(verification.violations)
    console.print("the plan holds" if verification.ok else f"the plan does not hold: {count} violation(s)")

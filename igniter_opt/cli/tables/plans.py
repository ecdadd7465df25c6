"""Rendering for the command line: tables on stdout, progress and messages on stderr."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from igniter_opt.base.text import counted, rounded
from igniter_opt.cli.console import message, stdout
from igniter_opt.cli.tables.layout import new_table, print_table
from igniter_opt.compare import Comparison
from igniter_opt.data.instance import PRICE_DECIMALS, Instance, percentile_name
from igniter_opt.data.measurement_files import UNKNOWN_GPU, Measurements
from igniter_opt.data.plan import Plan
from igniter_opt.data.profile import Profile
from igniter_opt.predict import Prediction
from igniter_opt.report.findings import Findings
from igniter_opt.report.tables import EXPLANATION, NUMBERS, WORDS, comparison_cells, number
from igniter_opt.result import Result
from igniter_opt.simulation.results import ServiceStatistics, Simulation
from igniter_opt.simulation.statistics import Estimate
from igniter_opt.slo.rules import rule_of
from igniter_opt.verify import PlacementCheck, Verification

_MOST_GPUS_SHOWN = 60
_MOST_WORKLOADS_SHOWN = 60
_PERCENTILES = {0.5: "p50_ms", 0.95: "p95_ms", 0.99: "p99_ms", 0.999: "p999_ms"}


def note_unnamed_card(name: str, found: Measurements, profile: Profile) -> None:
    """Say whose card measurements are taken to be of, if they do not say."""
    if found.gpu == UNKNOWN_GPU:
        message(f"note: {name} names no card; taken to be of {profile.hardware.gpu}")


def print_result(result: Result) -> None:
    """Print a plan: a line on cost and proof, then every GPU."""
    console = stdout()
    print_table(console, _gpu_table(result.plan, result.verification), keys=2)
    console.print(_summary(result.plan))
    console.print(f"{result.plan.solver.runtime_s:.2f} s; checked by the predictor: {_verdict(result.verification)}")


def print_report(findings: Findings, path: Path) -> None:
    """Print where the page is and its headline."""
    console = stdout()
    console.print(_summary(findings.plan), soft_wrap=True)
    baseline = findings.headline_baseline
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
    proof = "no lower bound (heuristic)"
    if solver.status == "optimal":
        proof = "proven optimal"
    elif solver.lower_bound_per_hour is not None and solver.gap is not None:
        proof = f"lower bound {rounded(solver.lower_bound_per_hour, PRICE_DECIMALS)}, gap {100 * solver.gap:.2f} %"
    rule = rule_of(plan.instance)
    if solver.status in ("optimal", "feasible") and not rule.exact_limits:
        proof += f" (within {rule.name}'s safe limits)"
    share, least = solver.total_share_percent, solver.total_share_lower_bound_percent
    at_least = f" (at least {rounded(least)} %)" if least is not None and least < share - 1e-6 else ""
    margin = f", margin {solver.margin:g}" if solver.margin or solver.confidence else ""
    if solver.confidence is not None:
        margin += f" (confidence {solver.confidence:g})"
    return (
        f"{escape(plan.instance.name)}: {counted(len(plan.gpus), 'GPU')},"
        f" {rounded(solver.cost_per_hour, PRICE_DECIMALS)} per hour, {proof};"
        f" total share {rounded(share)} %{at_least}; method {solver.method}, SLO rule {_rule(plan.instance)},"
        f" coefficients {plan.instance.coefficients}{margin}"
    )


def _rule(instance: Instance) -> str:
    if instance.percentile is None:
        return instance.slo_rule
    return f"{instance.slo_rule} (percentile {instance.percentile:.10g})"


def _verdict(verification: Verification) -> str:
    if verification.ok:
        return "all SLOs hold"
    over = len(verification.workloads_over_slo)
    return f"{counted(over, 'workload')} {'misses its' if over == 1 else 'miss their'} SLO or rate"


def _gpu_table(plan: Plan, verification: Verification) -> Table:
    table = new_table()
    margin = plan.solver.margin > 0
    name = rule_of(plan.instance).latency_name
    for title, justify in (
        ("GPU", "left"),
        ("workload", "left"),
        ("model", "left"),
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
            table.add_row(
                gpu.name if position == 0 else "",
                check.workload if check.replica == 1 else f"{check.workload}#{check.replica}",
                check.model,
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


def print_verification(plan: Plan, verification: Verification) -> None:
    """Print every placement judged, then what is wrong, then the verdict."""
    console = stdout()
    print_table(console, _gpu_table(plan, verification), keys=2)
    # Stored predictions that no longer fit follow from other edits, so they come last.
    for entry in sorted(verification.violations, key=lambda entry: entry.kind == "prediction"):
        console.print(f"[red]{entry.kind}[/red] {escape(entry.where)}: {escape(entry.message)}", soft_wrap=True)
    console.print(_summary(plan) + " (cost and proof as the file states them)")
    count = len(verification.violations)
    console.print("the plan holds" if verification.ok else f"the plan does not hold: {count} violation(s)")


def print_comparison(comparison: Comparison) -> None:
    """Print the comparison table, one block per instance."""
    console = stdout()
    table = new_table()
    for title in WORDS:
        table.add_column(title)
    for title in NUMBERS:
        table.add_column(title, justify="right")
    last = None
    for row in comparison.rows:
        violates = row.status in ("violates", "no plan", "infeasible")
        instance, method, status, *numbers = comparison_cells(row)
        table.add_row(
            instance if instance != last else "", method, f"[red]{status}[/red]" if violates else status, *numbers
        )
        last = row.instance
    print_table(console, table, keys=2)
    for line in _coefficients_of(comparison):
        console.print(line, soft_wrap=True)
    if any(row.simulated_violation_ratio is not None for row in comparison.rows):
        console.print(EXPLANATION)
    for row in comparison.rows:
        if row.message:
            console.print(f"{row.instance}, {row.method}: {escape(row.message)}", soft_wrap=True)


def _coefficients_of(comparison: Comparison) -> list[str]:
    """Which coefficients the instances were predicted with: one line if they were the same for all."""
    used = {name: result.plan.instance.coefficients for (name, _), result in comparison.results.items()}
    if len(set(used.values())) == 1:
        return [f"coefficients: {next(iter(used.values()))}"]
    return [f"coefficients of {escape(name)}: {text}" for name, text in used.items()]


def print_simulation(simulation: Simulation) -> None:
    """Print every workload's latencies under traffic, its replicas' below it, and the verdict."""
    console = stdout()
    entries = list(simulation.workloads)
    left_out = max(0, len(entries) - _MOST_WORKLOADS_SHOWN)
    if left_out:
        entries = sorted(entries, key=lambda entry: -entry.percentile_over_slo)[:_MOST_WORKLOADS_SHOWN]
    judged = entries[0].percentile
    # The judged percentile in its place among the others, with its interval beside it.
    percentiles = sorted({**_PERCENTILES, judged: "percentile_ms"}.items())
    table = new_table()
    for title in ("workload", "model", "GPU"):
        table.add_column(title)
    for title in ("rate", "mean ms"):
        table.add_column(title, justify="right")
    for at, _ in percentiles:
        table.add_column(percentile_name(at), justify="right")
        if at == judged:
            table.add_column("")
    for title in ("SLO ms", "over SLO"):
        table.add_column(title, justify="right")
    for title in ("use", "batch", "queue", "most"):
        table.add_column(title, justify="right")
    table.add_column("")
    for workload in entries:
        replicas = workload.placements if len(workload.placements) > 1 else ()
        for entry in (workload, *replicas):
            table.add_row(*_simulated(entry, [name for _, name in percentiles], within=entry is not workload))
    print_table(console, table)
    if left_out:
        console.print(f"... and {left_out} more workloads, nearer to their SLOs or within them")
    over, count = len(simulation.workloads_over_slo), len(simulation.workloads)
    console.print(_traffic(simulation), soft_wrap=True)
    if simulation.settings["runs"] > 1:
        confidence = 100 * simulation.settings["confidence"]
        console.print(
            f"±: {confidence:g} % interval over runs (Student t); ?: it reaches across the SLO", soft_wrap=True
        )
    ratio = f"{100 * simulation.violation_ratio:.2f} % of all requests are over their SLO"
    name = percentile_name(judged)
    console.print(f"{ratio}; {name} is within the SLO for {count - over} of {count} workloads", soft_wrap=True)


def _traffic(simulation: Simulation) -> str:
    """What was simulated, in one line."""
    settings = simulation.settings
    parameters = [
        f"{name.replace('_', ' ')} {settings[name]:g}"
        for name in ("burstiness", "burst_ratio", "burst_seconds")
        if name in settings
    ]
    arrivals = " ".join([f"{settings['arrivals']} arrivals", *parameters])
    number = "all requests of the trace" if settings["requests"] is None else f"{settings['requests']:,} requests"
    changed = [
        f", {name} {settings[name]:g}"
        for name, usual in (("noise", 0), ("margin", 0), ("scale", 1))
        if settings[name] != usual
    ]
    actual = bool(settings["neighbours"] == "actual")
    each = "per workload on average" if actual and settings["requests"] is not None else "per workload"
    company = ", actual neighbours" if actual else ""
    return (
        f"{escape(simulation.instance)}: {arrivals}, {settings['runs']} run(s) of {number} {each},"
        f" {settings['warm_up']:,} before them not counted, {settings['split']} split{''.join(changed)}{company}"
    )


def _simulated(entry: ServiceStatistics, percentiles: list[str], *, within: bool) -> list[str]:
    """One row of the table of `print_simulation`; a replica's is indented."""
    values = {name: found.value for name, found in entry.estimates.items()}
    verdict = ("holds" if entry.holds else "[red]violates[/red]") + ("" if entry.certain else " ?")
    gpu = entry.gpu if entry.gpu is not None else f"{len(entry.placements)} replicas"
    return [
        f"  #{entry.replica}" if within else entry.workload,
        entry.model,
        gpu,
        rounded(entry.rate_rps),
        number(values["mean_ms"], 2),
        *(text for name in percentiles for text in _with_interval(name, entry.estimates[name])),
        rounded(entry.slo_ms),
        "-" if np.isnan(values["violation_ratio"]) else f"{100 * values['violation_ratio']:.2f} %",
        number(values["utilisation"], 3),
        number(values["mean_batch"], 2) + ("" if entry.batch is None else f"/{entry.batch}"),
        number(values["mean_queue"], 1),
        f"{entry.max_queue:,}",
        verdict,
    ]


def _with_interval(name: str, found: Estimate) -> list[str]:
    """The cells of a percentile: the judged one has its interval beside it."""
    value = number(found.value, 2)
    if name != "percentile_ms":
        return [value]
    return [value, "" if found.high is None else f"±{found.high - found.value:.2f}"]


def prediction_rows(placements: list[tuple[str, int, float]], prediction: Prediction) -> list[dict[str, Any]]:
    """Return a prediction as plain rows (the form of ``predict --json``)."""
    return [
        {
            "model": model,
            "batch": batch,
            "share_percent": share,
            "latency_ms": float(prediction.latency_ms[k]),
            "throughput_rps": float(prediction.throughput_rps[k]),
        }
        for k, (model, batch, share) in enumerate(placements)
    ]


def print_prediction(rows: list[dict[str, Any]], prediction: Prediction, coefficients: str) -> None:
    """Print a prediction as a table."""
    table = new_table()
    table.add_column("model")
    for title in ("batch", "share %", "latency ms", "throughput/s"):
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(
            row["model"],
            str(row["batch"]),
            rounded(row["share_percent"]),
            number(row["latency_ms"], 3),
            number(row["throughput_rps"], 1),
        )
    console = stdout()
    print_table(console, table)
    console.print(
        f"clock {prediction.frequency_mhz:.0f} MHz, power drawn without a cap {prediction.power_w:.0f} W;"
        f" {coefficients} coefficients"
    )

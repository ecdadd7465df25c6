"""The table of a simulation."""

import numpy as np
from rich.markup import escape

from igniter_opt.base.text import rounded
from igniter_opt.cli.console import stdout
from igniter_opt.cli.tables.layout import new_table, print_table
from igniter_opt.data.instance import percentile_name
from igniter_opt.report.tables import number
from igniter_opt.simulation.results import ServiceStatistics, Simulation
from igniter_opt.simulation.statistics import Estimate
from igniter_opt.simulation.traffic import arrivals_words

_MOST_WORKLOADS_SHOWN = 60
_PERCENTILES = {0.5: "p50_ms", 0.95: "p95_ms", 0.99: "p99_ms", 0.999: "p999_ms"}


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
    console.print(
        "use: part of the time that servers work; batch: mean and largest batch; queue and most: requests that wait, on"
        " average and at most",
        soft_wrap=True,
    )
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
    arrivals = escape(" ".join([arrivals_words(settings), *parameters]))
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

"""The command ``instances from-prometheus``."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from igniter_opt.base.errors import InputError
from igniter_opt.base.kinds import INSTANCE
from igniter_opt.base.schema import describe, one_of
from igniter_opt.base.text import counted, rounded, seconds_of
from igniter_opt.cli import completion, console
from igniter_opt.cli.options import Coefficients, Json, Prices, Profiles, prices_of
from igniter_opt.cli.outputs import check_outputs
from igniter_opt.cli.tables.layout import new_table, print_table
from igniter_opt.data.demand import write_demand
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.profile import read_profile
from igniter_opt.observe.client import DEFAULT_TIMEOUT_S, Prometheus
from igniter_opt.observe.from_prometheus import (
    DEFAULT_PERCENTILE,
    OBSERVED_ARRIVALS,
    RATE_KINDS,
    FromPrometheus,
    instance_from_prometheus,
)
from igniter_opt.report.tables import number


def from_prometheus_command(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where Prometheus is: http://127.0.0.1:9090.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The YAML file to write.")],
    window: Annotated[str, typer.Option(metavar="T", help="How far to look back: 30min, 12h, 7d.")] = "7d",
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Look back from here (2026-11-29T12:00, UTC). Default: now.")
    ] = None,
    step: Annotated[str, typer.Option(metavar="T", help="Rates are those of steps so long: 30s, 10min, 1h.")] = "10min",
    percentile: Annotated[
        float, typer.Option(metavar="P", help="The peak is this percentile of the steps' rates (95: 95 %).")
    ] = DEFAULT_PERCENTILE,
    rates: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="headroom (mean rates, with headroom up to the peak), mean, or peak.",
            autocompletion=completion.words(RATE_KINDS),
        ),
    ] = "headroom",
    arrivals: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="gamma (as bursty as counts show) or poisson.",
            autocompletion=completion.words(OBSERVED_ARRIVALS),
        ),
    ] = "gamma",
    select: Annotated[
        str, typer.Option(metavar="MATCHERS", help="""Only series with these labels: '{job="triton"}'.""")
    ] = "",
    label: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The label that names workloads. Default: workload, else model."),
    ] = None,
    workloads: Annotated[
        Path | None,
        typer.Option(metavar="YAML", help="A line per workload: 'search: {model: resnet50, slo_ms: 40}'."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model of the others.", autocompletion=completion.models)] = None,
    slo_ms: Annotated[float | None, typer.Option(metavar="T", help="SLO of the others, in ms.")] = None,
    max_replicas: Annotated[int | None, typer.Option(metavar="K", help="max_replicas of the others.")] = None,
    demand: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Write the rates over time, too, for schedule.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A bearer token; only over https, or on this machine.")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Check the server by these certificates, not the system's.")
    ] = None,
    timeout: Annotated[float, typer.Option(metavar="S", help="Seconds for each question.")] = DEFAULT_TIMEOUT_S,
    profile: Profiles = None,
    price: Prices = None,
    coefficients: Coefficients = None,
    name: Annotated[str | None, typer.Option(help="The instance's name. Default: the file's name.")] = None,
    json: Json = False,
) -> None:
    """Make an instance of what Prometheus has observed of Triton servers: rates, headroom, burstiness, latencies.

    Example: igniter-opt instances from-prometheus http://127.0.0.1:9090 --window 7d -o observed.yaml
    """
    profiles = profile or ["v100"]
    read: list[str | Path] = [*profiles, *(path for path in (workloads, token_file, ca_file) if path is not None)]
    check_outputs(output, INSTANCE, None, read, "what is read", demand=demand)
    prices = prices_of(profiles, price)
    cards = [read_profile(entry, coefficients=coefficients) for entry in profiles]
    found = instance_from_prometheus(
        Prometheus(url, timeout_s=timeout, token_file=token_file, ca_file=ca_file),
        [
            GpuType(name=card.name.upper(), profile=card, price_per_hour=cost)
            for card, cost in zip(cards, prices, strict=True)
        ],
        name or output.stem,
        window_s=_seconds("--window", window),
        step_s=_seconds("--step", step),
        until=None if until is None else _time(until),
        percentile=percentile,
        rates=one_of(rates, RATE_KINDS, "--rates: unknown kind", "kinds"),
        arrivals=one_of(arrivals, OBSERVED_ARRIVALS, "--arrivals: unknown kind", "kinds"),
        select=select,
        label=label,
        asked=workloads,
        model=model,
        slo_ms=slo_ms,
        max_replicas=max_replicas,
        on_progress=console.StepPrinter(),
    )
    table = None if demand is None else found.demand.complete()
    found.write(output)
    if demand is not None and table is not None:
        write_demand(table[0], demand)
    if json:
        console.print_json({"streams": found.to_dicts(), "placeholders": list(found.placeholders)})
    else:
        _print(found)
    for text in found.cautions():
        console.message(f"note: {text}")
    console.message(f"wrote {output}: {counted(len(found.streams), 'workload')}")
    if table is not None:
        if table[1]:
            console.message(
                f"note: {counted(table[1], 'rate')} of {demand} not known: 0 before a workload's first known step and"
                " after its last, else the larger of those before and after"
            )
        console.message(f"wrote {demand}: {counted(table[0].steps, 'step')}")


def _seconds(option: str, text: str) -> float:
    seconds = seconds_of(text)
    if seconds is None:
        raise InputError(f"{option}: must be a time such as 30s, 10min, 1h or 7d; found {describe(text)}")
    return seconds


def _time(text: str) -> float:
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise InputError(f"--until: must be a time such as 2026-11-29T12:00; found {describe(text)}") from None


def _print(found: FromPrometheus) -> None:
    table = new_table()
    table.add_column("workload")
    for title in (
        "servers",
        "req/s",
        "peak",
        "busiest",
        "headroom",
        "steps",
        "counts",
        "mean ms",
        "queue ms",
        "P99 ms",
    ):
        table.add_column(title, justify="right")
    table.add_column("arrivals")
    for entry, workload in zip(found.streams, found.instance.workloads, strict=True):
        table.add_row(
            entry.workload,
            str(entry.servers) if entry.servers else "query",
            rounded(entry.rate_rps),
            rounded(entry.peak_rps),
            rounded(entry.busiest_rps),
            f"{rounded(100.0 * entry.headroom, 1)} %",
            f"{entry.steps:,}",
            "-" if entry.dispersion is None else f"{entry.dispersion.index:.2f} ± {entry.dispersion.error:.2f}",
            number(entry.mean_ms, 2),
            number(entry.queue_ms, 2),
            number(entry.p99_ms, 2),
            found.instance.arrivals_of(workload).words.removeprefix("arrivals "),
        )
    print_table(console.stdout(), table)
    console.stdout().print(
        f"peak: P{found.percentile:g} of the steps' rates; counts: variance over mean between scrapes; mean and queue:"
        " in the server",
        soft_wrap=True,
    )

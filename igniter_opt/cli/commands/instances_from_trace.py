"""The command ``instances from-trace``."""

from pathlib import Path
from typing import Annotated

import typer

from igniter_opt.base.errors import InputError
from igniter_opt.base.kinds import INSTANCE
from igniter_opt.base.schema import describe, one_of
from igniter_opt.base.text import rounded, seconds_of
from igniter_opt.cli import completion, console
from igniter_opt.cli.options import Coefficients, Json, Prices, Profiles, prices_of
from igniter_opt.cli.outputs import check_outputs
from igniter_opt.cli.tables.layout import new_table, print_table
from igniter_opt.cli.traffic import trace_of
from igniter_opt.data.from_trace import (
    DEFAULT_WINDOW_PERCENTILE,
    TRACED_ARRIVALS,
    FromTrace,
    instance_from_trace,
)
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.instance_files import write_instance
from igniter_opt.data.profile import read_profile
from igniter_opt.report.tables import number


def from_trace_command(
    traces: Annotated[
        list[str],
        typer.Argument(
            metavar="[WORKLOAD=]CSV...",
            help="Seconds in a column 'timestamp', workloads in a column 'workload' unless named here.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The YAML file to write.")],
    percentile: Annotated[
        float, typer.Option(metavar="P", help="Headroom for this percentile of the windows' rates (95: 95 %).")
    ] = DEFAULT_WINDOW_PERCENTILE,
    window: Annotated[str, typer.Option(metavar="T", help="How long a window is: 30s, 10min, 1h.")] = "10min",
    arrivals: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="gamma (as bursty as observed), poisson, or trace (as recorded, drift included: no headroom).",
            autocompletion=completion.words(TRACED_ARRIVALS),
        ),
    ] = "gamma",
    workloads: Annotated[
        Path | None,
        typer.Option(metavar="YAML", help="A line per workload: 'search: {model: resnet50, slo_ms: 40}'."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model of the others.", autocompletion=completion.models)] = None,
    slo_ms: Annotated[float | None, typer.Option(metavar="T", help="SLO of the others, in ms.")] = None,
    max_replicas: Annotated[int | None, typer.Option(metavar="K", help="max_replicas of the others.")] = None,
    profile: Profiles = None,
    price: Prices = None,
    coefficients: Coefficients = None,
    name: Annotated[str | None, typer.Option(help="The instance's name. Default: the file's name.")] = None,
    json: Json = False,
) -> None:
    """Make an instance of recorded requests: rates, how bursty they are, and the headroom that their drift needs.

    Example: igniter-opt instances from-trace requests.csv --percentile 95 --window 10min -o mine.yaml
    """
    named = [trace_of(text) for text in traces]
    profiles = profile or ["v100"]
    read: list[str | Path] = [*profiles, *(path for _, path in named), *([] if workloads is None else [workloads])]
    check_outputs(output, INSTANCE, None, read, "what is read")
    prices = prices_of(profiles, price)
    seconds = seconds_of(window)
    if seconds is None:
        raise InputError(f"--window: must be a time such as 30s, 10min or 1h; found {describe(window)}")
    cards = [read_profile(entry, coefficients=coefficients) for entry in profiles]
    found = instance_from_trace(
        named,
        [
            GpuType(name=card.name.upper(), profile=card, price_per_hour=cost)
            for card, cost in zip(cards, prices, strict=True)
        ],
        name or output.stem,
        percentile=percentile,
        window_s=seconds,
        arrivals=one_of(arrivals, TRACED_ARRIVALS, "--arrivals: unknown kind", "kinds"),
        asked=workloads,
        model=model,
        slo_ms=slo_ms,
        max_replicas=max_replicas,
    )
    write_instance(found.instance, output)
    if json:
        console.print_json({"streams": found.to_dicts(), "placeholders": list(found.placeholders)})
    else:
        _print(found)
    for text in found.cautions():
        console.message(f"note: {text}")
    console.message(f"wrote {output}: {len(found.streams)} workload{'s' if len(found.streams) != 1 else ''}")


def _print(found: FromTrace) -> None:
    table = new_table()
    table.add_column("workload")
    for title in ("requests", "hours", "req/s", "windows", "busiest", "headroom", "burstiness", "counts"):
        table.add_column(title, justify="right")
    table.add_column("arrivals")
    for entry in found.streams:
        table.add_row(
            entry.workload,
            f"{entry.requests:,}",
            rounded(entry.seconds / 3600.0),
            rounded(entry.rate_rps),
            f"{entry.windows:,}",
            rounded(entry.busiest_rps),
            f"{rounded(100.0 * entry.headroom, 1)} %",
            number(entry.burstiness, 2),
            number(entry.dispersion, 2),
            entry.arrivals.words.removeprefix("arrivals "),
        )
    print_table(console.stdout(), table)
    console.stdout().print(
        "busiest: req/s of the busiest window; burstiness: squared variation of gaps; counts: variance over mean",
        soft_wrap=True,
    )

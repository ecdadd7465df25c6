"""Options about traffic, which several commands share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import exists
from igniter_opt.base.schema import one_of
from igniter_opt.data.arrivals import (
    ARRIVAL_KINDS,
    DEFAULT_BURST_RATIO,
    DEFAULT_BURST_SECONDS,
    DEFAULT_BURSTINESS,
    PLANNED_KINDS,
    Arrivals,
)
from igniter_opt.data.split import SPLITS, Split

Kind = Annotated[
    str | None,
    typer.Option(metavar="KIND", help=f"One of: {', '.join(ARRIVAL_KINDS)}. Default: the plan's; trace with --trace."),
]
Burstiness = Annotated[
    float | None,
    typer.Option(metavar="X", help=f"gamma: squared variation of the gaps (default {DEFAULT_BURSTINESS:g})."),
]
BurstRatio = Annotated[
    float | None, typer.Option(metavar="X", help=f"mmpp: high rate over low (default {DEFAULT_BURST_RATIO:g}).")
]
BurstSeconds = Annotated[
    float | None,
    typer.Option(metavar="S", help=f"mmpp: mean seconds at each rate (default {DEFAULT_BURST_SECONDS:g})."),
]
Trace = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[WORKLOAD=]CSV",
        help="Seconds in a column 'timestamp', workloads in a column 'workload' unless named here; repeatable.",
    ),
]
Way = Annotated[
    str | None,
    typer.Option(metavar="HOW", help=f"Over replicas: {' or '.join(SPLITS)} (default: the plan's, or random)."),
]
PlannedWay = Annotated[
    str | None,
    typer.Option("--split", metavar="HOW", help=f"How replicas share requests, for rule p99: {' or '.join(SPLITS)}."),
]
Judged = Annotated[
    float | None, typer.Option(metavar="Q", help="What must be within the SLO (default: the plan's, or 0.99).")
]


PlannedKind = Annotated[
    str | None,
    typer.Option(
        "--arrivals",
        metavar="KIND",
        help=f"Rule p99 plans for them: {', '.join(PLANNED_KINDS)}. Default: the instance's, or poisson.",
    ),
]
PlannedTrace = Annotated[
    Path | None,
    typer.Option(
        "--trace",
        metavar="CSV",
        help="Plan for arrivals as recorded: seconds in a column 'timestamp', scaled to rates.",
    ),
]


def planned_arrivals(
    kind: str | None,
    burstiness: float | None,
    burst_ratio: float | None,
    burst_seconds: float | None,
    trace: Path | None,
) -> Arrivals | None:
    """Return the arrivals that a plan is asked for; None where no option says."""
    if kind is None and trace is None:
        _refuse_parameters(burstiness, burst_ratio, burst_seconds)
        return None
    named = "trace" if kind is None else one_of(kind, PLANNED_KINDS, "--arrivals: unknown kind", "kinds")
    return Arrivals(named, burstiness, burst_ratio, burst_seconds, None if trace is None else str(trace))


def arrivals_of(
    kind: str | None,
    burstiness: float | None,
    burst_ratio: float | None,
    burst_seconds: float | None,
    traces: Sequence[tuple[str | None, Path]],
) -> Arrivals | None:
    """Return the arrivals that the options ask for; None where no option says, and they are the plan's."""
    if kind is None and not traces:
        _refuse_parameters(burstiness, burst_ratio, burst_seconds)
        return None
    named = "trace" if kind is None else one_of(kind, ARRIVAL_KINDS, "--arrivals: unknown kind", "kinds")
    return Arrivals(named, burstiness, burst_ratio, burst_seconds)


def _refuse_parameters(burstiness: float | None, burst_ratio: float | None, burst_seconds: float | None) -> None:
    given = {"burstiness": burstiness, "burst-ratio": burst_ratio, "burst-seconds": burst_seconds}
    for name, value in given.items():
        if value is not None:
            raise InputError(f"--{name} goes with --arrivals {'gamma' if name == 'burstiness' else 'mmpp'}")


def split_of(value: str | None) -> Split | None:
    """Return the way of splitting that an option names."""
    return None if value is None else one_of(value, SPLITS, "--split: unknown way", "ways")


def trace_of(text: str) -> tuple[str | None, Path]:
    """Take a trace option apart; a file whose own name has an equals sign is a file all the same."""
    name, equals, path = text.partition("=")
    return (name, Path(path)) if equals and not exists(Path(text)) else (None, Path(text))

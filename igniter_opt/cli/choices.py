"""Shared options whose words come from rooms that few commands import: backends and precisions."""

from typing import Annotated

import typer

from igniter_opt.base.schema import one_of
from igniter_opt.cli import completion
from igniter_opt.deploy.backends.registry import BACKENDS
from igniter_opt.profiler.models.catalogue import PRECISIONS, Precision

BackendOption = Annotated[
    str,
    typer.Option("--backend", help=f"One of: {', '.join(BACKENDS)}.", autocompletion=completion.words(BACKENDS)),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        help=f"One of: {', '.join(PRECISIONS)}.",
        autocompletion=completion.words(PRECISIONS),
    ),
]


def precision_of(value: str) -> Precision:
    """Return the precision that an option names."""
    return one_of(value, PRECISIONS, "--precision: unknown", "known")

"""The ``igniter-opt models`` commands."""

from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import one_of
from igniter_opt.cli import completion, console
from igniter_opt.cli.choices import PrecisionOption, precision_of
from igniter_opt.profiler.models.catalogue import BUILT_IN, find_model
from igniter_opt.profiler.models.export import export_torch
from igniter_opt.profiler.models.export_onnx import export_onnx, export_tensorrt

Format = Literal["onnx", "torch", "tensorrt"]
FORMATS: tuple[Format, ...] = get_args(Format)
DEFAULT_BATCH = 32

models_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the group to the program."""
    app.add_typer(models_app, name="models")


@models_app.callback()
def models_main() -> None:
    """Turn models into what Triton serves.

    Example: igniter-opt models export --help
    """


@models_app.command("export")
def export_command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help=f"Built in: {', '.join(BUILT_IN)}; others as NAME=package.module:function or NAME=FILE (.pt, .onnx).",
            autocompletion=completion.models,
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="Make the model's folder in here.")],
    form: Annotated[str, typer.Option("--format", help=f"One of: {', '.join(FORMATS)}.")] = "onnx",
    batch: Annotated[int, typer.Option(metavar="N", help="The largest batch to serve.")] = DEFAULT_BATCH,
    precision: PrecisionOption = "fp32",
) -> None:
    """Make the model folder that `deploy --models` takes. ONNX answers are compared with torch's.

    Example: igniter-opt models export unet -o models --format onnx
    """
    spec, chosen, kind = find_model(model), _format(form), precision_of(precision)
    if not 1 <= batch <= 1024:
        raise InputError(f"--batch: must be 1 to 1024; found {batch}")
    match chosen:
        case "onnx":
            made = export_onnx(spec, output, batch, kind)
        case "tensorrt":
            made = export_tensorrt(spec, output, batch, kind)
        case "torch":
            made = export_torch(model, spec, output, batch, kind)
    console.message(f"{made}: {spec.name} as {chosen}, batches up to {batch}")


def _format(value: str) -> Format:
    return one_of(value, FORMATS, "--format: unknown", "formats")

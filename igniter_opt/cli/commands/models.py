"""The ``igniter-opt models`` commands."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import one_of
from igniter_opt.cli import completion, console
from igniter_opt.cli.choices import precision_of
from igniter_opt.data.profile import read_profile
from igniter_opt.deploy.triton.how_run import HowRun, profiled
from igniter_opt.profiler.make import colocation_models
from igniter_opt.profiler.models.catalogue import BUILT_IN, PRECISIONS, find_model
from igniter_opt.profiler.models.export import export_torch, in_place_of
from igniter_opt.profiler.models.export_onnx import export_onnx, export_tensorrt

Format = Literal["onnx", "torch", "tensorrt"]
FORMATS: tuple[Format, ...] = get_args(Format)
DEFAULT_BATCH = 32
DEFAULT_FORMAT: Format = "onnx"

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
    form: Annotated[
        str | None,
        typer.Option("--format", help=f"One of: {', '.join(FORMATS)}. Default: the profile's, else {DEFAULT_FORMAT}."),
    ] = None,
    batch: Annotated[int, typer.Option(metavar="N", help="The largest batch to serve.")] = DEFAULT_BATCH,
    precision: Annotated[
        str | None,
        typer.Option(
            help=f"One of: {', '.join(PRECISIONS)}. Default: the profile's, else fp32.",
            autocompletion=completion.words(PRECISIONS),
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="P",
            help="Run as in this profile: its format, precision and source of the model.",
            autocompletion=completion.profiles,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the folder, if it was made by this command.")
    ] = False,
) -> None:
    """Make the model folder that `deploy --models` takes. ONNX answers are compared with torch's.

    Plans hold for models that run as they were profiled: name the plan's profile.

    Example: igniter-opt models export unet -o models --profile h100
    """
    card = None if profile is None else read_profile(profile)
    as_profiled = HowRun(None, None) if card is None else profiled(card)
    if card is not None and model in card.models:
        (model,) = colocation_models(card, [model])
    spec = find_model(model)
    chosen = _format(form or as_profiled.format or DEFAULT_FORMAT)
    kind = precision_of(precision or as_profiled.precision or "fp32")
    if not 1 <= batch <= 1024:
        raise InputError(f"--batch: must be 1 to 1024; found {batch}")
    with in_place_of(output, spec.name) if overwrite else nullcontext(output) as folder:
        match chosen:
            case "onnx":
                export_onnx(spec, folder, batch, kind)
            case "tensorrt":
                export_tensorrt(spec, folder, batch, kind)
            case "torch":
                export_torch(model, spec, folder, batch, kind)
    console.message(f"{output / spec.name}: {spec.name} as {chosen} in {kind}, batches up to {batch}")


def _format(value: str) -> Format:
    return one_of(value, FORMATS, "--format: unknown", "formats")

"""The command ``predict``."""

from typing import Annotated

import typer
import typer.core

from igniter_opt.base.errors import InputError
from igniter_opt.cli import console
from igniter_opt.cli.options import Coefficients, Json, ProfileArgument
from igniter_opt.cli.tables.prediction import print_prediction
from igniter_opt.data.profile import read_profile
from igniter_opt.predict import predict, prediction_data


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("predict")(predict_command)


def predict_command(
    profile: ProfileArgument,
    placements: Annotated[
        list[str], typer.Argument(metavar="MODEL:BATCH:SHARE...", help="What runs side by side (share in %).")
    ],
    coefficients: Coefficients = None,
    json: Json = False,
) -> None:
    """Predict latency and throughput of workloads side by side on one GPU.

    Example: igniter-opt predict v100 alexnet:4:10 resnet50:8:30 vgg19:6:37.5
    """
    card = read_profile(profile, coefficients=coefficients)
    parsed = [_placement(text) for text in placements]
    prediction = predict(card, parsed)
    caution = card.caution()
    if caution is not None:
        console.message(f"warning: {caution}")
    data = prediction_data(card, parsed, prediction)
    if json:
        console.print_json(data)
    else:
        print_prediction(data["placements"], prediction, card.coefficients)


def _placement(text: str) -> tuple[str, int, float]:
    parts = text.split(":")
    try:
        model, batch, share = parts
        return model, int(batch), float(share)
    except ValueError:
        raise InputError(
            f"placement {text!r}: expected MODEL:BATCH:SHARE, such as alexnet:4:10 (share in percent)"
        ) from None

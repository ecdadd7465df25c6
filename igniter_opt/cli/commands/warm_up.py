"""The command ``warm-up``."""

import typer
import typer.core

from igniter_opt.base.compilation import seconds
from igniter_opt.cli import console


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("warm-up")(warm_up_command)


def warm_up_command() -> None:
    """Compile what `solve`, `compare` and `simulate` use, once, as when an image is built.

    Example: igniter-opt warm-up
    """
    from igniter_opt.warm_up import warm_up  # a second

    before = seconds()
    functions = warm_up()
    took = seconds() - before
    console.message(
        f"{functions} functions compiled in {took:.0f} s" if functions else "everything is compiled already"
    )

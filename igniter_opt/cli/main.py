"""The ``igniter-opt`` command."""

import errno
import sys
from typing import Annotated, Any

import typer
import typer.core

from igniter_opt import __version__
from igniter_opt.base import command, compilation
from igniter_opt.base.command import EXIT_INTERRUPTED
from igniter_opt.base.errors import EXIT_BAD_INPUT, IgniterOptError
from igniter_opt.cli import console
from igniter_opt.cli.commands import compare, deploy, guard, measure, predict, report, simulate, solve, verify, warm_up
from igniter_opt.cli.commands.instances import instances_app
from igniter_opt.cli.commands.models import models_app
from igniter_opt.cli.commands.profile import profile_app


class Commands(typer.core.TyperGroup):
    """The command group; turns this package's errors into one message and the promised exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            command.has_begun()
            compilation.watch(console.CompilationPrinter())
            with console.cautions_as_lines():
                result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except IgniterOptError as error:
            console.message(f"{error.prefix}{error}")
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            console.message("interrupted")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            # The reader has gone (`| head`): not an error, and nothing more can be said on stdout.
            console.discard(sys.stdout)
            raise typer.Exit(0) from None
        except OSError as error:
            console.discard(sys.stdout)
            hint = "; free some space, or write elsewhere" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            console.message(f"error: {error.strerror or error}{hint}")
            raise typer.Exit(EXIT_BAD_INPUT) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
app.add_typer(instances_app, name="instances")
app.add_typer(profile_app, name="profile")
app.add_typer(models_app, name="models")
for module in (deploy, simulate, measure, guard, report, solve, compare, verify, predict, warm_up):
    module.register(app)


def run() -> None:
    """Entry point of the ``igniter-opt`` script."""
    console.print_what_can_be_printed()
    try:
        app(prog_name="igniter-opt")
    finally:
        command.ignores_interrupts()


def _version(value: bool) -> None:
    if value:
        print(__version__)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Find the cheapest set of GPUs for DNN inference under latency SLOs, with a proof of how cheap it can get.

    Example: igniter-opt solve igniter-table3 -o plan.json
    """

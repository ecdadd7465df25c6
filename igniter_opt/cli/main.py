"""The ``igniter-opt`` command."""

import errno
import sys
from typing import Annotated, Any, cast

import typer

from igniter_opt.base import command, compilation
from igniter_opt.base.command import EXIT_INTERRUPTED
from igniter_opt.base.errors import EXIT_BAD_INPUT, IgniterOptError, StoppedOnRequestError
from igniter_opt.cli import console
from igniter_opt.cli.groups import GroupedCommands
from igniter_opt.cli.later import Later

# The commands in the order of the help, in its groups: name, module of `commands`, and the function whose docstring is
# the help.
_COMMANDS = {
    "Commands to plan": (
        ("solve", "solve", "solve_command"),
        ("replan", "replan", "replan_command"),
        ("schedule", "schedule", "schedule_command"),
        ("compare", "compare", "compare_command"),
        ("whatif", "whatif", "whatif_command"),
        ("verify", "verify", "verify_command"),
        ("diff", "diff", "diff_command"),
        ("explain", "explain", "explain_command"),
        ("predict", "predict", "predict_command"),
        ("simulate", "simulate", "simulate_command"),
        ("report", "report", "report_command"),
    ),
    "Commands to serve": (
        ("approve", "deploy", "approve_command"),
        ("deploy", "deploy", "deploy_command"),
        ("status", "deploy", "status_command"),
        ("measure", "measure", "measure_command"),
        ("guard", "guard", "guard_command"),
        ("metrics", "metrics", "metrics_command"),
        ("teardown", "deploy", "teardown_command"),
        ("rehearse", "measure", "rehearse_command"),
    ),
    "Commands for data and tools": (
        ("instances", "instances", "instances_main"),
        ("profile", "profile", "profile_main"),
        ("models", "models", "models_main"),
        ("triton", "triton", "triton_main"),
        ("warm-up", "warm_up", "warm_up_command"),
        ("serve", "serve", "serve_command"),
    ),
}


class Commands(GroupedCommands):
    """The command group; turns this package's errors into one message and the promised exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            compilation.watch(console.CompilationPrinter())
            with console.cautions_as_lines():
                result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except (IgniterOptError, StoppedOnRequestError) as error:
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
            where = "" if error.filename is None else f"{error.filename}: "
            hint = "; free some space, or write elsewhere" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
            console.message(f"error: {where}{error.strerror or error}{hint}")
            raise typer.Exit(EXIT_BAD_INPUT) from None


class Program(Commands):
    """The commands of `_COMMANDS`; importing and making all of them would take longer than most of them run."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.groups = {title: tuple(row[0] for row in rows) for title, rows in _COMMANDS.items()}
        self.commands.update({row[0]: cast(Any, Later(*row)) for rows in _COMMANDS.values() for row in rows})


app = typer.Typer(
    cls=Program,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)


def run() -> None:
    """Entry point of the ``igniter-opt`` script."""
    console.print_what_can_be_printed()
    try:
        app(prog_name="igniter-opt")
    finally:
        command.ignores_interrupts()


def _version(value: bool) -> None:
    if value:
        from igniter_opt import __version__

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

"""Every error that users see carries its exit code and the beginning of its message; the command asks nothing else."""

import pytest
import typer
from typer.testing import CliRunner

from igniter_opt.base import errors
from igniter_opt.cli.main import Commands

EXPECTED = {
    errors.InputError: (2, "error: "),
    errors.UnsuitableError: (2, "error: "),
    errors.InfeasibleError: (1, "no plan: "),
    errors.RefusedError: (1, "refused: "),
    errors.DeploymentError: (1, "not deployed: "),
    errors.SolverError: (1, "internal error: "),
    errors.VerificationError: (1, "internal error: "),
    errors.SolveInterruptedError: (130, ""),
    errors.SimulationInterruptedError: (130, ""),
    errors.MeasurementInterruptedError: (130, ""),
    errors.DeploymentInterruptedError: (130, ""),
}


class ToyError(errors.InputError):
    """An error of somebody else's, with a code of its own."""

    exit_code = 3
    prefix = "toy: "


@pytest.mark.parametrize(("kind", "code", "prefix"), [(k, *v) for k, v in EXPECTED.items()] + [(ToyError, 3, "toy: ")])
def test_the_command_ends_as_the_error_says(kind: type[BaseException], code: int, prefix: str) -> None:
    app = typer.Typer(cls=Commands)

    @app.command()
    def fails() -> None:
        raise kind("why")

    @app.command()
    def works() -> None:
        pass

    result = CliRunner().invoke(app, ["fails"])
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", f"{prefix}why\n")

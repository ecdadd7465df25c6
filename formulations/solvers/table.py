"""The one table of solvers of integer programs for the `assignment` formulation.

A row is a file here (HiGHS's is `formulations.highs`, which `patterns` uses as well). What a row promises:

- *Values* are of a solution that the solver calls feasible. The predictor judges it anew; what its tolerances let
  through is forbidden and the solve goes on (`assignment_solver`).
- *The bound* is at most the optimum of the program. What a solver may say too much, by the gaps at which it stops,
  the digits that it prints and the tolerances of its linear programs, is taken off in the row's file, which says how
  much and why. `assignment_solver` takes off its own guard besides, and rounds up to what a plan can cost. Tolerances
  on rows and whole numbers only admit more, so that they cannot raise a bound.
- *A start* is complete; a solver that refuses it says so in the log.
- *Infeasible* means proven so.

CP-SAT knows whole numbers only, so it has a model of the same problem in its own terms (`cpsat_model`), of the first
objective: its row is a search of plans instead of a program's solution.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from igniter_opt.base.errors import InputError
from igniter_opt.base.optional import load
from igniter_opt.base.schema import one_of

# The names are wanted where nothing is solved, as in help.
if TYPE_CHECKING:
    from igniter_opt.formulations.highs import MipResult
    from igniter_opt.problem.exact_outcome import Outcome


@dataclass(frozen=True)
class MipSolver:
    """A row of the table.

    Attributes
    ----------
    name
        What ``--mip-solver`` calls it.
    words
        What it is, in messages and logs.
    module
        Of `formulations` that has the function ``run_mip`` (programs, with the parameters of `highs.run_mip`) or
        ``search`` (`takes_programs` False, with those of `methods.ExactMethod.search`).
    package
        The Python module that it needs, if any.
    extra
        Which of the package's extras has that.
    """

    name: str
    words: str
    module: str
    package: str | None = None
    takes_programs: bool = True
    extra: str = "solvers"

    def require(self) -> None:
        """Raise InputError, which says how to install it, where its package is missing."""
        if self.package is not None:
            try:
                load(self.package, self.extra)
            except InputError as error:
                raise InputError(f"--mip-solver {self.name}: {error}") from None

    def run(self, *arguments: Any, **options: Any) -> "MipResult":
        """Solve a program as `highs.run_mip` does."""
        result: MipResult = self._own("run_mip")(*arguments, **options)
        return result

    def search(self, *arguments: Any) -> "Outcome":
        """Search for plans as a `methods.ExactMethod` does."""
        outcome: Outcome = self._own("search")(*arguments)
        return outcome

    def _own(self, function: str) -> Callable[..., Any]:
        own: Callable[..., Any] = getattr(import_module(f"igniter_opt.formulations.{self.module}"), function)
        return own


_ROWS = (
    MipSolver("highs", "HiGHS", "highs"),
    MipSolver("scip", "SCIP", "solvers.scip", package="pyscipopt"),
    MipSolver("cbc", "CBC", "solvers.cbc", package="cbcbox", extra="cbc"),
    MipSolver("cp-sat", "OR-Tools CP-SAT", "solvers.cpsat", package="ortools", takes_programs=False),
)
MIP_SOLVERS: Mapping[str, MipSolver] = MappingProxyType({row.name: row for row in _ROWS})
"""What ``--mip-solver`` can be, by name."""


def mip_solver(name: object) -> MipSolver:
    """Return a row by its name; raise InputError where there is none, or its package is missing."""
    row = MIP_SOLVERS[one_of(name, MIP_SOLVERS, "--mip-solver: unknown solver", "solvers")]
    row.require()
    return row

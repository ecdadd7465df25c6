"""HiGHS as this package uses it: an integer program in, values and a valid bound out, with progress and Ctrl-C.

The program comes as HiGHS's own rows and columns (`run_mip`) or as a Pyomo model (`solve_mip`).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import highspy
import numpy as np

from igniter_opt.base.arrays import BoolArray, FloatArray, IntArray
from igniter_opt.base.errors import SolverError
from igniter_opt.base.stop import StopRequest, in_a_thread

if TYPE_CHECKING:
    import pyomo.environ as pyo

# The line of its log by which HiGHS says that it used a start.
START_ACCEPTED = "MIP start solution is feasible"
# A start may violate rows by this much: rounding of sums.
_START_TOLERANCE = 1e-7
# Probing among the rules of presolve that HiGHS can leave out.
_PROBING = 2**15
# Objectives are the same up to this, relative or absolute.
_SAME_OBJECTIVE = 1e-6
# Model statuses of a solve that ended early; which of them exist depends on HiGHS's version.
_STOPPED = tuple(
    getattr(highspy.HighsModelStatus, name)
    for name in ("kTimeLimit", "kInterrupt", "kHighsInterrupt", "kObjectiveBound", "kIterationLimit", "kSolutionLimit")
    if hasattr(highspy.HighsModelStatus, name)
)


class QuietHighs(highspy.Highs):  # type: ignore[misc]
    """HiGHS that never writes to the console, where results go.

    HiGHS 1.16 prints its banner when callbacks are enabled, which its Python class does in its constructor, before
    any option can be set; so the option is set there.
    """

    def enableCallbacks(self) -> None:  # noqa: N802 (HiGHS's name)
        """Enable callbacks, without a word."""
        self.setOptionValue("log_to_console", False)
        super().enableCallbacks()


@dataclass(frozen=True)
class MipEvent:
    """A moment of a MIP solve: seconds since its start, incumbent objective, dual bound, nodes, new incumbent."""

    elapsed_s: float
    objective: float
    bound: float
    nodes: int
    improved: bool


@dataclass
class MipResult:
    """What a solver returned.

    Attributes
    ----------
    status
        ``optimal``, ``infeasible`` or ``stopped`` (a limit, or a stop request).
    values
        Value of every column by its position, or of every variable of a Pyomo model by its id; None without a solution.
    objective
        Of these values.
    bound
        Dual bound on the objective, as valid as `solvers.table` promises; minus infinity if there is none.
    consistent
        Whether HiGHS claims this objective as well. Given a start, 1.16 can claim a better solution's and return the
        start; `run_mip` then solves once more, without it.
    log
        The lines of the solver's own log.
    """

    status: str
    values: dict[int, float] | None
    objective: float
    bound: float
    log: list[str] = field(default_factory=list)
    consistent: bool = True


def run_mip(
    lp: highspy.HighsLp,
    start: FloatArray | None = None,
    *,
    time_limit: float = np.inf,
    gap: float = 0.0,
    node_limit: int = 2**31 - 1,
    seed: int = 0,
    stop: StopRequest | None = None,
    on_event: Callable[[MipEvent], None] | None = None,
    row_name: Callable[[int], str] = "row {}".format,
    probing: bool = True,
) -> MipResult:
    """Solve an integer program.

    Parameters
    ----------
    lp
        Its columns are stored one after the other, and it says which of them are whole numbers.
    start
        A complete start: value of every column.
    time_limit, gap, node_limit
        Seconds; relative gap at which to stop; branch-and-bound nodes.
    stop
        Looked at several times a second. Ctrl-C in the main thread sets it.
    on_event
        Called from the solver's thread with progress. An exception raised there ends the solve and is raised
        again here.
    row_name
        What to call a row in an error.
    probing
        Whether presolve probes variables: with thousands that exclude each other, that alone takes longer than the
        rest of the solve.

    Raises
    ------
    SolverError
        The start violates the program, or HiGHS refuses it or fails.
    """
    stop = stop or StopRequest()
    options: dict[str, object] = {
        "output_flag": True,
        "mip_rel_gap": gap,
        "mip_abs_gap": 0.0 if gap > 0 else 1e-6,
        "mip_feasibility_tolerance": 1e-8,
        "primal_feasibility_tolerance": 1e-8,
        "mip_max_nodes": node_limit,
        "random_seed": seed,
        "threads": 1,
    }
    if not probing:
        options["presolve_rule_off"] = _PROBING
    if start is not None:
        require_feasible(lp, start, row_name)
    until = time.perf_counter() + time_limit
    result = _solve(lp, start, options | {"time_limit": max(0.0, time_limit)}, stop, on_event)
    if start is not None and not result.consistent and not stop.is_set():
        left = max(0.0, until - time.perf_counter())
        again = _solve(lp, None, options | {"time_limit": left}, stop, on_event)
        again.log[:0] = result.log
        if again.values is not None:
            return again
    return result


def solve_mip(
    model: "pyo.ConcreteModel",
    start: dict[int, float] | None = None,
    run: Callable[..., MipResult] = run_mip,
    **options: Any,
) -> MipResult:
    """Solve a linear Pyomo model.

    Parameters
    ----------
    start
        A complete start: value of every variable, by ``id``.
    run
        The solver's function with the parameters and the result of `run_mip` (`solvers.table`).
    options
        Those of `run_mip`.

    Raises
    ------
    SolverError
        As there.
    """
    form, lp = compiled_form(model)
    values = None if start is None else np.array([start[id(column)] for column in form.columns])
    result = run(lp, values, row_name=lambda row: form.rows[row].constraint.name, **options)
    if result.values is not None:
        result.values = {id(column): result.values[position] for position, column in enumerate(form.columns)}
    return result


def _solve(
    lp: highspy.HighsLp,
    start: FloatArray | None,
    options: dict[str, object],
    stop: StopRequest,
    on_event: Callable[[MipEvent], None] | None,
) -> MipResult:
    solver = QuietHighs()
    for option, value in options.items():
        _require(solver.setOptionValue(option, value), f"option {option}")
    _require(solver.passModel(lp), "the model")
    result = MipResult("stopped", None, np.inf, -np.inf)
    failures: list[BaseException] = []
    _subscribe(solver, result, stop, on_event, failures)
    if start is not None:
        solution = highspy.HighsSolution()
        solution.col_value = start.tolist()
        _require(solver.setSolution(solution), "the start")
    with stop.on_interrupt():
        in_a_thread(solver.run, "highs")
    if failures:
        raise failures[0]
    _collect(solver, lp, result, stopped=stop.is_set())
    return result


def _require(status: highspy.HighsStatus, what: str) -> None:
    if status == highspy.HighsStatus.kError:
        raise SolverError(f"HiGHS refuses {what}; please report this")


class Columns(NamedTuple):
    """A sparse matrix as HiGHS keeps it; SciPy's take a sixth of a second to import.

    Attributes
    ----------
    height
        Number of rows.
    start
        Where each column's entries begin, and where the last one's end.
    row, value
        Of every entry, one column after the other.
    """

    height: int
    start: IntArray
    row: IntArray
    value: FloatArray

    @classmethod
    def of(cls, lp: highspy.HighsLp) -> "Columns":
        """Return the matrix of a program whose columns are stored one after the other."""
        entries = lp.a_matrix_
        return cls(lp.num_row_, *(np.asarray(part) for part in (entries.start_, entries.index_, entries.value_)))

    def times(self, values: FloatArray) -> FloatArray:
        """Product with a vector."""
        weights = self.value * np.repeat(values, np.diff(self.start))
        return np.asarray(np.bincount(self.row, weights=weights, minlength=self.height), dtype=np.float64)

    def select(self, columns: IntArray) -> "Columns":
        """Return some of the columns, in this order, each with ascending rows."""
        sizes = np.diff(self.start)[columns]
        start = np.concatenate([[0], np.cumsum(sizes)])
        entries = np.arange(start[-1]) + np.repeat(self.start[columns] - start[:-1], sizes)
        order = np.lexsort((self.row[entries], np.repeat(np.arange(len(columns)), sizes)))
        return Columns(self.height, start, self.row[entries[order]], self.value[entries[order]])

    def without_empty_rows(self) -> tuple["Columns", BoolArray]:
        """Leave out rows without entries; return which are left as well."""
        filled = np.bincount(self.row, minlength=self.height) > 0
        return Columns(int(filled.sum()), self.start, (np.cumsum(filled) - 1)[self.row], self.value), filled


def require_feasible(lp: highspy.HighsLp, values: FloatArray, row_name: Callable[[int], str]) -> None:
    """Check a start against every row: solvers drop an infeasible one with no more than a line in their logs."""
    activity = Columns.of(lp).times(values)
    violation = np.maximum(activity - np.asarray(lp.row_upper_), np.asarray(lp.row_lower_) - activity)
    if violation.size and violation.max() > _START_TOLERANCE:
        row = row_name(int(violation.argmax()))
        raise SolverError(f"the start violates {row} by {violation.max():.3g}; please report this")


def write_program(lp: highspy.HighsLp, path: Path) -> None:
    """Write a program in the format that the path ends with, ``.mps`` or ``.lp``, with all digits of its numbers."""
    solver = QuietHighs()
    solver.setOptionValue("output_flag", False)
    _require(solver.passModel(lp), "the model")
    _require(solver.writeModel(str(path)), f"to write {path.suffix}")


def integer_program(cost: FloatArray, matrix: Columns, lower: FloatArray, upper: FloatArray) -> highspy.HighsLp:
    """Return a program of rows ``lower ≤ matrix x ≤ upper`` in whole numbers x ≥ 0, as HiGHS's."""
    lp = highspy.HighsLp()
    lp.num_row_, lp.num_col_ = matrix.height, len(cost)
    lp.col_cost_ = cost
    lp.col_lower_, lp.col_upper_ = np.zeros(len(cost)), np.full(len(cost), np.inf)
    lp.row_lower_, lp.row_upper_ = lower, upper
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = matrix.start, matrix.row, matrix.value
    lp.integrality_ = [highspy.HighsVarType.kInteger] * len(cost)
    return lp


def compiled_form(model: "pyo.ConcreteModel") -> tuple[Any, highspy.HighsLp]:
    """Compile a linear Pyomo model; return Pyomo's rows and columns with names, and the same as HiGHS's."""
    # Pyomo takes a second, and `patterns` needs none of it.
    from pyomo.opt import WriterFactory

    form = WriterFactory("compile_standard_form").write(model, mixed_form=True)
    rhs = np.asarray(form.rhs, dtype=float)
    kinds = np.array([row.bound_type for row in form.rows])
    lower, upper = np.where(kinds <= 0, rhs, -np.inf), np.where(kinds >= 0, rhs, np.inf)
    entries = form.A.tocsc()
    matrix = Columns(entries.shape[0], entries.indptr, entries.indices, entries.data)
    lp = integer_program(np.asarray(form.c.todense(), dtype=float).ravel(), matrix, lower, upper)
    lp.offset_ = float(form.c_offset[0])
    bounds = [column.bounds for column in form.columns]
    lp.col_lower_ = np.array([-np.inf if low is None else low for low, _ in bounds])
    lp.col_upper_ = np.array([np.inf if high is None else high for _, high in bounds])
    integer, continuous = highspy.HighsVarType.kInteger, highspy.HighsVarType.kContinuous
    lp.integrality_ = [integer if column.is_integer() else continuous for column in form.columns]
    return form, lp


def _subscribe(
    solver: highspy.Highs,
    result: MipResult,
    stop: StopRequest,
    on_event: Callable[[MipEvent], None] | None,
    failures: list[BaseException],
) -> None:
    began = time.perf_counter()

    def on_log(event: Any) -> None:
        result.log.append(event.message.rstrip("\n"))

    def on_interrupt(event: Any) -> None:
        if stop.is_set():
            event.interrupt()

    def report(event: Any, improved: bool) -> None:
        if on_event is None or failures:
            return
        out = event.data_out
        elapsed = time.perf_counter() - began
        try:
            on_event(MipEvent(elapsed, out.mip_primal_bound, out.mip_dual_bound, out.mip_node_count, improved))
        except BaseException as error:
            failures.append(error)
            stop.set()

    solver.cbLogging += on_log
    solver.cbMipInterrupt += on_interrupt
    solver.cbSimplexInterrupt += on_interrupt
    solver.cbIpmInterrupt += on_interrupt
    solver.cbMipLogging += lambda event: report(event, improved=False)
    solver.cbMipImprovingSolution += lambda event: report(event, improved=True)


def _collect(solver: highspy.Highs, lp: highspy.HighsLp, result: MipResult, *, stopped: bool) -> None:
    status = solver.getModelStatus()
    info = solver.getInfo()
    if status == highspy.HighsModelStatus.kOptimal:
        result.status = "optimal"
    elif status in (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible):
        result.status = "infeasible"
    elif status not in _STOPPED and not stopped:  # a stop in presolve leaves the status unset
        raise SolverError(f"HiGHS ended with status {solver.modelStatusToString(status)!r}; please report this")
    if info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible:
        values = solver.getSolution().col_value
        result.values = dict(enumerate(values))
        result.objective = float(np.asarray(lp.col_cost_) @ np.array(values)) + float(lp.offset_)
        claimed = float(info.objective_function_value)
        result.consistent = abs(result.objective - claimed) <= _SAME_OBJECTIVE * max(1.0, abs(claimed))
    result.bound = info.mip_dual_bound

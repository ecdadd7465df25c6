"""Programs written as files that every solver reads (LP, MPS), and solved as linear relaxations, by HiGHS."""

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import highspy
import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import SolverError
from igniter_opt.base.files import StrPath
from igniter_opt.base.kinds import MODEL, MODEL_MARK, model_path, write_output
from igniter_opt.formulations.highs import Columns, QuietHighs, compiled_form, integer_program, write_program
from igniter_opt.problem.program import IntegerProgram

if TYPE_CHECKING:
    import pyomo.environ as pyo

# How a line that says something to people begins, by the ending of the file.
_COMMENT = {".lp": "\\ ", ".mps": "* "}


def write_model(program: IntegerProgram, path: StrPath) -> None:
    """Write a program in the format that the path ends with, ``.lp`` or ``.mps``.

    Parameters
    ----------
    program
        That of a result (`Result.model`).
    path
        Replaced whole, if it is a model of ours or empty.

    Raises
    ------
    InputError
        The path ends otherwise, something else is there, or it cannot be written.
    """
    path = model_path(path)
    ending = path.suffix.lower()
    with tempfile.TemporaryDirectory(prefix="igniter-opt-model-") as folder:
        plain = Path(folder) / f"model{ending}"
        write_program(_as_highs(program), plain)
        body = plain.read_text("utf-8")
    head = [MODEL_MARK, *program.notes]
    # HiGHS says in LP files that it wrote them.
    lines = [f"{_COMMENT[ending]}{line}".encode("ascii", "replace").decode() for line in head]
    write_output(path, "\n".join([*lines, body]).encode(), MODEL)


def _as_highs(program: IntegerProgram) -> highspy.HighsLp:
    matrix = Columns(len(program.rows), program.start, program.row, program.value)
    lp = integer_program(program.cost, matrix, program.row_lower, program.row_upper)
    lp.col_lower_, lp.col_upper_ = program.lower, program.upper
    lp.offset_ = program.offset
    lp.col_names_, lp.row_names_ = list(program.columns), list(program.rows)
    integer, continuous = highspy.HighsVarType.kInteger, highspy.HighsVarType.kContinuous
    lp.integrality_ = [integer if whole else continuous for whole in program.whole.tolist()]
    return lp


def relaxed(program: IntegerProgram) -> tuple[float, FloatArray] | None:
    """Return optimum and row duals of the linear relaxation, of a vertex; None where it has no solution."""
    lp = _as_highs(program)
    lp.integrality_ = []
    solver = QuietHighs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    solver.setOptionValue("solver", "simplex")
    solver.setOptionValue("dual_feasibility_tolerance", 1e-9)
    solver.passModel(lp)
    solver.run()
    status = solver.getModelStatus()
    if status in (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible):
        return None
    if status != highspy.HighsModelStatus.kOptimal:
        raise SolverError(f"the relaxation ended with {solver.modelStatusToString(status)!r}; please report this")
    return float(solver.getInfo().objective_function_value), np.asarray(solver.getSolution().row_dual)


def pyomo_program(model: "pyo.ConcreteModel", formulation: str, notes: tuple[str, ...], price: float) -> IntegerProgram:
    """Return a linear Pyomo model with its active objective, which is in units of so much per hour, as a program."""
    form, lp = compiled_form(model)
    matrix = Columns.of(lp)
    integer = highspy.HighsVarType.kInteger
    return IntegerProgram(
        formulation=formulation,
        notes=notes,
        cost=np.asarray(lp.col_cost_) * price,
        lower=np.asarray(lp.col_lower_),
        upper=np.asarray(lp.col_upper_),
        whole=np.array([kind == integer for kind in lp.integrality_]),
        row_lower=np.asarray(lp.row_lower_),
        row_upper=np.asarray(lp.row_upper_),
        start=np.asarray(matrix.start, dtype=np.int64),
        row=np.asarray(matrix.row, dtype=np.int64),
        value=matrix.value,
        columns=tuple(_name(column.name) for column in form.columns),
        rows=tuple(_name(row.constraint.name) for row in form.rows),
        offset=float(lp.offset_) * price,
    )


def _name(name: str) -> str:
    """Return Pyomo's name of a variable or a row, as ``x[1,2,3]``, in letters, digits and ``_``."""
    return re.sub(r"\W+", "_", name).strip("_")

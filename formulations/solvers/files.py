"""Programs handed over in a file, to solvers that read MPS: faster than row by row, and the same for all of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import highspy
import numpy as np

from igniter_opt.base.arrays import BoolArray, FloatArray
from igniter_opt.formulations.highs import require_feasible, write_program

# HiGHS numbers the columns of a program without names in its files.
COLUMN = "c{}".format


@contextmanager
def handed_over(lp: highspy.HighsLp, start: FloatArray | None, row_name: Callable[[int], str]) -> Iterator[Path]:
    """Write a program as MPS in a folder that is removed at the end, and check its start.

    Raises
    ------
    SolverError
        The start violates the program.
    """
    if start is not None:
        require_feasible(lp, start, row_name)
    _round_bounds(lp)
    with TemporaryDirectory(prefix="igniter-opt-mip-") as folder:
        path = Path(folder) / "program.mps"
        write_program(lp, path)
        yield path


def _round_bounds(lp: highspy.HighsLp) -> None:
    """Make the bounds of whole numbers whole; a development version of CBC takes an upper bound of 0.2 for one of 1."""
    whole = is_whole(lp)
    lower, upper = np.asarray(lp.col_lower_), np.asarray(lp.col_upper_)
    lp.col_lower_ = np.where(whole, np.ceil(lower), lower)
    lp.col_upper_ = np.where(whole, np.floor(upper), upper)


def is_whole(lp: highspy.HighsLp) -> BoolArray:
    """Which columns are whole numbers."""
    return np.array([kind == highspy.HighsVarType.kInteger for kind in lp.integrality_])


def objective_of(lp: highspy.HighsLp, values: FloatArray) -> float:
    """Objective of values of the columns."""
    return float(np.asarray(lp.col_cost_) @ values) + float(lp.offset_)


def rounded_values(lp: highspy.HighsLp, values: FloatArray) -> FloatArray:
    """Return values whose whole numbers are whole, as far as a solver's tolerance left them short of it."""
    return np.where(is_whole(lp), np.round(values), values)


def less_error(bound: float, relative: float) -> float:
    """Return a bound less what its solver may say too much: this part of it, and of 1 at least."""
    return bound - relative * max(1.0, abs(bound))

"""An integer program as arrays with names, and duals of its linear relaxation: what solves hand out to be studied."""

from collections.abc import Mapping
from dataclasses import dataclass

from igniter_opt.base.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, repr=False)
class IntegerProgram:
    """Least ``cost x + offset`` with ``row_lower ≤ A x ≤ row_upper`` and ``lower ≤ x ≤ upper``; some of x are whole.

    Attributes
    ----------
    formulation
        ``assignment`` or ``patterns``.
    notes
        What rows and columns are, line by line.
    cost, lower, upper, whole
        Of every column; costs in currency per hour.
    row_lower, row_upper
        Of every row; infinite where there is none.
    start, row, value
        The entries of A, one column after the other: those of column j are at ``start[j] .. start[j + 1] - 1``.
    columns, rows
        Names: letters, digits and ``_``.
    offset
        Of the objective.
    """

    formulation: str
    notes: tuple[str, ...]
    cost: FloatArray
    lower: FloatArray
    upper: FloatArray
    whole: BoolArray
    row_lower: FloatArray
    row_upper: FloatArray
    start: IntArray
    row: IntArray
    value: FloatArray
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    offset: float = 0.0

    def __repr__(self) -> str:
        return f"IntegerProgram({self.formulation!r}, {len(self.columns)} columns, {len(self.rows)} rows)"


@dataclass(frozen=True)
class Duals:
    """Dual values of the linear master of `patterns` over the columns that it ended with, in currency per hour.

    They are feasible for these columns: the items of a pattern are together worth no more than its GPU's price and
    `gpu_types` of its type. Patterns that are no columns may be worth more, so they are no proof.

    Attributes
    ----------
    workloads
        What serving each workload adds to the optimum of the relaxation, by name.
    items
        π: of one of κ equal replicas, by the workload's name and κ. A workload is worth the least of κ π over its κ.
    gpu_types
        σ: what one GPU more of a type with a count would save, by the type's name; 0 for the others.
    optimum
        Of the relaxation: the sum of `workloads` less the sum of count times `gpu_types`.
    """

    workloads: Mapping[str, float]
    items: Mapping[tuple[str, int], float]
    gpu_types: Mapping[str, float]
    optimum: float

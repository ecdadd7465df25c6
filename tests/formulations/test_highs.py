"""HiGHS's sparse matrices, beside SciPy's."""

import numpy as np
import pytest
from scipy.sparse import csc_array, random_array

from igniter_opt.formulations.highs import Columns, integer_program


def both(seed: int) -> tuple[Columns, csc_array]:
    """Return the same matrix in either form; some rows and columns are empty."""
    rng = np.random.default_rng(seed)
    matrix = random_array((7, 9), density=0.25, rng=rng, format="csc")
    program = integer_program(
        np.ones(9), Columns(7, matrix.indptr, matrix.indices, matrix.data), np.zeros(7), np.full(7, np.inf)
    )
    return Columns.of(program), matrix


def dense(matrix: Columns) -> np.ndarray:
    return csc_array((matrix.value, matrix.row, matrix.start), shape=(matrix.height, len(matrix.start) - 1)).toarray()


@pytest.mark.parametrize("seed", range(20))
def test_columns_are_those_of_scipy(seed: int) -> None:
    columns, matrix = both(seed)
    values = np.random.default_rng(seed + 100).random(9)
    assert np.array_equal(dense(columns), matrix.toarray())
    assert np.array_equal(columns.times(values), matrix @ values)
    chosen = np.random.default_rng(seed + 200).permutation(9)[:5]
    selected = columns.select(chosen)
    assert np.array_equal(dense(selected), matrix.toarray()[:, chosen])
    assert all(
        (np.diff(selected.row[begin:end]) > 0).all()
        for begin, end in zip(selected.start[:-1], selected.start[1:], strict=True)
    )
    left, filled = selected.without_empty_rows()
    assert np.array_equal(filled, (matrix.toarray()[:, chosen] != 0).any(axis=1))
    assert np.array_equal(dense(left), matrix.toarray()[:, chosen][filled])

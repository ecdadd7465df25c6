"""Pareto filter, compiled."""

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.compiled import compiled


@compiled
def undominated_rows(keys: FloatArray) -> IntArray:
    """Positions of the rows that no earlier kept row equals or undercuts in every column.

    Parameters
    ----------
    keys
        Rows in lexicographic order, so that a row can only be dominated by one before it.
    """
    kept = np.empty(keys.shape[0], dtype=np.int64)
    count = 0
    for row in range(keys.shape[0]):
        dominated = False
        for position in range(count):
            other = kept[position]
            dominated = True
            for column in range(keys.shape[1]):
                if keys[other, column] > keys[row, column]:
                    dominated = False
                    break
            if dominated:
                break
        if not dominated:
            kept[count] = row
            count += 1
    return kept[:count]

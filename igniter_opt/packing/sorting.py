"""Sorting in compiled code: numba's own sorts take over a second each to compile."""

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.compilable import compilable


@compilable
def ascending(keys: FloatArray, number: int) -> IntArray:
    """Positions of the first `number` keys in ascending order, equal ones as they come: merges of growing runs."""
    order = np.empty(number, dtype=np.int64)
    other = np.empty(number, dtype=np.int64)
    for position in range(number):
        order[position] = position
    run = 1
    while run < number:
        for start in range(0, number, 2 * run):
            left, right = start, start + run
            middle, end = min(right, number), min(right + run, number)
            for position in range(start, end):
                if left < middle and (right >= end or keys[order[left]] <= keys[order[right]]):
                    other[position] = order[left]
                    left += 1
                else:
                    other[position] = order[right]
                    right += 1
        order, other = other, order
        run *= 2
    return order

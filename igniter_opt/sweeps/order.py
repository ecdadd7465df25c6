"""The order in which a grid is solved: ends first, then what is half-way between, and so on.

The order, and so which points can lend plans and bounds to which, does not depend on how many workers there are: a
point may take from the points of earlier rounds only, never from one of its own round that happened to be ready.
"""

import itertools
from collections.abc import Sequence


def levels(number: int) -> list[int]:
    """Return in which round each of so many values comes: 0 for both ends, then by bisection."""
    found = [0] * number
    spans = [(0, number - 1)]
    level = 0
    while spans:
        level += 1
        halves = []
        for low, high in spans:
            middle = (low + high) // 2
            if low < middle:
                found[middle] = level
                halves += [(low, middle), (middle, high)]
        spans = halves
    return found


def rounds(values: Sequence[Sequence[float]]) -> list[list[tuple[float, ...]]]:
    """Return the points of a grid, round by round; a point comes when the last of its values does."""
    known = [dict(zip(axis, levels(len(axis)), strict=True)) for axis in values]
    grid = list(itertools.product(*values))
    level = {point: max(own[value] for own, value in zip(known, point, strict=True)) for point in grid}
    return [[point for point in grid if level[point] == k] for k in range(max(level.values()) + 1)]

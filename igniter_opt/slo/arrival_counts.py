"""Counts of a Markovian arrival process: P_n(t), the chance of n arrivals in a time t, by phase before and after.

A process has m phases, rates D0 of phase changes without and D1 of those with an arrival (Lucantoni 1991). The
matrices obey ``P_n' = P_n D0 + P_{n-1} D1``, ``P_0(0) = I``, so that a count over s + t is a convolution, and both
derivatives of a tabulated P_n are known exactly. They are tabulated on a grid whose cells grow with time (32 an
octave, below the fastest phase's mean time evenly), and read by quintic interpolation. Its error, at most
``h^6 P^(6) / 46080`` in a cell of length h, is below 1e-8 (`tests/slo/test_arrival_counts.py` measures it).
Times are in mean gaps of the process throughout.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.compiled import compiled

_CELLS = 32
# Chances below this do not count.
NEGLIGIBLE = 1e-13
# Where a table would be larger than this, counts are better sampled.
_MOST_COUNTS, _MOST_OCTAVES = 640, 40


class CountTable(NamedTuple):
    """P_n(t) and its derivatives.

    Attributes
    ----------
    values
        Shape (nodes, 3, counts, m * m): P_n and its first two derivatives.
    first
        The time up to which cells are even.
    idle
        ``(-D0)^-1 D1``: the phase at the next arrival, by the phase now; shape (m, m).
    """

    values: FloatArray
    first: float
    idle: FloatArray


@compiled
def _convolved(left: FloatArray, right: FloatArray, out: FloatArray) -> None:
    """Counts over two times, one after the other; shapes (counts, m, m), `out` being zero."""
    counts, phases = left.shape[0], left.shape[1]
    tops = np.zeros(2, dtype=np.int64)
    for n in range(counts):
        for i in range(phases):
            for j in range(phases):
                if left[n, i, j] > 1e-18:
                    tops[0] = n + 1
                if right[n, i, j] > 1e-18:
                    tops[1] = n + 1
    for n in range(tops[0]):
        for r in range(min(tops[1], counts - n)):
            for i in range(phases):
                for j in range(phases):
                    value = left[n, i, j]
                    for k in range(phases):
                        out[n + r, i, k] += value * right[r, j, k]


def _tabulated(d0: FloatArray, d1: FloatArray, first: float, octaves: int, counts: int) -> FloatArray:
    """Return the values of a `CountTable`, with separate axes for the phases."""
    phases = len(d0)
    nodes = _CELLS * (octaves + 1) + 1
    table = np.zeros((nodes, 3, counts, phases, phases))
    # By uniformization over the first cell, in which less than one event is expected.
    events = first / _CELLS * float(np.max(-np.diag(d0)))
    stay, come = np.eye(phases) + d0 * first / _CELLS / events, d1 * first / _CELLS / events
    steps = np.zeros((6, counts, phases, phases))
    power = np.zeros((counts, phases, phases))
    power[0], weight = np.eye(phases), math.exp(-events)
    for event in range(25):
        steps[0] += weight * power
        following = power @ stay
        following[1:] += power[:-1] @ come
        power, weight = following, weight * events / (event + 1)
    for double in range(1, 6):
        _convolved(steps[double - 1], steps[double - 1], steps[double])
    table[0, 0, 0] = np.eye(phases)
    for node in range(1, nodes):
        octave = (node - 1) // _CELLS - 1
        # A cell of an octave is as long as the time up to the beginning of the fifth octave before.
        step = steps[max(octave, 0)] if octave < 6 else table[_CELLS * (octave - 4), 0]
        _convolved(table[node - 1, 0], step, table[node, 0])
    for order in range(2):
        # As one product of two matrices each.
        rows = table[:, order].reshape(-1, phases)
        table[:, order + 1] = (rows @ d0).reshape(table[:, 0].shape)
        table[:, order + 1, 1:] += (rows @ d1).reshape(table[:, 0].shape)[:, :-1]
    return table


@compiled
def count_chances(values: FloatArray, first: float, phases: int, time: float, out: FloatArray, size: int) -> int:
    """Fill ``out[n, i, j]``, n < size, with P_n(time); return how many n there are before only negligible ones."""
    nodes = values.shape[0]
    if time < first:
        cell = int(time / first * _CELLS)
        length = first / _CELLS
        begin = cell * length
    else:
        octave = math.floor(math.log2(time / first))
        start = first * 2.0**octave
        within = min(int((time - start) / start * _CELLS), _CELLS - 1)
        length = start / _CELLS
        begin = start + within * length
        cell = _CELLS * (octave + 1) + within
    x = (time - begin) / length
    if cell >= nodes - 1:
        cell, x = nodes - 2, 1.0
    y = 1.0 - x
    # Quintic Hermite polynomials.
    a0, b0 = y * y * y * (1.0 + 3.0 * x + 6.0 * x * x), x * x * x * (1.0 + 3.0 * y + 6.0 * y * y)
    a1, b1 = length * y * y * y * x * (1.0 + 3.0 * x), -length * x * x * x * y * (1.0 + 3.0 * y)
    a2, b2 = 0.5 * length * length * y * y * y * x * x, 0.5 * length * length * x * x * x * y * y
    left, right = values[cell], values[cell + 1]
    top = 0
    for n in range(min(size, values.shape[2])):
        most = 0.0
        for i in range(phases):
            for j in range(phases):
                at = i * phases + j
                value = (
                    a0 * left[0, n, at] + b0 * right[0, n, at] + a1 * left[1, n, at] + b1 * right[1, n, at]
                    + a2 * left[2, n, at] + b2 * right[2, n, at]
                )  # fmt: skip
                value = max(0.0, value)
                out[n, i, j] = value
                most = max(most, value)
        if most > NEGLIGIBLE:
            top = n + 1
    for n in range(values.shape[2], size):
        out[n] = 0.0
    return top


@lru_cache(maxsize=16)
def count_table(
    process: tuple[tuple[tuple[float, ...], ...], ...], horizon: float, most_busy: float
) -> CountTable | None:
    """Tabulate a process, or return None where the table would be too large.

    Parameters
    ----------
    process
        D0 and D1, in events per mean gap.
    horizon, most_busy
        The longest time of interest; the longest in which all counts matter.
    """
    d0, d1 = (np.array(part) for part in process)
    counts = _counts_needed(d0, d1, most_busy)
    first = float(1.0 / np.max(-np.diag(d0)))
    octaves = max(1, math.ceil(math.log2(max(horizon / first, 1.0)) + 1e-9))
    if counts > _MOST_COUNTS or octaves > _MOST_OCTAVES:
        return None
    table = _tabulated(d0, d1, first, octaves, counts)
    return CountTable(
        np.ascontiguousarray(table.reshape(*table.shape[:3], -1)), first, np.ascontiguousarray(np.linalg.solve(-d0, d1))
    )


def _counts_needed(d0: FloatArray, d1: FloatArray, time: float) -> int:
    """Return a number of arrivals that is exceeded with a chance of 1e-13 at most (Chernoff's bound)."""
    least = math.inf
    for z in 1.0 + np.geomspace(1e-3, 4.0, 60):
        growth = float(np.max(np.linalg.eigvals(d0 + z * d1).real))
        least = min(least, (math.log(1e13) + growth * time) / math.log(z))
    return math.ceil(least) + 2 if math.isfinite(least) else _MOST_COUNTS + 1

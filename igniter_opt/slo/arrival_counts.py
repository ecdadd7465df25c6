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
from threading import Lock
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.compiled import compiled

_CELLS = 32
# Chances below this do not count.
NEGLIGIBLE = 1e-12
# Where a table would be larger than this, counts are better sampled.
_MOST_COUNTS, _MOST_OCTAVES = 640, 40
# Kept in memory, of some ten megabytes each.
_MOST_TABLES = 32


class CountTable(NamedTuple):
    """P_n(t) and its derivatives.

    Attributes
    ----------
    values
        Shape (nodes, 3, m, counts * m): P_n and its first two derivatives; by phase before, then count and phase after.
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
def count_chances(values: FloatArray, first: float, time: float, out: FloatArray, size: int) -> int:
    """Fill ``out[i, n * m + j]``, n < size, with P_n(time); return how many n there are before negligible ones."""
    nodes, phases = values.shape[0], values.shape[2]
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
    entries = min(size * phases, values.shape[3])
    top = 0
    for i in range(phases):
        own = out[i]
        l0, l1, l2 = values[cell, 0, i], values[cell, 1, i], values[cell, 2, i]
        r0, r1, r2 = values[cell + 1, 0, i], values[cell + 1, 1, i], values[cell + 1, 2, i]
        for at in range(entries):
            value = a0 * l0[at] + b0 * r0[at] + a1 * l1[at] + b1 * r1[at] + a2 * l2[at] + b2 * r2[at]
            own[at] = max(0.0, value)
        for at in range(entries, size * phases):
            own[at] = 0.0
        last = entries
        while last > top * phases and own[last - 1] <= NEGLIGIBLE:
            last -= 1
        top = max(top, (last + phases - 1) // phases)
    return top


# D0 and D1, in events per mean gap.
Process = tuple[tuple[tuple[float, ...], ...], ...]


def is_small(process: Process, horizon: float, most_busy: float) -> bool:
    """Whether the table of a process is small enough to be made."""
    d0, d1 = (np.array(part) for part in process)
    return _counts_needed(d0, d1, most_busy) <= _MOST_COUNTS and _octaves(d0, horizon) <= _MOST_OCTAVES


def count_table(process: Process, horizon: float, most_busy: float) -> CountTable:
    """Tabulate a process; tables used of late are kept.

    Parameters
    ----------
    horizon, most_busy
        The longest time of interest; the longest in which all counts matter.
    """
    key = (process, horizon, most_busy)
    # Other threads that want the same table wait for it.
    with _being_made(key):
        return _made(*key)


def forget_tables() -> None:
    """Make all tables anew when they are next asked for."""
    _made.cache_clear()


@lru_cache(maxsize=4 * _MOST_TABLES)
def _being_made(key: tuple[Process, float, float]) -> Lock:
    return Lock()


@lru_cache(maxsize=_MOST_TABLES)
def _made(process: Process, horizon: float, most_busy: float) -> CountTable:
    d0, d1 = (np.array(part) for part in process)
    first = float(1.0 / np.max(-np.diag(d0)))
    table = _tabulated(d0, d1, first, _octaves(d0, horizon), _counts_needed(d0, d1, most_busy))
    nodes, orders, _, phases, _ = table.shape
    values = np.ascontiguousarray(table.transpose(0, 1, 3, 2, 4)).reshape(nodes, orders, phases, -1)
    return CountTable(values, first, np.ascontiguousarray(np.linalg.solve(-d0, d1)))


def _octaves(d0: FloatArray, horizon: float) -> int:
    return max(1, math.ceil(math.log2(max(horizon * float(np.max(-np.diag(d0))), 1.0)) + 1e-9))


def _counts_needed(d0: FloatArray, d1: FloatArray, time: float) -> int:
    """Return a number of arrivals that is exceeded with a chance of 1e-13 at most (Chernoff's bound)."""
    least = math.inf
    for z in 1.0 + np.geomspace(1e-3, 4.0, 60):
        growth = float(np.max(np.linalg.eigvals(d0 + z * d1).real))
        least = min(least, (math.log(1e13) + growth * time) / math.log(z))
    return math.ceil(least) + 2 if math.isfinite(least) else _MOST_COUNTS + 1

"""Latencies of the queue of `markovian_queue`: what fraction of the requests has one above a given one.

Word for word as in `queueing`: the phase at the time t - w, at which those that will have waited longer than w are all
there, goes on with the counts that come until the dispatch at t. Requests that find the server free have L_1. For a
given m, batches k are taken by falling v; from one to the next the chances of what waits, by phase, are convolved with
the counts of the time in between, and batches that begin in it come in.
"""

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.compiled import compiled
from igniter_opt.slo.arrival_counts import count_chances
from igniter_opt.slo.limit_search import (
    ALLOWED,
    BATCH,
    MOST_EXCESS,
    RATE,
    SLO,
    Cells,
    Search,
    advance,
    asked_times,
    excess_of,
    is_hopeless,
)
from igniter_opt.slo.markovian_queue import any_descents, phase_stationary
from igniter_opt.slo.queueing import ascending

# Batches that hold less than this part of the requests count as late.
_RARE = 1e-11
# What errs by less than a thousandth of a step of limits.
_SEARCH_SETTLED = 1e-9
# In so short a time, in mean gaps, there are hardly ever more requests than so few.
_SHORT, _FEW = 2.0, 12


@compiled
def _counts_within(values: FloatArray, first: float, time: float, out: FloatArray, size: int) -> int:
    """As `count_chances`, asking for few counts first if the time is short."""
    few = min(size, _FEW) if time < _SHORT else size
    top = count_chances(values, first, time, out, few)
    if top < few or few == size:
        return top
    return count_chances(values, first, time, out, size)


@compiled
def _convolve(waiting: FloatArray, counts: FloatArray, top: int, spare: FloatArray) -> None:
    """Let what comes, ``counts[i, n * m + j]`` for n < top, come to ``waiting[X * m + i]``, in place."""
    phases, size = counts.shape[0], waiting.size
    spare[:size] = waiting
    waiting[:] = 0.0
    for at in range(size // phases):
        for i in range(phases):
            weight = spare[at * phases + i]
            if weight > 0.0:
                target, moved = waiting[at * phases :], counts[i, : top * phases]
                for number in range(min(target.size, moved.size)):
                    target[number] += weight * moved[number]


@compiled
def phase_fraction_above(
    values: FloatArray, first: float, busy: FloatArray, latency: FloatArray, pi: FloatArray, x: float
) -> float:
    """Fraction of requests whose latency is above x; times in mean gaps, `pi` the result of `phase_stationary`."""
    most, phases = busy.size, pi.shape[1]
    states = pi.shape[0] - 2
    full, longest = busy[most - 1], busy.max()
    # Chances of batches by size; at 0, of all together.
    begun, served = np.zeros(most + 1), 0.0
    above: float = 0.0
    for i in range(phases):
        begun[0] += pi[0, i]
        served += pi[0, i]
        begun[most] += pi[states, i]
        above += pi[0, i] if latency[0] > x else 0.0
        for n in range(1, most):
            begun[n] += pi[n, i]
    widest = 0.0
    for k in range(1, most + 1):
        begun[0] += begun[k]
        served += k * begun[k]
        widest = max(widest, x - latency[k - 1])
    counted = np.zeros(most, dtype=np.bool_)
    for k in range(1, most + 1):
        counted[k - 1] = x >= latency[k - 1] and k * begun[k] > _RARE * served
        if not counted[k - 1]:
            above += k * begun[k]
    order = ascending(latency)
    coming, later = np.zeros((phases, (most + 1) * phases)), np.zeros((most + 1, phases))
    levels = int(widest / full) + 1
    arrived = np.zeros((phases, max(values.shape[3], levels * most * phases)))
    spare = np.zeros(levels * most * phases)
    for m in range(levels):
        base = m * most
        if base > states + most:
            break
        # waiting[X * phases + i], for X < m b + b; and how many batches there are, whatever waits.
        wanted = base + most
        waiting, there, last = np.zeros(wanted * phases), 0.0, 0.0
        entered = np.zeros(most, dtype=np.bool_)
        for turn in range(most):
            k = order[turn] + 1
            w = x - latency[k - 1]
            v = w - m * full
            if v < 0.0:
                break
            if v >= longest:
                continue
            if there > 0.0 and last > v:
                top = _counts_within(values, first, last - v, arrived, wanted)
                _convolve(waiting, arrived, top, spare)
            last = v
            for size in range(1, most + 1):
                if entered[size - 1] or busy[size - 1] <= v:
                    continue
                entered[size - 1] = True
                # Full batches come last, but for those of one that begin with an arrival.
                weight = begun[size] if size < most else 0.0
                if size == 1:
                    for i in range(phases):
                        weight += pi[states + 1, i]
                if weight <= _RARE * begun[0] and size < most:
                    continue
                there += weight
                top = _counts_within(values, first, busy[size - 1] - v, arrived, wanted)
                for i in range(phases):
                    start = pi[size, i] if size < most else 0.0
                    if size == 1:
                        start += pi[states + 1, i]
                    for at in range(min(top, wanted) * phases):
                        waiting[at] += start * arrived[i, at]
                if size < most:
                    continue
                there += begun[most]
                for behind in range(min(wanted, states - most)):
                    target = waiting[behind * phases :]
                    for i in range(phases):
                        start = pi[most + behind, i]
                        if start > 0.0:
                            moved = arrived[i, : top * phases]
                            for at in range(min(target.size, moved.size)):
                                target[at] += start * moved[at]
            if not counted[k - 1]:
                continue
            tops = k + 1 if k < most else most
            count_chances(values, first, w, coming, tops)
            for y in range(tops):
                for i in range(phases):
                    later[y, i] = 0.0
                    for j in range(phases):
                        later[y, i] += coming[i, y * phases + j]
            if k < most:
                for j in range(1, k + 1):
                    for i in range(phases):
                        above += j * waiting[(base + j) * phases + i] * later[k - j, i]
            else:
                more = there
                for i in range(phases):
                    fewer = 0.0
                    for j in range(most - 1, 0, -1):
                        fewer += later[most - 1 - j, i]
                        above += j * waiting[(base + j) * phases + i] * max(0.0, 1.0 - fewer)
                    for number in range(wanted):
                        more -= waiting[number * phases + i]
                above += most * max(0.0, more)
    late: float = above / served
    return late


@compiled
def phase_states(
    values: FloatArray,
    first: float,
    idle: FloatArray,
    busy: FloatArray,
    latency: FloatArray,
    down: FloatArray,
    x: float,
    settled: float,
) -> FloatArray:
    """Return `phase_stationary` with as many states as latencies up to x ask for."""
    most = busy.size
    states = int(most * (3.0 + max(0.0, x - latency[0]) / busy[most - 1])) + 2
    return phase_stationary(values, first, idle, busy, down, states, settled)


@compiled
def phase_lateness(
    values: FloatArray,
    first: float,
    idle: FloatArray,
    busy: FloatArray,
    latency: FloatArray,
    down: FloatArray,
    x: float,
    settled: float,
) -> tuple[float, float]:
    """Return the fraction of requests later than x, and that of full batches among all; times in mean gaps."""
    pi = phase_states(values, first, idle, busy, latency, down, x, settled)
    most, states = busy.size, pi.shape[0] - 2
    full, partial = 0.0, 0.0
    for i in range(pi.shape[1]):
        full += pi[states, i]
        for n in range(most):
            partial += pi[n, i]
    return phase_fraction_above(values, first, busy, latency, pi, x), full / (partial + full)


@compiled
def search_phases(
    cells: Cells,
    search: Search,
    values: FloatArray,
    first: float,
    idle: FloatArray,
    most_batch: int,
    allowance: float,
) -> bool:
    """Judge the points that a search asks for, up to a largest batch; return whether it asks for more.

    Parameters
    ----------
    values, first, idle
        Of a `CountTable` for batches up to that one.
    allowance
        By how much more requests are taken to be late, relative.
    """
    rate, slo, allowed = cells.numbers[RATE], cells.numbers[SLO], cells.numbers[ALLOWED]
    more, b, down = True, -1, np.zeros((1, 1))
    while more and search.place[BATCH] < most_batch:
        if search.place[BATCH] != b:
            b = search.place[BATCH]
            down = any_descents(b + 1, idle.shape[0])
        times = asked_times(cells, search)
        excess, full = MOST_EXCESS, 1.0
        if not is_hopeless(cells, times):
            late, full = phase_lateness(
                values, first, idle, times[0] * rate, times[1] * rate, down, slo * rate, _SEARCH_SETTLED
            )
            excess = excess_of(late * (1.0 + allowance), allowed)
        more = advance(cells, search, excess, full)
    return more

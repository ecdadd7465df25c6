"""The queue of `queueing` under arrivals with phases: MAP/D[1,b]/1, the server dispatching whatever waits, up to b.

The arrival process is Markovian (`arrival_counts`): m phases, P_n(t) the m × m chances of n arrivals in a time t. The
server, its times s_k and the latencies L_k are those of `queueing`, whose derivation carries over with matrices and
phase vectors in place of numbers; m = 1 is that of `queueing`. Such chains are of the M/G/1 type (Neuts 1989,
Structured Stochastic Matrices of M/G/1 Type; Lucantoni 1991, Stochastic Models 7, for arrivals with phases).

*Chain.* The state at a completion is (n, i): n wait, the phase is i. From n ≥ b the next is n - b + j with P_j(s_b),
from 1 ≤ n < b it is j with P_j(s_n), and from 0 it is j with K P_j(s_1), K = (-D0)^-1 D1 being the phase at the arrival
that ends the idling. There is a stationary distribution π iff R s_b < b.

*Stationary distribution.* Let d_i, i = 1 .. b, be the m × m chances that the chain, from a state n ≥ 2b, first falls
below n at n - i. They are the fixed point of a map: censor the row (P_j(s_b))_j of the state n to the states up to n,
pushing what lies above down by d, from the top; with U what then returns to n itself and V_i what lies at n - i,
``d_i = (I - U)^-1 V_i``. It is iterated from the d of a neighbour or, at first, from any stochastic one, rows being
normalised (Σ d_i is stochastic). With d the rows of 0 .. b - 1 are pushed down to states below b in the same way,
which are solved by elimination without subtractions (Grassmann, Taksar, Heyman 1985), phase by phase. What passed
through n on the way down gives ``π_n (I - U)`` for n ≥ b, from the bottom up, as far as is wanted. Nothing is truncated
but chances below `arrival_counts.NEGLIGIBLE`. The full batches in all, F = Σ_{n≥b} π_n by phase, follow from balances:
of phases, ``F (I - Σ P_j(s_b)) = π_0 K Σ P_j(s_1) + Σ_{1≤n<b} π_n Σ P_j(s_n) - Σ_{n<b} π_n``, which leaves one number
open, and of requests, ``F (b 1 - a_b) = π_0 K a_1 + Σ_{1≤n<b} π_n (a_n - n 1)`` with a_k = Σ j P_j(s_k) 1.

Latencies are in `markovian_latency`.
"""

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.compiled import compiled
from igniter_opt.slo.arrival_counts import count_chances

_MOST_TURNS = 5000
# By how little d changes when it is taken to be found.
SETTLED = 1e-12
# Full batches beyond what has less than this chance are not followed.
_TAIL = 1e-12


@compiled
def _push_down(row: FloatArray, top: int, bottom: int, down: FloatArray) -> None:
    """Move what a row has at positions `bottom` .. `top` - 1 down by `down`, from the top; what passed stays there.

    Rows are ``row[i, position * m + j]``, and d_i is ``down[:, (b - i) * m : (b - i + 1) * m]``: the targets of one
    entry are one stretch of memory.
    """
    phases, reach = down.shape
    for position in range(top - 1, bottom - 1, -1):
        begin = position * phases - reach
        for i in range(phases):
            own = row[i]
            for j in range(phases):
                weight = own[position * phases + j]
                if weight > 1e-16:
                    # A slice, for an index that may be negative would keep the loop from being vectorized.
                    moved, target = down[j], own[begin : begin + reach]
                    for at in range(reach):
                        target[at] += weight * moved[at]


@compiled
def _inverse(matrix: FloatArray) -> FloatArray:
    """Invert I minus a substochastic matrix, by Gauss and Jordan, without pivots."""
    size = matrix.shape[0]
    left, found = np.eye(size) - matrix, np.eye(size)
    for pivot in range(size):
        scale = 1.0 / left[pivot, pivot]
        for column in range(size):
            left[pivot, column] *= scale
            found[pivot, column] *= scale
        for row in range(size):
            factor = left[row, pivot]
            if row != pivot and factor != 0.0:
                for column in range(size):
                    left[row, column] -= factor * left[pivot, column]
                    found[row, column] -= factor * found[pivot, column]
    return found


@compiled
def _settle(full_row: FloatArray, top: int, down: FloatArray, row: FloatArray, settled: float) -> FloatArray:
    """Iterate `down` to its fixed point; leave in `row` a row of n ≥ b pushed down to n; return (I - U)^-1."""
    phases, reach = down.shape
    most = reach // phases
    inverse, landed = np.eye(phases), np.empty(reach)
    for _ in range(_MOST_TURNS):
        row[:] = full_row
        _push_down(row, top, most + 1, down)
        inverse = _inverse(row[:, reach : reach + phases])
        change = 0.0
        for i in range(phases):
            total = 0.0
            landed[:] = 0.0
            for k in range(phases):
                for at in range(reach):
                    landed[at] += inverse[i, k] * row[k, at]
            for at in range(reach):
                total += landed[at]
            for at in range(reach):
                value = landed[at] / total
                change = max(change, abs(value - down[i, at]))
                down[i, at] = value
        if change < settled:
            break
    return inverse


@compiled
def _censored(matrix: FloatArray) -> FloatArray:
    """Left eigenvector of a stochastic matrix by elimination without subtractions, not normalised; destroys it."""
    size = matrix.shape[0]
    stays = np.zeros(size)
    for last in range(size - 1, 0, -1):
        for column in range(last):
            stays[last] += matrix[last, column]
        for row in range(last):
            weight = matrix[row, last] / stays[last]
            if weight > 0.0:
                target, moved = matrix[row, :last], matrix[last, :last]
                for column in range(last):
                    target[column] += weight * moved[column]
    found = np.zeros(size)
    found[0] = 1.0
    for column in range(1, size):
        for row in range(column):
            found[column] += found[row] * matrix[row, column]
        found[column] /= stays[column]
    return found


@compiled
def _full_batches(
    low: FloatArray, idle: FloatArray, changes: FloatArray, come: FloatArray, most: int
) -> tuple[FloatArray, FloatArray]:
    """Return F by the balances, and the phases of those served on arrival, π_0 K.

    Parameters
    ----------
    low
        π_n for n < b, shape (b * m,).
    changes, come
        Of batches of 1 .. b at index 1 .. b: Σ P_j(s_k) and a_k.
    """
    phases = idle.shape[0]
    arrived = np.zeros(phases)
    for i in range(phases):
        for j in range(phases):
            arrived[j] += low[i] * idle[i, j]
    phase_side, request_side = np.zeros(phases), 0.0
    for n in range(most):
        k = max(n, 1)
        for i in range(phases):
            start = arrived[i] if n == 0 else low[n * phases + i]
            request_side += start * come[k, i] - n * low[n * phases + i]
            phase_side[i] -= low[n * phases + i]
            for j in range(phases):
                phase_side[j] += start * changes[k, i, j]
    # F = x + γ y: x solves the phases' balance but for one equation, y is what they settle at.
    left = np.zeros((phases, phases))
    for i in range(phases):
        for j in range(phases):
            left[i, j] = (1.0 if i == j else 0.0) - changes[most, i, j]
        left[i, phases - 1] = 1.0
    particular, settled = phase_side, np.zeros(phases)
    particular[phases - 1], settled[phases - 1] = 0.0, 1.0
    # Columns are equations; no pivots, for the matrix is diagonally dominant but for the last column.
    for pivot in range(phases):
        for column in range(pivot + 1, phases):
            factor = left[pivot, column] / left[pivot, pivot]
            for k in range(pivot, phases):
                left[k, column] -= factor * left[k, pivot]
            particular[column] -= factor * particular[pivot]
            settled[column] -= factor * settled[pivot]
    for pivot in range(phases - 1, -1, -1):
        for k in range(pivot + 1, phases):
            particular[pivot] -= left[k, pivot] * particular[k]
            settled[pivot] -= left[k, pivot] * settled[k]
        particular[pivot] /= left[pivot, pivot]
        settled[pivot] /= left[pivot, pivot]
    room, taken = 0.0, 0.0
    for i in range(phases):
        room += settled[i] * (most - come[most, i])
        taken += particular[i] * (most - come[most, i])
    for i in range(phases):
        particular[i] = max(0.0, particular[i] + (request_side - taken) / room * settled[i])
    return particular, arrived


@compiled
def any_descents(batch: int, phases: int) -> FloatArray:
    """Return stochastic descents to begin with, of the shape that `phase_stationary` wants."""
    down = np.zeros((phases, batch * phases))
    down[:, :phases] = 1.0 / phases
    return down


@compiled
def phase_stationary(
    values: FloatArray,
    first: float,
    idle: FloatArray,
    busy: FloatArray,
    down: FloatArray,
    states: int,
    settled: float,
) -> FloatArray:
    """Stationary measure of (number waiting, phase) at completions.

    Parameters
    ----------
    values, first, idle
        Of a `CountTable`.
    busy
        s_1 .. s_b in mean gaps, s_b < b.
    down
        Shape (m, b * m), see `_push_down`: any stochastic steps to begin with; receives d.
    states
        How many states are wanted, at least b + 1.
    settled
        As `SETTLED`, or less strict.

    Returns
    -------
    FloatArray
        Shape (states + 2, m): π_n for n < states, then F, then π_0 K; not normalised.
    """
    most, phases = busy.size, idle.shape[0]
    reach = most * phases
    # No more counts than come during the longest batch.
    width = max(values.shape[3] // phases, most + 2)
    trial = np.zeros((phases, width * phases))
    width = max(count_chances(values, first, busy.max(), trial, width) + 1, most + 2)
    full, above = np.zeros((phases, width * phases)), np.zeros((phases, width * phases))
    top = count_chances(values, first, busy[most - 1], full, width)
    inverse = _settle(full, max(top, most + 1), down, above, settled)
    rows = np.zeros((most, phases, width * phases))
    changes, come = np.zeros((most + 1, phases, phases)), np.zeros((most + 1, phases))
    matrix = np.zeros((reach, reach))
    alone = np.zeros((phases, width * phases))
    for n in range(most + 1):
        # Row 0 waits for its turn: it follows from the counts during a batch of one.
        row = alone if n == 0 else (full if n == most else rows[n])
        count_top = count_chances(values, first, busy[max(n, 1) - 1], row, width)
        for i in range(phases):
            for count in range(count_top):
                for j in range(phases):
                    changes[n, i, j] += row[i, count * phases + j]
                    come[n, i] += count * row[i, count * phases + j]
        if n == 0:
            row = rows[0]
            for i in range(phases):
                for k in range(phases):
                    target, moved, weight = row[i], alone[k], idle[i, k]
                    for at in range(count_top * phases):
                        target[at] += weight * moved[at]
        if n < most:
            _push_down(row, count_top, most, down)
            for i in range(phases):
                for at in range(reach):
                    matrix[n * phases + i, at] = row[i, at]
    low = _censored(matrix)
    everything, arrived = _full_batches(low, idle, changes, come, most)
    found = np.zeros((states + 2, phases))
    for n in range(most):
        for i in range(phases):
            found[n, i] = low[n * phases + i]
    found[states], found[states + 1] = everything, arrived
    total, so_far = everything.sum(), 0.0
    # What enters the states n ≥ b from below.
    entering = np.zeros((max(states, width) - most) * phases)
    for position in range(most):
        for i in range(phases):
            weight, moved = found[position, i], rows[position, i, reach:]
            for at in range(moved.size):
                entering[at] += weight * moved[at]
    for n in range(most, states):
        if total - so_far <= _TAIL * total:
            break
        own = entering[(n - most) * phases : (n - most + 1) * phases]
        for j in range(phases):
            for i in range(phases):
                found[n, j] += own[i] * inverse[i, j]
            so_far += found[n, j]
        beyond = entering[(n - most + 1) * phases :]
        for i in range(phases):
            weight, moved = found[n, i], above[i, reach + phases :]
            for at in range(min(beyond.size, moved.size)):
                beyond[at] += weight * moved[at]
    return found

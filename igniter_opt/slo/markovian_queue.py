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
but chances below `arrival_counts.NEGLIGIBLE`. The full batches in all, F = Σ_{n≥b} π_n by phase, follow from balances: of phases,
``F (I - Σ P_j(s_b)) = π_0 K Σ P_j(s_1) + Σ_{1≤n<b} π_n Σ P_j(s_n) - Σ_{n<b} π_n``, which leaves one number open, and
of requests, ``F (b 1 - a_b) = π_0 K a_1 + Σ_{1≤n<b} π_n (a_n - n 1)`` with a_k = Σ j P_j(s_k) 1.

*Latency.* Word for word as in `queueing`: the phase at the time t - w, at which those that will have waited longer than
w are all there, goes on with the counts that come until the dispatch at t. Requests that find the server free have L_1.
"""

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.compiled import compiled
from igniter_opt.slo.arrival_counts import NEGLIGIBLE, count_chances

_MOST_TURNS = 5000
_SETTLED = 1e-13
# Full batches beyond what has less than this chance are not followed.
_TAIL = 1e-14


@compiled
def _push_down(row: FloatArray, top: int, bottom: int, down: FloatArray) -> None:
    """Move what a row has at positions `bottom` .. `top` - 1 down by `down`, from the top; what passed stays there."""
    most, phases = down.shape[0] - 1, down.shape[1]
    for position in range(top - 1, bottom - 1, -1):
        for i in range(phases):
            for j in range(phases):
                weight = row[position, i, j]
                if weight > 1e-18:
                    for step in range(1, most + 1):
                        for k in range(phases):
                            row[position - step, i, k] += weight * down[step, j, k]


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
def _settle(full_row: FloatArray, top: int, down: FloatArray, row: FloatArray) -> FloatArray:
    """Iterate `down` to its fixed point; leave in `row` a row of n ≥ b pushed down to n; return (I - U)^-1."""
    most, phases = down.shape[0] - 1, down.shape[1]
    inverse = np.eye(phases)
    for _ in range(_MOST_TURNS):
        row[:] = full_row
        _push_down(row, top, most + 1, down)
        inverse = _inverse(row[most])
        change = 0.0
        for i in range(phases):
            total = 0.0
            for step in range(1, most + 1):
                for j in range(phases):
                    for k in range(phases):
                        total += inverse[i, k] * row[most - step, k, j]
            for step in range(1, most + 1):
                for j in range(phases):
                    value = 0.0
                    for k in range(phases):
                        value += inverse[i, k] * row[most - step, k, j]
                    value /= total
                    change = max(change, abs(value - down[step, i, j]))
                    down[step, i, j] = value
        if change < _SETTLED:
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
                for column in range(last):
                    matrix[row, column] += weight * matrix[last, column]
    found = np.zeros(size)
    found[0] = 1.0
    for column in range(1, size):
        for row in range(column):
            found[column] += found[row] * matrix[row, column]
        found[column] /= stays[column]
    return found


@compiled
def phase_stationary(
    values: FloatArray, first: float, idle: FloatArray, busy: FloatArray, down: FloatArray, states: int
) -> FloatArray:
    """Stationary measure of (number waiting, phase) at completions.

    Parameters
    ----------
    values, first, idle
        Of a `CountTable`.
    busy
        s_1 .. s_b in mean gaps, s_b < b.
    down
        Shape (b + 1, m, m): any stochastic steps to begin with; receives d.
    states
        How many states are wanted, at least b + 1.

    Returns
    -------
    FloatArray
        Shape (states + 2, m), for n < states, then of all n ≥ b together, F; not normalised. The last row has K's
        phases of those served on arrival.
    """
    most, phases, counts = busy.size, idle.shape[0], values.shape[2]
    width = max(counts, most + 2)
    full = np.zeros((width, phases, phases))
    top = count_chances(values, first, phases, busy[most - 1], full, width)
    above = np.zeros((width, phases, phases))
    inverse = _settle(full, max(top, most + 1), down, above)
    rows = np.zeros((most, width, phases, phases))
    tops = np.zeros(most, dtype=np.int64)
    matrix = np.zeros((most * phases, most * phases))
    # Row sums of the chances, and of the numbers that come, by phase.
    changes, come = np.zeros((most + 1, phases, phases)), np.zeros((most + 1, phases))
    for n in range(most + 1):
        row = rows[n] if n < most else full
        if n < most:
            if n == 1:
                row[:] = rows[0]
                tops[1] = tops[0]
            else:
                tops[n] = count_chances(values, first, phases, busy[max(n, 1) - 1], row, width)
        for count in range(width):
            for i in range(phases):
                for j in range(phases):
                    changes[n, i, j] += row[count, i, j]
                    come[n, i] += count * row[count, i, j]
    for count in range(width):
        for j in range(phases):
            for i in range(phases):
                value = 0.0
                for k in range(phases):
                    value += idle[i, k] * rows[1, count, k, j] if most > 1 else idle[i, k] * full[count, k, j]
                rows[0, count, i, j] = value
    if most == 1:
        tops[0] = top
    for n in range(most):
        _push_down(rows[n], tops[n], most, down)
        for position in range(most):
            for i in range(phases):
                for j in range(phases):
                    matrix[n * phases + i, position * phases + j] = rows[n, position, i, j]
    low = _censored(matrix)
    found = np.zeros((states + 2, phases))
    for n in range(most):
        for i in range(phases):
            found[n, i] = low[n * phases + i]
    for j in range(phases):
        for i in range(phases):
            found[states + 1, j] += found[0, i] * idle[i, j]
    # Balances: of phases, then of requests.
    phase_side, request_side = np.zeros(phases), 0.0
    for n in range(most):
        start = found[states + 1] if n == 0 else found[n]
        # Without idling first: changes of n = 0 are those of a batch of one.
        for i in range(phases):
            request_side += start[i] * come[max(n, 1), i] - n * found[n, i]
            phase_side[i] -= found[n, i]
            for j in range(phases):
                phase_side[j] += start[i] * changes[max(n, 1), i, j]
    # F = x + γ y: x solves the phases' balance but for one equation, y is what they settle at.
    left = np.zeros((phases, phases))
    for i in range(phases):
        for j in range(phases):
            left[i, j] = (1.0 if i == j else 0.0) - changes[most, i, j]
    left[:, phases - 1] = 1.0
    particular, settled = phase_side.copy(), np.zeros(phases)
    particular[phases - 1], settled[phases - 1] = 0.0, 1.0
    for pivot in range(phases):
        # Columns are equations; eliminate without pivots (the matrix is diagonally dominant but for the last column).
        for row in range(pivot + 1, phases):
            factor = left[pivot, row] / left[pivot, pivot]
            for k in range(pivot, phases):
                left[k, row] -= factor * left[k, pivot]
            particular[row] -= factor * particular[pivot]
            settled[row] -= factor * settled[pivot]
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
    total = 0.0
    for i in range(phases):
        found[states, i] = max(0.0, particular[i] + (request_side - taken) / room * settled[i])
        total += found[states, i]
    # From the bottom up.
    so_far = 0.0
    entering = np.zeros(phases)
    for n in range(most, states):
        if total - so_far <= _TAIL * total:
            break
        entering[:] = 0.0
        if n < width:
            for position in range(most):
                for i in range(phases):
                    for j in range(phases):
                        entering[j] += found[position, i] * rows[position, n, i, j]
        for before in range(max(most, n - width + most + 1), n):
            for i in range(phases):
                for j in range(phases):
                    entering[j] += found[before, i] * above[n - before + most, i, j]
        for i in range(phases):
            for j in range(phases):
                found[n, j] += entering[i] * inverse[i, j]
        for j in range(phases):
            so_far += found[n, j]
    return found


@compiled
def phase_fraction_above(
    values: FloatArray, first: float, busy: FloatArray, latency: FloatArray, pi: FloatArray, x: float
) -> float:
    """Fraction of requests whose latency is above x; times in mean gaps, `pi` the result of `phase_stationary`."""
    most, phases, counts = busy.size, pi.shape[1], values.shape[2]
    states = pi.shape[0] - 2
    full, longest = busy[most - 1], busy.max()
    served, batches = 0.0, 0.0
    begun = np.zeros(most + 1)
    for i in range(phases):
        served += pi[0, i] + most * pi[states, i]
        begun[most] += pi[states, i]
        batches += pi[0, i] + pi[states, i]
        for n in range(1, most):
            begun[n] += pi[n, i]
            served += n * pi[n, i]
            batches += pi[n, i]
    above: float = 0.0
    for i in range(phases):
        above += pi[0, i] if latency[0] > x else 0.0
    coming = np.zeros((most + 1, phases, phases))
    arrived = np.zeros((counts, phases, phases))
    chance = np.zeros((most + 1, phases))
    later = np.zeros((most + 1, phases))
    below = np.zeros((counts + 1, phases))
    start = np.zeros(phases)
    for k in range(1, most + 1):
        w = x - latency[k - 1]
        if w < 0.0:
            above += k * begun[k]
            continue
        if begun[k] < NEGLIGIBLE * batches:
            continue
        count_chances(values, first, phases, w, coming, most + 1)
        for y in range(most + 1):
            for i in range(phases):
                later[y, i] = 0.0
                for j in range(phases):
                    later[y, i] += coming[y, i, j]
        latest = int(w / full)
        if latest * most > states + most:
            continue
        earliest = latest
        while earliest > 0 and w - (earliest - 1) * full < longest:
            earliest -= 1
        for m in range(earliest, latest + 1):
            v = w - m * full
            base = m * most
            # chance[j] = P(X = m b + j) with the phase, `more` = P(X ≥ m b + b) where k = b asks for it.
            chance[:] = 0.0
            more = 0.0
            for size in range(1, most + 1):
                left = busy[size - 1] - v
                if left <= 0.0:
                    continue
                weight = 0.0
                for i in range(phases):
                    start[i] = pi[size, i] if size < most else 0.0
                    if size == 1:
                        start[i] += pi[states + 1, i]
                    weight += start[i]
                if size < most or most == 1:
                    if weight < NEGLIGIBLE * batches:
                        continue
                    top = count_chances(values, first, phases, left, arrived, min(counts, base + most))
                    if k == most:
                        more += weight
                        for count in range(top):
                            for i in range(phases):
                                for j in range(phases):
                                    more -= start[i] * arrived[count, i, j]
                    for j in range(1, min(k, top - 1 - base) + 1):
                        for i in range(phases):
                            for phase in range(phases):
                                chance[j, phase] += start[i] * arrived[base + j, i, phase]
                if size < most:
                    continue
                if size == 1 and most == 1:
                    top = count_chances(values, first, phases, left, arrived, counts)
                else:
                    top = count_chances(values, first, phases, left, arrived, min(counts, base + most))
                for j in range(1, k + 1):
                    for behind in range(max(0, base + j - top + 1), min(base + j, states - most - 1) + 1):
                        count = base + j - behind
                        for i in range(phases):
                            for phase in range(phases):
                                chance[j, phase] += pi[most + behind, i] * arrived[count, i, phase]
                if k == most:
                    # below[c] = chance of fewer than c arrivals, by the phase before.
                    for count in range(min(counts, base + most)):
                        for i in range(phases):
                            below[count + 1, i] = below[count, i]
                            if count < top:
                                for j in range(phases):
                                    below[count + 1, i] += arrived[count, i, j]
                    more += begun[most]
                    for behind in range(min(base + most - 1, states - most - 1) + 1):
                        fewer_than = min(base + most - behind, counts)
                        for i in range(phases):
                            more -= pi[most + behind, i] * below[fewer_than, i]
            if k < most:
                for j in range(1, k + 1):
                    for i in range(phases):
                        above += j * chance[j, i] * later[k - j, i]
            else:
                for i in range(phases):
                    fewer = 0.0
                    for j in range(most - 1, 0, -1):
                        fewer += later[most - 1 - j, i]
                        above += j * chance[j, i] * max(0.0, 1.0 - fewer)
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
) -> FloatArray:
    """Return `phase_stationary` with as many states as latencies up to x ask for."""
    most = busy.size
    states = int(most * (3.0 + max(0.0, x - latency.min()) / busy[most - 1])) + 2
    return phase_stationary(values, first, idle, busy, down, states)


@compiled
def phase_lateness(
    values: FloatArray,
    first: float,
    idle: FloatArray,
    busy: FloatArray,
    latency: FloatArray,
    down: FloatArray,
    x: float,
) -> tuple[float, float]:
    """Return the fraction of requests later than x, and that of full batches among all; times in mean gaps."""
    pi = phase_states(values, first, idle, busy, latency, down, x)
    most, states = busy.size, pi.shape[0] - 2
    full, partial = 0.0, 0.0
    for i in range(pi.shape[1]):
        full += pi[states, i]
        for n in range(most):
            partial += pi[n, i]
    return phase_fraction_above(values, first, busy, latency, pi, x), full / (partial + full)

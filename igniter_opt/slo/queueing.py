"""The queue of a server that dispatches whatever waits, up to b requests, as soon as it is free: M/D[1,b]/1.

Requests arrive at a Poisson rate R and are served first come, first served by one server. A free server takes
k = min(waiting, b) requests at once and is busy for a fixed time s_k that depends on k; an arrival that finds the
server free and nobody waiting is served at once, alone. A request's latency is its waiting time until its batch is
dispatched plus a fixed time L_k that depends on the size k of that batch (L_k may exceed s_k, as when part of a
batch's work overlaps with the batch before it). Queues with such bulk service go back to Bailey (1954); Neuts, and
Chaudhry and Templeton (1983), treat them at length. Everything used here is derived below.

Its chain and stationary distribution are in `bulk_chain`.

*Latency.* Over a long time, the fraction of requests with a latency above x is the expected number of such requests
per batch over the expected batch size. A request dispatched in a batch of k is one of them iff it waited longer than
w = x - L_k: always if w < 0; otherwise iff it arrived before t - w, where t is the dispatch. At t - w the server was
busy with some batch, say of size j begun with l left behind (l = 0 if j < b), and between that batch and t there
were m full ones, m s_b ≤ w < m s_b + s_j, since a request that waits leaves no room in the batches before its own.
Let v = w - m s_b. By t - w there were ``X = l + Poisson(R (s_j - v))`` requests, of which the m full batches take m b,
and until t there come Y = Poisson(R w) more, so that the batch at t has k = min(X - m b + Y, b) requests, and
min(X - m b, b) of them, if positive, waited longer than w. Summing over j, l (with weights π), X and Y gives the
fraction exactly; the only atom of the latency distribution is at L_1, the latency of those who find the server free.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.compiled import compiled
from igniter_opt.slo.bulk_chain import NEGLIGIBLE, decay_root, poisson, poisson_reach, stationary

# Percentiles are found to this relative accuracy, from above.
PERCENTILE_TOLERANCE = 1e-10
# Beyond this traffic intensity a queue takes too long to settle for its stationary state to mean anything (and too many
# states to compute it); it is treated like one that grows without end.
MOST_INTENSITY = 0.999
# States of the chain are followed until what is above them has less than this probability.
_TAIL = 1e-15


@compiled
def states_needed(rate: float, busy: FloatArray, latency: FloatArray, x: float) -> int:
    """Number of states n that `fraction_above` looks at for latencies above x, negligible ones left out."""
    most = busy.size
    mean = rate * busy[most - 1]
    shortest, longest = latency[0], busy[0]
    for k in range(most):
        shortest = min(shortest, latency[k])
        longest = max(longest, busy[k])
    enough = most + 2 + math.log(1.0 / _TAIL) / math.log(decay_root(mean, most))
    if longest > busy[most - 1]:
        enough += poisson_reach(rate * longest)
    wanted = most * (3.0 + max(0.0, x - shortest) / busy[most - 1])
    return int(min(max(enough, most + 2.0), wanted))


@compiled
def _convolve(chance: FloatArray, mean: float) -> None:
    """Let a Poisson number with this mean come to what waits; what is beyond the array is dropped."""
    size, before = chance.size, chance.copy()
    more = poisson(mean, min(size, poisson_reach(mean)))
    chance[:] = 0.0
    for come in range(more.size):
        weight = more[come]
        if weight < NEGLIGIBLE:
            if come > mean:
                break
            continue
        # A slice, for an index that may be negative would keep the loop from being vectorized.
        target = chance[come:]
        for number in range(target.size):
            target[number] += weight * before[number]


@compiled
def ascending(values: FloatArray) -> IntArray:
    """Positions by ascending value, equal ones in their order."""
    order = np.arange(values.size)
    for number in range(1, values.size):
        own = order[number]
        place = number
        while place > 0 and values[order[place - 1]] > values[own]:
            order[place] = order[place - 1]
            place -= 1
        order[place] = own
    return order


@compiled
def fraction_above(rate: float, busy: FloatArray, latency: FloatArray, pi: FloatArray, x: float) -> float:
    """Fraction of requests whose latency is above x.

    Batches k are taken by falling v, for every m: those that wait at t - w for one k are those that do for the k before
    and what comes in between, but for batches that have just begun.

    Parameters
    ----------
    rate, busy, latency
        R per ms; s_1 .. s_b and L_1 .. L_b in ms.
    pi
        Result of `stationary`, with `states_needed` states.
    """
    most = busy.size
    states = pi.size - 1
    full = busy[most - 1]
    longest = busy.max()
    # How often batches of 1 .. b are dispatched at completions.
    begun = np.empty(most)
    for n in range(1, most):
        begun[n - 1] = pi[n]
    begun[most - 1] = pi[states]
    served = pi[0]
    above: float = pi[0] if latency[0] > x else 0.0
    widest = 0.0
    for k in range(1, most + 1):
        served += k * begun[k - 1]
        w = x - latency[k - 1]
        widest = max(widest, w)
        if w < 0.0:
            above += k * begun[k - 1]
    order = ascending(latency)
    # Larger batches hardly ever occur.
    largest = most
    while largest > 1 and begun[largest - 1] < NEGLIGIBLE:
        largest -= 1
    for m in range(int(widest / full) + 1):
        base = m * most
        if base > states + most:
            break
        # waiting[X], as far as it is wanted; and how many batches there are, whatever waits.
        wanted = base + min(largest + 1, most)
        waiting, there = np.zeros(wanted), 0.0
        entered = np.zeros(most, dtype=np.bool_)
        last = 0.0
        for turn in range(most):
            k = order[turn] + 1
            v = x - latency[k - 1] - m * full
            if v < 0.0:
                break
            if v >= longest:
                continue
            if there > 0.0:
                _convolve(waiting, rate * (last - v))
            last = v
            for size in range(1, most + 1):
                if entered[size - 1] or busy[size - 1] <= v:
                    continue
                entered[size - 1] = True
                # Full batches come below, but for those of one that begin with an arrival.
                weight = (begun[size - 1] if size < most else 0.0) + (pi[0] if size == 1 else 0.0)
                there += weight + (begun[most - 1] if size == most else 0.0)
                if size > largest:
                    continue
                mean = rate * (busy[size - 1] - v)
                arrived = poisson(mean, min(poisson_reach(mean), wanted))
                if weight >= NEGLIGIBLE:
                    for count in range(arrived.size):
                        waiting[count] += weight * arrived[count]
                if size == most:
                    for count in range(arrived.size):
                        weight = arrived[count]
                        if weight >= NEGLIGIBLE:
                            target, left = waiting[count:], pi[most:states]
                            for behind in range(min(target.size, left.size)):
                                target[behind] += weight * left[behind]
            if k > largest:
                continue
            after = poisson(rate * (v + m * full), k + 1)
            if k < most:
                for j in range(1, k + 1):
                    above += j * waiting[base + j] * after[k - j]
            else:
                fewer = 0.0
                for j in range(most - 1, 0, -1):
                    fewer += after[most - 1 - j]
                    above += j * waiting[base + j] * max(0.0, 1.0 - fewer)
                more = there
                for number in range(base + most):
                    more -= waiting[number]
                above += most * max(0.0, more)
    late: float = above / served
    return late


@compiled
def percentile(rate: float, busy: FloatArray, latency: FloatArray, q: float) -> float:
    """Least x with P(latency ≤ x) ≥ q; the only atom, L_1, is hit exactly, else x is within the tolerance above."""
    allowed = 1.0 - q
    high: float = latency.max()
    pi = stationary(rate, busy, states_needed(rate, busy, latency, high))
    while fraction_above(rate, busy, latency, pi, high) > allowed:
        high *= 2.0
        pi = stationary(rate, busy, states_needed(rate, busy, latency, high))
    low, log_low = 0.0, -math.log(allowed)
    atom: float = latency[0]
    if low < atom <= high:
        if fraction_above(rate, busy, latency, pi, atom) > allowed:
            low, log_low = atom, math.log(fraction_above(rate, busy, latency, pi, atom) / allowed)
        elif fraction_above(rate, busy, latency, pi, np.nextafter(atom, 0.0)) > allowed:
            return atom
        else:
            high = atom
    log_high = -1.0
    for turn in range(200):
        if high - low <= PERCENTILE_TOLERANCE * high:
            break
        # The logarithm of the tail is nearly linear: false position, and halving where that makes no headway.
        x = 0.5 * (low + high)
        if turn % 3 < 2 and turn > 0:
            x = low + (high - low) * min(max(log_low / (log_low - log_high), 1e-6), 1.0 - 1e-6)
            x = min(max(x, low + 0.3 * PERCENTILE_TOLERANCE * high), high - 0.3 * PERCENTILE_TOLERANCE * high)
        found = fraction_above(rate, busy, latency, pi, x)
        if found > allowed:
            low, log_low = x, math.log(found / allowed)
        else:
            high, log_high = x, math.log(max(found, 1e-300) / allowed)
    return high


@dataclass(frozen=True)
class BatchQueue:
    """A server under Poisson arrivals (see the module's description).

    Attributes
    ----------
    rate_rps
        Arrival rate R.
    busy_ms, latency_ms
        s_1 .. s_b and L_1 .. L_b, shape (b,): how long a batch of each size keeps the server busy, and how long
        after its dispatch it is answered.
    """

    rate_rps: float
    busy_ms: FloatArray
    latency_ms: FloatArray

    @property
    def traffic_intensity(self) -> float:
        """Utilisation at full batches, ``R s_b / b``; there is a stationary state iff it is below 1."""
        return float(self.rate_rps / 1000.0 * self.busy_ms[-1] / len(self.busy_ms))

    @property
    def settles(self) -> bool:
        """Whether the queue has a stationary state and a traffic intensity of at most `MOST_INTENSITY`.

        Not so if times are infinite, or not positive, which predictions from odd measurements may be.
        """
        sane = np.all(np.isfinite(self.busy_ms) & np.isfinite(self.latency_ms) & (self.busy_ms > 0.0))
        return bool(sane) and self.traffic_intensity <= MOST_INTENSITY

    @cached_property
    def _states(self) -> FloatArray:
        rate = self.rate_rps / 1000.0
        return np.asarray(stationary(rate, self.busy_ms, states_needed(rate, self.busy_ms, self.latency_ms, np.inf)))

    @cached_property
    def _begun(self) -> FloatArray:
        """Proportion of batches of 1 .. b dispatched (those on an arrival included)."""
        size = len(self.busy_ms)
        begun = np.append(self._states[1:size], self._states[-1])
        begun[0] += self._states[0]
        return begun

    def percentile_ms(self, q: float) -> float:
        """Latency that a fraction q of the requests does not exceed; infinite where the queue does not settle."""
        if not self.settles:
            return math.inf
        return float(percentile(self.rate_rps / 1000.0, self.busy_ms, self.latency_ms, q))

    def violation_probability(self, slo_ms: float) -> float:
        """Fraction of requests whose latency exceeds `slo_ms`; 1 where the queue does not settle."""
        if not self.settles:
            return 1.0
        rate = self.rate_rps / 1000.0
        states = stationary(rate, self.busy_ms, states_needed(rate, self.busy_ms, self.latency_ms, slo_ms))
        return float(min(1.0, max(0.0, fraction_above(rate, self.busy_ms, self.latency_ms, states, slo_ms))))

    @property
    def batch_sizes(self) -> npt.NDArray[np.float64]:
        """Distribution of the sizes of dispatched batches, shape (b,); all full where the queue does not settle."""
        if not self.settles:
            return np.asarray(np.eye(len(self.busy_ms))[-1], dtype=np.float64)
        return np.asarray(self._begun / self._begun.sum())

    @property
    def busy_fraction(self) -> float:
        """Fraction of time that the server is busy; 1 where the queue does not settle."""
        if not self.settles:
            return 1.0
        busy = float(self._begun @ self.busy_ms)
        idle = float(self._states[0]) * 1000.0 / self.rate_rps
        return busy / (busy + idle)

    @property
    def mean_latency_ms(self) -> float:
        """Mean latency; infinite where the queue does not settle.

        The mean wait is the mean number waiting over R (Little): during a batch begun with l left behind there wait
        l + R u after a time u.
        """
        if not self.settles:
            return math.inf
        rate, size, states = self.rate_rps / 1000.0, len(self.busy_ms), self._states[:-1]
        behind = float(states[size:] @ np.arange(len(states) - size))
        waiting = behind * self.busy_ms[-1] + rate / 2.0 * float(self._begun @ self.busy_ms**2)
        cycle = float(self._begun @ self.busy_ms) + float(self._states[0]) / rate
        requests = self._begun * np.arange(1, size + 1)
        waiting_ms: float = waiting / cycle / rate
        return waiting_ms + float(requests @ self.latency_ms / requests.sum())

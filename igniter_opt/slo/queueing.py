"""The queue of a server that dispatches whatever waits, up to b requests, as soon as it is free: M/D[1,b]/1.

Requests arrive at a Poisson rate R and are served first come, first served by one server. A free server takes
k = min(waiting, b) requests at once and is busy for a fixed time s_k that depends on k; an arrival that finds the
server free and nobody waiting is served at once, alone. A request's latency is its waiting time until its batch is
dispatched plus a fixed time L_k that depends on the size k of that batch (L_k may exceed s_k, as when part of a
batch's work overlaps with the batch before it). Queues with such bulk service go back to Bailey (1954); Neuts, and
Chaudhry and Templeton (1983), treat them at length. Everything used here is derived below.

*Chain.* Let n be the number waiting when a batch is completed, before the next dispatch. If n = 0 the server idles
until an arrival and then serves one. So with k = max(1, min(n, b)) the next such number is
``max(n - b, 0) + Poisson(R s_k)``. Rows n ≥ b are one distribution, shifted: from there the chain makes steps
Poisson(λ) - b, λ = R s_b. It has a stationary distribution π iff λ < b (negative drift on n ≥ b; the finitely many
other rows do not matter), that is, iff the utilisation R s_b / b at full batches is below 1.

*Stationary distribution.* States are taken out from above (censoring, as in Gaussian elimination without
subtractions). For the rows n ≥ b this can be done once and for all. Seen only when it reaches a new minimum, a walk
with steps Poisson(λ) - b moves down by i with a probability d_i, i = 1 .. b, and by the factorisation of Wiener and
Hopf ``1 - Σ d_i y^i = Π_j (1 - z_j y)`` over the b roots z_j of ``z^b = exp(λ (z - 1))`` in the closed unit disc (one
of them is 1). So the mass that a row has at n ≥ b moves to n - i with weights d_i, from the top down, and what is
left are b states, solved by elimination without subtractions (Grassmann, Taksar, Heyman 1985). What passed through n
on the way down gives π_n for n ≥ b. There is no truncation but that of Poisson probabilities below 1e-17. The number
of full batches in proportion, Σ_{n≥b} π_n, follows from flow balance, requests served per batch = requests arriving
per batch (not counting those that find the server free): ``Σ_{n≥1} π_n k_n = R Σ π_n s_{k_n}``.

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

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.compiled import compiled

# Poisson probabilities and shares of time below this do not count.
_NEGLIGIBLE = 1e-17
# Percentiles are found to this relative accuracy, from above.
PERCENTILE_TOLERANCE = 1e-10
# Beyond this traffic intensity a queue takes too long to settle for its stationary state to mean anything (and too many
# states to compute it); it is treated like one that grows without end.
MOST_INTENSITY = 0.999
# States of the chain are followed until what is above them has less than this probability.
_TAIL = 1e-15


@compiled
def poisson(mean: float, size: int) -> FloatArray:
    """Probabilities of 0 .. size - 1 under a Poisson distribution."""
    found = np.zeros(size)
    if mean < 600.0:
        term = math.exp(-mean)
        for count in range(size):
            found[count] = term
            term *= mean / (count + 1)
    else:
        for count in range(size):
            found[count] = math.exp(count * math.log(mean) - mean - math.lgamma(count + 1.0))
    return found


@compiled
def _reach(mean: float) -> int:
    """Number of Poisson probabilities until they stay negligible."""
    return int(mean + 9.0 * math.sqrt(mean) + 20.0)


@compiled
def decay_root(mean: float, most: int) -> float:
    """Root z > 1 of ``z^b = exp(λ (z - 1))``: π_n falls like z^-n.

    Parameters
    ----------
    mean, most
        λ, arrivals during a full batch, and b; λ < b.
    """
    root: float = 2.0 * most / mean
    # Newton's method from the right of the root of a convex function.
    while mean * (root - 1.0) < most * math.log(root):
        root *= 2.0
    for _ in range(200):
        step = (mean * (root - 1.0) - most * math.log(root)) / (mean - most / root)
        root -= step
        if abs(step) <= 1e-14 * root:
            break
    return root


@compiled
def descents(mean: float, most: int) -> FloatArray:
    """Probabilities d_1 .. d_b of the step to a new minimum (see the module's derivation); shape (b + 1,), d_0 = 0."""
    # 1 - Σ d_i y^i, as a product over the roots; conjugate pairs make real factors.
    product = np.zeros(most + 1)
    product[0] = 1.0
    degree = 0
    pairs = (most - 1) // 2
    # Roots far apart follow each other, which keeps partial products small: steps coprime to the number of pairs.
    stride = max(1, int(0.618 * pairs))
    while stride > 1 and math.gcd(stride, max(pairs, 1)) > 1:
        stride -= 1
    for turn in range(pairs):
        number = 1 + (turn * stride) % pairs
        angle = 2.0 * math.pi * number / most
        unit = complex(math.cos(angle), math.sin(angle))
        root = 0.5 * unit
        # A contraction with factor below λ / b, finished by Newton's method.
        for _ in range(4):
            root = unit * np.exp(mean / most * (root - 1.0))
        for _ in range(50):
            image = unit * np.exp(mean / most * (root - 1.0))
            step = (root - image) / (1.0 - mean / most * image)
            root -= step
            if abs(step) < 1e-15:
                break
        linear, square = -2.0 * root.real, root.real * root.real + root.imag * root.imag
        degree += 2
        for power in range(degree, -1, -1):
            value = product[power]
            if power >= 1:
                value += linear * product[power - 1]
            if power >= 2:
                value += square * product[power - 2]
            product[power] = value
    if most % 2 == 0:
        # The one root on the negative axis.
        root_real = -0.5
        for _ in range(100):
            image_real = -math.exp(mean / most * (root_real - 1.0))
            step_real = (root_real - image_real) / (1.0 - mean / most * image_real)
            root_real -= step_real
            if abs(step_real) < 1e-15:
                break
        degree += 1
        for power in range(degree, 0, -1):
            product[power] -= root_real * product[power - 1]
    # The root 1: what is left of it are the tail sums of d, so d are their differences.
    found = np.zeros(most + 1)
    for down in range(1, most + 1):
        above = product[down] if down < most else 0.0
        found[down] = max(0.0, product[down - 1] - above)
    return found


@compiled
def stationary(rate: float, busy: FloatArray, states: int) -> FloatArray:
    """Stationary probabilities of the number waiting at completions.

    Parameters
    ----------
    rate, busy
        R per ms and s_1 .. s_b in ms, with R s_b < b.
    states
        How many states are wanted, at least b + 1.

    Returns
    -------
    FloatArray
        Shape (states + 1,): π_0 .. π_{states - 1}, then the probability of all states n ≥ b.
    """
    most = busy.size
    mean = rate * busy[most - 1]
    down = descents(mean, most)
    # The row of a state n ≥ b, position p standing for n - b + p, pushed down to positions below b.
    reach = max(_reach(mean), most + 1)
    up = poisson(mean, reach)
    leaves = 0.0
    # What is left moves down by d again, which mends the rounding errors of the roots where there are many.
    for _ in range(20):
        up = poisson(mean, reach)
        for position in range(reach - 1, most, -1):
            weight = up[position]
            if weight > _NEGLIGIBLE:
                for i in range(1, most + 1):
                    up[position - i] += weight * down[i]
        leaves = 0.0
        for position in range(most):
            leaves += up[position]
        change = 0.0
        for i in range(1, most + 1):
            change = max(change, abs(down[i] - up[most - i] / leaves))
            down[i] = up[most - i] / leaves
        if change < 1e-14:
            break
    # Rows 0 .. b - 1, likewise; `passed` keeps what passed through the states n ≥ b.
    widest = most + 1
    for k in range(most):
        widest = max(widest, _reach(rate * busy[k]))
    passed = np.zeros((most, max(states, widest)))
    for n in range(most):
        row = poisson(rate * busy[max(n, 1) - 1], widest)
        for position in range(widest - 1, most - 1, -1):
            weight = row[position]
            if weight > _NEGLIGIBLE:
                for i in range(1, most + 1):
                    row[position - i] += weight * down[i]
        passed[n, :widest] = row
    found = np.zeros(states + 1)
    stays = np.zeros(most)
    for n in range(most - 1, 0, -1):
        out = 0.0
        for position in range(n):
            out += passed[n, position]
        stays[n] = out
        for row_number in range(n):
            weight = passed[row_number, n] / out
            if weight > 0.0:
                for position in range(n):
                    passed[row_number, position] += weight * passed[n, position]
    found[0] = 1.0
    for n in range(1, most):
        value = 0.0
        for position in range(n):
            value += found[position] * passed[position, n]
        found[n] = value / stays[n]
    for n in range(most, states):
        value = 0.0
        if n < widest:
            for position in range(most):
                value += found[position] * passed[position, n]
        for before in range(max(most, n - reach + most + 1), n):
            value += found[before] * up[n - before + most]
        found[n] = value / leaves
    # Flow balance gives the proportion of full batches.
    surplus, total = 0.0, 0.0
    for n in range(most):
        k = max(n, 1)
        if n > 0:
            surplus -= found[n] * n
        surplus += found[n] * rate * busy[k - 1]
        total += found[n]
    found[states] = surplus / (most - mean)
    total += found[states]
    for n in range(states + 1):
        found[n] /= total
    return found


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
        enough += _reach(rate * longest)
    wanted = most * (3.0 + max(0.0, x - shortest) / busy[most - 1])
    return int(min(max(enough, most + 2.0), wanted))


@compiled
def fraction_above(rate: float, busy: FloatArray, latency: FloatArray, pi: FloatArray, x: float) -> float:
    """Fraction of requests whose latency is above x.

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
    longest = 0.0
    for k in range(most):
        longest = max(longest, busy[k])
    # How often batches of 1 .. b are dispatched at completions, and how often they are in service with l = 0.
    begun = np.empty(most)
    for n in range(1, most):
        begun[n - 1] = pi[n]
    begun[most - 1] = pi[states]
    served = pi[0]
    for k in range(1, most + 1):
        served += k * begun[k - 1]
    above: float = pi[0] if latency[0] > x else 0.0
    # left[l] is the proportion of full batches that leave fewer than l waiting.
    left = np.zeros(states - most + 1)
    for number in range(states - most):
        left[number + 1] = left[number] + pi[most + number]
    for k in range(1, most + 1):
        w = x - latency[k - 1]
        if w < 0.0:
            above += k * begun[k - 1]
            continue
        if begun[k - 1] < _NEGLIGIBLE:
            continue
        after = poisson(rate * w, most + 1)
        latest = int(w / full)
        if latest * most > states + most:
            continue
        first = latest
        while first > 0 and w - (first - 1) * full < longest:
            first -= 1
        for m in range(first, latest + 1):
            v = w - m * full
            base = m * most
            # chance[j] = P(X = m b + j), `more` = P(X ≥ m b + b) where k = b asks for it.
            chance = np.zeros(k + 1)
            more = 0.0
            for size in range(1, most + 1):
                # Full batches come below, but for those of one that begin with an arrival.
                weight = (begun[size - 1] if size < most else 0.0) + (pi[0] if size == 1 else 0.0)
                mean = rate * (busy[size - 1] - v)
                if mean <= 0.0 or weight < _NEGLIGIBLE or base > _reach(mean):
                    continue
                arrived = poisson(mean, base + k + 1)
                for j in range(k + 1):
                    chance[j] += weight * arrived[base + j]
                if k == most:
                    below = 0.0
                    for count in range(base + most):
                        below += arrived[count]
                    more += weight * max(0.0, 1.0 - below)
            mean = rate * (full - v)
            if mean > 0.0:
                reach = _reach(mean)
                arrived = poisson(mean, reach)
                for count in range(reach):
                    weight = arrived[count]
                    if weight < _NEGLIGIBLE:
                        continue
                    # l = m b + j - count
                    for j in range(max(0, count - base), k + 1):
                        place = base + j - count
                        if most + place < states:
                            chance[j] += weight * pi[most + place]
                    if k == most:
                        place = min(max(base + most - count, 0), states - most)
                        more += weight * max(0.0, begun[most - 1] - left[place])
            if k < most:
                for j in range(1, k + 1):
                    above += j * chance[j] * after[k - j]
            else:
                fewer = 0.0
                for j in range(most - 1, 0, -1):
                    fewer += after[most - 1 - j]
                    above += j * chance[j] * max(0.0, 1.0 - fewer)
                above += most * more
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

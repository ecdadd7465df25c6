"""The limits D_c of the rule ``p99`` (`percentile`) for any stream of requests (`streams`).

What `percentile` says of D_c holds for every stream; only the judge of one queue differs, and is dear. So for every
batch the limit is searched at few share levels: it is a smooth function of the full batch's time alone, and between
levels where it is known it is interpolated through the four nearest, with a judged level between any two that says how
well. What is interpolated is lowered by as much as that may err. The smallest level that holds is found by bisection,
where, as is usual, no batch is slower at a larger share; otherwise every level is searched.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.physics.interference import clock_line, clock_ratio, placement_terms
from igniter_opt.physics.parameters import Coefficients, HardwareCoefficients, ModelCoefficients
from igniter_opt.slo.percentile import NEVER_FULL, ROUNDING, STEP, batch_times
from igniter_opt.slo.queueing import MOST_INTENSITY
from igniter_opt.slo.streams.stream import ReplicaStream, Source
from igniter_opt.slo.streams.table import planned_stream

# A prediction that errs by less is improved enough by the level that showed it.
_CLOSE = 1e-3
# Interpolated limits are lowered by so much more: between searched levels they were seen to err by up to that.
_INTERPOLATED = 1e-3
# A level whose time alone is further than this from its predicted limit holds, or does not, without being judged.
_SURE = 0.02
# Batches are searched in so many chains, each by itself and at once with the others, so that results do not depend on
# how many processors there are.
_CHAINS = 2


@lru_cache(maxsize=4096)
def stream_limits(
    source: Source,
    model: ModelCoefficients,
    hardware: HardwareCoefficients,
    slo_ms: float,
    percentile: float,
    margin: float = 0.0,
) -> FloatArray:
    """Return `percentile.percentile_limits` for a replica whose requests come from a source."""
    search = _Search(planned_stream(source, slo_ms), model, hardware, slo_ms, 1.0 - percentile, margin)
    with ThreadPoolExecutor(_CHAINS) as workers:
        done = list(workers.map(search.chain, range(_CHAINS)))
    limits = np.zeros((model.max_batch, hardware.share_levels))
    for number, rows in enumerate(done):
        limits[number::_CHAINS] = rows
    limits.setflags(write=False)
    return limits


class _Search:
    """The search for one replica's limits."""

    def __init__(
        self,
        stream: ReplicaStream,
        model: ModelCoefficients,
        hardware: HardwareCoefficients,
        slo_ms: float,
        allowed: float,
        margin: float,
    ) -> None:
        self.stream, self.slo_ms, self.allowed, self.margin = stream, slo_ms, allowed * (1.0 - 1e-9), margin
        alone = Coefficients("", hardware, {"": model})
        batches = np.arange(1.0, model.max_batch + 1)
        terms = placement_terms(alone, 0, batches[:, None], hardware.shares()[None, :])
        self.active, self.power = np.ascontiguousarray(terms.active_ms.T), np.ascontiguousarray(terms.power_w.T)
        self.load, self.feedback = np.ravel(terms.load_ms[:, 0]).copy(), np.ravel(terms.feedback_ms[:, 0]).copy()
        self.delay = model.scheduling_delay_ms
        self.card = np.array([hardware.idle_power_w, *clock_line(hardware)])
        ratio = clock_ratio(hardware, hardware.idle_power_w + terms.power_w)
        with np.errstate(divide="ignore"):
            self.solo = np.where(ratio > 0, (self.delay + terms.active_ms) / ratio, np.inf)
        # Whether e_k(D) = D - (a_b - a_k) for all k, as in `percentile`.
        rises = (np.diff(terms.active_ms, axis=0) >= 0) & (np.diff(terms.power_w, axis=0) >= 0)
        steady = np.vstack([ratio[:1] == 1.0, (ratio[1:] == 1.0) & rises])
        self.plain = np.logical_and.accumulate(steady, axis=0)
        self.ordered = np.logical_and.accumulate(np.all(np.diff(self.solo, axis=1) <= 0, axis=1))

    def chain(self, first: int) -> FloatArray:
        """Search batches ``first + 1, first + 1 + chains, ...``, each with the help of the one before."""
        numbers = range(first, len(self.solo), _CHAINS)
        found = np.zeros((len(numbers), self.solo.shape[1]))
        before: _Batch | None = None
        for row, b in enumerate(numbers):
            own = _Batch(self, b, before)
            found[row] = own.limits()
            before = own
        return found


class _Batch:
    """The search at one largest batch b + 1."""

    def __init__(self, search: _Search, b: int, before: "_Batch | None") -> None:
        self.search, self.b, self.before = search, b, before
        self.solo = search.solo[b]
        self.memory = search.stream.fresh_memory(b + 1)
        rate = search.stream.rate_rps / 1000.0
        self.most = (MOST_INTENSITY * (b + 1) / rate - search.feedback[b]) / (1.0 + search.margin)
        self.slope: float = 0.0 if before is None else before.slope
        self.known: dict[int, float] = {}
        # The limits, and what they are before they are lowered.
        self.table, self.raw = np.zeros(len(self.solo)), np.zeros(len(self.solo))
        # Whether hardly any batch was full, at the levels that were searched.
        self.settled = True

    def judge(self, level: int, limit: float) -> float:
        """Return `ReplicaStream.excess` at t_gpu(b) = limit."""
        own, b = self.search, self.b + 1
        times = batch_times(
            limit, own.active[level, :b], own.power[level, :b], own.load[:b], own.feedback[:b], own.delay, own.card,
            own.margin,
        )  # fmt: skip
        excess, full = own.stream.excess(times[0], times[1], own.slo_ms, own.allowed, self.memory)
        if excess <= 0.0:
            self.settled = self.settled and full < NEVER_FULL * own.allowed
        return excess

    def limits(self) -> FloatArray:
        """Return the limits at all levels."""
        levels = len(self.solo)
        before, plain = self.before, self.search.plain[self.b]
        settled = before is not None and before.settled and bool(before.known)
        self.settled = True
        if not self.search.ordered[self.b]:
            for level in range(levels - 1, -1, -1):
                self._root(level, self._first_guess(level))
        elif settled and before is not None:
            # Larger batches are hardly ever full: they change nothing but what a full batch would take.
            for level in np.flatnonzero(plain & (before.table > 0.0)).tolist():
                moved = float(before.table[level] + (self.solo[level] - before.solo[level]))
                if self.solo[level] <= moved and self.solo[level] <= self.most:
                    self.table[level] = self.raw[level] = moved
            for level in np.flatnonzero(~plain & (before.table > 0.0)).tolist():
                self._root(level, self._first_guess(level))
            self.known = self.known or before.known
        elif self._root(levels - 1, self._first_guess(levels - 1)):
            least = self._least_level()
            # The least level that is found to hold, should the prediction err.
            while least < levels - 1 and not self._root(least, self._predicted(least)):
                least += 1
            if least < levels - 1:
                # At full power limits have a kink wherever a batch reaches it.
                for level in (level for level in range(least, levels - 1) if plain[level] != plain[level + 1]):
                    for beside in (level, level + 1):
                        if beside not in self.known:
                            self._root(beside, self._predicted(beside))
                known = sorted(self.known)
                for low, high in pairwise(known):
                    self._between(low, high)
        for level, limit in self.known.items():
            if self.table[level] == 0.0:
                self.table[level] = limit * (1.0 - ROUNDING)
                self.raw[level] = limit
        if self.known:
            for level in np.flatnonzero(self.raw <= 0.0).tolist():
                self.raw[level] = self._predicted(level)
        self._leave_out_small_gains()
        return self.table

    def _leave_out_small_gains(self) -> None:
        """Leave gains over a smaller batch out that are within the tolerance: the larger one is then dominated."""
        before = self.before
        if before is None:
            return
        same = np.where(before.table > 0.0, before.table + (self.solo - before.solo), -np.inf)
        close = (self.table > 0.0) & (self.table - STEP * self.table <= same) & (same < self.table)
        self.table[close] = same[close]

    def _first_guess(self, level: int) -> float:
        if self.known:
            return self._predicted(level)
        return self._from_before(level) or 0.5 * float(self.solo[level] + min(self.most, self.search.slo_ms))

    def _from_before(self, level: int) -> float:
        """Return the limit if this batch differed from the one before by its time alone only; 0 if that has none."""
        before = self.before
        if before is None or before.raw[level] <= 0.0:
            return 0.0
        return float(before.raw[level] + (self.solo[level] - before.solo[level]))

    def _predicted(self, level: int) -> float:
        """Interpolate, or go on, through the nearest known levels: what differs from the batch before, if known."""
        near = sorted(self.known, key=lambda other: (abs(self.solo[other] - self.solo[level]), other))[:4]
        base = self._from_before(level)
        if base > 0.0 and all(self._from_before(other) > 0.0 for other in near):
            values = [self.known[other] - self._from_before(other) for other in near]
        else:
            base, values = 0.0, [self.known[other] for other in near]
        x, total = float(self.solo[level]), base
        points = [float(self.solo[other]) for other in near]
        for i, value in enumerate(values):
            weight = 1.0
            for j, other in enumerate(points):
                if i != j:
                    weight *= (x - other) / (points[i] - other) if points[i] != other else 0.0
            total += weight * value
        return total

    def _least_level(self) -> int:
        """Return the least level that holds alone, as far as predicted limits are close; the largest does."""
        predicted = np.array([self._predicted(level) for level in range(len(self.solo))])
        holds = self.solo <= np.minimum(predicted, self.most)
        # What is far off the predicted limit is not judged, if the batch before says what to predict.
        sure = np.abs(predicted / self.solo - 1.0) > (_SURE if self.before is not None else 0.2)
        low = max((int(level) for level in np.flatnonzero(sure & ~holds)), default=-1)
        high = min((int(level) for level in np.flatnonzero(sure & holds) if level > low), default=len(self.solo) - 1)
        promising = np.flatnonzero(holds)
        probe, stride = (int(promising[0]) if promising.size else high), 1
        while high - low > 1:
            probe = min(max(probe, low + 1), high - 1)
            if self.solo[probe] <= self.most and self.judge(probe, float(self.solo[probe])) <= 0.0:
                high, probe = probe, probe - stride
            else:
                low, probe = probe, probe + stride
            stride *= 2
        return high

    def _middle(self, low: int, high: int) -> int:
        """Return the level between two whose time alone is nearest to the middle of theirs."""
        target = 0.5 * (self.solo[low] + self.solo[high])
        return low + 1 + int(np.argmin(np.abs(self.solo[low + 1 : high] - target)))

    def _between(self, low: int, high: int) -> None:
        """Fill the levels between two known ones."""
        if high - low < 2:
            return
        middle = self._middle(low, high)
        predicted = min(max(self._predicted(middle), float(self.solo[middle])), self.most)
        aimed = predicted * (1.0 - 0.5 * STEP)
        excess = self.judge(middle, aimed)
        if excess <= 0.0 and -excess <= 1.5 * self.slope * STEP * aimed:
            self.known[middle] = aimed
            error = STEP
        else:
            if not self._root(middle, predicted, (aimed, excess)):
                return
            error = abs(predicted / self.known[middle] - 1.0)
        if error <= _CLOSE:
            # Kinks at full power make errors that do not fall as those of a smooth function do.
            error *= 0.125 if self.search.plain[self.b, low : high + 1].all() else 1.0
            self._interpolate(low, middle, error)
            self._interpolate(middle, high, error)
        else:
            self._between(low, middle)
            self._between(middle, high)

    def _interpolate(self, low: int, high: int, error: float) -> None:
        """Fill the levels between two known ones by interpolation, which erred so much beside them."""
        for level in range(low + 1, high):
            self.raw[level] = self._predicted(level)
            limit = float(self.raw[level]) * (1.0 - 0.5 * STEP - error - _INTERPOLATED)
            self.table[level] = min(limit, self.most) if limit >= self.solo[level] else 0.0
        if high - low < 2:
            return
        # What the batch before was wrong by is inherited, and not seen at levels that are searched every time.
        middle = self._middle(low, high)
        parts = [(low, high), (low, middle), (middle, high)]
        for level in (self._middle(*part) for part in parts if part[1] - part[0] > 1):
            if self.table[level] > 0.0 and self.judge(level, float(self.table[level])) > 0.0:
                self.table[low + 1 : high] = 0.0
                self._between(low, high)
                return

    def _root(self, level: int, guess: float, tried: tuple[float, float] | None = None) -> bool:
        """Search the limit at a level, from below; whether there is one."""
        alone, most = float(self.solo[level]), self.most
        if not alone <= most:
            return False
        low, high, low_excess = alone, most, 0.0
        low_known = False
        x = min(max(guess, alone), most)
        before = tried
        if tried is not None:
            x = self._step(tried, alone, most, low, high)
            if tried[1] <= 0.0:
                low, low_known, low_excess = tried[0], True, tried[1]
            else:
                high = tried[0]
        for turn in range(100):
            excess = self.judge(level, x)
            if before is not None and x != before[0] and abs(excess) < 40.0 and abs(before[1]) < 40.0:
                slope = (excess - before[1]) / (x - before[0])
                if slope > 0.0:
                    self.slope = slope
            before = x, excess
            if excess <= 0.0:
                low, low_known, low_excess = x, True, excess
            else:
                high = x
            if high <= alone:
                return False
            if low_known and (
                low >= most
                or high - low <= STEP * low
                or (low_excess > -40.0 and -low_excess <= self.slope * STEP * low)
            ):
                self.known[level] = low
                return True
            x = 0.5 * (low + high) if turn % 4 == 3 else self._step(before, alone, most, low, high)
        return False

    def _step(self, at: tuple[float, float], alone: float, most: float, low: float, high: float) -> float:
        """Return Newton's step, aimed a little below the root and kept within what is known."""
        x, excess = at
        if self.slope <= 0.0 or abs(excess) >= 40.0:
            return 0.5 * (low + high)
        aimed = x - excess / self.slope - 0.5 * STEP * x
        if aimed <= low:
            return low + 0.1 * (high - low) if low > alone else low
        if aimed >= high:
            return high - 0.1 * (high - low) if high < most else high
        return aimed

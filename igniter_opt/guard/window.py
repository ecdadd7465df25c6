"""What was observed of a placement lately, and whether it can be chance.

Let q be the percentile that is to be within the SLO, and p = 1 - q. If it holds, a request is late with probability p
at most. Requests of one batch share their fate, so a batch counts as one observation: of n requests in batches of b,
x of them late, there are n / b observations with x / b late ones (rounded down).

*Violation*: P(Binomial(n / b, p) ≥ x / b) is below a level (0.001). So the fewest requests that can show one, all of
them late, are b times the least m with p^m below the level: two batches for a P99. One stall of a server or a client
makes many batches late at once, which are then not independent; so the violation must be there at several looks in a
row, and at each with late requests among those that are new.

*Calm*: the opposite hypothesis, that a request is late with probability p or more, is rejected at 5 %:
P(Binomial(n / b, p) ≤ x / b, rounded up) is below 0.05. For a P99 this takes 299 batches without a late request.

The window is as long as asked for, or as long as it takes to hold the fewest requests, whichever is longer.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.simulation.statistics import percentile as percentile_of

LEVEL, CALM_LEVEL = 1e-3, 0.05
# Relative, as for predictions.
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class WindowSettings:
    """How to judge, times in s.

    Attributes
    ----------
    window_s, calm_s
        Least lengths of the windows in which violations are looked for, and calm.
    longest_s
        What is older is forgotten: the greatest length of both.
    looks
        A violation counts after so many looks in a row.
    """

    window_s: float = 1.0
    calm_s: float = 10.0
    longest_s: float = 600.0
    looks: int = 3


class Look(NamedTuple):
    """What one look at a window says.

    Attributes
    ----------
    requests, late, percentile_ms, rate_rps
        Of the window; the percentile is infinite where that part of the requests failed, NaN without requests.
    violated
        At this look alone; `sustained` at enough looks in a row.
    calm
        Whether the percentile holds beyond doubt.
    """

    requests: int
    late: int
    percentile_ms: float
    rate_rps: float
    violated: bool
    sustained: bool
    calm: bool


NOTHING = Look(0, 0, math.nan, 0.0, violated=False, sustained=False, calm=False)


class _Bucket(NamedTuple):
    """Requests that became known between two looks; their latencies are infinite where they failed."""

    at: float
    latencies_ms: FloatArray
    late: int


def fewest_requests(percentile: float, batch: int, level: float = LEVEL) -> int:
    """Return how many requests it takes at least to show that a percentile does not hold."""
    allowed = 1.0 - percentile
    if allowed <= 0.0:
        return batch
    return batch * math.ceil(math.log(level) / math.log(allowed))


def fewest_calm_requests(percentile: float, batch: int, level: float = CALM_LEVEL) -> int:
    """Return how many requests, none of them late, it takes to show that a percentile holds."""
    return batch * math.ceil(math.log(level) / math.log(percentile)) if percentile < 1.0 else batch


class Window:
    """A sliding window over one placement's requests.

    Parameters
    ----------
    slo_ms, percentile, batch
        What is to hold, and how many requests share a fate.
    now
        Nothing before it counts, and nothing is violated before the window is full.
    """

    def __init__(self, slo_ms: float, percentile: float, batch: int, settings: WindowSettings, now: float) -> None:
        self.slo_ms, self.percentile, self.batch, self.settings = slo_ms, percentile, batch, settings
        self.fewest = fewest_requests(percentile, batch)
        self.fewest_calm = fewest_calm_requests(percentile, batch)
        self._buckets: deque[_Bucket] = deque()
        self.clear(now)

    def clear(self, now: float) -> None:
        """Forget everything, since other servers serve from now on."""
        self._buckets.clear()
        self._since, self._streak, self._held = now, 0, 0

    def add(self, now: float, latencies_ms: FloatArray, failed: int) -> None:
        """Add what became known since the last look."""
        known = np.concatenate([np.asarray(latencies_ms, dtype=float), np.full(failed, np.inf)])
        late = int(np.count_nonzero(known > self.slo_ms * (1.0 + _TOLERANCE)))
        self._buckets.append(_Bucket(now, known, late))
        self._held += len(known)
        settings = self.settings
        span, need = max(settings.window_s, settings.calm_s), max(self.fewest, self.fewest_calm)
        while self._buckets[0].at <= now - settings.longest_s or (
            self._buckets[0].at <= now - span and self._held - len(self._buckets[0].latencies_ms) >= need
        ):
            self._held -= len(self._buckets.popleft().latencies_ms)

    def look(self, now: float) -> Look:
        """Judge the window; to be called once after every `add`."""
        short = self._last(now, self.settings.window_s, self.fewest)
        requests, late = sum(len(entry.latencies_ms) for entry in short), sum(entry.late for entry in short)
        full = now - self._since >= self.settings.window_s and requests >= self.fewest
        violated = full and self._chance(requests, late) < LEVEL
        fresh = self._buckets[-1] if self._buckets else None
        if not violated:
            self._streak = 0
        elif fresh is not None and fresh.late:
            self._streak += 1
        elif fresh is not None and len(fresh.latencies_ms):
            self._streak = 0
        latencies = np.sort(np.concatenate([entry.latencies_ms for entry in short])) if short else np.empty(0)
        seconds = max(self.settings.window_s, now - short[0].at) if short else self.settings.window_s
        return Look(
            requests=requests,
            late=late,
            percentile_ms=float(percentile_of(latencies, self.percentile)) if requests else math.nan,
            rate_rps=requests / min(seconds, max(now - self._since, 1e-9)),
            violated=violated,
            sustained=self._streak >= self.settings.looks,
            calm=not violated and self._is_calm(now),
        )

    def _last(self, now: float, seconds: float, fewest: int) -> list[_Bucket]:
        """Return the last buckets: those of so many seconds, and more where these do not hold `fewest` requests."""
        found: list[_Bucket] = []
        requests = 0
        for bucket in reversed(self._buckets):
            if bucket.at <= now - seconds and requests >= fewest:
                break
            found.append(bucket)
            requests += len(bucket.latencies_ms)
        return found[::-1]

    def _chance(self, requests: int, late: int) -> float:
        """Probability of so many late batches, or more, if the percentile holds."""
        from scipy.special import bdtrc

        return float(bdtrc(late // self.batch - 1, requests // self.batch, 1.0 - self.percentile))

    def _is_calm(self, now: float) -> bool:
        if now - self._since < self.settings.calm_s:
            return False
        buckets = self._last(now, self.settings.calm_s, self.fewest_calm)
        requests, late = sum(len(entry.latencies_ms) for entry in buckets), sum(entry.late for entry in buckets)
        if self.percentile >= 1.0:
            return requests >= self.fewest_calm and late == 0
        from scipy.special import bdtr

        batches, late_batches = requests // self.batch, -(-late // self.batch)
        chance = bdtr(min(late_batches, batches), batches, 1.0 - self.percentile)
        return requests >= self.fewest_calm and bool(chance < CALM_LEVEL)

"""What a stream is to the rule on percentiles."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.split import Split
from igniter_opt.slo.limit_search import (
    ALLOWED,
    MOST_EXCESS,
    SLO,
    Cells,
    Search,
    advance,
    asked_times,
    excess_of,
    is_hopeless,
)
from igniter_opt.slo.queueing import BatchQueue

# Relative, of percentiles, from above.
_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Source:
    """Where a replica's requests come from.

    Attributes
    ----------
    arrivals, workload, rate_rps
        How the workload's requests arrive, its name and its rate.
    part
        The part of them that the replica gets, 1 for all.
    split
        Whether it gets them at random and independently, or in turn with others of equal parts.
    """

    arrivals: Arrivals
    workload: str
    rate_rps: float
    part: float
    split: Split = "random"

    @property
    def replica_rps(self) -> float:
        """The replica's rate."""
        return self.rate_rps * self.part


class Lateness(NamedTuple):
    """Fraction of requests that are late, and of batches that are full (both of one queue).

    `late` is on the safe side of what is known, with the stream's confidence.
    """

    late: float
    full: float


class ReplicaStream(ABC):
    """The requests of one replica, and what becomes of them at a server that dispatches whatever waits.

    Times of batches are those of `queueing.BatchQueue`.

    Attributes
    ----------
    basis
        How its queues are judged, in words.
    """

    basis: str
    rate_rps: float

    @abstractmethod
    def lateness(self, busy_ms: FloatArray, latency_ms: FloatArray, slo_ms: float) -> Lateness:
        """Return which part of the requests is late, with `settles` taken for granted."""

    @abstractmethod
    def percentile_ms(self, busy_ms: FloatArray, latency_ms: FloatArray, q: float) -> float:
        """Return the latency that a fraction q of the requests does not exceed; infinite where it does not settle."""

    def search(self, cells: Cells, search: Search) -> None:
        """Judge all points that a search asks for."""
        more = advance(cells, search, 0.0, 0.0)
        while more:
            times = asked_times(cells, search)
            excess, full = MOST_EXCESS, 1.0
            if not is_hopeless(cells, times):
                late, full = self.lateness(times[0], times[1], float(cells.numbers[SLO]))
                excess = excess_of(late, float(cells.numbers[ALLOWED]))
            more = advance(cells, search, excess, full)

    def settles(self, busy_ms: FloatArray, latency_ms: FloatArray) -> bool:
        """Whether the queue is one to be judged (see `queueing.BatchQueue.settles`)."""
        return BatchQueue(self.rate_rps, busy_ms, latency_ms).settles

    def holds(self, busy_ms: FloatArray, latency_ms: FloatArray, slo_ms: float, allowed: float) -> bool:
        """Whether at most so many requests are late, as a fraction."""
        settled = latency_ms[0] <= slo_ms and self.settles(busy_ms, latency_ms)
        return settled and self.lateness(busy_ms, latency_ms, slo_ms).late <= allowed


def percentile_by(late: Callable[[float], float], atom_ms: float, start_ms: float, q: float) -> float:
    """Return the least x at which ``late(x)``, the falling fraction of latencies above x, is at most 1 - q.

    Parameters
    ----------
    atom_ms
        The one latency that many requests have; it is hit exactly.
    start_ms
        Any latency to begin with.
    """
    allowed = 1.0 - q
    high = start_ms
    while late(high) > allowed:
        high *= 2.0
        if not math.isfinite(high) or high > 1e15:
            return math.inf
    low = 0.0
    if atom_ms <= high:
        if late(atom_ms) > allowed:
            low = atom_ms
        elif late(float(np.nextafter(atom_ms, 0.0))) > allowed:
            return atom_ms
        else:
            high = atom_ms
    while high - low > _TOLERANCE * high:
        middle = 0.5 * (low + high)
        if late(middle) > allowed:
            low = middle
        else:
            high = middle
    return high

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
    def lateness(
        self, busy_ms: FloatArray, latency_ms: FloatArray, slo_ms: float, memory: FloatArray | None
    ) -> Lateness:
        """Return which part of the requests is late, with `settles` taken for granted.

        Parameters
        ----------
        memory
            What `fresh_memory` gave: it is used to be faster next time, for a server with nearly the same times.
        """

    @abstractmethod
    def percentile_ms(self, busy_ms: FloatArray, latency_ms: FloatArray, q: float) -> float:
        """Return the latency that a fraction q of the requests does not exceed; infinite where it does not settle."""

    def fresh_memory(self, batch: int) -> FloatArray | None:
        """Return a memory for servers of a largest batch."""
        return None

    def settles(self, busy_ms: FloatArray, latency_ms: FloatArray) -> bool:
        """Whether the queue is one to be judged (see `queueing.BatchQueue.settles`)."""
        return BatchQueue(self.rate_rps, busy_ms, latency_ms).settles

    def excess(
        self,
        busy_ms: FloatArray,
        latency_ms: FloatArray,
        slo_ms: float,
        allowed: float,
        memory: FloatArray | None = None,
    ) -> tuple[float, float]:
        """Return the logarithm of late over allowed requests, within ±40, and the fraction of batches that are full."""
        if latency_ms[0] > slo_ms or not self.settles(busy_ms, latency_ms):
            return 40.0, 1.0
        late, full = self.lateness(busy_ms, latency_ms, slo_ms, memory)
        return (-40.0 if late <= 0.0 else min(40.0, max(-40.0, math.log(late / allowed)))), full


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

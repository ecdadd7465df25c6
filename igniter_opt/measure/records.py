"""What became of requests, as the load generators report it while they send."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from igniter_opt.base.nanoseconds import NS_PER_MS, NS_PER_S
from igniter_opt.measure.client import OK, RECORD
from igniter_opt.measure.results import Head
from igniter_opt.simulation.statistics import percentile as percentile_of

# How many reports, and of how many seconds at most, are shown while it goes on.
_RECENT, _RECENT_S = 10, 1.5


class Live(NamedTuple):
    """One workload's state while it is measured: rates in req/s, latencies of the last second or so in ms."""

    workload: str
    rate_rps: float
    sent: int
    answered: int
    failed: int
    throughput_rps: float
    p50_ms: float
    p99_ms: float
    slo_ms: float | None
    sent_late_ms: float


class Records:
    """All requests that are over, and counts of them.

    Parameters
    ----------
    workload_of
        The workload of every stream, by number.
    workloads
        How many workloads there are.

    Attributes
    ----------
    last_good, last_bad
        Per stream, when its last good answer and its last failure came, in seconds after the start.
    """

    def __init__(self, workload_of: Sequence[int], workloads: int) -> None:
        self._workload_of = np.array(workload_of)
        self._all: list[npt.NDArray[Any]] = []
        self._sent = np.zeros(workloads, dtype=np.int64)
        self._answered, self._failed = self._sent.copy(), self._sent.copy()
        self.last_good = np.zeros(len(workload_of))
        self.last_bad = np.full(len(workload_of), -math.inf)

    def take(self, records: npt.NDArray[Any]) -> None:
        """Take in one report, which is not empty."""
        self._all.append(records)
        workload = self._workload_of[records["stream"]]
        good = records["outcome"] == OK
        self._sent += np.bincount(workload, minlength=len(self._sent))
        self._answered += np.bincount(workload[good], minlength=len(self._sent))
        self._failed += np.bincount(workload[~good], minlength=len(self._sent))
        for last, chosen in ((self.last_good, good), (self.last_bad, ~good)):
            np.maximum.at(last, records["stream"][chosen], records["done"][chosen] / NS_PER_S)

    def last_heard(self, stream: int) -> float:
        """Return when the last request of a stream was over, in seconds after the start."""
        return float(max(self.last_good[stream], self.last_bad[stream]))

    def all_at(self, pace: float) -> npt.NDArray[Any]:
        """Return all records in the time of servers that run at a pace."""
        records = np.concatenate([*self._all, np.empty(0, RECORD)])
        for moment in ("due", "sent", "done"):
            records[moment] = np.round(records[moment] * pace)
        return records

    def live(self, elapsed: float, heads: Sequence[Head], pace: float) -> list[Live]:
        """Return the state of every workload so many seconds after the start."""
        recent = np.concatenate([*self._all[-_RECENT:], np.empty(0, RECORD)])
        workload = self._workload_of[recent["stream"]]
        begin = max(0.0, elapsed - _RECENT_S) * NS_PER_S
        result = []
        for number, head in enumerate(heads):
            own = recent[(workload == number) & (recent["done"] >= begin)]
            good = own[own["outcome"] == OK]
            latency = np.sort(good["done"] - good["due"]) * (pace / NS_PER_MS)
            late = (own["sent"] - own["due"]) * (pace / NS_PER_MS)
            span = min(max(elapsed, 0.1), _RECENT_S)
            result.append(
                Live(
                    head.workload,
                    head.rate_rps,
                    int(self._sent[number]),
                    int(self._answered[number]),
                    int(self._failed[number]),
                    len(good) / span / pace,
                    percentile_of(latency, 0.5),
                    percentile_of(latency, 0.99),
                    head.slo_ms,
                    float(late.max()) if len(late) else 0.0,
                )
            )
        return result

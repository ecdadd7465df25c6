"""From counters as they were scraped to requests and rates: restarts, gaps, servers that come and go, several at once.

A counter is a sum since its server started. Between two scrapes it grew by their difference; where it fell, the server
was started anew, and what it counts now came since then (what came between the last scrape and the end is lost, so that
it is too little). Where scrapes are missing for more than `GAP` intervals, nothing is known of that time: neither its
requests nor its seconds count. What a counter says when it is seen first came before.

A workload's requests are those of all its servers. A time is *covered* when at least one of its servers is seen, and
none of them is in a gap: of a sum, no part may be missing. Before its first and after its last scrape a server is taken
not to run.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import BoolArray, FloatArray
from igniter_opt.observe.client import Series

# A scrape that is missing now and then is none; Prometheus itself gives up a series after five minutes.
GAP = 4.0
# Of a step, so much must be covered for its rate to count.
LEAST_COVERED = 0.9


class Counter(NamedTuple):
    """One server's counter as a sum that never falls.

    Attributes
    ----------
    times, total
        Scrapes in s since 1970, and requests since the first of them, those in gaps left out; shape (scrapes,).
    gap, restart
        Of each interval between scrapes: whether nothing is known of it, and whether the counter fell in it.
    interval_s
        The usual time between scrapes.
    """

    times: FloatArray
    total: FloatArray
    gap: BoolArray
    restart: BoolArray
    interval_s: float


class Steps(NamedTuple):
    """Requests in steps of time, one after the other.

    Attributes
    ----------
    edges
        Where steps begin and end, shape (steps + 1,).
    requests, seconds
        Counted, and covered, shape (steps,).
    whole
        Whether a step is covered, but for a tenth at most.
    """

    edges: FloatArray
    requests: FloatArray
    seconds: FloatArray
    whole: BoolArray

    @property
    def rates_rps(self) -> FloatArray:
        """Requests per second; NaN where a step is not covered."""
        rates = np.full(len(self.whole), np.nan)
        np.divide(self.requests, self.seconds, out=rates, where=self.whole)
        return rates


def counter(series: Series) -> Counter | None:
    """Return a series as a counter; None where there are not two samples."""
    sane = np.isfinite(series.values) & (series.values >= 0.0)
    times, values = series.times[sane], series.values[sane]
    if len(times) < 2:
        return None
    passed, grown = np.diff(times), np.diff(values)
    restart = grown < 0.0
    grown = np.where(restart, values[1:], grown)
    interval = float(np.median(passed))
    gap = passed > GAP * interval
    total = np.concatenate([[0.0], np.cumsum(np.where(gap, 0.0, grown))])
    return Counter(times, total, gap, restart & ~gap, interval)


def step_edges(start: float, end: float, step_s: float) -> FloatArray:
    """Return the ends of whole steps between two times, at multiples of the step, so that hours begin on the hour."""
    first, last = int(np.ceil(start / step_s - 1e-9)), int(np.floor(end / step_s + 1e-9))
    return np.arange(first, last + 1, dtype=float) * step_s


def in_steps(counters: Sequence[Counter], edges: FloatArray) -> Steps:
    """Count the requests of a workload's servers in steps; within an interval between scrapes they come evenly."""
    requests = np.diff(total_at(counters, edges))
    gaps = [pair for entry in counters for pair in _gaps(entry)]
    seen = [(float(entry.times[0]), float(entry.times[-1])) for entry in counters]
    seconds, lost = np.diff(_covered_before(seen, edges)), np.diff(_covered_before(gaps, edges))
    whole = (lost <= 1e-6) & (seconds >= LEAST_COVERED * np.diff(edges))
    return Steps(edges, requests, seconds, whole)


def total_at(counters: Sequence[Counter], times: FloatArray) -> FloatArray:
    """Return how many requests there were up to some times."""
    total = np.zeros(len(times))
    for entry in counters:
        total += np.interp(times, entry.times, entry.total, left=0.0)
    return total


def _gaps(entry: Counter) -> list[tuple[float, float]]:
    return [(float(entry.times[k]), float(entry.times[k + 1])) for k in np.flatnonzero(entry.gap)]


def _covered_before(intervals: Sequence[tuple[float, float]], times: FloatArray) -> FloatArray:
    """Return how long some intervals last together up to some times; where they overlap, they count once."""
    if not intervals:
        return np.zeros(len(times))
    merged: list[list[float]] = []
    for begin, end in sorted(intervals):
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([begin, end])
    ends = np.array(merged)
    lengths = np.cumsum(ends[:, 1] - ends[:, 0])
    before = np.column_stack([lengths - (ends[:, 1] - ends[:, 0]), lengths])
    total: FloatArray = np.interp(times, ends.ravel(), before.ravel())
    return total

"""How bursty a stream is, as far as counts between scrapes tell: their index of dispersion, variance over mean.

*Index.* Of a Poisson stream it is 1 over any time. In windows of some bins the counts are held against a straight line,
so that drift, which headroom is for, is not counted again; the squared deviations over the mean, summed over all
windows, over their degrees of freedom (two less than bins in each), are the index. Bins are as long as it takes for ten
requests at least.

*Several servers* are scraped at different times. Their counts are put on one grid of bins of four intervals or more, by
lines between scrapes. A bin that begins a part `a` into an interval gets ``1 - a`` of its count and `a` of the next, so
of B intervals the variance is ``1 - 2 a (1 - a) / B`` of what it should be, on average over `a`
``1 - 1 / (3 B)``, which is made good. What servers have in common, as parts of one bursty stream do, is smoothed
otherwise: with three servers the index is a tenth nearer to 1 than it should be (tests/observe/test_dispersion.py).

*Burstiness.* Of a renewal process with gaps of mean 1 and of squared variation c, third central moment k, counts over a
time of m mean gaps have the variance ``c m + 1/6 + c² / 2 - k / 3`` but for terms that vanish (Cox, Renewal Theory,
1962, of stationary ones). For gamma gaps k is ``2 c²``, so that the index is ``c + (1 - c²) / (6 m)``,
which is solved for c.

What this cannot see: everything faster than a bin. Gaps that vary, clusters and rates that change within a bin look
alike; as `gamma` arrivals all of it is put into the gaps. Where an index of bins four times as long is clearly larger,
requests come in clusters that last longer than a bin. Triton counts requests when they are answered, so what is in a
queue at a scrape is counted in the next bin; of bins much longer than a latency that is little.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from igniter_opt.base.arrays import BoolArray, FloatArray, IntArray
from igniter_opt.observe.counters import Counter, total_at

# Requests of a bin, so that many gaps are in it; of a window, so that its mean is known.
_LEAST_MEAN, _QUIET_MEAN = 10.0, 5.0
_LEAST_WINDOW = 8
# Degrees of freedom below which an index is guesswork.
FEWEST_DEGREES = 20
# Intervals of a bin where there are several servers.
_INTERVALS = 4
_LONGER = 4
_CLUSTERED = 1.5


@dataclass(frozen=True)
class Dispersion:
    """The index of dispersion of a stream's counts.

    Attributes
    ----------
    index, error
        Variance over mean, and its standard error if counts were normal.
    longer
        The index of bins four times as long; None where there are too few.
    longer_error
        Its standard error.
    bin_s, mean, degrees
        How long bins are, how many requests they have on average, and degrees of freedom.
    """

    index: float
    error: float
    longer: float | None
    longer_error: float
    bin_s: float
    mean: float
    degrees: int

    @property
    def burstiness(self) -> float:
        """Squared variation of the gaps of a gamma stream with this index."""
        return gamma_burstiness(self.index, self.mean)

    @property
    def is_clustered(self) -> bool:
        """Whether counts over longer times vary far more than independent gaps would make them."""
        if self.longer is None:
            return False
        error = math.hypot(self.error, self.longer_error)
        return self.longer > _CLUSTERED * self.index and self.longer - self.index > 3.0 * error


@dataclass(frozen=True)
class _Index:
    index: float
    mean: float
    degrees: int

    @property
    def error(self) -> float:
        return self.index * math.sqrt(2.0 / self.degrees)


def dispersion(counters: Sequence[Counter], rate_rps: float, step_s: float) -> Dispersion | None:
    """Return how the counts of a workload's servers vary; None where there are too few.

    Parameters
    ----------
    rate_rps
        The mean rate, in req/s.
    step_s
        Windows are so long, if that is eight bins or more.
    """
    found = _index(counters, rate_rps, step_s, 1)
    if found is None:
        return None
    (index, bin_s), longer = found, _index(counters, rate_rps, step_s, _LONGER)
    return Dispersion(
        index.index,
        index.error,
        None if longer is None else longer[0].index,
        0.0 if longer is None else longer[0].error,
        bin_s,
        index.mean,
        index.degrees,
    )


def gamma_burstiness(index: float, mean: float) -> float:
    """Return the squared variation of gamma gaps whose counts of mean `mean` have an index of dispersion."""
    inside = 1.0 - 2.0 / (3.0 * mean) * (index - 1.0 / (6.0 * mean))
    # Beyond, no gamma stream has such counts: the burstiest one that the formula is of.
    return 3.0 * mean * (1.0 - math.sqrt(max(0.0, inside)))


def _index(
    counters: Sequence[Counter], rate_rps: float, step_s: float, times_as_long: int
) -> tuple[_Index, float] | None:
    interval = max(entry.interval_s for entry in counters)
    fewest = math.ceil(_LEAST_MEAN / max(rate_rps * interval, 1e-9))
    if len(counters) == 1:
        each = fewest * times_as_long
        edges, usable = _own_bins(counters[0], each)
        lacking = 1.0
    else:
        each = max(_INTERVALS, fewest) * times_as_long
        edges, usable = _common_bins(counters, each * interval)
        lacking = 1.0 - 1.0 / (3.0 * each)
    if len(edges) < _LEAST_WINDOW + 1:
        return None
    counts, lengths = np.diff(total_at(counters, edges)), np.diff(edges)
    size = max(_LEAST_WINDOW, int(step_s // (each * interval)))
    squares, degrees, inverse = 0.0, 0, 0.0
    for begin, end in _windows(usable, size):
        own = _against_a_line(counts[begin:end], lengths[begin:end])
        if own is not None:
            freedom = end - begin - 2
            squares += own
            degrees += freedom
            inverse += freedom / float(counts[begin:end].mean())
    if degrees < FEWEST_DEGREES:
        return None
    return _Index(squares / degrees / lacking, degrees / inverse, degrees), each * interval


def _own_bins(entry: Counter, each: int) -> tuple[FloatArray, BoolArray]:
    """Return bins of so many scrapes of one server, and which of them have no gap or restart."""
    chosen: IntArray = np.arange(0, len(entry.times), each)
    broken = np.concatenate([[0], np.cumsum(entry.gap | entry.restart)])
    return entry.times[chosen], np.diff(broken[chosen]) == 0


def _common_bins(counters: Sequence[Counter], bin_s: float) -> tuple[FloatArray, BoolArray]:
    """Return bins of one length for several servers, and those in which all is known and none comes or goes."""
    start, end = min(float(entry.times[0]) for entry in counters), max(float(entry.times[-1]) for entry in counters)
    edges: FloatArray = start + bin_s * np.arange(int((end - start) // bin_s) + 1, dtype=float)
    usable = np.ones(max(0, len(edges) - 1), dtype=bool)
    for entry in counters:
        broken = np.flatnonzero(entry.gap | entry.restart)
        spans = [(float(entry.times[k]), float(entry.times[k + 1])) for k in broken]
        spans += [(float(entry.times[k]),) * 2 for k in (0, -1)]
        for begin, until in spans:
            usable[max(0, int((begin - start) // bin_s)) : int((until - start) // bin_s) + 1] = False
    return edges, usable


def _windows(usable: BoolArray, size: int) -> list[tuple[int, int]]:
    """Cut runs of usable bins into windows; what is left over at the end of a run is one if it is long enough."""
    ends = np.flatnonzero(np.diff(np.concatenate([[False], usable, [False]]).astype(int)))
    found = []
    for begin, end in ends.reshape(-1, 2).tolist():
        cuts = [*range(begin, end, size), end]
        found += [(a, b) for a, b in pairwise(cuts) if b - a >= _LEAST_WINDOW]
    return found


def _against_a_line(counts: FloatArray, lengths: FloatArray) -> float | None:
    """Return the sum of squared deviations from a line over what a Poisson stream's would be; None if it is quiet."""
    if counts.mean() < _QUIET_MEAN:
        return None
    middles = np.cumsum(lengths) - lengths / 2.0
    middles -= middles.mean()
    # Rates with weights of bins' lengths, as the variance of a count grows with its bin.
    scale = np.sqrt(lengths)
    columns = np.column_stack([scale, scale * middles])
    line, *_ = np.linalg.lstsq(columns, counts / scale, rcond=None)
    expected = (line[0] + line[1] * middles) * lengths
    return float((np.square(counts - expected) / (lengths * counts.sum() / lengths.sum())).sum())

"""From the runs of a simulation to estimates with confidence intervals."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.nanoseconds import NS_PER_MS, NS_PER_S

CONFIDENCE = 0.95
# Latencies are kept at these probabilities, for drawing.
CURVE = np.concatenate([[0.001, 0.005], np.arange(1, 100) / 100, [0.995, 0.998, 0.999, 0.9995, 0.9999]])
_PERCENTILES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99, "p999_ms": 0.999}
# What is estimated, in the order of tables.
METRICS = (
    "offered_rps",
    "throughput_rps",
    "mean_ms",
    *_PERCENTILES,
    "percentile_ms",
    "violation_ratio",
    "utilisation",
    "mean_batch",
    "mean_queue",
)


class Estimate(NamedTuple):
    """A mean over runs, and the two-sided Student t interval of `CONFIDENCE` for its expectation.

    NaN where there is nothing to average; no interval (None) for fewer than two runs, or infinite values. The
    lower end is cut off at 0, for none of the `METRICS` can be negative.
    """

    value: float
    low: float | None = None
    high: float | None = None


def estimate(values: Sequence[float]) -> Estimate:
    """Average the values of independent runs; runs without a value (NaN) are left out."""
    known = np.array([value for value in values if not math.isnan(value)])
    if len(known) == 0:
        return Estimate(math.nan)
    mean = float(known.mean())
    if len(known) < 2 or not math.isfinite(mean):
        return Estimate(mean)
    from scipy.special import stdtrit

    half = float(stdtrit(len(known) - 1, 0.5 + CONFIDENCE / 2) * known.std(ddof=1) / math.sqrt(len(known)))
    return Estimate(mean, max(0.0, mean - half), mean + half)


def percentile(ascending: FloatArray, probability: float) -> float:
    """Least latency that at least this part of the requests does not exceed; NaN without requests."""
    if len(ascending) == 0:
        return math.nan
    # The guard undoes the rounding of products such as 0.07 * 100.
    rank = math.ceil(probability * len(ascending) * (1.0 - 1e-12))
    return float(ascending[max(rank, 1) - 1])


class Served(NamedTuple):
    """What one run says about a placement, or several: counted latencies, and what `engine.serve` returned."""

    latency_ns: FloatArray
    batches: IntArray
    window_ns: float
    busy_ns: float
    waited_ns: float
    longest: int
    completed: int


def together(parts: Sequence[Served]) -> Served:
    """Put several placements of one run together."""
    batches = np.zeros(max(len(part.batches) for part in parts), dtype=np.int64)
    for part in parts:
        batches[: len(part.batches)] += part.batches
    return Served(
        latency_ns=np.concatenate([part.latency_ns for part in parts]),
        batches=batches,
        window_ns=parts[0].window_ns,
        busy_ns=sum(part.busy_ns for part in parts),
        waited_ns=sum(part.waited_ns for part in parts),
        longest=max(part.longest for part in parts),
        completed=sum(part.completed for part in parts),
    )


class Tally:
    """Collects what every run says about one workload, or one placement.

    Parameters
    ----------
    limit_ns
        Latencies above it violate the SLO.
    judged
        The percentile that is to be within the SLO, as a probability.
    batch
        The largest batch.
    servers
        Number of placements; `utilisation` is their mean.
    """

    def __init__(self, limit_ns: float, judged: float, batch: int, servers: int = 1) -> None:
        self.values: dict[str, list[float]] = {name: [] for name in METRICS}
        self.batches = np.zeros(batch, dtype=np.int64)
        self.requests = self.max_queue = 0
        self._limit_ns, self._judged, self._servers = limit_ns, judged, servers
        self._curve: list[FloatArray] = []

    def add(self, served: Served) -> None:
        """Add a run."""
        latency_ns, batches = np.sort(served.latency_ns), served.batches
        count, formed = len(latency_ns), int(batches.sum())
        violations = count - int(np.searchsorted(latency_ns, self._limit_ns, side="right"))
        seconds = served.window_ns / NS_PER_S if served.window_ns > 0 else math.nan
        found = {
            # The window opens and closes with an arrival; one of the two is in it.
            "offered_rps": max(0, count - 1) / seconds,
            "throughput_rps": served.completed / seconds,
            "mean_ms": float(latency_ns.mean()) / NS_PER_MS if count else math.nan,
            **{name: percentile(latency_ns, at) / NS_PER_MS for name, at in _PERCENTILES.items()},
            "percentile_ms": percentile(latency_ns, self._judged) / NS_PER_MS,
            "violation_ratio": violations / count if count else math.nan,
            "utilisation": served.busy_ns / (seconds * NS_PER_S) / self._servers,
            "mean_batch": float(batches @ np.arange(1, len(batches) + 1)) / formed if formed else math.nan,
            "mean_queue": served.waited_ns / (seconds * NS_PER_S),
        }
        for name, value in found.items():
            self.values[name].append(value)
        self.batches[: len(batches)] += batches
        self.requests += count
        self.max_queue = max(self.max_queue, served.longest)
        if count:
            self._curve.append(np.array([percentile(latency_ns, at) for at in CURVE]) / NS_PER_MS)

    def estimates(self) -> dict[str, Estimate]:
        """Return an estimate of each of the `METRICS`."""
        return {name: estimate(values) for name, values in self.values.items()}

    def histogram(self) -> dict[int, int]:
        """Return how many batches of each size were formed, all runs together; sizes that never were left out."""
        return {size + 1: int(number) for size, number in enumerate(self.batches) if number}

    def curve_ms(self) -> FloatArray:
        """Return the latencies at the probabilities of `CURVE`, averaged over runs."""
        return np.mean(self._curve, axis=0) if self._curve else np.full(len(CURVE), math.nan)

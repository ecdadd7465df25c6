"""What a simulation says: statistics per workload and placement, the verdict, and their tables."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.frames import frame
from igniter_opt.base.nanoseconds import NS_PER_MS
from igniter_opt.base.schema import in_short, summary
from igniter_opt.simulation.statistics import METRICS, Estimate

if TYPE_CHECKING:
    import pandas as pd

# Relative, as for predictions; and arrivals and the three parts of a batch's time are each rounded to a nanosecond.
_TOLERANCE, _ROUNDING_NS = 1e-9, 2.0
# A percentile of random latencies is guesswork with fewer requests beyond it than this.
_FEWEST_BEYOND = 10


def limit_ns(slo_ms: float) -> float:
    """Latency in ns from which on a request violates its SLO."""
    return slo_ms * NS_PER_MS * (1.0 + _TOLERANCE) + _ROUNDING_NS


@dataclass(frozen=True)
class ServiceStatistics:
    """What the simulation says about a workload, or about one of its placements.

    Attributes
    ----------
    gpu, replica, batch
        The placement; None for a workload as a whole, unless it has but one.
    percentile
        The percentile (as a probability) whose latency, `percentile_ms`, is to be within `slo_ms`.
    rate_rps
        The planned rate; `offered_rps` is the one that arrived.
    requests, max_queue, batch_histogram
        Over all runs: counted requests, the largest number that waited at a time, and the number of batches of
        each size.
    estimates
        By the names of `statistics.METRICS`: rates in req/s, latencies in ms, utilisation of the
        instances (mean over placements), mean number of waiting requests, mean batch, and the part of requests
        over the SLO.
    curve_ms
        Latencies at the probabilities `statistics.CURVE`.
    placements
        A workload's placements; empty for a placement.
    """

    workload: str
    model: str
    gpu: str | None
    replica: int | None
    batch: int | None
    slo_ms: float
    percentile: float
    rate_rps: float
    requests: int
    estimates: dict[str, Estimate]
    max_queue: int
    batch_histogram: dict[int, int]
    curve_ms: FloatArray = field(repr=False)
    placements: tuple["ServiceStatistics", ...] = ()

    def __repr__(self) -> str:
        estimate = self.estimates["percentile_ms"].value
        return summary(
            "ServiceStatistics",
            workload=self.workload,
            model=self.model,
            gpu=self.gpu,
            replica=self.replica,
            percentile=self.percentile,
            percentile_ms=float(f"{estimate:.4g}"),
            slo_ms=self.slo_ms,
            holds=self.holds,
        )

    @property
    def holds(self) -> bool:
        """Whether the estimate of the judged percentile is within the SLO."""
        return self.estimates["percentile_ms"].value <= limit_ns(self.slo_ms) / NS_PER_MS

    @property
    def certain(self) -> bool:
        """Whether the confidence interval of the judged percentile lies on one side of the SLO altogether."""
        value, low, high = self.estimates["percentile_ms"]
        low, high = value if low is None else low, value if high is None else high
        limit = limit_ns(self.slo_ms) / NS_PER_MS
        return (low <= limit) == (high <= limit)

    @property
    def percentile_over_slo(self) -> float:
        """Judged percentile over SLO."""
        return self.estimates["percentile_ms"].value / self.slo_ms

    @property
    def p99_over_slo(self) -> float:
        """99th percentile over SLO."""
        return self.estimates["p99_ms"].value / self.slo_ms

    def row(self) -> dict[str, Any]:
        """Return all numbers as a flat row; intervals are the keys that end in ``_low`` and ``_high``."""
        head: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("workload", "model", "gpu", "replica", "batch", "slo_ms", "percentile", "rate_rps")
        }
        numbers: dict[str, Any] = {"requests": self.requests, "holds": self.holds, "certain": self.certain}
        for name in METRICS:
            value, low, high = self.estimates[name]
            numbers |= {name: value, f"{name}_low": low, f"{name}_high": high}
        return head | numbers | {"max_queue": self.max_queue}

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the curve as plain data; numbers that are not finite become None."""
        row = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in self.row().items()}
        histogram = {str(size): number for size, number in self.batch_histogram.items()}
        placements = {"placements": [entry.to_dict() for entry in self.placements]} if self.placements else {}
        return row | {"batch_histogram": histogram} | placements


@dataclass(frozen=True)
class Simulation:
    """The outcome of `simulate.simulate`.

    Attributes
    ----------
    workloads
        Statistics per workload, in the instance's order.
    settings
        What was simulated: arrivals and their parameters, split, noise, margin, scale, and the numbers of
        requests, warm-up requests and runs.
    """

    instance: str
    workloads: tuple[ServiceStatistics, ...]
    settings: dict[str, Any]

    def __repr__(self) -> str:
        return summary(
            "Simulation",
            instance=self.instance,
            arrivals=self.settings["arrivals"],
            workloads=len(self.workloads),
            workloads_over_slo=in_short(self.workloads_over_slo) or None,
            violation_ratio=float(f"{self.violation_ratio:.3g}"),
        )

    @property
    def ok(self) -> bool:
        """Whether every workload holds: the estimate of its judged percentile is within its SLO."""
        return not self.workloads_over_slo

    @property
    def workloads_over_slo(self) -> list[str]:
        """Names of the workloads that do not hold."""
        return [entry.workload for entry in self.workloads if not entry.holds]

    @property
    def too_short(self) -> list[str]:
        """Names of the workloads with too few requests beyond the judged percentile to say much about it."""
        if self.settings["arrivals"] == "constant":
            return []
        return [
            entry.workload
            for entry in self.workloads
            if entry.percentile < 1.0 and entry.requests * (1.0 - entry.percentile) < _FEWEST_BEYOND
        ]

    @property
    def violation_ratio(self) -> float:
        """Part of all requests over their SLO, workloads weighted by their planned rates."""
        rates = np.array([entry.rate_rps for entry in self.workloads])
        return float(rates @ [entry.estimates["violation_ratio"].value for entry in self.workloads] / rates.sum())

    @property
    def worst_p99_over_slo(self) -> float:
        """Largest 99th percentile over SLO of any workload."""
        return max(entry.p99_over_slo for entry in self.workloads)

    def to_frame(self, by: Literal["workload", "placement"] = "workload") -> "pd.DataFrame":
        """Return the statistics as a table, a row per workload or per placement."""
        entries = [
            entry for workload in self.workloads for entry in ((workload,) if by == "workload" else workload.placements)
        ]
        return frame(entry.row() for entry in entries)

    def to_csv(self) -> str:
        """Return the statistics as CSV text: a row per workload, and after it its replicas' if there are several."""
        rows = [
            entry.row()
            for workload in self.workloads
            for entry in (workload, *(workload.placements if len(workload.placements) > 1 else ()))
        ]
        return str(frame(rows).astype({"replica": "Int64", "batch": "Int64"}).to_csv(index=False))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data (the form of ``simulate --json``)."""
        return {
            "instance": self.instance,
            **self.settings,
            "ok": self.ok,
            "workloads_over_slo": self.workloads_over_slo,
            "workloads": [entry.to_dict() for entry in self.workloads],
        }

"""What was observed of each workload: rates in steps, how bursty counts are, latencies and failures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InputError
from igniter_opt.base.text import rounded, time_words
from igniter_opt.data.arrivals import BURSTINESS_RANGE, Arrivals
from igniter_opt.observe.client import Prometheus
from igniter_opt.observe.counters import in_steps
from igniter_opt.observe.dispersion import Dispersion, dispersion
from igniter_opt.observe.sources import (
    BURSTINESS_QUERY,
    DURATION_US,
    FAILURES,
    P99,
    P99_QUERY,
    QUEUE_US,
    RATE_QUERY,
    REQUESTS,
    SUMMARY_US,
    Wanted,
    WorkloadServers,
)

# Indices this near to 1 are those of Poisson streams: jitter of scrapes, and drift within a step, make so much.
_NEAR = 0.05
_US_PER_MS = 1000.0


class Period(NamedTuple):
    """The time that is looked at: edges of steps in s since 1970, how long steps are, and a percentile of them."""

    edges: FloatArray
    step_s: float
    percentile: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return float(self.edges[-1] - self.edges[0])

    def filled(self, query: str) -> str:
        """Return a query of the user's with ``$step`` and ``$window`` as times."""
        return query.replace("$step", _milliseconds(self.step_s)).replace("$window", _milliseconds(self.seconds))


@dataclass(frozen=True)
class ObservedStream:
    """What one workload's traffic is like; times in ms where they say so.

    Attributes
    ----------
    servers
        How many counters it is the sum of; 0 where a query gives its rate.
    rate_rps, busiest_rps
        Mean rate, and that of the busiest step, in req/s.
    peak_rps
        The percentile of the steps' rates, in req/s.
    steps, unknown
        How many steps have a rate, and the part of all that has none.
    dispersion
        Variance over mean of counts; None where there are too few, or none.
    burstiness
        Squared variation of the gaps of gamma arrivals that would have it, or what a query gives; None where not known.
    mean_ms, queue_ms
        Mean time of a request in the server, and in its queue.
    p99_ms
        P99 of latencies as a summary or a query gives it.
    failed
        The part of the requests that failed; they are not in the rate.
    restarts
        How often a counter began anew.
    last_s
        When it was last seen, in s since 1970.
    """

    workload: str
    servers: int
    rate_rps: float
    peak_rps: float
    busiest_rps: float
    steps: int
    unknown: float
    dispersion: Dispersion | None
    burstiness: float | None
    mean_ms: float | None
    queue_ms: float | None
    p99_ms: float | None
    failed: float
    restarts: int
    last_s: float

    @property
    def headroom(self) -> float:
        """By what part the percentile is above the mean, rounded up to a thousandth."""
        return max(0.0, math.ceil((self.peak_rps / self.rate_rps - 1.0) * 1000.0 - 1e-6) / 1000.0)

    @property
    def arrivals(self) -> Arrivals:
        """Gamma arrivals as bursty as observed; Poisson where that is near to them, or not known."""
        if self.burstiness is None:
            return Arrivals()
        error = 0.0 if self.dispersion is None else self.dispersion.error
        if abs(self.burstiness - 1.0) <= max(_NEAR, 3.0 * error):
            return Arrivals()
        low, high = BURSTINESS_RANGE
        return Arrivals("gamma", burstiness=min(high, max(low, float(f"{self.burstiness:.3g}"))))

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        own = {key: value for key, value in vars(self).items() if key != "dispersion"}
        index = None if self.dispersion is None else vars(self.dispersion)
        return {**own, "headroom": self.headroom, "dispersion": index, "arrivals": self.arrivals.words}


class Latencies(NamedTuple):
    """What is known of latencies in the period, by workload."""

    mean_ms: Mapping[str, float]
    queue_ms: Mapping[str, float]
    p99_ms: Mapping[str, float]
    failed: Mapping[str, float]


def read_latencies(source: Prometheus, wanted: Wanted, period: Period) -> Latencies:
    """Ask for the sums of times, the failures and, where servers have summaries, the percentiles.

    Of several servers' P99s the largest counts, since that of all their requests is no larger.
    """
    window, end = f"[{_milliseconds(period.seconds)}]", float(period.edges[-1])

    def by_workload(query: str) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for labels, value in source.instant(query, end):
            name = wanted.of(labels)
            if name is not None and math.isfinite(value) and value >= 0.0:
                found.setdefault(name, []).append(value)
        return found

    def grown(metric: str) -> dict[str, float]:
        found = by_workload(f"increase({wanted.selector(metric)}{window})")
        return {name: sum(values) for name, values in found.items()}

    def mean(total: Mapping[str, float]) -> dict[str, float]:
        return {name: total[name] / requests[name] / _US_PER_MS for name in total if requests.get(name, 0.0) > 0.0}

    requests, failures = grown(REQUESTS), grown(FAILURES)
    duration, queue = grown(DURATION_US), grown(QUEUE_US)
    quantile = f"quantile_over_time({period.percentile / 100.0:g}, {wanted.selector(SUMMARY_US, P99)}{window})"
    p99 = {name: max(values) / _US_PER_MS for name, values in by_workload(quantile).items()}
    failed = {name: count / (count + requests.get(name, 0.0)) for name, count in failures.items() if count > 0.0}
    return Latencies(mean(duration), mean(queue), p99, failed)


def observed_from_counters(
    name: str, servers: WorkloadServers, period: Period, latencies: Latencies
) -> tuple[ObservedStream | None, FloatArray]:
    """Look at the counters of a workload; return what it is like and its rate in every step.

    None where there was no request, or fewer than two steps are known.

    Raises
    ------
    InputError
        Steps are too short beside the time between scrapes.
    """
    interval = max(entry.interval_s for entry in servers.counters)
    if period.step_s < 2.0 * interval:
        raise InputError(
            f"{name} is scraped every {time_words(interval)}; a step takes two scrapes: give a --step of"
            f" {time_words(2.0 * math.ceil(interval))} at least"
        )
    steps = in_steps(servers.counters, period.edges)
    rates = steps.rates_rps
    requests, seconds = float(steps.requests[steps.whole].sum()), float(steps.seconds[steps.whole].sum())
    if requests <= 0.0 or int(steps.whole.sum()) < 2:
        return None, rates
    rate = requests / seconds
    found = dispersion(servers.counters, rate, period.step_s)
    return (
        _stream(
            name,
            rates,
            rate,
            period,
            latencies,
            servers=len(servers.counters),
            dispersion=found,
            burstiness=None if found is None else found.burstiness,
            restarts=sum(int(entry.restart.sum()) for entry in servers.counters),
            last_s=max(float(entry.times[-1]) for entry in servers.counters),
        ),
        rates,
    )


def observed_from_query(
    source: Prometheus, name: str, query: str, period: Period, latencies: Latencies
) -> tuple[ObservedStream | None, FloatArray]:
    """Ask the user's query at the end of every step; return what it is like and its rate in every step.

    Raises
    ------
    InputError
        It gives several series, or negative rates.
    """
    ends = period.edges[1:]
    series = source.over_time(period.filled(query), float(ends[0]), period.step_s, len(ends))
    if len(series) > 1:
        raise InputError(f"{name}: {RATE_QUERY}: gives {len(series)} series; make them one, by sum(...)")
    rates = np.full(len(ends), np.nan)
    for entry in series:
        at = np.rint((entry.times - ends[0]) / period.step_s).astype(int)
        fits = (at >= 0) & (at < len(ends)) & np.isfinite(entry.values)
        rates[at[fits]] = entry.values[fits]
    known = rates[~np.isnan(rates)]
    if (known < 0.0).any():
        raise InputError(f"{name}: {RATE_QUERY}: gives rates below 0; ask for requests per second, by rate(...)")
    if len(known) < 2 or known.sum() <= 0.0:
        return None, rates
    last = float(ends[np.flatnonzero(~np.isnan(rates))[-1]])
    return _stream(name, rates, float(known.mean()), period, latencies, last_s=last), rates


def value_of(source: Prometheus, name: str, key: str, query: str, period: Period) -> float:
    """Return the one number that a query of the user's gives at the end of the period.

    Raises
    ------
    InputError
        It gives none, several, or none above 0.
    """
    found = source.instant(period.filled(query), float(period.edges[-1]))
    if len(found) != 1:
        raise InputError(f"{name}: {key}: gives {len(found)} values; it must give one")
    value = found[0][1]
    if not (math.isfinite(value) and value > 0.0):
        raise InputError(f"{name}: {key}: gives {rounded(value)}; it must give a number above 0")
    return value


def own_values(source: Prometheus, wanted: Wanted, name: str, period: Period) -> dict[str, float]:
    """Return what a workload's own queries give, by attribute of its stream."""
    wish = wanted.wishes.get(name, {})
    keys = {"burstiness": BURSTINESS_QUERY, "p99_ms": P99_QUERY}
    return {what: value_of(source, name, key, wish[key], period) for what, key in keys.items() if key in wish}


def _stream(
    name: str,
    rates: FloatArray,
    rate: float,
    period: Period,
    latencies: Latencies,
    *,
    servers: int = 0,
    dispersion: Dispersion | None = None,
    burstiness: float | None = None,
    restarts: int = 0,
    last_s: float,
) -> ObservedStream:
    known = np.sort(rates[~np.isnan(rates)])
    rank = max(1, math.ceil(period.percentile / 100.0 * len(known) * (1.0 - 1e-12)))
    return ObservedStream(
        workload=name,
        servers=servers,
        rate_rps=float(f"{rate:.12g}"),
        peak_rps=float(f"{known[rank - 1]:.12g}"),
        busiest_rps=float(known[-1]),
        steps=len(known),
        unknown=1.0 - len(known) / len(rates),
        dispersion=dispersion,
        burstiness=burstiness,
        mean_ms=latencies.mean_ms.get(name),
        queue_ms=latencies.queue_ms.get(name),
        p99_ms=latencies.p99_ms.get(name),
        failed=latencies.failed.get(name, 0.0),
        restarts=restarts,
        last_s=last_s,
    )


def _milliseconds(seconds: float) -> str:
    return f"{math.ceil(seconds * 1000.0 - 1e-6)}ms"


def known_models(servers: Sequence[str], models: Sequence[str]) -> str | None:
    """Return the model of a workload's servers if they have one, and a profile knows it."""
    own = set(servers)
    return next(iter(own)) if len(own) == 1 and own <= set(models) else None

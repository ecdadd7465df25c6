"""Rates that hold under any stream (`streams`): what heuristics and messages ask of the rule ``p99`` beside its limits.

The part of a stream that a replica gets has a process of its own, so parts are tried, not all rates: 1, 1/2, 1/3, ...
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any, cast

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.data.instance import MOST_REPLICAS, Workload
from igniter_opt.slo.limit_search import LIMIT_TOLERANCE
from igniter_opt.slo.percentile import times_alone
from igniter_opt.slo.rule import BestAlone, Fit, ModelAlone, Servers
from igniter_opt.slo.streams.stream import ReplicaStream, Source
from igniter_opt.slo.streams.table import planned_stream

# Relative step of rates and SLOs in messages, which are rounded to 4 digits, and of burstiness.
_FINE, _COARSE = 1e-3, 1e-2
# So that the limits admit what is said to hold.
_SLOWER = 1.0 + 4.0 * LIMIT_TOLERANCE
_LARGEST_FACTOR = 1e6


def _holds(stream: ReplicaStream, busy: FloatArray, latency: FloatArray, slo_ms: float, percentile: float) -> bool:
    return stream.holds(busy * _SLOWER, latency * _SLOWER, slo_ms, 1.0 - percentile)


def _by_batch(busy: FloatArray, latency: FloatArray) -> Iterator[tuple[FloatArray, FloatArray]]:
    for b in range(1, len(busy) + 1):
        yield np.ascontiguousarray(busy[:b]), np.ascontiguousarray(latency[:b])


def _usual(times: tuple[FloatArray, FloatArray], most: int) -> list[tuple[FloatArray, FloatArray]]:
    """Return servers with largest batches 1, 2, 4, ... and the largest: what messages try, for all would take long."""
    batches = sorted({*(2**k for k in range(10) if 2**k <= most), *([most] if most else [])})
    return [(np.ascontiguousarray(times[0][:b]), np.ascontiguousarray(times[1][:b])) for b in batches]


def _largest(holds: Callable[[float], bool], low: float, high: float, step: float) -> float:
    """Return the largest factor that holds, `low` doing so, to a relative step; infinite beyond a very large one."""
    while holds(high):
        low, high = high, 2.0 * high
        if high > _LARGEST_FACTOR:
            return math.inf
    while high - low > step * high:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


@lru_cache(maxsize=256)
def _rates(source: Source, times: tuple[tuple[float, ...], ...], slo_ms: float, percentile: float) -> tuple[float, ...]:
    """Return the largest rates of equal replicas, by batch."""
    busy, latency = (np.array(part) for part in times)
    found = []
    for own_busy, own_latency in _by_batch(busy, latency):
        low, high = 0, MOST_REPLICAS
        while high - low > 1:
            count = (low + high) // 2
            part = replace(source, part=float(f"{1.0 / count:.12g}"))
            if _holds(planned_stream(part, slo_ms), own_busy, own_latency, slo_ms, percentile):
                high = count
            else:
                low = count
        last = replace(source, part=float(f"{1.0 / high:.12g}"))
        holds = _holds(planned_stream(last, slo_ms), own_busy, own_latency, slo_ms, percentile)
        found.append(source.rate_rps / high if holds else 0.0)
    return tuple(found)


def largest_replica_rates(source: Source, alone: ModelAlone, workload: Workload, percentile: float) -> FloatArray:
    """Return the largest rates of equal replicas that hold alone on a whole GPU, by batch; 0 where none does."""
    times = times_alone(alone.model, alone.hardware, float(alone.hardware.shares()[-1]), alone.margin)
    rates = np.array(_rates(source, tuple(tuple(part.tolist()) for part in times), workload.slo_ms, percentile))
    return np.where(alone.batches <= alone.most_batch, rates, 0.0)


def best_of_stream(source: Source, alone: ModelAlone, workload: Workload, percentile: float) -> BestAlone:
    """Return what a replica gets at best on a whole GPU; its rate is that of the workload changed as a whole."""
    busy, latency = times_alone(alone.model, alone.hardware, float(alone.hardware.shares()[-1]), alone.margin)
    servers = _usual((busy, latency), alone.most_batch)
    stream = planned_stream(source, workload.slo_ms)
    latencies = [stream.percentile_ms(*times, percentile) for times in servers]
    least = min(latencies, default=math.inf)
    slo = math.inf
    if math.isfinite(least):
        best = servers[int(np.argmin(latencies))]

        def within(factor: float) -> bool:
            longer = planned_stream(source, least * factor)
            return _holds(longer, *best, least * factor, percentile)

        slo = least * (1.0 + _FINE)
        while not within(slo / least):
            slo *= 1.0 + _FINE

    def carries(factor: float) -> bool:
        slower = planned_stream(replace(source, rate_rps=source.rate_rps * factor), workload.slo_ms)
        return any(_holds(slower, *times, workload.slo_ms, percentile) for times in servers)

    factor = 1.0
    while not carries(factor) and factor > 1.0 / _LARGEST_FACTOR:
        factor *= 0.5
    rate = source.replica_rps * _largest(carries, factor, 2.0 * factor, _FINE) if carries(factor) else 0.0
    return BestAlone(least, rate if math.isfinite(rate) else 0.0, slo)


def first_fit_of_stream(
    source: Source, servers: Servers, workload: Workload, percentile: float, least_rps: float
) -> Fit | None:
    """Return the first server that carries the source's part of the stream, with the smallest batch that does."""
    stream = planned_stream(source, workload.slo_ms)
    for position, fits in enumerate(servers.fits.T):
        most = int(fits.sum())
        found = _by_batch(servers.busy_ms[:most, position], servers.latency_ms[:most, position])
        for batch, times in enumerate(found, 1):
            if _holds(stream, *times, workload.slo_ms, percentile):
                return Fit(position, batch, source.replica_rps)
        if least_rps == 0.0 and most:
            times_most = tuple(tuple(part[:most, position].tolist()) for part in (servers.busy_ms, servers.latency_ms))
            rates = _rates(replace(source, part=1.0), times_most, workload.slo_ms, percentile)
            if max(rates) > 0.0:
                return Fit(position, int(np.argmax(rates)) + 1, min(max(rates), source.replica_rps))
    return None


def calmer_arrivals(source: Source, alone: ModelAlone, workload: Workload, percentile: float) -> list[str]:
    """Return which arrivals of the same kind would hold, in words of a file; none if Poisson ones would not."""
    busy, latency = times_alone(alone.model, alone.hardware, float(alone.hardware.shares()[-1]), alone.margin)
    servers = _usual((busy, latency), alone.most_batch)
    name = {"gamma": "burstiness", "mmpp": "burst_ratio"}.get(source.arrivals.kind)
    if name is None:
        return []

    def holds(value: float) -> bool:
        changed = replace(source.arrivals, **cast(Any, {name: value}))
        calmer = replace(source, arrivals=changed)
        stream = planned_stream(calmer, workload.slo_ms)
        return any(_holds(stream, *times, workload.slo_ms, percentile) for times in servers)

    given = source.arrivals.settings[name]
    if given <= 1.0 or not holds(1.0):
        return []
    value = _largest(holds, 1.0, given, _COARSE)
    return [f"{name} of {math.floor(value * 100.0) / 100.0:g} or less"]

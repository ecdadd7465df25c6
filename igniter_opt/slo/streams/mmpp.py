"""Markov-modulated Poisson arrivals with two rates: a Markovian arrival process as they are."""

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.slo.streams.phases import LARGEST_BATCHES, PhaseStream, part_counts
from igniter_opt.slo.streams.poisson import PoissonStream
from igniter_opt.slo.streams.sampled import drawn_stream
from igniter_opt.slo.streams.stream import ReplicaStream, Source

# Bursts of more requests than this are taken to have as many: queues settle long before.
_LONGEST = 1e6


def modulated_process(source: Source) -> tuple[FloatArray, FloatArray] | None:
    """Return D0 and D1 of all requests, per mean gap; None where they are Poisson."""
    settings = source.arrivals.settings
    ratio = settings["burst_ratio"]
    if ratio == 1.0:
        return None
    high_low = np.array([ratio, 1.0]) * 2.0 / (1.0 + ratio)
    change = 1.0 / min(settings["burst_seconds"] * source.rate_rps, _LONGEST)
    return change * np.array([[-1.0, 1.0], [1.0, -1.0]]) - np.diag(high_low), np.diag(high_low)


def mmpp_stream(source: Source, horizon_ms: float, sample: int) -> ReplicaStream:
    """Return a replica's stream."""
    process = modulated_process(source)
    if process is None:
        return PoissonStream(source.replica_rps)
    found = [
        part_counts(*process, source.part, source.replica_rps, horizon_ms, most_batch)
        for most_batch in LARGEST_BATCHES[-2:]  # no two streams share a table, so few are made
    ]
    if all(counts.is_small for counts in found):
        return PhaseStream(source.replica_rps, found)
    return drawn_stream(source, sample)

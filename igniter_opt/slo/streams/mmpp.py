"""Markov-modulated Poisson arrivals with two rates: a Markovian arrival process as they are."""

import numpy as np

from igniter_opt.slo.streams.phases import LARGEST_BATCHES, PhaseStream, part_counts
from igniter_opt.slo.streams.poisson import PoissonStream
from igniter_opt.slo.streams.sampled import drawn_stream
from igniter_opt.slo.streams.stream import ReplicaStream, Source

# Bursts of more requests than this are taken to have as many: queues settle long before.
_LONGEST = 1e6


def mmpp_stream(source: Source, horizon_ms: float, sample: int) -> ReplicaStream:
    """Return a replica's stream."""
    settings = source.arrivals.settings
    ratio = settings["burst_ratio"]
    if ratio == 1.0:
        return PoissonStream(source.replica_rps)
    high_low = np.array([ratio, 1.0]) * 2.0 / (1.0 + ratio)
    change = 1.0 / min(settings["burst_seconds"] * source.rate_rps, _LONGEST)
    d0 = change * np.array([[-1.0, 1.0], [1.0, -1.0]]) - np.diag(high_low)
    found = [
        part_counts(d0, np.diag(high_low), source.part, source.replica_rps, horizon_ms, most_batch)
        for most_batch in LARGEST_BATCHES[-2:]  # no two streams share a table, so few are made
    ]
    if all(counts.is_small for counts in found):
        return PhaseStream(source.replica_rps, found)
    return drawn_stream(source, sample)

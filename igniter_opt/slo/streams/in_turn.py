"""Streams of which every k-th request goes to a replica: round robin over k equal ones.

Every k-th request of a Markovian arrival process is one, too: its phases are those of the whole, and how many requests
have come since the replica's last one (0 to k - 1). Changes of phase are the whole's; a request moves the count on, and
from k - 1 to 0 the replica gets it. Of Poisson arrivals these are Erlang-k gaps. Gamma gaps are sums of independent
ones, so that k of burstiness c² make one of ``c² / k``, exactly. Where the process would have too many phases for its
tables, the stream is sampled.

A record is shared out as it is: all k parts are served, and its percentile is that of all its requests.
"""

from dataclasses import replace

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.slo.streams.gamma import gamma_stream
from igniter_opt.slo.streams.mmpp import modulated_process
from igniter_opt.slo.streams.phases import LARGEST_BATCHES, PhaseStream, part_counts
from igniter_opt.slo.streams.sampled import JUDGE_RUNS, JUDGED, PLAN_RUNS, RUN_REQUESTS, WARM_UP, SampledStream
from igniter_opt.slo.streams.stream import ReplicaStream, Source

# Tables of counts grow with the third power of the phases.
_MOST_PHASES = 6
_SAME = 1e-9


def turns(source: Source) -> int:
    """Return the number k of equal replicas that take turns; 1 where they do not.

    Parts that are not equal have no turns of their own. They are treated as random ones, which are burstier.
    """
    count = round(1.0 / source.part)
    in_turn = source.split == "round-robin" and abs(count * source.part - 1.0) < _SAME
    return count if in_turn else 1


def every(d0: FloatArray, d1: FloatArray, k: int) -> tuple[FloatArray, FloatArray]:
    """Return D0 and D1 of every k-th arrival of a process, in mean gaps of the whole; shapes (k m, k m)."""
    on, over = np.eye(k, k=1), np.zeros((k, k))
    over[k - 1, 0] = 1.0
    return np.asarray(np.kron(np.eye(k), d0) + np.kron(on, d1)), np.asarray(np.kron(over, d1))


def in_turn_stream(source: Source, horizon_ms: float, sample: int) -> ReplicaStream:
    """Return the stream of one of the replicas that take turns."""
    k, kind = turns(source), source.arrivals.kind
    if kind == "trace":
        return _recorded(source, k, sample)
    process = modulated_process(source) if kind == "mmpp" else None
    if process is not None:
        return _phased(source, process, k, horizon_ms) or _drawn(source, k, sample)
    if kind not in ("poisson", "gamma", "mmpp"):
        return _drawn(source, k, sample)
    # One rate all the time is Poisson, and Poisson arrivals are gamma ones of burstiness 1.
    burstiness = source.arrivals.settings.get("burstiness", 1.0) / k
    steps = round(1.0 / burstiness)
    if steps > 1 and abs(steps * burstiness - 1.0) < _SAME:
        # Gamma gaps of this burstiness are those of an Erlang distribution.
        found = _phased(source, (np.array([[-1.0]]), np.array([[1.0]])), steps, horizon_ms)
        if found is not None:
            return found
    whole = replace(source, arrivals=Arrivals("gamma", burstiness=burstiness), rate_rps=source.replica_rps, part=1.0)
    return gamma_stream(whole, horizon_ms, sample)


def _phased(source: Source, process: tuple[FloatArray, FloatArray], k: int, horizon_ms: float) -> ReplicaStream | None:
    """Return the stream of every k-th arrival by its exact chain; None where that has too many phases."""
    if k * len(process[0]) > _MOST_PHASES:
        return None
    d0, d1 = (k * matrix for matrix in every(*process, k))
    found = [part_counts(d0, d1, 1.0, source.replica_rps, horizon_ms, batch) for batch in LARGEST_BATCHES[-2:]]
    return PhaseStream(source.replica_rps, found) if all(counts.is_small for counts in found) else None


def _drawn(source: Source, k: int, sample: int) -> ReplicaStream:
    """Return a sample of it."""
    ahead, runs = int(WARM_UP * RUN_REQUESTS), []
    for run in range(JUDGE_RUNS if sample == JUDGED else PLAN_RUNS):
        rng = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(sample, run)))
        times = source.arrivals.times_ns(source.rate_rps, k * (RUN_REQUESTS + ahead), rng)
        runs.append((np.ascontiguousarray(times[k - 1 :: k]), ahead))
    return SampledStream(source.replica_rps, runs, random=True, judging=sample == JUDGED)


def _recorded(source: Source, k: int, sample: int) -> ReplicaStream:
    recorded = source.arrivals.recorded
    assert recorded is not None  # noqa: S101 (an instance reads them)
    times = recorded.times_at_ns(source.workload, source.rate_rps)
    parts = [(np.ascontiguousarray(times[turn::k]), 0) for turn in range(min(k, len(times)))]
    return SampledStream(source.replica_rps, parts, random=False, judging=sample == JUDGED)

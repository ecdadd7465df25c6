"""Streams that are judged by serving a sample of their requests, with common random numbers.

The sample is in runs, whose fractions of late requests are independent and say how sure their mean is. For planning,
the fraction is taken `SURE` standard errors higher, those of the plan's judge included: it draws a sample of its own
(`JUDGED`) of more runs, and a plan at its limits must pass there, too. All limits of a workload see the same requests,
so that they do not differ by chance.

A recorded stream that is not split is no sample: its percentile is that of the record, and nothing is added.
"""

import math
from collections.abc import Sequence

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.nanoseconds import NS_PER_MS, whole_ns
from igniter_opt.physics.batcher import serve
from igniter_opt.slo.streams.stream import Lateness, ReplicaStream, Source

RUN_REQUESTS = 20_000
PLAN_RUNS, JUDGE_RUNS = 16, 64
WARM_UP = 0.1
_FEWEST_RUNS = 6
# Of a normal distribution: 1 in 4,000.
SURE = 3.5
PLANNED, JUDGED = 0, 1


class SampledStream(ReplicaStream):
    """Requests in runs.

    Parameters
    ----------
    runs_ns
        Arrival times of every run, and how many at its start only fill the queue.
    random
        Whether there is anything random about them.
    judging
        Whether the fraction is taken as it is found, not on the safe side.
    """

    def __init__(self, rate_rps: float, runs_ns: Sequence[tuple[FloatArray, int]], random: bool, judging: bool) -> None:
        self.rate_rps, self.runs, self.random, self.judging = rate_rps, runs_ns, random, judging
        self.counted = max(1, sum(len(times) - first for times, first in runs_ns))
        self.basis = f"a sample of {self.counted:,} requests of each replica" if random else "the recorded requests"

    def _latencies(self, busy_ms: FloatArray, latency_ms: FloatArray) -> tuple[list[FloatArray], float]:
        """Serve all runs; return the latencies in ns and the fraction of full batches."""
        busy, load = whole_ns(busy_ms * NS_PER_MS), whole_ns((latency_ms - busy_ms) * NS_PER_MS)
        none, found = np.zeros(len(busy)), []
        batches = np.zeros(len(busy), dtype=np.int64)
        for times, first in self.runs:
            latency = np.empty(len(times))
            serve(times, first, 0.0, 0.0, 0.0, busy, load, none, np.empty(0), latency, batches)
            found.append(latency[first:])
        return found, float(batches[-1] / max(1, batches.sum()))

    def _late(self, busy_ms: FloatArray, latency_ms: FloatArray, slo_ms: float) -> tuple[FloatArray, float]:
        found, full = self._latencies(busy_ms, latency_ms)
        return np.array([np.count_nonzero(own > slo_ms * NS_PER_MS) / max(1, len(own)) for own in found]), full

    def fractions_late(self, busy_ms: FloatArray, latency_ms: FloatArray, slo_ms: float) -> FloatArray:
        """Return the fraction of late requests of every run."""
        return self._late(busy_ms, latency_ms, slo_ms)[0]

    def lateness(self, busy_ms: FloatArray, latency_ms: FloatArray, slo_ms: float) -> Lateness:
        """Return the fraction of late requests, on the safe side."""
        late, full = self._late(busy_ms, latency_ms, slo_ms)
        mean = float(late.mean())
        if self.random and not self.judging:
            # A run with no late request says little; one late one in all of them is the least error.
            error = max(float(late.std(ddof=1)) / math.sqrt(len(late)), 1.0 / self.counted)
            mean += SURE * error * math.sqrt(1.0 + PLAN_RUNS / JUDGE_RUNS)
        return Lateness(mean, full)

    def percentile_ms(self, busy_ms: FloatArray, latency_ms: FloatArray, q: float) -> float:
        """Return the percentile of all runs: the least latency that so many do not exceed."""
        if not self.settles(busy_ms, latency_ms):
            return math.inf
        latencies = np.concatenate(self._latencies(busy_ms, latency_ms)[0])
        rank = max(0, math.ceil(q * len(latencies) * (1.0 - 1e-12)) - 1)
        return float(np.partition(latencies, rank)[rank]) / NS_PER_MS


def drawn_stream(source: Source, sample: int) -> ReplicaStream:
    """Return a sampled stream of arrivals that are drawn; `sample` is `PLANNED` or `JUDGED`."""
    runs = []
    for run in range(JUDGE_RUNS if sample == JUDGED else PLAN_RUNS):
        rng = _random(sample, run)
        requests = math.ceil(RUN_REQUESTS * (1.0 + WARM_UP) / source.part)
        times = source.arrivals.times_ns(source.rate_rps, requests, rng)
        own = times if source.part == 1.0 else times[rng.random(len(times)) < source.part]
        runs.append((own, int(WARM_UP * RUN_REQUESTS)))
    return SampledStream(source.replica_rps, runs, random=True, judging=sample == JUDGED)


def recorded_stream(source: Source, times_ns: FloatArray, sample: int) -> ReplicaStream:
    """Return the part of a recorded stream that a replica gets at random, several times over."""
    whole = source.part == 1.0
    runs = 1 if whole else _runs_for(len(times_ns) * source.part, sample)
    parts = [
        times_ns if whole else times_ns[_random(sample, run).random(len(times_ns)) < source.part] for run in range(runs)
    ]
    return SampledStream(source.replica_rps, [(own, 0) for own in parts], random=not whole, judging=sample == JUDGED)


def _runs_for(requests: float, sample: int) -> int:
    """Return how many runs of so many requests are as many as a drawn sample has; a few at least, for their error."""
    wanted = JUDGE_RUNS if sample == JUDGED else PLAN_RUNS
    return min(4 * wanted, max(_FEWEST_RUNS, math.ceil(wanted * RUN_REQUESTS / max(requests, 1.0))))


def _random(sample: int, run: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(0, spawn_key=(sample, run)))

"""Poisson arrivals: any part of them, taken at random, is Poisson."""

from igniter_opt.base.arrays import FloatArray
from igniter_opt.slo.bulk_chain import stationary
from igniter_opt.slo.limit_search import Cells, Search
from igniter_opt.slo.percentile import search_poisson
from igniter_opt.slo.queueing import BatchQueue, fraction_above, states_needed
from igniter_opt.slo.streams.stream import Lateness, ReplicaStream, Source


class PoissonStream(ReplicaStream):
    """See `queueing`."""

    basis = "the exact chain of each queue"

    def __init__(self, rate_rps: float) -> None:
        self.rate_rps = rate_rps

    def search(self, cells: Cells, search: Search) -> None:
        """Judge all points that a search asks for, in compiled code."""
        search_poisson(cells, search)

    def lateness(self, busy_ms: FloatArray, latency_ms: FloatArray, slo_ms: float) -> Lateness:
        """Return them exactly."""
        rate = self.rate_rps / 1000.0
        states = stationary(rate, busy_ms, states_needed(rate, busy_ms, latency_ms, slo_ms))
        return Lateness(float(fraction_above(rate, busy_ms, latency_ms, states, slo_ms)), float(states[-1]))

    def percentile_ms(self, busy_ms: FloatArray, latency_ms: FloatArray, q: float) -> float:
        """Return it exactly."""
        return BatchQueue(self.rate_rps, busy_ms, latency_ms).percentile_ms(q)


def poisson_stream(source: Source, horizon_ms: float, sample: int) -> ReplicaStream:
    """Return a replica's stream."""
    return PoissonStream(source.replica_rps)

"""Recorded arrivals: the percentile is that of the record, its time scaled so that its rate is the workload's."""

from igniter_opt.base.errors import InputError
from igniter_opt.slo.streams.sampled import recorded_stream
from igniter_opt.slo.streams.stream import ReplicaStream, Source


def trace_stream(source: Source, horizon_ms: float, sample: int) -> ReplicaStream:
    """Return a replica's stream."""
    recorded = source.arrivals.recorded
    if recorded is None:
        raise InputError("trace arrivals without times: an instance reads them (`data.arrivals.Arrivals.planned`)")
    return recorded_stream(source, recorded.times_at_ns(source.workload, source.rate_rps), sample)

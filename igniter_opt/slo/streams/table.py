"""The one table of kinds of arrivals that the rule on percentiles plans for."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType

from igniter_opt.data.arrivals import ArrivalKind
from igniter_opt.slo.streams.gamma import gamma_stream
from igniter_opt.slo.streams.in_turn import in_turn_stream, turns
from igniter_opt.slo.streams.mmpp import mmpp_stream
from igniter_opt.slo.streams.poisson import poisson_stream
from igniter_opt.slo.streams.sampled import JUDGED, PLANNED
from igniter_opt.slo.streams.stream import ReplicaStream, Source
from igniter_opt.slo.streams.trace import trace_stream

# Makes a replica's stream: from its source, the longest time of interest in ms, and which sample to take if any.
StreamMaker = Callable[[Source, float, int], ReplicaStream]

# Replicas are a hundred at most.
_LEAST_PART = 1e-3

STREAMS: Mapping[ArrivalKind, StreamMaker] = MappingProxyType(
    {"poisson": poisson_stream, "gamma": gamma_stream, "mmpp": mmpp_stream, "trace": trace_stream}
)


@lru_cache(maxsize=32)
def planned_stream(source: Source, horizon_ms: float) -> ReplicaStream:
    """Return the stream that limits are computed for."""
    return _stream(_not_too_small(source), horizon_ms, PLANNED)


@lru_cache(maxsize=16)
def judged_stream(source: Source, horizon_ms: float) -> ReplicaStream:
    """Return the stream that plans are judged with: another sample, where it is one."""
    return _stream(_not_too_small(source), horizon_ms, JUDGED)


def _stream(source: Source, horizon_ms: float, sample: int) -> ReplicaStream:
    if turns(source) > 1:
        return in_turn_stream(source, horizon_ms, sample)
    return STREAMS[source.arrivals.kind](source, horizon_ms, sample)


def _not_too_small(source: Source) -> Source:
    """Treat tiny parts, the last remainders that heuristics hand out, as larger ones: more requests are no better."""
    return replace(source, part=max(source.part, _LEAST_PART))

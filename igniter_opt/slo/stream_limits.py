"""The limits D_c of the rule ``p99`` (`percentile`) for any stream of requests (`streams`)."""

from functools import lru_cache

from igniter_opt.base.arrays import FloatArray
from igniter_opt.physics.parameters import HardwareCoefficients, ModelCoefficients
from igniter_opt.slo.kept_limits import asked, limits
from igniter_opt.slo.limit_search import cells_of, new_search
from igniter_opt.slo.streams.stream import Source
from igniter_opt.slo.streams.table import planned_stream


@lru_cache(maxsize=4096)
def stream_limits(
    source: Source,
    model: ModelCoefficients,
    hardware: HardwareCoefficients,
    slo_ms: float,
    percentile: float,
    margin: float = 0.0,
) -> FloatArray:
    """Return `percentile.percentile_limits` for a replica whose requests come from a source."""

    def make() -> FloatArray:
        stream = planned_stream(source, slo_ms)
        cells = cells_of(model, hardware, slo_ms, stream.rate_rps, percentile, margin)
        search = new_search(cells)
        stream.search(cells, search)
        return search.limits

    return limits(asked(source, source.replica_rps, model, hardware, slo_ms, percentile, margin), make)

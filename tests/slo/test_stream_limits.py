"""Limits for any stream: as good as those of `percentile` where arrivals are Poisson, and each holds by its judge."""

import numpy as np
import pytest

from igniter_opt import read_instance
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.problem.configurations import Problem
from igniter_opt.slo.percentile import percentile_limits
from igniter_opt.slo.stream_limits import _batch_times, _Search, stream_limits
from igniter_opt.slo.streams.stream import Source
from igniter_opt.slo.streams.table import judged_stream, planned_stream

PROBLEM = Problem(read_instance("igniter-table3").with_options(slo_rule="p99"))
# What interpolation between share levels may lose, and may promise too much of.
LOST, TOO_MUCH = 5e-3, 1.2e-3


@pytest.mark.parametrize(("workload", "replicas"), [(0, 1), (3, 2), (7, 2), (8, 1)])
def test_poisson_limits(workload: int, replicas: int) -> None:
    demand, coefficients = PROBLEM.workloads[workload], PROBLEM.coefficients[0]
    model = coefficients.models[demand.model]
    source = Source(Arrivals(), "", demand.rate_rps, 1.0 / replicas)
    found = stream_limits(source, model, coefficients.hardware, demand.slo_ms, 0.99)
    rate = demand.rate_rps / replicas
    expected = percentile_limits(model, coefficients.hardware, demand.slo_ms, rate, 0.99)
    assert ((found > 0) == (expected > 0)).mean() > 0.999
    both = (found > 0) & (expected > 0)
    ratio = found[both] / expected[both]
    assert ratio.min() > 1.0 - LOST
    assert ratio.max() < 1.0 + TOO_MUCH


@pytest.mark.parametrize(
    "arrivals", [Arrivals("gamma"), Arrivals("mmpp"), Arrivals("gamma", burstiness=0.3)], ids=lambda a: a.words
)
def test_every_limit_holds_by_the_judge(arrivals: Arrivals) -> None:
    """The judge has a finer process, or another sample; the times are the longest that the limit admits."""
    demand, coefficients = PROBLEM.workloads[6], PROBLEM.coefficients[0]
    model = coefficients.models[demand.model]
    source = Source(arrivals, "", demand.rate_rps, 0.5)
    found = stream_limits(source, model, coefficients.hardware, demand.slo_ms, 0.99)
    search = _Search(planned_stream(source, demand.slo_ms), model, coefficients.hardware, demand.slo_ms, 0.01, 0.0)
    judge = judged_stream(source, demand.slo_ms)
    places = np.argwhere(found > 0)
    assert len(places) > 20
    for b, level in places[:: max(1, len(places) // 25)]:
        times = _batch_times(
            found[b, level], search.active[level, : b + 1], search.power[level, : b + 1], search.load[: b + 1],
            search.feedback[: b + 1], search.delay, search.card, 0.0,
        )  # fmt: skip
        slower, _ = judge.excess(times[0], times[1], demand.slo_ms, 0.01)
        assert slower < 0.02, (b + 1, level + 1)

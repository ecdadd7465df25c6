"""Limits for any stream: as good as those of `percentile` where arrivals are Poisson, and each holds by its judge."""

import numpy as np
import pytest

from igniter_opt import read_instance
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.problem.configurations import Problem
from igniter_opt.slo.percentile import batch_times, percentile_limits
from igniter_opt.slo.stream_limits import _Batch, _Search, stream_limits
from igniter_opt.slo.streams.stream import Source
from igniter_opt.slo.streams.table import judged_stream, planned_stream

PROBLEM = Problem(read_instance("igniter-table3").with_options(slo_rule="p99"))
# What interpolation between share levels may lose, and may promise too much of.
LOST, TOO_MUCH = 5e-3, 4e-4


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


@pytest.mark.parametrize("case", range(4))
def test_interpolated_limits_against_a_search_of_all_levels(case: int) -> None:
    """Not above the largest limit that the judge of the same stream accepts, level by level."""
    rng = np.random.default_rng([7, case])
    demand, coefficients = PROBLEM.workloads[int(rng.integers(len(PROBLEM.workloads)))], PROBLEM.coefficients[0]
    model, hardware = coefficients.models[demand.model], coefficients.hardware
    modulated = Arrivals("mmpp", burst_ratio=rng.uniform(1.5, 6.0), burst_seconds=10 ** rng.uniform(-2.0, 0.5))
    arrivals = modulated if case % 2 else Arrivals("gamma", burstiness=rng.uniform(1.2, 3.0))
    source = Source(arrivals, "", demand.rate_rps * rng.uniform(0.2, 1.2), 1.0 / rng.integers(1, 4))
    slo_ms, percentile = demand.slo_ms * rng.uniform(0.8, 2.0), float(rng.choice([0.95, 0.99, 0.999]))
    found = stream_limits(source, model, hardware, slo_ms, percentile)
    search = _Search(planned_stream(source, slo_ms), model, hardware, slo_ms, 1.0 - percentile, 0.0)
    over = []
    for b in sorted({1, 4, *rng.integers(2, model.max_batch, 3).tolist()}):
        exact = _Batch(search, b, None)
        for level in np.flatnonzero(found[b] > 0.0).tolist():
            limit = float(found[b, level])
            low, high = 0.98 * limit, 1.02 * limit
            while high - low > 1e-5 * limit:
                middle = 0.5 * (low + high)
                low, high = (middle, high) if exact.judge(level, middle) <= 0.0 else (low, middle)
            over.append(limit / low - 1.0)
    assert len(over) > 20
    assert max(over) < 1e-4
    assert min(over) > -LOST


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
        times = batch_times(
            found[b, level], search.active[level, : b + 1], search.power[level, : b + 1], search.load[: b + 1],
            search.feedback[: b + 1], search.delay, search.card, 0.0,
        )  # fmt: skip
        slower, _ = judge.excess(times[0], times[1], demand.slo_ms, 0.01)
        assert slower < 0.02, (b + 1, level + 1)

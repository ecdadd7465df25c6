"""Limits for any stream: those of `percentile` where arrivals are Poisson; each holds, and none much larger does."""

import numpy as np
import pytest

from igniter_opt import read_instance
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.problem.configurations import Problem
from igniter_opt.slo.limit_search import LIMIT_TOLERANCE, Cells, batch_times, cells_of
from igniter_opt.slo.percentile import percentile_limits
from igniter_opt.slo.queueing import MOST_INTENSITY
from igniter_opt.slo.stream_limits import stream_limits
from igniter_opt.slo.streams.stream import ReplicaStream, Source
from igniter_opt.slo.streams.table import judged_stream, planned_stream

PROBLEM = Problem(read_instance("igniter-table3").with_options(slo_rule="p99"))
HARDWARE = PROBLEM.coefficients[0].hardware


def holds(stream: ReplicaStream, cells: Cells, b: int, level: int, limit: float, slo_ms: float, allowed: float) -> bool:
    """Whether a stream's judge accepts the longest times that a limit admits."""
    times = batch_times(
        limit, cells.active[level, : b + 1], cells.power[level, : b + 1], cells.slowed[level, : b + 1],
        cells.load, cells.feedback, cells.numbers[0], cells.numbers[1:4], cells.numbers[7],
    )  # fmt: skip
    return stream.holds(times[0], times[1], slo_ms, allowed)


@pytest.mark.parametrize(("workload", "replicas"), [(0, 1), (3, 2), (7, 2), (8, 1)])
def test_poisson_limits(workload: int, replicas: int) -> None:
    demand = PROBLEM.workloads[workload]
    model = PROBLEM.coefficients[0].models[demand.model]
    source = Source(Arrivals(), "", demand.rate_rps, 1.0 / replicas)
    found = stream_limits(source, model, HARDWARE, demand.slo_ms, 0.99)
    expected = percentile_limits(model, HARDWARE, demand.slo_ms, demand.rate_rps / replicas, 0.99)
    assert (found > 0).any()
    assert (found == expected).all()


@pytest.mark.parametrize("kind", ["gamma", "mmpp"])
def test_without_bursts_limits_are_those_of_poisson_arrivals(kind: str) -> None:
    """They converge as the burstiness or the ratio of rates goes to 1."""
    demand = PROBLEM.workloads[7]
    model = PROBLEM.coefficients[0].models[demand.model]
    expected = percentile_limits(model, HARDWARE, demand.slo_ms, demand.rate_rps / 2, 0.99)
    name, lost = "burstiness" if kind == "gamma" else "burst_ratio", []
    for value in (1.3, 1.03, 1.003, 1.0):
        arrivals = Arrivals(kind, **{name: value})  # type: ignore[arg-type]
        found = stream_limits(Source(arrivals, "", demand.rate_rps, 0.5), model, HARDWARE, demand.slo_ms, 0.99)
        both = (found > 0) & (expected > 0)
        assert both.sum() > 0.9 * (expected > 0).sum()
        lost.append(float(np.mean(1.0 - found[both] / expected[both])))
    assert lost[0] > lost[1] > lost[2] > -1e-4
    # Under gamma arrivals limits allow for the quadrature, which takes two thousandths more.
    assert lost[2] < 4e-3
    assert lost[3] == 0.0


def random_case(case: int) -> tuple[Source, int, float, float, float]:
    """A source, its workload's number, an SLO, a percentile and a margin."""
    rng = np.random.default_rng([7, case])
    number = int(rng.integers(len(PROBLEM.workloads)))
    demand = PROBLEM.workloads[number]
    modulated = Arrivals("mmpp", burst_ratio=rng.uniform(1.5, 6.0), burst_seconds=10 ** rng.uniform(-2.0, 0.5))
    arrivals = modulated if case % 2 else Arrivals("gamma", burstiness=rng.uniform(1.2, 3.0))
    source = Source(arrivals, "", demand.rate_rps * rng.uniform(0.2, 1.2), 1.0 / rng.integers(1, 4))
    percentile = float(rng.choice([0.8, 0.95, 0.99, 0.999]))
    return source, number, demand.slo_ms * rng.uniform(0.8, 2.0), percentile, float(rng.choice([0.0, 0.1]))


@pytest.mark.parametrize("case", [pytest.param(k, marks=[pytest.mark.slow] if k >= 6 else []) for k in range(60)])
def test_limits_are_the_largest_admissible(case: int) -> None:
    """The judge of the same stream accepts each, and none that is larger by the tolerance."""
    source, number, slo_ms, percentile, margin = random_case(case)
    model = PROBLEM.coefficients[0].models[PROBLEM.workloads[number].model]
    found = stream_limits(source, model, HARDWARE, slo_ms, percentile, margin)
    stream = planned_stream(source, slo_ms)
    cells = cells_of(model, HARDWARE, slo_ms, source.replica_rps, percentile, margin)
    rng = np.random.default_rng([8, case])
    for _ in range(60):
        b, level = int(rng.integers(model.max_batch)), int(rng.integers(HARDWARE.share_levels))
        limit, alone = float(found[b, level]), float(cells.solo[b, level])
        allowed = 1.0 - percentile
        if limit > 0.0:
            assert limit >= alone * (1.0 - 1e-6)
            assert holds(stream, cells, b, level, limit, slo_ms, allowed)
        larger = max(limit, alone) * (1.0 + LIMIT_TOLERANCE)
        busy = larger * (1.0 + margin) + cells.feedback[b]
        if busy * source.replica_rps / 1000.0 <= MOST_INTENSITY * (b + 1):
            assert not holds(stream, cells, b, level, larger, slo_ms, allowed)


@pytest.mark.parametrize(
    "arrivals", [Arrivals("gamma"), Arrivals("mmpp"), Arrivals("gamma", burstiness=0.3)], ids=lambda a: a.words
)
def test_every_limit_holds_by_the_judge(arrivals: Arrivals) -> None:
    """The judge has a finer process, or another sample; the times are the longest that the limit admits."""
    demand = PROBLEM.workloads[6]
    model = PROBLEM.coefficients[0].models[demand.model]
    source = Source(arrivals, "", demand.rate_rps, 0.5)
    found = stream_limits(source, model, HARDWARE, demand.slo_ms, 0.99)
    cells = cells_of(model, HARDWARE, demand.slo_ms, source.replica_rps, 0.99, 0.0)
    judge = judged_stream(source, demand.slo_ms)
    places = np.argwhere(found > 0)
    assert len(places) > 20
    for b, level in places[:: max(1, len(places) // 25)]:
        assert holds(judge, cells, b, level, found[b, level], demand.slo_ms, 0.01), (b + 1, level + 1)

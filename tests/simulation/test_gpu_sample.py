"""Samples of one GPU: against the exact queue of a placement alone, common random numbers, independent purposes."""

import numpy as np
import pytest

from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.instance_files import read_instance
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.simulation.gpu_sample import GpuSample, Late, Tenant
from igniter_opt.simulation.lateness import bounds_of
from igniter_opt.slo.percentile import queues

INSTANCE = read_instance("igniter-table3").with_options("p99", 3)
V100 = fit_coefficients(INSTANCE.gpu_types[0].profile)
FIRST, SECOND = INSTANCE.workloads[:2]


def tenant(number: int, share: float, batch: int = 8) -> Tenant:
    return Tenant(number, 0, (INSTANCE.workloads[number].rate_rps,), batch, share)


def sampled(tenants: list[Tenant], requests: int = 2000, *, runs: int = 20, seed: int = 0, purpose: int = 0) -> Late:
    found = GpuSample(INSTANCE, seed, purpose).late(V100, tenants, requests, range(runs), 0.0)
    assert found is not None
    return found


@pytest.mark.parametrize("share", [17.5, 20.0, 22.5])
def test_alone_it_is_the_exact_queue(share: float) -> None:
    """Bounds that may be wrong in 5 of 100 cases are not much more often: 11 of 60, say, would hardly be chance."""
    queue = queues(V100, [V100.index(FIRST.model)], [8], [share], [FIRST.rate_rps])[0]
    exact = queue.violation_probability(FIRST.slo_ms)
    below = above = 0
    for seed in range(60):
        bounds = bounds_of(sampled([tenant(0, share)], round(40 / exact), seed=seed), 0.05)
        below += bounds.high[0] < exact
        above += bounds.low[0] > exact
    assert max(below, above) <= 10
    late = sampled([tenant(0, share)], 20_000)
    assert late.share.mean() == pytest.approx(exact, rel=0.1)
    assert late.percentile_ms.mean() == pytest.approx(queue.percentile_ms(0.99), rel=0.05)


def test_the_same_requests_whatever_runs_beside() -> None:
    """A neighbour that is added slows what was there by little, which chance would hide on other requests."""
    sample = GpuSample(INSTANCE, 0, 0)
    alone, beside = (
        sample.late(V100, tenants, 20_000, range(4), 0.0)
        for tenants in ([tenant(1, 20.0)], [tenant(1, 20.0), tenant(0, 25.0)])
    )
    assert alone is not None
    assert beside is not None
    assert (beside.requests[:, 0] == alone.requests[:, 0]).all()
    slower = beside.percentile_ms[:, 0] - alone.percentile_ms[:, 0]
    assert 0.0 < slower.mean() < 0.1 * alone.percentile_ms.mean()
    again = GpuSample(INSTANCE, 0, 0).late(V100, [tenant(1, 20.0)], 20_000, range(4), 0.0)
    assert again is not None
    assert (again.share == alone.share).all()


def test_purposes_seeds_and_runs_are_independent() -> None:
    shares = [
        sampled([tenant(0, 20.0)], runs=4, seed=seed, purpose=purpose).share[:, 0]
        for seed in (0, 1)
        for purpose in (0, 1)
    ]
    assert len(set(np.concatenate(shares).tolist())) == 16


def test_replicas_get_parts_of_one_stream() -> None:
    """Three parts at the rate of a third: together as many requests as there are."""
    rate = FIRST.rate_rps / 3
    parts = [Tenant(0, k, (rate, rate, rate), 8, 20.0) for k in range(3)]
    together = sampled(parts, runs=2)
    assert together.requests.mean(axis=0) == pytest.approx([together.requests.mean()] * 3, rel=0.1)
    apart = sampled(parts[:1], runs=2)
    assert (apart.requests[:, 0] == together.requests[:, 0]).all()


def test_replicas_take_turns_where_the_plan_says_so() -> None:
    rate = FIRST.rate_rps / 3
    in_turn = GpuSample(INSTANCE.with_options(split="round-robin"), 0, 0)
    found = in_turn.late(V100, [Tenant(0, k, (rate,) * 3, 8, 20.0) for k in range(3)], 2000, range(2), 0.0)
    assert found is not None
    assert np.ptp(found.requests, axis=1).max() <= 1


def test_bursts_make_more_late() -> None:
    bursty = INSTANCE.with_options(arrivals=Arrivals("gamma", burstiness=8))
    calm, burst = (
        GpuSample(instance, 0, 0).late(V100, [tenant(0, 22.5)], 4000, range(4), 0.0) for instance in (INSTANCE, bursty)
    )
    assert calm is not None
    assert burst is not None
    assert burst.share.mean() > 2 * calm.share.mean()


def test_a_margin_makes_more_late() -> None:
    plain = sampled([tenant(0, 22.5)])
    inflated = GpuSample(INSTANCE, 0, 0).late(V100, [tenant(0, 22.5)], 2000, range(20), 0.1)
    assert inflated is not None
    assert inflated.share.mean() > 1.5 * plain.share.mean()


def test_a_run_can_be_kept_short() -> None:
    slow = [tenant(0, 22.5), Tenant(1, 0, (1.0,), 8, 20.0)]
    found = GpuSample(INSTANCE, 0, 0).late(V100, slow, 1000, range(2), 0.0, within=20_000)
    assert found is not None
    assert 10_000 < found.requests.sum(axis=1).max() < 30_000
    assert found.requests[:, 1].max() < 100


def test_what_would_take_forever_is_not_sampled() -> None:
    slow = Tenant(1, 0, (1e-4,), 8, 20.0)
    assert GpuSample(INSTANCE, 0, 0).late(V100, [tenant(0, 20.0), slow], 1000, range(2), 0.0) is None

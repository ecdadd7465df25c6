"""Rule p99 in the formulations: both equal exhaustion over the same limits; every plan passes the queue analysis."""

import random
from functools import cache

import pytest

from igniter_opt import InfeasibleError, Instance, read_instance, solve, verify
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.physics.interference import is_monotone
from igniter_opt.result import Result
from tests.support.brute_force import cheapest
from tests.support.synthetic import random_instance, random_profile

ALL_SEEDS, SAMPLE = 120, 12


def random_case(seed: int) -> tuple[Instance, float]:
    """A random instance of 2 to 5 workloads; types, replicas, memory, power caps and percentiles vary with the seed."""
    rng = random.Random(seed)
    replicas = seed % 4 == 3
    profiles: list = []
    while len(profiles) < 1 + (seed % 3 == 2):
        profile = random_profile(
            rng,
            f"p{len(profiles)}",
            unit=rng.choice([10.0, 12.5, 20.0]),
            max_batch=rng.choice([2, 3, 4]),
            interference=rng.choice([0.0, 1.0, 4.0]),
            power_cap=rng.choice([150.0, 300.0]),
            memory=rng.random() < 0.25,
        )
        if is_monotone(fit_coefficients(profile)):
            profiles.append(profile)
    instance = random_instance(
        rng,
        profiles,
        3 if replicas else rng.randint(2, 5),
        slo_rule="p99",
        counts=rng.random() < 0.3,
        max_replicas=2 if replicas else None,
    )
    # Queues need more room than batches that arrive in step.
    workloads = tuple(
        workload.model_copy(
            update={"slo_ms": workload.slo_ms * rng.uniform(1.2, 3.0), "rate_rps": workload.rate_rps * 0.7}
        )
        for workload in instance.workloads
    )
    instance = instance.model_copy(update={"workloads": workloads})
    return instance.with_options(percentile=rng.choice([None, 0.9, 0.999])), rng.choice([0.0, 0.0, 0.1])


@cache
def expected(seed: int) -> tuple[float, float] | None:
    return cheapest(*random_case(seed))


@pytest.mark.parametrize(
    "seed", [pytest.param(k, marks=[pytest.mark.slow] if k >= SAMPLE else []) for k in range(ALL_SEEDS)]
)
@pytest.mark.parametrize("method", ["assignment", "patterns"])
def test_optimum_equals_brute_force(seed: int, method: str) -> None:
    instance, margin = random_case(seed)
    try:
        result = solve(instance, method, margin=margin, time_limit=10.0)
    except InfeasibleError as error:
        assert error.proven
        assert expected(seed) is None
        return
    assert verify(result.plan).ok
    assert expected(seed) is not None
    assert result.status == "optimal"
    assert result.cost == pytest.approx(expected(seed)[0])  # type: ignore[index]
    assert result.total_share_percent >= expected(seed)[1] - 1e-6  # type: ignore[index]
    if method == "assignment":
        assert result.total_share_percent == pytest.approx(expected(seed)[1])  # type: ignore[index]


def test_the_cases_are_neither_all_feasible_nor_all_infeasible() -> None:
    feasible = [expected(seed) is not None for seed in range(SAMPLE)]
    assert any(feasible)
    assert sum(feasible) >= SAMPLE / 2


TABLE3 = read_instance("igniter-table3")


def solved(method: str, **options: object) -> Result:
    return solve(TABLE3, method, slo_rule="p99", max_replicas=3, **options)  # type: ignore[arg-type]


def test_table_3_holds_on_8_gpus() -> None:
    result = solved("patterns")
    assert (result.status, len(result.plan.gpus)) == ("optimal", 8)
    assert result.verification.ok
    assert {p.queue_delay_us for gpu in result.plan.gpus for p in gpu.placements} == {0}
    assert all(check.latency_ms <= check.limit_ms for check in result.verification.placements)


@pytest.mark.parametrize("method", ["igniter", "ffd++", "bestfit"])
@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_heuristics_plans_hold(method: str, margin: float) -> None:
    result = solved(method, margin=margin)
    assert result.verification.ok
    assert result.cost >= 8 * 3.06 - 1e-9


@pytest.mark.parametrize("method", ["ffd", "gpulets", "gslice"])
def test_baselines_are_judged_by_the_queue(method: str) -> None:
    """They ignore interference or check it roughly; the judge says how many workloads miss their SLO."""
    result = solved(method)
    assert len(result.plan.gpus) <= 10
    assert len(result.verification.workloads_over_slo) < 12


def test_plans_of_other_rules_do_not_survive_random_arrivals() -> None:
    plan = solve(TABLE3, "igniter").plan
    changed = plan.model_copy(update={"instance": plan.instance.with_options("p99")})
    late = {check.workload for check in verify(changed).placements if not check.ok}
    assert len(late) >= 11


def test_without_max_replicas_only_igniter_splits() -> None:
    """SSD with 25 ms and 150 req/s, and with 55 ms and 300 req/s, exceeds a whole GPU at P99."""
    with pytest.raises(InfeasibleError, match="max_replicas of 2 or more") as failure:
        solve(TABLE3, "patterns", slo_rule="p99")
    assert failure.value.proven
    assert [k for k in range(1, 13) if f"workload W{k} " in str(failure.value)] == [10, 12]
    result = solve(TABLE3, "igniter", slo_rule="p99")
    assert result.verification.ok
    assert max(p.replica for gpu in result.plan.gpus for p in gpu.placements) >= 2

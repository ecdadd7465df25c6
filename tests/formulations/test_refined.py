"""Exact methods under the refined coefficients, against exhaustion."""

import random

import pytest

from igniter_opt import InfeasibleError, Instance, solve, verify
from tests.support.brute_force import cheapest
from tests.support.refined_profiles import refined_profile, with_counters
from tests.support.synthetic import random_instance


def random_case(seed: int) -> tuple[Instance, float]:
    rng = random.Random(seed)
    profiles = [
        refined_profile(
            rng,
            f"p{k}",
            unit=rng.choice([10.0, 12.5, 20.0]),
            max_batch=rng.choice([2, 3, 4]),
            interference=rng.choice([1.0, 4.0]),
            power_cap=rng.choice([150.0, 300.0]),
        )
        for k in range(1 + (seed % 4 == 3))
    ]
    if seed % 2:
        profiles = [with_counters(profile, rng) for profile in profiles]
    rule = rng.choice(["half", "deadline"])
    return random_instance(rng, profiles, rng.randint(3, 5), slo_rule=rule), rng.choice([0.0, 0.05])


@pytest.mark.parametrize("method", ["assignment", "patterns"])
@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 8))])
def test_optimum_equals_brute_force(seed: int, method: str) -> None:
    instance, margin = random_case(seed)
    expected = cheapest(instance, margin)
    try:
        result = solve(instance, method, margin=margin)
    except InfeasibleError:
        assert expected is None
        return
    assert expected is not None
    assert verify(result.plan).ok
    assert result.status == "optimal"
    assert result.cost == pytest.approx(expected[0])


@pytest.mark.parametrize("seed", range(8))
def test_heuristics_make_plans_that_hold(seed: int) -> None:
    instance, margin = random_case(seed)
    for method in ("igniter", "ffd++", "bestfit"):
        try:
            result = solve(instance, method, margin=margin)
        except InfeasibleError:
            continue
        assert result.verification.ok

import random

import pytest

from igniter_opt import InfeasibleError, Instance, solve, verify
from tests.brute_force import cheapest
from tests.synthetic import random_instance, random_profile

ALL_SEEDS = 240
SAMPLE = 24


def random_case(seed: int) -> tuple[Instance, float]:
    """A random instance of 3 to 6 workloads; features vary with the seed."""
    rng = random.Random(seed)
    replicas = seed % 6 == 5
    two_types = seed % 4 == 3
    profiles = [
        random_profile(
            rng,
            f"p{k}",
            unit=rng.choice([10.0, 12.5, 20.0]),
            max_batch=rng.choice([2, 3, 4]),
            interference=rng.choice([0.0, 1.0, 1.0, 4.0]),
            power_cap=rng.choice([150.0, 300.0, 300.0]),
            memory=rng.random() < 0.25,
        )
        for k in range(1 + two_types)
    ]
    instance = random_instance(
        rng,
        profiles,
        3 if replicas else rng.randint(3, 6),
        slo_rule=rng.choice(["half", "deadline"]),
        counts=rng.random() < 0.3,
        max_replicas=2 if replicas else None,
    )
    return instance, rng.choice([0.0, 0.0, 0.1])


@pytest.mark.parametrize(
    "seed", [pytest.param(k, marks=[pytest.mark.slow] if k >= SAMPLE else []) for k in range(ALL_SEEDS)]
)
def test_optimum_equals_brute_force(seed: int) -> None:
    instance, margin = random_case(seed)
    expected = cheapest(instance, margin)
    try:
        result = solve(instance, "assignment", margin=margin)
    except InfeasibleError:
        assert expected is None
        return
    assert verify(result.plan).ok
    assert expected is not None
    assert result.status == "optimal"
    assert (result.cost, result.total_share_percent) == pytest.approx(expected)
    assert result.lower_bound == pytest.approx(expected[0])
    assert result.plan.solver.total_share_lower_bound_percent == pytest.approx(expected[1])

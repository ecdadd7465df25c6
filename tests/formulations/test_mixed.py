"""Cards under MIG, cards shared by MPS and whole cards in one instance: what is proven equals exhaustive search."""

import itertools
import random

import numpy as np
import pytest

from igniter_opt import InfeasibleError, Instance, Profile, solve
from igniter_opt.data.profile_files import read_slice_profile
from tests.support import synthetic
from tests.support.brute_force import cheapest
from tests.support.mig import fewest_cards, random_profile


def mixed(seed: int, *, counted: bool = False) -> Instance:
    rng, draw = np.random.default_rng(1000 + seed), random.Random(seed)
    card = synthetic.random_profile(draw, "card", unit=20.0, max_batch=2)
    whole = card.model_copy(
        update={"name": "whole", "hardware": card.hardware.model_copy(update={"least_share_percent": 100.0})}
    )
    types = [
        {"name": "Card", "profile": card, "price_per_hour": 3.0},
        {"name": "Whole", "profile": whole, "price_per_hour": float(rng.choice([1.25, 1.75]))},
        {"name": "A100", "profile": random_profile(rng), "price_per_hour": float(rng.choice([1.5, 2.5, 4.0]))},
    ]
    workloads = [
        {
            "name": f"W{number}",
            "model": f"m{int(rng.integers(3))}",
            "slo_ms": float(round(rng.uniform(40, 120))),
            "rate_rps": float(round(rng.uniform(40, 300))),
            "max_replicas": [None, 2][int(rng.integers(2))],
        }
        for number in range(4)
    ]
    if counted:
        # MIG is the cheapest way, and there are few such cards.
        types[2] |= {"price_per_hour": 0.75, "count": int(rng.integers(1, 3))}
        types[1] |= {"count": int(rng.integers(1, 3))}
    return Instance.model_validate({"name": "mixed", "gpu_types": types, "workloads": workloads})


def exhausted(instance: Instance) -> float:
    """Least cost over all ways to divide the workloads between cards under MIG and the others."""
    card, best = instance.cut_types[0], float("inf")
    for size in range(len(instance.workloads) + 1):
        for chosen in itertools.combinations(instance.workloads, size):
            left = tuple(workload for workload in instance.workloads if workload not in chosen)
            cost = 0.0
            if chosen:
                cut = instance.model_copy(update={"gpu_types": instance.cut_types, "workloads": chosen})
                found = fewest_cards(cut, 0.5, most=2)
                if found is None or (card.count is not None and found[0] > card.count):
                    continue
                cost += card.price_per_hour * found[0]
            if left:
                shared = instance.model_copy(update={"gpu_types": instance.shared_types, "workloads": left})
                least = cheapest(shared)
                if least is None:
                    continue
                cost += least[0]
            best = min(best, cost)
    return best


@pytest.mark.parametrize("seed", range(20))
def test_equals_exhaustive_search(seed: int) -> None:
    instance = mixed(seed)
    result = solve(instance, time_limit=30)
    assert result.status == "optimal"
    assert result.cost == result.lower_bound == pytest.approx(exhausted(instance))
    assert result.verification.ok
    share = result.plan.solver.total_share_lower_bound_percent
    assert share is not None and share <= result.plan.total_share_percent


@pytest.mark.parametrize("seed", range(20))
def test_equals_exhaustive_search_where_cards_are_few(seed: int) -> None:
    instance = mixed(seed, counted=True)
    least = exhausted(instance)
    if least == float("inf"):
        with pytest.raises(InfeasibleError):
            solve(instance, time_limit=30)
        return
    result = solve(instance, time_limit=30)
    assert result.status == "optimal"
    assert result.cost == result.lower_bound == pytest.approx(least)


def test_the_sides_are_used_together() -> None:
    used = [{gpu.type for gpu in solve(mixed(seed), time_limit=30).plan.gpus} for seed in range(20)]
    assert set().union(*used) == {"Card", "Whole", "A100"}
    assert any(len(types) > 1 for types in used)


def test_equal_workloads_may_be_served_on_either_side(v100: Profile) -> None:
    instance = Instance.model_validate(
        {
            "name": "equal",
            "gpu_types": [
                {"name": "V100", "profile": v100, "price_per_hour": 1.0, "count": 1},
                {"name": "A100", "profile": read_slice_profile("a100-mig-synthetic"), "price_per_hour": 4.0},
            ],
            "workloads": [{"name": f"W{k}", "model": "resnet50", "slo_ms": 40.0, "rate_rps": 300.0} for k in range(8)],
        }
    )
    result = solve(instance, time_limit=30)
    assert result.status == "optimal"
    assert {gpu.type for gpu in result.plan.gpus} == {"V100", "A100"}


def test_a_workload_that_one_side_does_not_know_goes_to_the_other(v100: Profile) -> None:
    known = read_slice_profile("a100-mig-synthetic")
    few = known.model_copy(update={"models": {"resnet50": known.models["resnet50"]}})
    other = v100.model_copy(update={"models": {"ssd": v100.models["ssd"]}})
    instance = Instance.model_validate(
        {
            "name": "one-each",
            "gpu_types": [
                {"name": "V100", "profile": other, "price_per_hour": 3.0},
                {"name": "A100", "profile": few, "price_per_hour": 1.0},
            ],
            "workloads": [
                {"name": "R", "model": "resnet50", "slo_ms": 40.0, "rate_rps": 300.0},
                {"name": "S", "model": "ssd", "slo_ms": 60.0, "rate_rps": 100.0},
            ],
        }
    )
    result = solve(instance, time_limit=30)
    assert (result.status, result.cost) == ("optimal", 4.0)

"""Cards that raise small shares to a least one: no plan has a smaller share, and optima are those of exhaustion."""

import random

import pytest

from igniter_opt import InfeasibleError, Instance, read_instance, solve, verify
from igniter_opt.data.profile import Profile
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.methods import heuristics
from tests.support.brute_force import cheapest
from tests.support.synthetic import random_instance, random_profile


def with_least_share(profile: Profile, units: int) -> Profile:
    """The same card, but it grants so many share units at least."""
    hardware = profile.hardware
    least = {"least_share_percent": units * hardware.share_unit_percent}
    return profile.model_copy(update={"hardware": hardware.model_copy(update=least)})


def case(seed: int, rule: str | None = None) -> Instance:
    rng = random.Random(seed)
    card = with_least_share(random_profile(rng, unit=10.0, interference=rng.choice([0.5, 2.0])), 2 + seed % 3)
    # Little to do each, so that small shares would be enough.
    instance = random_instance(rng, [card], 4, slo_rule=rule or rng.choice(["half", "deadline"]))
    workloads = [
        entry.model_copy(update={"slo_ms": 2 * entry.slo_ms, "rate_rps": entry.rate_rps / 4})
        for entry in instance.workloads
    ]
    return instance.model_copy(update={"workloads": tuple(workloads)})


def smallest(instance: Instance, method: str) -> tuple[float, float]:
    """Smallest share and cost of a verified plan."""
    found = solve(instance, method, time_limit=10.0)
    assert verify(found.plan).ok
    return min(p.share_percent for gpu in found.plan.gpus for p in gpu.placements), found.cost


@pytest.mark.parametrize("seed", range(12))
def test_exact_methods_agree_with_exhaustion(seed: int) -> None:
    instance = case(seed)
    least = instance.gpu_types[0].profile.hardware.least_share_percent
    assert least is not None
    expected = cheapest(instance)
    for method in ("patterns", "assignment"):
        if expected is None:
            with pytest.raises(InfeasibleError):
                solve(instance, method, time_limit=10.0)
            continue
        share, cost = smallest(instance, method)
        assert share >= least - 1e-9
        assert cost == pytest.approx(expected[0], rel=1e-9)


def test_it_matters_to_these_instances() -> None:
    changed = 0
    for seed in range(12):
        instance = case(seed)
        free = instance.gpu_types[0].profile
        hardware = free.hardware.model_copy(update={"least_share_percent": None})
        gpu = instance.gpu_types[0].model_copy(update={"profile": free.model_copy(update={"hardware": hardware})})
        before = cheapest(instance.model_copy(update={"gpu_types": (gpu,)}))
        changed += cheapest(instance) != before
    assert changed >= 6


@pytest.mark.parametrize("method", heuristics())
@pytest.mark.parametrize("seed", range(4))
def test_no_heuristic_goes_below_it(method: str, seed: int) -> None:
    instance = case(seed)
    least = instance.gpu_types[0].profile.hardware.least_share_percent
    assert least is not None
    plan = solve(instance, method).plan
    assert min(p.share_percent for gpu in plan.gpus for p in gpu.placements) >= least - 1e-9


def test_percentile_plans_keep_to_it() -> None:
    card = with_least_share(read_instance("igniter-three").gpu_types[0].profile, 6)
    instance = read_instance("igniter-three")
    gpu = instance.gpu_types[0].model_copy(update={"profile": card})
    workloads = tuple(w.model_copy(update={"rate_rps": w.rate_rps / 20}) for w in instance.workloads)
    small = instance.model_copy(update={"gpu_types": (gpu,), "workloads": workloads, "slo_rule": "p99"})
    for method in ("igniter", "patterns"):
        share, _ = smallest(small, method)
        assert share == pytest.approx(15.0)


def test_a_smaller_share_in_a_plan_is_a_violation() -> None:
    plan = solve(case(1, "deadline"), "bestfit").plan
    gpu = plan.instance.gpu_types[0]
    more = with_least_share(gpu.profile, 9)
    changed = plan.instance.model_copy(update={"gpu_types": (gpu.model_copy(update={"profile": more}),)})
    found = verify(plan.model_copy(update={"instance": changed})).violations
    assert any("is below the least that the card grants, 90 %" in entry.message for entry in found)


def test_coefficients_know_it() -> None:
    card = random_profile(random.Random(1), unit=12.5)
    assert fit_coefficients(card).hardware.least_level == 1
    assert fit_coefficients(with_least_share(card, 3)).hardware.least_level == 3


def test_cards_whose_least_share_is_more_than_half() -> None:
    for seed in range(6):
        rng = random.Random(seed)
        card = with_least_share(random_profile(rng, unit=20.0), 3)
        instance = random_instance(rng, [card], 3, slo_rule="half")
        expected = cheapest(instance)
        for method in (*heuristics(), "assignment", "patterns"):
            if expected is None:
                with pytest.raises(InfeasibleError):
                    solve(instance, method, time_limit=10.0)
            else:
                share, cost = smallest(instance, method)
                assert share >= 60.0 - 1e-9
                assert cost >= expected[0] * (1 - 1e-9)

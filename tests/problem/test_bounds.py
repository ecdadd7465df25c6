import random

import pytest
from pydantic import BaseModel

from igniter_opt import InfeasibleError, Instance, read_instance, solve
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.physics.interference import is_monotone
from igniter_opt.problem.bounds import one_gpu_units, price_grid, require_enough_gpus, share_bound_units
from igniter_opt.problem.configurations import Problem
from tests.support.brute_force import cheapest
from tests.support.synthetic import random_instance, random_profile

TABLE3 = read_instance("igniter-table3")


def with_counts(instance: Instance, *counts: int | None) -> Instance:
    # Unchecked copies: a count of 0 is none that an instance may have, but what is left of one.
    types = [BaseModel.model_copy(gpu, update={"count": n}) for gpu, n in zip(instance.gpu_types, counts, strict=True)]
    return instance.model_copy(update={"gpu_types": tuple(types)})


def test_table_3_needs_more_than_four_gpus() -> None:
    """Least shares alone are 462.5 %."""
    require_enough_gpus(Problem(with_counts(TABLE3, 5)))
    with pytest.raises(
        InfeasibleError, match=r"12 workloads that only V100 can serve \(.*\) take at least 462.5 %"
    ) as caught:
        require_enough_gpus(Problem(with_counts(TABLE3, 4)))
    assert caught.value.proven


@pytest.mark.parametrize("method", ["auto", "assignment", "bestfit"])
def test_every_method_says_so(method: str) -> None:
    with pytest.raises(InfeasibleError, match="4 GPU") as caught:
        solve(with_counts(TABLE3, 4), method)
    assert caught.value.proven


def test_a_plan_costs_a_gpu_that_can_carry_its_hardest_workload() -> None:
    v100 = TABLE3.gpu_types[0]
    alexnet = v100.profile.model_copy(update={"models": {"alexnet": v100.profile.models["alexnet"]}})
    types = (
        v100,
        v100.model_copy(update={"name": "dearer", "price_per_hour": 4.0}),
        v100.model_copy(update={"name": "small", "profile": alexnet, "price_per_hour": 1.0}),
    )
    for number, price in ((1, 1.0), (5, 3.06)):
        changed = TABLE3.model_copy(
            update={"gpu_types": types, "workloads": (TABLE3.workloads[0], *TABLE3.workloads[4:number])}
        )
        grid = price_grid(Problem(changed))
        assert share_bound_units(Problem(changed), grid) * float(grid.step) == pytest.approx(price)


def test_workloads_of_one_type_are_counted_on_it_alone() -> None:
    v100 = TABLE3.gpu_types[0]
    alexnet = v100.profile.model_copy(update={"models": {"alexnet": v100.profile.models["alexnet"]}})
    small = v100.model_copy(update={"name": "small", "profile": alexnet})
    both = TABLE3.model_copy(update={"gpu_types": (v100, small)})
    require_enough_gpus(Problem(with_counts(both, None, 0)))
    require_enough_gpus(Problem(with_counts(both, 5, 1)))
    with pytest.raises(InfeasibleError, match=r"9 workload.* only V100 can serve"):
        require_enough_gpus(Problem(with_counts(both, 4, None)))


@pytest.mark.parametrize("seed", range(40))
def test_it_never_contradicts_exhaustion(seed: int) -> None:
    rng = random.Random(seed)
    profiles = [random_profile(rng, f"p{k}", unit=20.0, max_batch=2) for k in range(2)]
    if not all(is_monotone(fit_coefficients(profile)) for profile in profiles):
        return
    instance = random_instance(rng, profiles, 4, max_replicas=rng.choice([None, 2]))
    instance = with_counts(instance, rng.randint(0, 2), rng.choice([0, 1, None]))
    problem = Problem(instance)
    found = cheapest(instance)
    grid = price_grid(problem)
    try:
        problem.require_feasible_workloads()
        require_enough_gpus(problem)
    except InfeasibleError:
        assert found is None
        return
    if found is not None:
        for bound in (one_gpu_units(problem, grid), share_bound_units(problem, grid)):
            assert bound * float(grid.step) <= found[0] + 1e-9

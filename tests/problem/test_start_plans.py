"""Plans to begin with: a bound that holds within rule p99's limits says nothing about plans beyond them."""

import random

import pytest
from pydantic import BaseModel

from igniter_opt import InfeasibleError, InputError, Instance, Plan, solve, verify
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import Draft, DraftGpu, drafts_from_plan, make_plan
from igniter_opt.problem.start_plans import within_limits
from tests.support.synthetic import random_instance, random_profile


def one_gpu_beyond_the_limits() -> tuple[Instance, Plan]:
    """Two workloads, and a plan on one GPU that holds, while the limits of rule p99 only admit two GPUs."""
    rng = random.Random(51)
    profile = random_profile(rng, "p0", unit=10.0, max_batch=3, interference=8.0, power_cap=120.0)
    instance = random_instance(rng, [profile], 2)
    workloads = [
        entry.model_copy(update={"slo_ms": entry.slo_ms * rng.uniform(1.0, 2.5)}) for entry in instance.workloads
    ]
    instance = instance.model_copy(update={"workloads": tuple(workloads)}).with_options("p99")
    first, second = (entry.rate_rps for entry in workloads)
    gpus = [DraftGpu(0, [Draft(0, 1, 2, 6, first), Draft(1, 1, 3, 4, second)])]
    return instance, make_plan(Problem(instance), gpus, method="by hand", status="heuristic")


@pytest.mark.parametrize("warm_start", [True, False])
@pytest.mark.parametrize("method", ["assignment", "patterns", "auto"])
def test_a_cheaper_start_beyond_the_limits_is_kept(method: str, warm_start: bool) -> None:
    instance, start = one_gpu_beyond_the_limits()
    dearer = instance.gpu_types[0].model_copy(update={"name": "dearer", "price_per_hour": 1.5})
    # An unchecked copy: no instance may have a count of 0.
    changes = {"name": "cheaper", "price_per_hour": 0.9, "count": 0}
    cheaper = BaseModel.model_copy(instance.gpu_types[0], update=changes)
    assert verify(start).ok
    assert not within_limits(Problem(instance), drafts_from_plan(Problem(instance), start))
    assert solve(instance, method, warm_start=warm_start, time_limit=10.0).cost == 2.0
    for types, bound, status in (
        ((*instance.gpu_types, dearer), 1.0, "optimal"),
        ((*instance.gpu_types, cheaper), 0.9, "feasible"),
    ):
        instance = instance.model_copy(update={"gpu_types": types})
        result = solve(instance, method, start=start, warm_start=warm_start, time_limit=10.0)
        assert result.verification.ok
        assert (result.cost, result.lower_bound, result.status) == (1.0, bound, status)


@pytest.mark.parametrize("method", ["assignment", "patterns"])
def test_a_start_beyond_the_limits_gives_way_to_a_cheaper_plan(method: str) -> None:
    instance, start = one_gpu_beyond_the_limits()
    cheap = instance.gpu_types[0].model_copy(update={"name": "cheap", "price_per_hour": 0.3})
    instance = instance.model_copy(update={"gpu_types": (*instance.gpu_types, cheap)})
    result = solve(instance, method, start=start, time_limit=10.0)
    assert (result.cost, result.status) == (0.6, "optimal")


@pytest.mark.parametrize("method", ["assignment", "patterns"])
def test_a_start_is_kept_where_the_limits_admit_no_plan(method: str) -> None:
    instance, start = one_gpu_beyond_the_limits()
    only = instance.gpu_types[0].model_copy(update={"count": 1})
    instance = instance.model_copy(update={"gpu_types": (only,)})
    with pytest.raises(InfeasibleError):
        solve(instance, method, time_limit=10.0)
    result = solve(instance, method, start=start, time_limit=10.0)
    assert (result.cost, result.lower_bound) == (1.0, 1.0)


@pytest.mark.parametrize("rule", ["half", "deadline", "p99"])
@pytest.mark.parametrize("method", ["igniter", "patterns", "assignment"])
def test_plans_of_exact_methods_lie_within(method: str, rule: str) -> None:
    rng = random.Random(3)
    instance = random_instance(rng, [random_profile(rng, interference=4.0)], 3, slo_rule=rule)
    instance = instance.model_copy(
        update={
            "workloads": tuple(entry.model_copy(update={"slo_ms": 4 * entry.slo_ms}) for entry in instance.workloads)
        }
    )
    plan = solve(instance, method, time_limit=10.0).plan
    assert within_limits(Problem(instance), drafts_from_plan(Problem(instance), plan))


@pytest.mark.parametrize("method", ["assignment", "patterns"])
def test_a_start_serves_the_rates_of_the_instance(method: str) -> None:
    rng = random.Random(8)
    instance = random_instance(rng, [random_profile(rng)], 3, max_replicas=2)
    start = solve(instance, "igniter").plan
    for factor in (0.5, 1.0):
        workloads = [entry.model_copy(update={"rate_rps": factor * entry.rate_rps}) for entry in instance.workloads]
        result = solve(instance.model_copy(update={"workloads": tuple(workloads)}), method, start=start, time_limit=0.0)
        assert result.verification.ok
        assert result.cost <= start.solver.cost_per_hour + 1e-9
    workloads = [entry.model_copy(update={"rate_rps": 50 * entry.rate_rps}) for entry in instance.workloads]
    with pytest.raises(InputError, match="does not hold for this instance"):
        solve(instance.model_copy(update={"workloads": tuple(workloads)}), method, start=start)

import pytest

from igniter_opt import InfeasibleError, read_instance, solve
from igniter_opt.heuristics.bestfit import best_fit, local_search
from igniter_opt.packing.items import catalogue
from igniter_opt.problem.configurations import Problem
from tests.heuristics.problems import problem, v100
from tests.packing.small import servable

SMALL = [
    *("igniter-motivation", "igniter-three", "igniter-table3", "tiny-60-1", "uniform-50-1"),
    *(f"{family}-{size}-1" for family in ("loose", "mixed", "one-model", "tight") for size in (12, 24)),
]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("rule", ["half", "deadline"])
def test_never_dearer_than_greedy_on_shipped_instances(name, rule):
    instance = read_instance(name)
    ours = solve(instance, "bestfit", slo_rule=rule)
    theirs = solve(instance, "igniter", slo_rule=rule)
    assert ours.verification.ok
    assert (ours.status, ours.lower_bound) == ("heuristic", None)
    assert ours.cost <= theirs.cost


def test_plans_hold_on_random_problems():
    for _, found, _ in servable(range(400, 415), 7, types=2, replicas=2):
        result = solve(found.instance, "bestfit", margin=found.margin)
        assert result.verification.ok


def test_counts_are_respected():
    solved = 0
    for _, found, _ in servable(range(500, 520), 6, types=2, counts=True):
        try:
            result = solve(found.instance, "bestfit", margin=found.margin)
        except InfeasibleError as error:
            assert not error.proven
            continue
        solved += 1
        assert result.verification.ok
        for gpu in found.gpu_types:
            assert sum(used.type == gpu.name for used in result.plan.gpus) <= gpu.count
    assert solved > 5


def test_no_plan_within_the_counts_is_said():
    with pytest.raises(InfeasibleError, match="none is proven not to exist") as caught:
        solve(problem(gpu_types=(v100(count=5),)).instance, "bestfit")
    assert not caught.value.proven
    assert len(solve(problem(gpu_types=(v100(count=6),)).instance, "bestfit").plan.gpus) == 6


def test_same_seed_same_plan():
    instance = read_instance("mixed-24-1")
    first, second = (solve(instance, "bestfit", seed=3).plan for _ in range(2))
    assert first.gpus == second.gpus


def test_in_a_hurry_it_ends_with_the_first_plan():
    known = catalogue(Problem(read_instance("uniform-100-1")))
    asked = []
    plan = best_fit(known, local_search(known), 0, lambda: not asked.append(None))
    assert len(asked) == 1
    assert plan is not None
    assert sum(len(members) for _, members in plan) == 100
    assert len(plan) >= len(best_fit(known, local_search(known), 0))


def test_a_workload_that_fits_nowhere_is_explained():
    with pytest.raises(InfeasibleError, match="rate_rps of") as caught:
        solve(problem(rows=[("alexnet", 10, 1200), ("ssd", 20, 900)]).instance, "bestfit")
    assert caught.value.proven

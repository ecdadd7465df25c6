"""One whole GPU per replica: nothing shares a card, nothing cheaper of that kind exists, and counts are kept."""

import itertools
import random

import pytest

from igniter_opt.base.errors import InfeasibleError
from igniter_opt.compare import compare
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.instance import Instance, Workload
from igniter_opt.data.instance_files import read_instance
from igniter_opt.data.profile import read_profile
from igniter_opt.heuristics import dedicated
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import draft_cost
from igniter_opt.solve import solve
from tests.heuristics.problems import changed_profile, problem, v100
from tests.support.synthetic import random_instance, random_profile

TABLE3 = read_instance("igniter-table3")


def least_cost(case: Problem) -> float | None:
    """Cheapest whole GPUs for every workload by itself, over all numbers of replicas and all types."""
    total = 0.0
    for k, demand in enumerate(case.workloads):
        costs = []
        for count in range(1, (demand.max_replicas or 1) + 1):
            for g, gpu in enumerate(case.gpu_types):
                if case.knows(k, g):
                    every = case.every_configuration(k, g, count)
                    whole = every.take(every.level == every.level.max())
                    limit = gpu.memory_limit_mib
                    holds = case.feasible_alone(whole, g) & (limit is None or whole.memory_mib <= limit)
                    costs += [count * gpu.price_per_hour] * bool(holds.any())
        if not costs:
            return None
        total += min(costs)
    return total


@pytest.mark.parametrize("rule", ["half", "deadline"])
@pytest.mark.parametrize("seed", range(12))
def test_nothing_shares_a_card_and_nothing_of_the_kind_is_cheaper(seed: int, rule: str) -> None:
    rng = random.Random(seed)
    cards = [random_profile(rng, unit=25.0, name=f"card{k}") for k in range(2)]
    instance = random_instance(rng, cards, 4, slo_rule=rule, max_replicas=1 + seed % 3)
    uncounted = tuple(gpu.model_copy(update={"count": None}) for gpu in instance.gpu_types)
    instance = instance.model_copy(update={"gpu_types": uncounted})
    case = Problem(instance)
    least = least_cost(case)
    if least is None:
        with pytest.raises(InfeasibleError, match="cannot be served"):
            dedicated.place(case)
        return
    found = solve(instance, "dedicated")
    assert found.verification.ok
    assert all(len(gpu.placements) == 1 for gpu in found.plan.gpus)
    assert found.cost == pytest.approx(least)


def test_table_3_takes_a_gpu_for_each_workload() -> None:
    free = TABLE3.model_copy(update={"gpu_types": (TABLE3.gpu_types[0].model_copy(update={"count": None}),)})
    found = solve(free, "dedicated")
    assert len(found.plan.gpus) == 12
    assert found.plan.solver.status == "heuristic"
    assert {entry.share_percent for gpu in found.plan.gpus for entry in gpu.placements} == {100.0}


def test_counts_that_are_used_up_are_said_with_what_would_be_needed() -> None:
    with pytest.raises(InfeasibleError, match=r"used up.*it would take 12, for 36\.72 USD per hour"):
        solve(TABLE3, "dedicated")
    row = compare(TABLE3, "dedicated", requests=0).rows[0]
    assert row.status == "no plan"
    assert "12" in (row.message or "")


def test_who_has_fewer_types_to_choose_from_comes_first() -> None:
    # Only the first card knows alexnet; both know resnet50, and the first is the cheaper one.
    cards = (
        v100(name="both", count=1, price_per_hour=1.0),
        v100(name="no-alexnet", count=1, profile=changed_profile(models={"alexnet": None})),
    )
    for rows in itertools.permutations([("alexnet", 40, 100), ("resnet50", 60, 100)]):
        placed = dedicated.place(problem(list(rows), cards))
        assert sorted(gpu.gpu_type for gpu in placed) == [0, 1]


def test_without_a_number_of_replicas_the_fewest_that_whole_gpus_carry() -> None:
    case = problem([("vgg19", 40, 3000)])
    gpus = dedicated.place(case)
    most = case.largest_rates(0, 0).max()
    assert len(gpus) == -(-3000 // most)
    assert sum(draft.rate_rps for gpu in gpus for draft in gpu.placements) == pytest.approx(3000)
    assert float(draft_cost(case, gpus)) == 3.0 * len(gpus)


def test_percentile_plans_hold() -> None:
    found = solve("igniter-three", "dedicated", slo_rule="p99", max_replicas=3)
    assert found.verification.ok


def test_what_no_card_holds_is_refused() -> None:
    gpu = GpuType(name="V100", profile=read_profile("v100"), price_per_hour=1.0)
    hopeless = Workload(name="hopeless", model="vgg19", slo_ms=1.0, rate_rps=1.0)
    with pytest.raises(InfeasibleError, match="hopeless"):
        solve(Instance(name="x", gpu_types=(gpu,), workloads=(hopeless,)), "dedicated")

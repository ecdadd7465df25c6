"""GSLICE+: what its plans promise, its result on Table 3, and what it refuses."""

from collections import defaultdict

import numpy as np
import pytest

from igniter_opt.base.errors import InfeasibleError
from igniter_opt.data.instance_files import read_instance
from igniter_opt.data.profile import read_profile
from igniter_opt.heuristics.gslice import place
from igniter_opt.physics.interference import predict_many
from igniter_opt.problem.configurations import Problem
from igniter_opt.slo.rules import RULES
from tests.heuristics.problems import changed_profile, problem, v100


def assert_well_formed(problem, plan):
    rates = np.zeros(len(problem.workloads))
    replicas = defaultdict(list)
    for gpu in plan:
        coefficients = problem.coefficients[gpu.gpu_type]
        levels = [draft.level for draft in gpu.placements]
        assert min(levels) >= 1
        assert sum(levels) <= coefficients.hardware.share_levels
        memory = 0.0
        for draft in gpu.placements:
            model = coefficients.models[problem.workloads[draft.workload].model]
            rates[draft.workload] += draft.rate_rps
            replicas[draft.workload].append(draft.replica)
            memory += model.memory_fixed_mib + model.memory_per_item_mib * draft.batch
            assert 1 <= draft.batch <= model.max_batch
        assert memory <= (problem.gpu_types[gpu.gpu_type].memory_limit_mib or np.inf)
    assert rates == pytest.approx([workload.rate_rps for workload in problem.workloads], rel=1e-12)
    assert all(sorted(numbers) == list(range(1, len(numbers) + 1)) for numbers in replicas.values())


def test_table_3():
    instance = problem()
    plan = place(instance)
    assert_well_formed(instance, plan)
    names = [workload.name for workload in instance.workloads]
    assert [[(names[d.workload], d.batch, d.level * 2.5) for d in gpu.placements] for gpu in plan] == [
        [("W12", 8, 92.5)],
        [("W10", 1, 80), ("W1", 6, 20)],
        [("W8", 5, 77.5), ("W6", 5, 20)],
        [("W7", 2, 60), ("W9", 3, 37.5)],
        [("W5", 8, 45), ("W4", 4, 35), ("W11", 1, 15)],
        [("W2", 6, 12.5), ("W3", 9, 12.5)],
    ]


@pytest.mark.parametrize("slo_rule", RULES)
@pytest.mark.parametrize("margin", [0.0, 0.1])
@pytest.mark.parametrize("name", ["uniform-24-1", "uniform-100-1"])
def test_plans_are_well_formed(name, margin, slo_rule):
    instance = Problem(read_instance(name).with_options(slo_rule=slo_rule), margin)
    plan = place(instance)
    assert_well_formed(instance, plan)
    assert plan == place(instance)


def test_margin_asks_for_more():
    def total(plan):
        return sum(draft.level for gpu in plan for draft in gpu.placements)

    row = [("resnet50", 30, 400)]
    assert total(place(problem(row, margin=0.3))) > total(place(problem(row)))


def test_a_rate_over_one_gpu_is_split_into_equal_replicas():
    instance = problem([("vgg19", 40, 2000)])
    plan = place(instance)
    assert_well_formed(instance, plan)
    rates = [draft.rate_rps for gpu in plan for draft in gpu.placements]
    assert len(rates) > 1
    assert len(set(rates)) == 1
    assert_well_formed(instance, place(problem([("vgg19", 40, 2000)], max_replicas=len(rates))))
    with pytest.raises(InfeasibleError, match=rf"W1 .*needs {len(rates)} replicas"):
        place(problem([("vgg19", 40, 2000)], max_replicas=len(rates) - 1))


def test_hopeless_workload_is_named():
    with pytest.raises(InfeasibleError, match="workload W2 fits a whole GPU within its SLO at no batch"):
        place(problem([("alexnet", 20, 10), ("vgg19", 2, 10)]))


def test_batches_end_at_the_largest_profiled():
    instance = problem([("alexnet", 2000, 100), ("ssd", 2000, 10)])
    plan = place(instance)
    assert_well_formed(instance, plan)
    assert [draft.batch for gpu in plan for draft in gpu.placements] == [32, 32]


def test_memory_is_kept():
    memory = {"fixed_mib": 1000, "per_item_mib": 200}
    profile = changed_profile(models={"vgg19": {"memory": memory}, "ssd": {"memory": memory}})
    instance = problem(gpu_types=(v100(profile=profile, memory_mib=2300),))
    # No two of them fit together, and no batch over 6 fits.
    assert_well_formed(instance, place(instance))


def test_memory_for_no_batch_is_infeasible():
    profile = changed_profile(models={"vgg19": {"memory": {"fixed_mib": 9000, "per_item_mib": 500}}})
    with pytest.raises(InfeasibleError, match="W7"):
        place(problem(gpu_types=(v100(profile=profile, memory_mib=8000),)))


def test_cheapest_type_that_has_enough_is_used():
    scarce = v100(name="scarce", price_per_hour=1.0, count=5)
    dear, cheap = v100(name="dear", price_per_hour=3.0), v100(name="cheap", price_per_hour=2.0, count=6)
    assert {gpu.gpu_type for gpu in place(problem(gpu_types=(scarce, dear, cheap)))} == {2}
    with pytest.raises(InfeasibleError, match="needs 6 GPUs, and there are 5"):
        place(problem(gpu_types=(scarce,)))


@pytest.mark.parametrize("unit", [7, 50, 100])
def test_coarse_share_units(unit):
    instance = problem(gpu_types=(v100(profile=changed_profile({"share_unit_percent": unit})),))
    assert_well_formed(instance, place(instance))


def test_a_gpu_without_clock_is_survived():
    # The clock falls so steeply with power that four side by side have none left: latencies are infinite.
    run = read_profile("v100").model_dump(mode="json", exclude_none=True)["hardware"]["coexecution"]
    run["frequency_mhz"] = [1530, 700, 100, 50, 20]
    profile = changed_profile({"max_power_w": 60, "coexecution": run})
    rows = [*[("alexnet", 400, 50)] * 14, ("resnet50", 20, 200)]
    instance = problem(rows, gpu_types=(v100(profile=profile),))
    plan = place(instance)
    assert_well_formed(instance, plan)
    crowded = max(plan, key=lambda gpu: len(gpu.placements)).placements
    shares = np.array([[draft.level * 2.5 for draft in crowded]])
    models = np.zeros(shares.shape, dtype=int)
    assert np.isinf(predict_many(instance.coefficients[0], models, 1, shares).latency_ms).all()

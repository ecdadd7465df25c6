"""gpu-lets+: what its plans promise, its result on Table 3, and what it refuses."""

import math
from collections import defaultdict

import numpy as np
import pytest

from igniter_opt.base.errors import InfeasibleError
from igniter_opt.data.instance_files import read_instance
from igniter_opt.data.profile import read_profile
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.heuristics.gpulets import curvature, interference_factor, place, slice_levels
from igniter_opt.physics.interference import predict_many
from igniter_opt.problem.configurations import Problem
from igniter_opt.slo.rules import RULES
from tests.heuristics.problems import changed_profile, problem, v100

SIZES = {20.0, 40.0, 50.0, 60.0, 80.0, 100.0}


def shares_by_workload(problem, plan):
    shares = defaultdict(list)
    for gpu in plan:
        unit = problem.coefficients[gpu.gpu_type].hardware.share_unit_percent
        for draft in gpu.placements:
            shares[problem.workloads[draft.workload].name].append(draft.level * unit)
    return dict(shares)


def assert_well_formed(problem, plan):
    rates = np.zeros(len(problem.workloads))
    replicas = defaultdict(list)
    for gpu in plan:
        coefficients = problem.coefficients[gpu.gpu_type]
        levels = [draft.level for draft in gpu.placements]
        assert 1 <= len(levels) <= 2
        assert sum(levels) <= coefficients.hardware.share_levels
        assert set(levels) <= set(slice_levels(coefficients))
        for draft in gpu.placements:
            rates[draft.workload] += draft.rate_rps
            replicas[draft.workload].append(draft.replica)
            assert 1 <= draft.batch <= coefficients.models[problem.workloads[draft.workload].model].max_batch
    assert rates == pytest.approx([workload.rate_rps for workload in problem.workloads], rel=1e-12)
    assert all(sorted(numbers) == list(range(1, len(numbers) + 1)) for numbers in replicas.values())


def test_table_3():
    instance = problem()
    plan = place(instance)
    assert_well_formed(instance, plan)
    assert len(plan) == 8
    assert shares_by_workload(instance, plan) == {
        "W1": [50],
        "W2": [50],
        "W3": [50],
        "W4": [50],
        "W5": [50],
        "W6": [60],
        "W7": [60, 40],
        "W8": [50, 40],
        "W9": [50],
        "W10": [50, 40],
        "W11": [60],
        "W12": [60, 40],
    }


@pytest.mark.parametrize("slo_rule", RULES)
@pytest.mark.parametrize("margin", [0.0, 0.1])
@pytest.mark.parametrize("name", ["uniform-24-1", "uniform-100-1"])
def test_plans_are_well_formed(name, margin, slo_rule):
    instance = Problem(read_instance(name).with_options(slo_rule=slo_rule), margin)
    plan = place(instance)
    assert_well_formed(instance, plan)
    assert {share for shares in shares_by_workload(instance, plan).values() for share in shares} <= SIZES
    assert plan == place(instance)


@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_first_on_a_gpu_meets_its_target_alone(margin):
    instance = problem(margin=margin)
    for gpu in place(instance):
        draft = gpu.placements[0]
        workload = instance.workloads[draft.workload]
        coefficients = instance.coefficients[0]
        index = np.array([[coefficients.index(workload.model)]])
        alone = predict_many(coefficients, index, [[draft.batch]], [[draft.level * 2.5]], margin)
        limit = RULES["half"].latency_limit_ms(workload.slo_ms, draft.rate_rps, draft.batch)
        assert alone.latency_ms[0, 0] <= limit
        assert alone.throughput_rps[0, 0] >= draft.rate_rps * (1 - 1e-9)


def test_a_rate_over_one_gpu_is_split():
    instance = problem([("vgg19", 40, 2000)])
    plan = place(instance)
    assert_well_formed(instance, plan)
    assert sum(len(gpu.placements) for gpu in plan) > 2


@pytest.mark.parametrize("most", [1, 2, 3])
def test_replica_limit_is_kept(most):
    # Table 3 alone needs two replicas of some workloads; within the limit the slices get larger.
    instance = problem(max_replicas=most)
    plan = place(instance)
    assert_well_formed(instance, plan)
    assert max(draft.replica for gpu in plan for draft in gpu.placements) <= most


def test_replica_limit_too_low_is_infeasible():
    with pytest.raises(InfeasibleError, match=r"W1 .*max_replicas of 2.*whole GPU carries"):
        place(problem([("vgg19", 40, 2000)], max_replicas=2))


def test_hopeless_workload_is_named():
    with pytest.raises(InfeasibleError, match="workload W2 fits a whole GPU within its SLO at no batch"):
        place(problem([("alexnet", 20, 10), ("vgg19", 2, 10)]))


def test_batches_end_at_the_largest_profiled():
    instance = problem([("alexnet", 2000, 100), ("ssd", 2000, 10)])
    plan = place(instance)
    assert_well_formed(instance, plan)
    assert [draft.batch for gpu in plan for draft in gpu.placements] == [32, 32]


def test_memory_is_kept():
    profile = changed_profile(models={"vgg19": {"memory": {"fixed_mib": 1000, "per_item_mib": 500}}})
    instance = problem(gpu_types=(v100(profile=profile, memory_mib=3100),))
    plan = place(instance)
    assert_well_formed(instance, plan)
    for gpu in plan:
        vgg = [d for d in gpu.placements if instance.workloads[d.workload].model == "vgg19"]
        assert sum(1000 + 500 * draft.batch for draft in vgg) <= 3100


def test_memory_for_no_batch_is_infeasible():
    profile = changed_profile(models={"vgg19": {"memory": {"fixed_mib": 9000, "per_item_mib": 500}}})
    with pytest.raises(InfeasibleError, match="workload W8 fits a whole GPU within its SLO at no batch"):
        place(problem(gpu_types=(v100(profile=profile, memory_mib=8000),)))


def test_cheapest_type_that_has_enough_is_used():
    ssd_less = v100(name="no-ssd", profile=changed_profile(models={"ssd": None}), price_per_hour=0.1)
    scarce = v100(name="scarce", price_per_hour=1.0, count=7)
    dear, cheap = v100(name="dear", price_per_hour=3.0), v100(name="cheap", price_per_hour=2.0, count=8)
    plan = place(problem(gpu_types=(ssd_less, scarce, dear, cheap)))
    assert {gpu.gpu_type for gpu in plan} == {3}
    with pytest.raises(InfeasibleError) as refused:
        place(problem(gpu_types=(ssd_less, scarce)))
    assert "lacks ssd, workload W10's model" in str(refused.value)
    assert "needs 8 GPUs, and there are 7" in str(refused.value)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        (2.5, [8, 16, 20, 24, 32, 40]),
        (10, [2, 4, 5, 6, 8, 10]),
        (7, [3, 6, 7, 8, 11, 14]),
        (50, [1, 2]),
        (100, [1]),
    ],
)
def test_slices_are_rounded_to_share_units(unit, expected):
    profile = changed_profile({"share_unit_percent": unit})
    assert slice_levels(fit_coefficients(profile)) == expected
    instance = problem([("alexnet", 20, 100)] * 3, gpu_types=(v100(profile=profile),))
    assert_well_formed(instance, place(instance))


def test_curvature_of_a_circle():
    angle = np.linspace(0.4, 0.6, 201) * math.pi
    assert curvature(2 * np.cos(angle[::-1]), 2 * np.sin(angle[::-1]))[100] == pytest.approx(0.5, rel=1e-3)


def test_interference_factor_is_near_the_predictor():
    coefficients = fit_coefficients(read_profile("v100"))
    factor = interference_factor(coefficients, slice_levels(coefficients))
    pair = np.array([[coefficients.index("vgg19"), coefficients.index("ssd")]])
    beside = predict_many(coefficients, pair, [[3, 3]], [[40.0, 60.0]]).latency_ms[0, 0]
    alone = predict_many(coefficients, pair[:, :1], [[3]], [[40.0]]).latency_ms[0, 0]
    instance = problem()
    cache = [float(instance.grid("vgg19", 0).cache[2, 15]), float(instance.grid("ssd", 0).cache[2, 23])]
    assert factor(np.array(cache[0]), np.array(cache[1])) == pytest.approx(beside / alone, abs=0.03)
    assert factor(np.array(0.0), np.array(0.0)) >= 1.0


def test_pairs_without_clock_are_left_out_of_the_fit():
    run = read_profile("v100").model_dump(mode="json", exclude_none=True)["hardware"]["coexecution"]
    run["frequency_mhz"] = [1530, 100, 50, 20, 10]
    profile = changed_profile({"max_power_w": 60, "coexecution": run})
    instance = problem([("alexnet", 400, 50)] * 4, gpu_types=(v100(profile=profile),))
    assert_well_formed(instance, place(instance))

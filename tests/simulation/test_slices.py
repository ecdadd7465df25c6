"""Plans of cards under MIG, served: by their own queues, beside nobody."""

import pytest

from igniter_opt import InputError, compare, replan, simulate, solve
from igniter_opt.data.plan import Plan
from igniter_opt.data.profile_files import read_slice_profile
from igniter_opt.explain import explain
from tests.support.mig import instance_of

WORKLOADS = [
    {"model": "resnet50", "slo_ms": 60.0, "rate_rps": 1500.0},
    {"model": "vgg19", "slo_ms": 120.0, "rate_rps": 300.0},
]


def planned(rule: str, **settings: object) -> Plan:
    return solve(instance_of(read_slice_profile("a100-mig-synthetic"), WORKLOADS, slo_rule=rule, **settings)).plan


def test_a_plan_for_percentiles_keeps_them() -> None:
    plan = planned("p99")
    assert any((p.processes or 1) > 1 for gpu in plan.gpus for p in gpu.placements)
    found = simulate(plan, requests=20_000, seeds=2)
    assert found.violation_ratio < 0.01
    assert found.worst_p99_over_slo < 1.0


@pytest.mark.parametrize("rule", ["parvagpu", "half", "deadline"])
def test_a_plan_for_constant_rates_keeps_its_slos_there(rule: str) -> None:
    found = simulate(planned(rule), "constant", requests=5_000, seeds=1)
    assert found.violation_ratio == 0.0


def test_what_does_not_know_slices_says_so() -> None:
    plan = planned("parvagpu")
    with pytest.raises(InputError, match="replan does not know cards under MIG"):
        replan(plan, plan.instance)
    with pytest.raises(InputError, match="explain does not know cards under MIG"):
        explain(plan)
    with pytest.raises(InputError, match="knows cards that are shared by MPS only"):
        simulate(plan, neighbours="actual", requests=100, seeds=1)
    with pytest.raises(InputError, match="those that do: auto, parvagpu, patterns"):
        solve(plan.instance, "bestfit")
    with pytest.raises(InputError, match="for Poisson arrivals"):
        planned("p99", arrivals={"kind": "mmpp"})
    with pytest.raises(InputError, match="plans cards under MIG, and the instance has none"):
        solve("igniter-motivation", "parvagpu")


def test_methods_for_slices_are_compared() -> None:
    rows = compare(planned("half").instance, requests=1000).rows
    assert [(row.method, row.workloads_over_slo) for row in rows] == [("parvagpu", 0), ("patterns", 0)]
    assert rows[1].status == "optimal"

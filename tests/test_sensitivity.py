"""The what-if study against exhaustion: every saving and every proof of none."""

import importlib
import signal
from functools import cache
from typing import Any

import pytest

from igniter_opt import InputError, Instance, read_instance, read_profile, sensitivity, solve, verify
from igniter_opt.data.plan import Plan
from igniter_opt.formulations.columns.prices import shadow_prices
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import drafts_from_plan
from igniter_opt.result import Result
from igniter_opt.sensitivity import (
    GROWTH_PERCENT,
    RATE_CHANGES_PERCENT,
    SLO_CHANGES_PERCENT,
    Sensitivity,
    WorkloadChanges,
)
from igniter_opt.solve import solve_as
from tests.formulations.test_patterns import random_case
from tests.heuristics.problems import problem, v100
from tests.support.brute_force import cheapest
from tests.support.synthetic import helped_by_company

# Instances of up to five workloads, with one and two GPU types, counts, replicas, margins and both rules.
WITHOUT_PLAN = {7}
SEEDS = [seed for seed in range(20) if seed not in WITHOUT_PLAN and 2 <= len(random_case(seed)[0].workloads) <= 5]


@cache
def examined(seed: int) -> tuple[Plan, Sensitivity]:
    instance, margin = random_case(seed)
    plan = solve(instance, margin=margin, time_limit=10.0).plan
    return plan, sensitivity(plan, time_s=600.0)


def changed(instance: Instance, name: str, kind: str, percent: int) -> Instance | None:
    if kind == "without":
        workloads = [workload for workload in instance.workloads if workload.name != name]
    else:
        key = "slo_ms" if kind == "slo" else "rate_rps"
        workloads = [
            entry.model_copy(update={key: getattr(entry, key) * (100 + percent) / 100}) if entry.name == name else entry
            for entry in instance.workloads
        ]
    return instance.model_copy(update={"workloads": tuple(workloads)}) if workloads else None


def optimum(instance: Instance | None, margin: float) -> float:
    if instance is None:
        return 0.0
    found = cheapest(instance, margin)
    return float("inf") if found is None else found[0]


def some_changes(entry: WorkloadChanges, seed: int) -> list:
    """Exhaustion takes a while: every third change, other ones for every seed."""
    return list(entry.changes)[seed % 3 :: 3]


@pytest.mark.parametrize("seed", SEEDS)
def test_savings_and_proofs_of_none_are_those_of_exhaustion(seed: int) -> None:
    plan, study = examined(seed)
    base, margin = plan.solver.cost_per_hour, plan.solver.margin
    assert study.complete
    assert study.cost_per_hour == base
    for entry in study.workloads[:3]:
        for change in some_changes(entry, seed):
            truth = optimum(changed(plan.instance, entry.workload, change.kind, change.percent), margin)
            if change.lower_bound_per_hour is not None:
                assert change.lower_bound_per_hour <= truth + 1e-9 or study.saves_nothing(change)
            saving = study.saving_per_hour(change)
            # At this size nothing may stay open.
            assert saving is not None
            assert saving == pytest.approx(max(0.0, base - truth), abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_shadow_prices_bound_the_cost_without_a_workload(seed: int) -> None:
    plan, _ = examined(seed)
    problem = Problem(plan.instance, plan.solver.margin)
    prices = shadow_prices(problem, drafts_from_plan(problem, plan), time_limit=20.0)
    assert prices is not None
    assert prices.bound <= plan.solver.cost_per_hour + 1e-6
    # Without limits on GPUs the prices add up to the bound.
    if all(gpu.count is None for gpu in plan.instance.gpu_types):
        assert sum(prices.workloads) == pytest.approx(prices.bound)
    for workload, price in zip(plan.instance.workloads, prices.workloads, strict=True):
        assert price >= 0
        without = optimum(changed(plan.instance, workload.name, "without", -100), plan.solver.margin)
        assert prices.bound - price <= without + 1e-6


@cache
def table3() -> Sensitivity:
    plan = solve(read_instance("igniter-table3")).plan
    return sensitivity(plan, time_s=600.0)


def test_table3_every_change_is_settled_and_some_pay() -> None:
    study = table3()
    assert study.complete
    assert len(study.workloads) == 12
    savings = {
        (entry.workload, change.kind, change.percent): study.saving_per_hour(change)
        for entry in study.workloads
        for change in entry.changes
    }
    assert len(savings) == 12 * (1 + len(SLO_CHANGES_PERCENT) + len(RATE_CHANGES_PERCENT))
    assert None not in savings.values()
    # Confirmed by the compact formulation.
    for kind, percent, name in (("slo", 10, "W10"), ("rate", -10, "W12")):
        assert savings[name, kind, percent] == pytest.approx(3.06)
        instance = changed(read_instance("igniter-table3"), name, kind, percent)
        assert instance is not None
        again = solve(instance, "bestfit")
        assert verify(again.plan).ok
        assert again.cost <= 15.3 + 1e-9


def test_growth_beyond_a_whole_gpu_is_said_to_have_no_plan() -> None:
    growth = [change for change in table3().everything if change.percent > 0 and change.kind == "rate"]
    assert all(change.cost_per_hour is None and "W12" in (change.message or "") for change in growth[:2])


def test_a_cheaper_plan_for_the_unchanged_instance_is_not_a_saving_of_a_change() -> None:
    greedy = solve(read_instance("uniform-24-1"), "igniter").plan
    study = sensitivity(greedy, time_s=20.0)
    assert study.cheaper_plan is not None
    assert study.cost_per_hour == pytest.approx(18.36) == pytest.approx(study.cheaper_plan.solver.cost_per_hour)
    assert study.cheaper_plan.instance == greedy.instance
    assert verify(study.cheaper_plan).ok


def test_little_time_leaves_the_rest_unexamined() -> None:
    plan = solve(read_instance("uniform-100-1"), "bestfit").plan
    study = sensitivity(plan, time_s=2.0)
    assert not study.complete
    assert any(not entry.changes for entry in study.workloads)


def test_where_limits_are_dear_single_workloads_come_before_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changing all takes every limit anew, so that little time would be spent on that alone."""
    plan = solve(read_instance("igniter-three"), slo_rule="p99", max_replicas=2).plan
    asked: list[tuple[int, bool]] = []

    def noted(instance: Instance, *rest: Any) -> Result:
        before = {entry.name: entry for entry in plan.instance.workloads}
        every = all(entry != before[entry.name] for entry in instance.workloads)
        asked.append((len(instance.workloads), every))
        return solve_as(instance, *rest)

    monkeypatch.setattr(importlib.import_module("igniter_opt.sweeps.settled"), "solve_as", noted)
    study = sensitivity(plan, time_s=600.0)
    assert study.complete
    together = [position for position, (_, every) in enumerate(asked) if every]
    alone = [position for position, (count, every) in enumerate(asked) if count == 2 or not every]
    assert len(study.everything) == len(SLO_CHANGES_PERCENT) + len(RATE_CHANGES_PERCENT) + len(GROWTH_PERCENT)
    assert alone and together and max(alone) < min(together)
    for entry in study.workloads:
        assert len(entry.changes) == 1 + len(SLO_CHANGES_PERCENT) + len(RATE_CHANGES_PERCENT)


def test_a_plan_that_does_not_hold_and_no_time_are_refused() -> None:
    plan = solve(read_instance("igniter-three"), "igniter").plan
    broken = plan.model_copy(update={"gpus": plan.gpus[:0]})
    with pytest.raises(InputError, match="does not hold"):
        sensitivity(broken)
    with pytest.raises(InputError, match="above 0"):
        sensitivity(plan, time_s=0.0)


def test_ctrl_c_within_a_solve_ends_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = solve(read_instance("igniter-table3")).plan
    solves = []

    def interrupted_at_the_third(*arguments: Any) -> Result:
        solves.append(arguments)
        *asked, on_progress, stop = arguments
        if len(solves) == 3:
            # As Ctrl-C would: the solver's handler asks the solve to stop.
            return solve_as(*asked, lambda _: signal.raise_signal(signal.SIGINT), stop)
        return solve_as(*asked, on_progress, stop)

    monkeypatch.setattr(importlib.import_module("igniter_opt.sweeps.settled"), "solve_as", interrupted_at_the_third)
    study = sensitivity(plan, time_s=600.0)
    assert study.interrupted
    assert not study.complete
    assert len(study.everything) == 2
    assert len(solves) == 3


def test_growth_that_no_company_can_carry_is_no_plan() -> None:
    """Without a monotone profile it shows only when the formulation is written."""
    card = v100(profile=helped_by_company(read_profile("v100")))
    plan = solve(problem([("vgg19", 30, 400)], gpu_types=(card,)).instance, "igniter").plan
    found = sensitivity(plan, time_s=20)
    grown = {change.percent: change for change in found.everything if change.kind == "rate"}
    assert grown[50].cost_per_hour is None
    assert grown[50].message is not None and grown[50].message.startswith("workload W1 ")
    assert "becomes feasible with" in grown[50].message
    assert found.complete

"""Headroom: plans are for more than users said, and what users said stays in the file."""

import json
from pathlib import Path

import pytest

from igniter_opt import (
    Arrivals,
    InfeasibleError,
    InputError,
    Instance,
    read_instance,
    read_plan,
    simulate,
    solve,
    verify,
    write_plan,
)
from igniter_opt.data.headroom import headroom_words
from igniter_opt.data.instance_files import instance_yaml, parse_instance
from igniter_opt.data.plan import Plan, plan_json
from igniter_opt.deploy.plan_diff import diff_plans
from igniter_opt.measure.options import MeasureOptions
from igniter_opt.measure.run import measure
from igniter_opt.report.page import render_page
from tests.measure.fake_server import Behaviour, endpoints_of, serving
from tests.report.pages import findings_of

THREE = read_instance("igniter-three")


def rates(plan: Plan) -> dict[str, float]:
    found: dict[str, float] = {}
    for gpu in plan.gpus:
        for placement in gpu.placements:
            found[placement.workload] = found.get(placement.workload, 0.0) + placement.rate_rps
    return found


def test_a_plan_is_the_one_for_higher_rates_and_keeps_what_users_said() -> None:
    plan = solve(THREE, headroom=0.2).plan
    higher = solve(THREE, scale=1.2).plan
    assert plan.gpus == higher.gpus
    assert plan.solver.lower_bound_per_hour == higher.solver.lower_bound_per_hour
    assert plan.instance.workloads == THREE.workloads
    assert plan.instance.headroom == 0.2
    assert verify(plan).ok


def test_percentiles_are_those_of_the_higher_rates() -> None:
    asked = {"slo_rule": "p99", "max_replicas": 2, "arrivals": Arrivals("mmpp", burst_ratio=2.0)}
    plan = solve(THREE, "bestfit", headroom=0.25, **asked).plan  # type: ignore[arg-type]
    higher = solve(THREE, "bestfit", scale=1.25, **asked).plan  # type: ignore[arg-type]
    assert plan.gpus == higher.gpus
    assert [check.latency_ms for check in verify(plan).placements] == [
        check.latency_ms for check in verify(higher).placements
    ]


@pytest.mark.parametrize("method", ["igniter", "ffd", "gpulets", "gslice", "dedicated", "bestfit", "assignment"])
def test_every_method_plans_for_it(method: str) -> None:
    instance = THREE.with_options(headroom=0.3)
    assert rates(solve(instance, method, time_limit=20).plan) == {"A": 1560.0, "R": 780.0, "S": 65.0}


def test_workloads_may_have_their_own(tmp_path: Path) -> None:
    text = instance_yaml(THREE).replace("rate_rps: 600}", "rate_rps: 600, headroom: 0}") + "headroom: 0.1\n"
    instance = parse_instance(text, "mine.yaml", tmp_path)
    assert rates(solve(instance, "igniter").plan) == {"A": 1320.0, "R": 600.0, "S": 55.0}
    assert instance.headroom_words == "0 to 10 %"
    assert parse_instance(instance_yaml(instance), "again.yaml", tmp_path) == instance
    everywhere = instance.with_options(headroom=0.5)
    assert rates(solve(everywhere, "igniter").plan) == {"A": 1800.0, "R": 900.0, "S": 75.0}
    assert instance.with_options(headroom=0) == THREE.with_options(headroom=0) == THREE


def test_files_without_it_are_as_before() -> None:
    assert "headroom" not in plan_json(solve(THREE, "igniter").plan)
    assert "headroom" not in instance_yaml(THREE)
    assert THREE.planned_workloads is THREE.workloads


def test_the_judge_takes_it_from_the_plan(tmp_path: Path) -> None:
    plan = solve(THREE, "igniter", headroom=0.2).plan
    write_plan(plan, tmp_path / "plan.json")
    assert verify(tmp_path / "plan.json").ok
    data = json.loads((tmp_path / "plan.json").read_text())
    for changed in (0.1, 0.3, None):
        data["instance"]["headroom"] = changed
        (tmp_path / "plan.json").write_text(json.dumps(data))
        found = verify(tmp_path / "plan.json")
        assert {entry.kind for entry in found.violations} == {"coverage"}
        what = "rate" if changed is None else "rate with its headroom"
        assert any(f"the workload's {what} is" in entry.message for entry in found.violations)


def test_a_plan_for_more_holds_when_more_comes() -> None:
    """What it is for: a plan with headroom under rates that have grown by as much."""
    asked = {"slo_rule": "p99", "max_replicas": 3}
    plain, roomy = (solve(THREE, "bestfit", headroom=h, **asked).plan for h in (None, 0.3))  # type: ignore[arg-type]
    grown = {"requests": 20_000, "seeds": 2, "scale": 1.3}
    assert simulate(roomy, **grown).violation_ratio < 0.01  # type: ignore[arg-type]
    assert simulate(plain, **grown).violation_ratio > 0.01  # type: ignore[arg-type]


def test_what_simulates_and_what_sends_takes_the_rates_that_users_said() -> None:
    plan = solve(THREE, "igniter", headroom=0.5).plan
    found = simulate(plan, "constant", requests=2000)
    for entry, workload in zip(found.workloads, THREE.workloads, strict=True):
        assert entry.rate_rps == workload.rate_rps
        assert entry.estimates["offered_rps"].value == pytest.approx(workload.rate_rps, rel=1e-6)
        assert sum(part.rate_rps for part in entry.placements) == pytest.approx(workload.rate_rps)


def test_a_load_generator_sends_what_users_do() -> None:
    text = "{name: one, headroom: 0.5, gpu_types: [{name: V100, profile: v100, price_per_hour: 3.06}],"
    text += " workloads: [{name: W, model: alexnet, slo_ms: 500, rate_rps: 40}]}"
    plan = solve(parse_instance(text, "one", Path()), "igniter").plan
    options = MeasureOptions(arrivals=Arrivals("constant"), duration_s=0.5, warm_up_s=0.0)
    with serving(Behaviour()) as place:
        with_plan = measure(endpoints_of(place, rate=60), options, plan=plan)
        without = measure(endpoints_of(place, rate=60), options)
    assert [found.workloads[0].requests for found in (with_plan, without)] == [20, 30]
    assert [found.workloads[0].rate_rps for found in (with_plan, without)] == [40.0, 60.0]


def test_differences_and_the_report_say_it(tmp_path: Path) -> None:
    old, new = solve(THREE, "igniter").plan, solve(THREE, "igniter", headroom=0.2).plan
    changes = {entry.what: (entry.old, entry.new) for entry in diff_plans(old, new).settings}
    assert changes["headroom"] == (None, "20 %")
    write_plan(new, tmp_path / "plan.json")
    page = render_page(findings_of(tmp_path, what_if_time_s=0.0))
    assert "rates are planned 20 % higher than said" in page
    assert read_plan(tmp_path / "plan.json") == new


@pytest.mark.parametrize("value", ["-0.1", "101", ".nan", ".inf", "much", "true"])
def test_bad_headroom(value: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mine\.yaml: headroom: must be "):
        parse_instance(instance_yaml(THREE) + f"headroom: {value}\n", "mine.yaml", tmp_path)
    text = instance_yaml(THREE).replace("rate_rps: 600}", f"rate_rps: 600, headroom: {value}}}")
    with pytest.raises(InputError, match=r"mine\.yaml: workloads\[1\].headroom: must be "):
        parse_instance(text, "mine.yaml", tmp_path)


def test_bad_options() -> None:
    for value in (-0.1, float("nan"), 100.5):
        with pytest.raises(InputError, match=r"the headroom must be in 0\.\.100"):
            THREE.with_options(headroom=value)
    with pytest.raises(InputError, match="the headroom must be a number"):
        THREE.with_options(headroom="0.2")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"workloads\[0\]: a headroom of 1 makes a rate of 9e\+08 req/s larger than"):
        largest(THREE).with_options(headroom=1.0)


def largest(instance: Instance) -> Instance:
    first, *others = instance.workloads
    return instance.model_copy(update={"workloads": (first.model_copy(update={"rate_rps": 9e8}), *others)})


def test_what_would_help_is_in_terms_of_the_file() -> None:
    instance = THREE.with_options(headroom=5.0)
    with pytest.raises(InfeasibleError) as caught:
        solve(instance)
    text = str(caught.value)
    assert "3600 req/s with its headroom" in text
    assert "a smaller headroom" in text
    rate = float(text.partition("rate_rps of ")[2].split()[0])
    workloads = [w.model_copy(update={"rate_rps": min(w.rate_rps, rate)}) for w in instance.workloads]
    assert solve(instance.model_copy(update={"workloads": tuple(workloads)})).verification.ok


def test_words() -> None:
    assert headroom_words([0.0, 0.0]) is None
    assert headroom_words([0.125]) == "12.5 %"

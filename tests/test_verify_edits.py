"""Plans edited by hand: `verify` says no, and names what is wrong and where; it never raises."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from igniter_opt import verify
from igniter_opt.data.instance_files import read_instance
from igniter_opt.data.plan import plan_from_data, plan_json
from igniter_opt.solve import solve
from tests.cli.helpers import invoke

Data = dict[str, Any]
Edit = Callable[[Data], None]
Found = set[tuple[str, str]]

# The plan puts V, R and A on V100-1, with 37.5, 30 and 10 % of it.
V, R, A = "V100-1/V#1", "V100-1/R#1", "V100-1/A#1"
PREDICTIONS = {("prediction", where) for where in (V, R, A)}
TOTAL_SHARE = ("share", "solver")


@pytest.fixture(scope="module")
def plan_data() -> Data:
    data: Data = json.loads(plan_json(solve(read_instance("igniter-motivation"), "assignment").plan))
    assert [p["workload"] for p in data["gpus"][0]["placements"]] == ["V", "R", "A"]
    assert [p["share_percent"] for p in data["gpus"][0]["placements"]] == [37.5, 30.0, 10.0]
    assert data["solver"]["status"] == "optimal"
    return data


def placement(of: str, /, **changes: object) -> Edit:
    def edit(data: Data) -> None:
        next(p for p in data["gpus"][0]["placements"] if p["workload"] == of).update(changes)

    return edit


def solver(**changes: object) -> Edit:
    return lambda data: data["solver"].update(changes)


def gpu_type(**changes: object) -> Edit:
    return lambda data: data["instance"]["gpu_types"][0].update(changes)


def workload(of: str, /, **changes: object) -> Edit:
    def edit(data: Data) -> None:
        next(w for w in data["instance"]["workloads"] if w["name"] == of).update(changes)

    return edit


def gpu(**changes: object) -> Edit:
    return lambda data: data["gpus"][0].update(changes)


def removed(name: str) -> Edit:
    def edit(data: Data) -> None:
        kept = [p for p in data["gpus"][0]["placements"] if p["workload"] != name]
        data["gpus"][0]["placements"] = kept

    return edit


def repeated(of: str, /, **changes: object) -> Edit:
    """Place a workload a second time on the same GPU."""

    def edit(data: Data) -> None:
        placements = data["gpus"][0]["placements"]
        placements.append({**next(p for p in placements if p["workload"] == of), **changes})

    return edit


def second_gpu(name: str, **changes: object) -> Edit:
    """Add a copy of the GPU."""

    def edit(data: Data) -> None:
        data["gpus"].append({**copy.deepcopy(data["gpus"][0]), "name": name, **changes})

    return edit


def both(*edits: Edit) -> Edit:
    def edit(data: Data) -> None:
        for each in edits:
            each(data)

    return edit


def judged(plan_data: Data, edit: Edit, folder: Path) -> tuple[Found, str]:
    """Edit the plan and verify it in every way; return what was found, and all messages."""
    data = copy.deepcopy(plan_data)
    edit(data)
    path = folder / "plan.json"
    path.write_text(json.dumps(data))
    verification = verify(plan_from_data(data, "plan"))
    shown, listed = invoke("verify", path), invoke("verify", path, "--json")
    assert listed.json() == json.loads(json.dumps(verification.to_dict()))
    assert shown.code == listed.code == (0 if verification.ok else 1)
    assert shown.err == listed.err == ""
    for entry in verification.violations:
        assert f"{entry.kind} {entry.where}: {entry.message}" in shown.out
    assert len(verification.placements) == sum(len(entry["placements"]) for entry in data["gpus"])
    messages = "\n".join(entry.message for entry in verification.violations)
    return {(entry.kind, entry.where) for entry in verification.violations}, messages


TWICE = {(kind, name) for kind in ("coverage", "replica") for name in "ARV"}
TWO_GPUS = {*TWICE, ("cost", "solver"), ("gap", "solver"), ("status", "solver"), TOTAL_SHARE}

CASES: dict[str, tuple[Edit, Found, str]] = {
    # Shares
    "less share": (
        placement("R", share_percent=12.5),
        {("latency", R), ("throughput", R), TOTAL_SHARE, *PREDICTIONS},
        "latency 40.4629 ms is over its limit 20.0000 ms",
    ),
    "more share": (placement("R", share_percent=40), {TOTAL_SHARE, *PREDICTIONS}, "the shares add up to 87.5"),
    "negative share": (placement("R", share_percent=-5), {("share", R), TOTAL_SHARE}, "share -5 % is not in (0, 100]"),
    "no share": (placement("R", share_percent=0), {("share", R), TOTAL_SHARE}, "share 0 % is not in (0, 100]"),
    "share over 100": (
        placement("R", share_percent=102.5),
        {("share", R), ("share", "V100-1"), TOTAL_SHARE},
        "share 102.5 % is not in (0, 100]",
    ),
    "share between units": (
        placement("A", share_percent=11),
        {("share", A), TOTAL_SHARE},
        "share 11 % is no multiple of the share unit 2.5 %",
    ),
    "tiny share": (placement("A", share_percent=1e-9), {("share", A), TOTAL_SHARE}, "no multiple of the share unit"),
    "shares over 100 in all": (
        both(placement("R", share_percent=45), placement("A", share_percent=20)),
        {("share", "V100-1"), TOTAL_SHARE, *PREDICTIONS},
        "the shares add up to 102.5 %, more than 100 %",
    ),
    "claimed share": (solver(total_share_percent=70), {TOTAL_SHARE}, "is 70, the shares add up to 77.5"),
    # Batches
    "smaller batch": (placement("A", batch=1), {("throughput", A), *PREDICTIONS}, "is below its rate 500 req/s"),
    "larger batch": (placement("A", batch=32), {("latency", A), *PREDICTIONS}, "is over its limit 7.5000 ms"),
    "batch 0": (placement("A", batch=0), {("batch", A)}, "batch 0 is not in 1..32"),
    "negative batch": (placement("V", batch=-4), {("batch", V)}, "batch -4 is not in 1..32"),
    "batch never profiled": (placement("V", batch=33), {("batch", V)}, "batch 33 is not in 1..32"),
    # Coverage
    "placement removed": (
        removed("A"),
        {("coverage", "A"), TOTAL_SHARE, ("prediction", V), ("prediction", R)},
        "the workload is not placed",
    ),
    "no GPUs": (
        lambda data: data["gpus"].clear(),
        {*(("coverage", name) for name in "ARV"), *((kind, "solver") for kind in ("cost", "share", "bound", "gap"))},
        "the workload is not placed",
    ),
    "workload renamed": (
        placement("V", workload="VV"),
        {("workload", "V100-1/VV#1"), ("coverage", "V")},
        "the instance has no workload 'VV'; did you mean 'V'?",
    ),
    "workload of another": (
        placement("V", workload="A", replica=2),
        {("model", "V100-1/A#2"), ("coverage", "A"), ("coverage", "V")},
        "model is 'vgg19', the workload's is 'alexnet'",
    ),
    "model changed": (placement("V", model="ssd"), {("model", V)}, "model is 'ssd', the workload's is 'vgg19'"),
    "lower rate": (
        placement("V", rate_rps=100),
        {("coverage", "V")},
        "its replicas carry 100 req/s, the workload's rate is 200 req/s",
    ),
    "higher rate": (placement("V", rate_rps=1000), {("coverage", "V"), ("throughput", V)}, "below its rate 1000 req/s"),
    "rate 0": (placement("V", rate_rps=0), {("rate", V), ("coverage", "V")}, "rate 0 req/s is not positive"),
    "negative rate": (placement("V", rate_rps=-200), {("rate", V), ("coverage", "V")}, "rate -200 req/s is not"),
    "replica 0": (placement("V", replica=0), {("replica", "V")}, "its replicas are not numbered 1..1"),
    "replica 2 of 1": (placement("V", replica=2), {("replica", "V")}, "its replicas are not numbered 1..1"),
    "two replicas 1": (
        both(placement("A", rate_rps=250), repeated("A", rate_rps=250)),
        {("replica", "A"), ("latency", V), ("latency", R), TOTAL_SHARE, *PREDICTIONS},
        "its replicas are not numbered 1..2",
    ),
    "too many replicas": (
        both(workload("A", max_replicas=1), placement("A", rate_rps=250), repeated("A", rate_rps=250, replica=2)),
        {
            *{("replica", "A"), ("latency", V), ("latency", R), TOTAL_SHARE},
            *{*PREDICTIONS, ("prediction", "V100-1/A#2")},
        },
        "it has 2 replicas, at most 1 are allowed",
    ),
    # GPUs
    "unknown GPU type": (
        gpu(type="V10"),
        {("gpu-type", "V100-1"), ("cost", "solver"), ("bound", "solver"), ("gap", "solver")},
        "unknown GPU type 'V10'; did you mean 'V100'?",
    ),
    "too many GPUs": (
        both(gpu_type(count=1), second_gpu("V100-2")),
        {("count", "V100"), *TWO_GPUS},
        "the plan uses 2 GPUs, only 1 exist",
    ),
    "two GPUs of a name": (second_gpu("V100-1"), {("gpu-name", "V100-1"), *TWO_GPUS}, "two GPUs have this name"),
    # The instance under the plan
    "tighter SLO": (workload("A", slo_ms=10), {("latency", A), ("queue-delay", A)}, "is over its limit 5.0000 ms"),
    "queue delay": (placement("A", queue_delay_us=0), {("queue-delay", A)}, "is 0 in the file, rule half assumes 7500"),
    "more to serve": (workload("A", rate_rps=600), {("coverage", "A")}, "the workload's rate is 600 req/s"),
    "dearer GPU": (
        gpu_type(price_per_hour=4.0),
        {("cost", "solver"), ("gap", "solver"), ("status", "solver")},
        "cost_per_hour is 3.06, the GPUs cost 4",
    ),
    # Claims
    "cost": (solver(cost_per_hour=1.0), {("cost", "solver")}, "cost_per_hour is 1, the GPUs cost 3.06"),
    "bound above cost": (
        solver(lower_bound_per_hour=4.0),
        {("bound", "solver"), ("gap", "solver")},
        "lower_bound_per_hour 4 is above the plan's cost 3.06",
    ),
    "optimal without bound": (
        solver(lower_bound_per_hour=None, gap=None),
        {("status", "solver")},
        "status is 'optimal', but the lower bound is not the plan's cost",
    ),
    "optimal with a gap": (
        solver(lower_bound_per_hour=1.53, gap=0.5),
        {("status", "solver")},
        "status is 'optimal', but the lower bound is not the plan's cost",
    ),
    "proven, but not said to be": (
        solver(status="feasible"),
        {("status", "solver")},
        "status is 'feasible', but the lower bound is the plan's cost: it is 'optimal'",
    ),
    "a bound, and said to have none": (
        solver(status="heuristic", lower_bound_per_hour=1.53, gap=0.5),
        {("status", "solver")},
        "status is 'heuristic', but there is a lower bound: it is 'feasible'",
    ),
    "no bound, and said to have one": (
        solver(status="feasible", lower_bound_per_hour=None, gap=None),
        {("status", "solver")},
        "status is 'feasible', but there is no lower bound: it is 'heuristic'",
    ),
    "gap without bound": (
        solver(lower_bound_per_hour=None, status="heuristic"),
        {("gap", "solver")},
        "gap is 0.0, cost and bound give None",
    ),
    "share bound above share": (
        solver(total_share_lower_bound_percent=90),
        {("bound", "solver")},
        "total_share_lower_bound_percent 90 is above total_share_percent 77.5",
    ),
    "wrong gap": (solver(gap=0.1), {("gap", "solver")}, "gap is 0.1, cost and bound give 0.0"),
    "larger margin": (
        solver(margin=0.5),
        {(kind, where) for kind in ("latency", "throughput") for where in (V, R, A)},
        "latency 42.9132 ms with margin 0.5 is over its limit 30.0000 ms",
    ),
    "predicted latency": (
        placement("V", predicted_latency_ms=1.0),
        {("prediction", V)},
        "predicted_latency_ms is 1 in the file, the model says 28.73",
    ),
    "predicted throughput": (
        placement("A", predicted_throughput_rps=1e6),
        {("prediction", A)},
        "predicted_throughput_rps is 1e+06 in the file, the model says 599.076",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_edit_is_found(case: str, plan_data: Data, tmp_path: Path) -> None:
    edit, expected, says = CASES[case]
    found, messages = judged(plan_data, edit, tmp_path)
    assert found == expected
    assert says in messages


def test_unedited_plan_holds(plan_data: Data, tmp_path: Path) -> None:
    assert judged(plan_data, lambda _: None, tmp_path) == (set(), "")


@pytest.mark.parametrize(
    "edit",
    [
        gpu(name="other"),
        solver(runtime_s=99.0, seed=3),
        solver(status="heuristic", lower_bound_per_hour=None, gap=None),
        solver(status="feasible", lower_bound_per_hour=1.53, gap=0.5),
        solver(margin=0.01),  # it holds with this margin, too, which is all that the file says
        gpu_type(count=1),
        workload("A", max_replicas=1),
        lambda data: data["gpus"][0]["placements"].reverse(),
    ],
)
def test_harmless_edits_hold(edit: Edit, plan_data: Data, tmp_path: Path) -> None:
    assert judged(plan_data, edit, tmp_path) == (set(), "")


def test_every_number_of_a_placement_matters(plan_data: Data, tmp_path: Path) -> None:
    """Any number of any placement, a little off, is found at that placement, its workload or the totals."""
    for entry in plan_data["gpus"][0]["placements"]:
        for key, value in entry.items():
            if isinstance(value, int | float):
                changed = value + 1 if isinstance(value, int) else value * 1.0001
                found, _ = judged(plan_data, placement(entry["workload"], **{key: changed}), tmp_path)
                assert found, f"{entry['workload']} {key}"
                places = {f"V100-1/{entry['workload']}#{entry['replica']}", entry["workload"]}
                assert places & {where for _, where in found}, f"{entry['workload']} {key}"

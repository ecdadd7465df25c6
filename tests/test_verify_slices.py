"""Plans of cards under MIG, edited by hand: `verify` names what is wrong and where; it never raises."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from igniter_opt import InputError, solve, verify
from igniter_opt.data.plan import plan_from_data, plan_json
from igniter_opt.data.profile_files import read_slice_profile
from tests.support.mig import instance_of

Data = dict[str, Any]


@pytest.fixture(scope="module")
def plan_data() -> Data:
    profile = read_slice_profile("a100-mig-synthetic")
    workloads = [
        {"model": "resnet50", "slo_ms": 60.0, "rate_rps": 900.0},
        {"model": "vgg19", "slo_ms": 120.0, "rate_rps": 150.0},
    ]
    data: Data = json.loads(plan_json(solve(instance_of(profile, workloads)).plan))
    assert len(data["gpus"]) == 1
    assert verify(plan_from_data(data, "plan")).ok
    return data


def first(data: Data) -> Data:
    found: Data = data["gpus"][0]["placements"][0]
    return found


def put(**changes: object) -> Callable[[Data], None]:
    return lambda data: first(data).update(changes)


@pytest.mark.parametrize(
    ("edit", "kind", "words"),
    [
        (put(slice="5g.40gb"), "slice", "card a100-80gb has no slice '5g.40gb' (its slices: 1g.10gb,"),
        (put(slot=7), "geometry", "cannot begin at slot 7"),
        (put(processes=40), "processes", "40 processes of"),
        (put(processes=0), "processes", "a slice has one at least"),
        (put(batch=5), "batch", "batch 5 of"),
        (put(share_percent=50.0), "share", "is not that of a"),
        (put(rate_rps=-1.0), "rate", "is not positive"),
        (put(model="alexnet"), "model", "model is 'alexnet'"),
        (put(workload="W9"), "workload", "no workload 'W9'"),
        (put(slice=None, slot=None, processes=None), "slice", "the placement has no slice"),
    ],
)
def test_what_cannot_be_is_named(plan_data: Data, edit: Callable[[Data], None], kind: str, words: str) -> None:
    data = copy.deepcopy(plan_data)
    edit(data)
    found = verify(plan_from_data(data, "plan"))
    assert not found.ok
    assert any(entry.kind == kind and words in entry.message for entry in found.violations), found.violations


def test_overlapping_slices_are_named(plan_data: Data) -> None:
    data = copy.deepcopy(plan_data)
    places = data["gpus"][0]["placements"]
    assert len(places) > 1
    same = (
        next(p for p in places[1:] if p["slice"] == places[0]["slice"])
        if places[0]["slice"] in [p["slice"] for p in places[1:]]
        else {**places[0], "replica": 9}
    )
    places.append({**same, "slot": places[0]["slot"], "slice": places[0]["slice"]})
    found = verify(plan_from_data(data, "plan"))
    assert any(entry.kind == "geometry" and "overlaps" in entry.message for entry in found.violations)


def test_memory_of_a_slice_is_its_own(plan_data: Data) -> None:
    data = copy.deepcopy(plan_data)
    place = first(data)
    column = data["instance"]["gpu_types"][0]["profile"]["models"][place["model"]]["slices"][place["slice"]]
    column["memory_mib"] = [1e6] * len(column["memory_mib"])
    with pytest.raises(InputError, match="are more than the slice has"):
        plan_from_data(data, "plan")


def test_late_and_overloaded_slices_are_named(plan_data: Data) -> None:
    data = copy.deepcopy(plan_data)
    for workload in data["instance"]["workloads"]:
        workload["slo_ms"] = 4.0
    kinds = {entry.kind for entry in verify(plan_from_data(data, "plan")).violations}
    assert {"latency", "queue-delay"} <= kinds
    data = copy.deepcopy(plan_data)
    data["instance"]["workloads"][0]["rate_rps"] *= 3
    for gpu in data["gpus"]:
        for place in gpu["placements"]:
            place["rate_rps"] *= 3 if place["workload"] == "W1" else 1
    assert "throughput" in {entry.kind for entry in verify(plan_from_data(data, "plan")).violations}


def test_predictions_are_those_of_the_table(plan_data: Data) -> None:
    data = copy.deepcopy(plan_data)
    first(data)["predicted_throughput_rps"] *= 1.01
    assert [entry.kind for entry in verify(plan_from_data(data, "plan")).violations] == ["prediction"]


def test_a_margin_counts(plan_data: Data) -> None:
    data = copy.deepcopy(plan_data)
    data["solver"]["margin"] = 5.0
    assert {"latency", "throughput"} & {entry.kind for entry in verify(plan_from_data(data, "plan")).violations}


def test_little_slack_is_named_where_readings_are_coarse(plan_data: Data) -> None:
    data = copy.deepcopy(plan_data)
    assert verify(plan_from_data(data, "plan")).basis is None
    data["instance"]["gpu_types"][0]["profile"]["latency_resolution_ms"] = 50.0
    assert "readings of slices are rounded" in str(verify(plan_from_data(data, "plan")).basis)


def test_slices_go_with_slots_and_processes(plan_data: Data) -> None:
    data = copy.deepcopy(plan_data)
    del first(data)["slot"]
    with pytest.raises(InputError, match="slice, slot and processes go together"):
        plan_from_data(data, "plan")


def test_a_slice_carries_every_rate_up_to_its_load() -> None:
    """Under `deadline` a batch may fill in time at a rate, and none at some lower one: such loads are refused."""
    profile = read_slice_profile("a100-mig-synthetic")
    workloads = [{"model": "resnet50", "slo_ms": 12.2, "rate_rps": 405.5} for _ in range(7)]
    instance = instance_of(profile, workloads, slo_rule="deadline")
    found = solve(instance)
    assert found.status == "optimal"
    data: Data = json.loads(plan_json(found.plan))
    whole = profile.models["resnet50"].slices["1g.10gb"]
    rows = zip(whole.batch, whole.processes, whole.throughput_rps_per_process, whole.latency_ms, strict=True)
    alone = [
        (batch, number)
        for batch, number, rate, latency in rows
        if number * rate >= 405.5 and latency + 1000.0 * (batch - 1) / 405.5 <= 12.2
    ]
    assert alone  # by latency and throughput alone seven slices of one card would do
    place = data["gpus"][0]["placements"][0]
    data["gpus"] = [
        {
            **data["gpus"][0],
            "placements": [
                {
                    **place,
                    "workload": workload.name,
                    "replica": 1,
                    "slice": "1g.10gb",
                    "slot": slot,
                    "batch": alone[0][0],
                    "processes": alone[0][1],
                    "share_percent": 100.0 / 7.0,
                    "rate_rps": 405.5,
                }
                for slot, workload in enumerate(instance.workloads)
            ],
        }
    ]
    refused = verify(plan_from_data(data, "plan"))
    short = [entry for entry in refused.violations if entry.kind == "throughput"]
    assert len(short) == 7
    assert not any(entry.kind == "latency" for entry in refused.violations)
    assert found.lower_bound == found.cost > instance.gpu_types[0].price_per_hour

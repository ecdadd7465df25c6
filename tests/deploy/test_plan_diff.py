"""Two plans compared: what stays, what changes, what it costs."""

import json
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import igniter_opt as ig
from igniter_opt.base.errors import InputError
from igniter_opt.cli.tables.differences import price_line
from igniter_opt.data.plan import Plan, plan_from_data, plan_json
from igniter_opt.deploy.matching import match_plans
from igniter_opt.deploy.plan_cost import plan_cost
from igniter_opt.deploy.plan_diff import diff_plans


@cache
def solved() -> Plan:
    return ig.solve("igniter-table3", "igniter").plan


@pytest.fixture
def plan() -> Plan:
    return solved()


def shared(data: Any) -> int:
    """The first GPU that carries several placements."""
    return next(k for k, gpu in enumerate(data["gpus"]) if len(gpu["placements"]) > 1)


def edited(plan: Plan, edit: Callable[[Any], object]) -> Plan:
    data = json.loads(plan_json(plan))
    edit(data)
    return plan_from_data(data, "edited")


def test_a_plan_is_as_itself(plan: Plan, tmp_path: Path) -> None:
    ig.write_plan(plan, tmp_path / "plan.json")
    found = diff_plans(str(tmp_path / "plan.json"), plan)
    assert found.same
    assert not found.dearer
    assert found.to_dict()["counts"] == {"start": 0, "change": 0, "stop": 0, "keep": 12}


@given(st.permutations(range(6)), st.booleans())
def test_order_and_names_of_gpus_are_no_difference(order: list[int], renamed: bool) -> None:
    plan = solved()

    def shuffle(data: Any) -> None:
        data["gpus"] = [data["gpus"][k] for k in order]
        for k, gpu in enumerate(data["gpus"]):
            gpu["placements"].reverse()
            gpu["name"] = f"V100-{k + 1}" if renamed else gpu["name"]

    found = diff_plans(plan, edited(plan, shuffle))
    assert found.same
    assert sorted(found.gpu_names.values()) == sorted(gpu.name for gpu in plan.gpus)


def test_most_placements_stay(plan: Plan) -> None:
    """Against every assignment of six GPUs there is."""
    other = ig.solve("igniter-table3", "ffd++").plan
    found = diff_plans(plan, other)

    def settings(of: Plan, k: int) -> Counter[Any]:
        return Counter((p.workload, p.batch, p.share_percent, p.queue_delay_us) for p in of.gpus[k].placements)

    best = max(
        sum((settings(plan, j) & settings(other, k)).total() for k, j in enumerate(order))
        for order in permutations(range(6))
    )
    assert found.to_dict()["counts"]["keep"] == best < 12
    assert set(match_plans(plan, other)) == {gpu.name for gpu in other.gpus}


def test_each_difference_is_named(plan: Plan) -> None:
    def edit(data: Any) -> None:
        first, second = data["gpus"][shared(data)]["placements"][:2]
        first["share_percent"] += 2.5
        second["rate_rps"] += 1
        data["instance"]["workloads"][0]["slo_ms"] = 99
        data["solver"]["margin"] = 0.1

    other = edited(plan, edit)
    gpu = next(gpu for gpu in plan.gpus if len(gpu.placements) > 1)
    names = [placement.workload for placement in gpu.placements[:2]]
    found = diff_plans(plan, other)
    assert not found.same
    marks = {entry.placement.split("/")[1]: entry for entry in found.placements if entry.changes}
    assert {name: entry.mark for name, entry in marks.items()} == {f"{names[0]}#1": "change", f"{names[1]}#1": "keep"}
    assert [change.what for change in marks[f"{names[0]}#1"].changes] == ["share"]
    assert [change.what for change in marks[f"{names[1]}#1"].changes] == ["rate"]
    assert [(entry.workload, *map(str, entry.changes)) for entry in found.workloads] == [
        (plan.instance.workloads[0].name, f"SLO {plan.instance.workloads[0].slo_ms:g} ms to 99 ms")
    ]
    assert list(map(str, found.settings)) == ["margin 0 to 0.1"]


def test_a_gpu_more_costs_more(plan: Plan) -> None:
    def edit(data: Any) -> None:
        moved = data["gpus"][shared(data)]["placements"].pop()
        data["gpus"].append({"name": "V100-1b", "type": "V100", "placements": [moved]})

    other = edited(plan, edit)
    found = diff_plans(plan, other)
    assert (found.old_cost.cost_per_hour, found.new_cost.cost_per_hour) == (18.36, 21.42)
    assert found.dearer
    assert not diff_plans(other, plan).dearer
    (moved,) = (entry for entry in found.placements if entry.mark != "keep")
    assert moved.old is not None
    assert (moved.mark, str(moved.changes[0])) == ("change", f"GPU {moved.old.gpu} to V100-1b")
    assert found.to_dict()["gpus"] == {"V100": {"old": 6, "new": 7}}


def test_a_workload_and_a_replica_more_or_less(plan: Plan) -> None:
    def edit(data: Any) -> None:
        gone = data["gpus"][shared(data)]["placements"].pop()["workload"]
        data["instance"]["workloads"] = [entry for entry in data["instance"]["workloads"] if entry["name"] != gone]

    found = diff_plans(plan, edited(plan, edit))
    assert [entry.mark for entry in found.placements if entry.mark != "keep"] == ["stop"]
    assert [entry.mark for entry in found.workloads] == ["stop"]
    back = diff_plans(edited(plan, edit), plan)
    assert [entry.mark for entry in back.placements if entry.mark != "keep"] == ["start"]
    assert [str(change) for change in back.workloads[0].changes][-1] == "replicas none to 1"


def test_a_new_gpu_gets_a_name_that_is_free(plan: Plan) -> None:
    def edit(data: Any) -> None:
        """One placement has a new GPU, under the name of one that goes on under another name."""
        gpu = data["gpus"][shared(data)]
        moved = gpu["placements"].pop()
        name, gpu["name"] = gpu["name"], "other"
        data["gpus"].append({"name": name, "type": "V100", "placements": [moved | {"share_percent": 2.5}]})

    found = diff_plans(plan, edited(plan, edit))
    assert len(set(found.gpu_names.values())) == 7
    assert found.to_dict()["counts"] == {"start": 0, "change": 1, "stop": 0, "keep": 11}


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda data: data["gpus"][0].update(type="H9000"), "GPU V100-1 is of type 'H9000'"),
        (lambda data: data["gpus"][1]["placements"][0].update(workload="W99"), "is of no workload of the instance"),
    ],
)
def test_plans_that_name_what_is_not_there(plan: Plan, edit: Callable[[Any], object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        diff_plans(plan, edited(plan, edit))


def test_the_price_is_that_of_the_gpus_not_what_the_plan_says(plan: Plan) -> None:
    cheap = edited(plan, lambda data: data["solver"].update(cost_per_hour=0.01))
    assert plan_cost(cheap).cost_per_hour == 18.36


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda gpu: gpu.update(price_per_hour=1.53), ["price 3.06 to 1.53"]),
        (lambda gpu: gpu.update(count=9), ["count 10 to 9"]),
        (lambda gpu: gpu.update(memory_mib=15000), ["memory none to 15000 MiB"]),
        (lambda gpu: gpu["profile"]["hardware"].update(max_power_w=299), ["profile v100 (", ") to v100 ("]),
    ],
)
def test_what_changed_of_a_gpu_type_is_named(plan: Plan, edit: Callable[[Any], object], says: list[str]) -> None:
    other = edited(plan, lambda data: edit(data["instance"]["gpu_types"][0]))
    found = diff_plans(plan, other)
    assert not found.same
    ((gpu_type, mark, text),) = [
        (entry.gpu_type, entry.mark, ", ".join(map(str, entry.changes))) for entry in found.gpu_types
    ]
    assert (gpu_type, mark) == ("V100", "change")
    assert all(part in text for part in says)
    (shown,) = found.to_dict()["gpu_types"]
    assert shown["gpu_type"] == "V100"
    assert shown["changes"]


def test_a_gpu_type_more_or_less_is_named(plan: Plan) -> None:
    def edit(data: Any) -> None:
        data["instance"]["gpu_types"].append({**data["instance"]["gpu_types"][0], "name": "A100", "price_per_hour": 4})

    other = edited(plan, edit)
    (more,), (less,) = diff_plans(plan, other).gpu_types, diff_plans(other, plan).gpu_types
    assert (more.gpu_type, more.mark, str(more.changes[0])) == ("A100", "start", "price none to 4")
    assert (less.gpu_type, less.mark, str(less.changes[0])) == ("A100", "stop", "price 4 to none")


def test_dearer_is_judged_by_the_new_prices(plan: Plan) -> None:
    def priced(data: Any, price: float) -> None:
        data["instance"]["gpu_types"][0]["price_per_hour"] = price

    def one_more(data: Any) -> None:
        moved = data["gpus"][shared(data)]["placements"].pop()
        data["gpus"].append({"name": "V100-1b", "type": "V100", "placements": [moved]})
        priced(data, 1.53)

    more, raised = edited(plan, one_more), edited(plan, lambda data: priced(data, 4))
    found = diff_plans(plan, more)
    assert (found.old_cost.cost_per_hour, found.new_cost.cost_per_hour) == (18.36, 10.71)
    assert found.to_dict()["old_cost_at_new_prices"] == 9.18
    assert found.dearer
    assert found.repriced
    assert not diff_plans(plan, raised).dearer


def test_a_type_no_longer_on_offer_counts_at_its_old_price(plan: Plan) -> None:
    def renamed(data: Any) -> None:
        data["instance"]["gpu_types"][0].update(name="V100S", price_per_hour=5)
        for gpu in data["gpus"]:
            gpu["type"] = "V100S"

    found = diff_plans(plan, edited(plan, renamed))
    assert found.to_dict()["old_cost_at_new_prices"] == 18.36
    assert found.dearer
    assert not found.repriced


def test_costs_in_different_currencies_are_not_compared() -> None:
    plan = ig.solve("igniter-motivation", "igniter").plan
    other = plan.model_copy(update={"instance": plan.instance.model_copy(update={"currency": "EUR"})})
    found = diff_plans(plan, other)
    assert not found.same
    assert found.to_dict()["currency"] == {"old": "USD", "new": "EUR"}
    with pytest.raises(InputError, match="prices are in USD, the new one's in EUR"):
        assert found.dearer
    assert price_line(found.old_cost, found.new_cost).startswith(
        "price per hour: 3.06 USD → 3.06 EUR (another currency)"
    )

"""The command ``replan``: what it writes and says, and bad input."""

from pathlib import Path

import pytest

import igniter_opt as ig
from tests.cli.helpers import invoke, rejected


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    ig.write_plan(ig.solve("igniter-table3", "patterns").plan, "plan.json")
    return "plan.json"


def test_nothing_changed(plan: str) -> None:
    run = invoke("replan", plan, "igniter-table3")
    assert run.code == 0
    assert "disruption: 0 (bound 0, optimal): 0 moves, 0 restarts and 0 resizes in place" in run.out
    assert run.out.splitlines()[-1] == "migration: no server starts or stops"


def test_a_change_is_written_with_its_way(plan: str) -> None:
    run = invoke("replan", plan, "igniter-table3", "--scale", "0.8", "--spare-gpus", "1", "-o", "next.json")
    assert run.code == 0
    assert "cost: 15.3 USD per hour (bound 15.3, optimal)" in run.out
    found = ig.read_plan("next.json")
    assert found.migration is not None
    steps = len(found.migration.steps)
    assert f"migration: {steps} steps, verified at the new rates" in run.out
    assert "on the way only: V100-spare-1" in run.out
    assert invoke("verify", "next.json").code == 0
    assert f"migration: {steps} steps" in invoke("approve", "next.json", "--yes").out


def test_what_is_kept_stays(plan: str) -> None:
    found = invoke("replan", plan, "igniter-table3", "--scale", "0.8", "--keep", "W9", "--json").json()
    before = {p.workload: gpu.name for gpu in ig.read_plan(plan).gpus for p in gpu.placements}
    after = {p["workload"]: gpu["name"] for gpu in found["gpus"] for p in gpu["placements"]}
    assert after["W9"] == before["W9"]
    still = invoke("replan", plan, "igniter-table3", "--scale", "0.8", "--max-moves", "0", "--json").json()
    assert still["migration"]["disruption"]["moves"] == 0
    assert {p["workload"]: gpu["name"] for gpu in still["gpus"] for p in gpu["placements"]} == before


def test_a_price_of_moves_weighs_them_against_the_cost(plan: str) -> None:
    dear, cheap = (
        invoke("replan", plan, "igniter-table3", "--scale", "0.8", "--move-price", price, "--json").json()
        for price in ("100", "0.01")
    )
    assert dear["migration"]["disruption"]["weighted"] == 0
    assert dear["solver"]["cost_per_hour"] == 18.36
    assert cheap["solver"]["cost_per_hour"] == 15.3


def test_bad_input(plan: str) -> None:
    asked = ("replan", plan, "igniter-table3")
    assert "--keep W99: the instance has no such workload" in rejected(*asked, "--keep", "W99")
    assert "--keep W99: the instance has no such workload" in rejected(*asked, "--keep", "W99")
    assert "must be three numbers" in rejected(*asked, "--weights", "1,2")
    assert "the weight of a move must be 0 to 1000" in rejected(*asked, "--weights", "-1,0,0")
    assert "the most moves must be 0 or more" in rejected(*asked, "--max-moves", "-1")
    assert "the price of a move must be 0 to 1e9" in rejected(*asked, "--move-price", "-1")
    assert "the number of spare GPUs must be 0 to 100" in rejected(*asked, "--spare-gpus", "101")
    assert "would overwrite what is read" in rejected(*asked, "-o", plan)
    assert "nowhere.json: no such file" in rejected("replan", "nowhere.json", "igniter-table3")


def test_gaps_are_told(plan: str) -> None:
    ig.write_plan(ig.solve("igniter-motivation", "patterns").plan, "one.json")
    # One GPU, and its servers need more share than it has left.
    instance = ig.read_instance("igniter-motivation")
    workloads = tuple(w.model_copy(update={"rate_rps": w.rate_rps * 1.05}) for w in instance.workloads)
    ig.write_instance(instance.model_copy(update={"workloads": workloads}), "more.yaml")
    plain = invoke("replan", "one.json", "more.yaml")
    assert "without a server for a while, since no GPU has room for old and new" in plain.out
    spare = invoke("replan", "one.json", "more.yaml", "--spare-gpus", "1")
    assert "without a server" not in spare.out
    assert "on the way only: " in spare.out

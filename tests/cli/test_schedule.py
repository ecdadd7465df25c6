"""The command ``schedule`` and the demand that others make: what is written and said, and bad input."""

from pathlib import Path

import pytest

import igniter_opt as ig
from tests.cli.helpers import invoke, rejected

MADE = ("instances", "generate", "--workloads", "3", "--seed", "1", "-o", "three.yaml")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert invoke(*MADE, "--demand", "three.csv", "--days", "0.25").code == 0
    return tmp_path


def test_it_writes_and_says_what_it_found() -> None:
    asked = ("schedule", "three.yaml", "--demand", "three.csv", "--step", "2h", "--move-cost", "0.3", "-o", "out")
    run = invoke(*asked, "--workers", "1")
    assert run.code == 0
    assert [line.split("  ")[0] for line in run.out.splitlines()[:5]] == [
        "plans",
        "this schedule",
        "one plan for the peak",
        "each step afresh",
        "greedy, each step",
    ]
    assert "for any schedule; this one is within" in run.out
    assert {path.name for path in Path("out").iterdir()} == {"schedule.json", "steps.csv", "timeline.svg", "plans"}
    for path in Path("out/plans").iterdir():
        assert invoke("verify", path).code == 0
    # Again into the same folder, as JSON.
    found = invoke(*asked, "--workers", "1", "--json").json()
    assert found["steps"] == 3
    assert found["lower_bound"] <= found["cost"] == found["totals"]["schedule"]["cost"]


def test_demand_is_drawn_again_the_same() -> None:
    first = Path("three.csv").read_bytes()
    assert invoke(*MADE, "--demand", "three.csv", "--days", "0.25").code == 0
    assert Path("three.csv").read_bytes() == first
    demand = ig.read_demand("three.csv")
    assert (demand.steps, demand.step_s, demand.names) == (36, 600.0, ("w1", "w2", "w3"))
    assert invoke("instances", "scale-demand", "three.csv", "igniter-three", "-o", "scaled.csv").code == 0
    assert ig.read_demand("scaled.csv").names == ("A", "R", "S")


def test_bad_input() -> None:
    asked = ("schedule", "three.yaml", "--demand", "three.csv")
    rejected("schedule", "three.yaml", "--demand", "none.csv", says=("none.csv: no such file",))
    rejected("schedule", "igniter-three", "--demand", "three.csv", says=("no column for A, R, S",))
    rejected(*asked, "--step", "soon", says=("--step: must be a time such as 30s",))
    rejected(*asked, "--step", "25min", says=("no whole multiple of the demand's own, 600 s",))
    rejected(*asked, "--forecast", "crystal", says=("unknown forecast",))
    rejected(*asked, "--forecast", "seasonal", says=("a forecast needs a past",))
    rejected(*asked, "--move-cost", "-1", says=("the price of a move must be 0",))
    rejected(*asked, "--weights", "1,2", says=("must be three numbers",))
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("mine")
    rejected(*asked, "-o", "mine", says=("a folder with other files",))
    rejected(*asked, "-o", "three.yaml", says=("is no folder",))
    Path("bad.csv").write_text("time_s,w1,w2,w3\n0,1,1,1\n600,1,-1,1\n")
    rejected("schedule", "three.yaml", "--demand", "bad.csv", says=("line 3: the rate of w2 must be 0 to",))

"""What others make of a plan that holds beside neighbours as they are only."""

import json
from pathlib import Path

import pytest

from igniter_opt import explain, solve
from igniter_opt.base.errors import Caution, InputError, UnsuitableError
from igniter_opt.data.plan import Plan, write_plan
from igniter_opt.deploy.approval import make_approval
from igniter_opt.sensitivity import sensitivity
from tests.cli.helpers import invoke
from tests.support.rare import rare


@pytest.fixture(scope="module")
def plan() -> Plan:
    return solve(rare(0.5), time_limit=60, neighbours="actual").plan


@pytest.fixture
def path(plan: Plan, tmp_path: Path) -> Path:
    write_plan(plan, tmp_path / "plan.json")
    return tmp_path / "plan.json"


def test_explain_says_what_it_takes_neighbours_for(plan: Plan) -> None:
    with pytest.warns(Caution, match="explain takes neighbours to be busy all the time"):
        found = explain(plan)
    assert len(found.placements) == 2


def test_what_ifs_are_left_out(plan: Plan) -> None:
    with pytest.raises(UnsuitableError, match="beside neighbours as they are, by simulation"):
        sensitivity(plan, time_s=1)


def test_it_can_be_approved(plan: Plan) -> None:
    assert make_approval(plan).verification.placements == 2


def test_verify_says_how_sure_it_is(path: Path) -> None:
    shown = invoke("verify", path)
    assert shown.code == 0
    assert "the plan holds" in shown.out
    assert "neighbours as they are; busy all the time 6.12, bound 6.12" in shown.out
    data = invoke("verify", path, "--json").json()
    assert data["ok"]
    assert "1 GPU of 1 by simulation" in data["basis"]
    assert [entry["ok"] for entry in data["placements"]] == [True, True]


def test_an_edited_plan_is_judged_as_it_is(path: Path) -> None:
    """Without the note, and with less share than was simulated, it does not hold."""
    data = json.loads(path.read_text())
    note = data.pop("neighbours")
    path.write_text(json.dumps(data))
    assert invoke("verify", path).code == 1
    data["neighbours"] = note
    data["gpus"][0]["placements"][0]["share_percent"] = 47.5
    path.write_text(json.dumps(data))
    shown = invoke("verify", path)
    assert shown.code == 1
    assert "beside actual neighbours" in shown.out


def test_it_is_no_start_for_neighbours_that_are_busy(plan: Plan) -> None:
    with pytest.raises(InputError, match="start plan: it does not hold for this instance"):
        solve(rare(0.5), time_limit=60, start=plan)


def test_the_report_is_made(path: Path, tmp_path: Path) -> None:
    shown = invoke("report", path, "-o", tmp_path / "page.html", "--what-if-time", "0")
    assert shown.code == 0
    assert (tmp_path / "page.html").exists()

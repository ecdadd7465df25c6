"""The command `report`: what it writes, what it refuses to overwrite, exit codes, bad input."""

import json
from pathlib import Path

import pytest

from igniter_opt import read_instance, solve
from igniter_opt.base import command
from igniter_opt.cli import console
from igniter_opt.data.plan import write_plan
from tests.cli.helpers import invoke, rejected


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke("solve", "igniter-three", "--history", "history.json", "-o", "plan.json").code == 0


QUICK = ("--what-if-time", "0")


def test_the_page_is_written_and_its_place_is_said() -> None:
    run = invoke("report", "plan.json", "--history", "history.json", *QUICK)
    assert (run.code, run.err) == (0, "")
    assert run.out.splitlines()[-1] == "all SLOs hold; the page is report.html"
    page = Path("report.html").read_text(encoding="utf-8")
    assert "igniter-opt report plan.json --history history.json --what-if-time 0" in page
    # Ours is replaced.
    assert invoke("report", "plan.json", *QUICK).code == 0


def test_json_has_what_the_page_says() -> None:
    invoke("simulate", "plan.json", "--requests", "1000", "--seeds", "1")
    simulated = invoke("simulate", "plan.json", "--requests", "1000", "--seeds", "1", "--json")
    Path("sim.json").write_text(simulated.out)
    run = invoke(
        "report", "plan.json", "--measurements", "sim.json", "--json", "--what-if-time", "300", "-o", "there.html"
    )
    assert run.code == 0
    found = run.json()
    assert Path("there.html").exists()
    assert found["plan"]["cost_per_month"] == pytest.approx(730 * 3.06)
    assert {row["method"] for row in found["baselines"]} == {
        "igniter",
        "ffd",
        "ffd++",
        "gpulets",
        "gslice",
        "bestfit",
        "dedicated",
    }
    assert found["measurements"][0]["kind"] == "simulated"
    assert found["sensitivity"]["complete"] is True
    assert all(row["ok"] for row in found["verification"]["placements"])
    before = set(Path().iterdir())
    assert invoke("report", "plan.json", "--json", *QUICK).code == 0
    assert set(Path().iterdir()) == before


def test_a_plan_that_does_not_hold_gives_a_page_and_exit_code_1() -> None:
    data = json.loads(Path("plan.json").read_text())
    data["gpus"][0]["placements"][0]["share_percent"] = 2.5
    Path("plan.json").write_text(json.dumps(data))
    run = invoke("report", "plan.json")
    assert run.code == 1
    assert "1 workload misses its SLO or rate" in run.out
    assert "The plan does not hold" in Path("report.html").read_text(encoding="utf-8")


def test_what_is_not_ours_is_not_overwritten_by_default() -> None:
    Path("report.html").write_text("<html>somebody's</html>")
    rejected(
        "report",
        "plan.json",
        *QUICK,
        says=("report.html: exists and is not a report of igniter-opt; choose another path",),
    )


def test_inputs_are_not_overwritten() -> None:
    rejected("report", "plan.json", "-o", "plan.json", says=("--output would overwrite an input",))
    rejected(
        "report", "plan.json", "--history", "history.json", "-o", "history.json", says=("would overwrite an input",)
    )
    rejected("solve", "igniter-three", "--history", "x", "-o", "x", says=("--history would overwrite --output",))
    rejected(
        "solve", "igniter-three", "--start", "plan.json", "--history", "plan.json", says=("the plan to start from",)
    )


def test_bad_input() -> None:
    Path("list.json").write_text("[]")
    write_plan(solve(read_instance("igniter-motivation"), "igniter").plan, Path("other.json"))
    rejected("report", "missing.json", says=("missing.json: no such file",))
    rejected("report", "plan.json", "--measurements", "list.json", says=("list.json: not measurements",))
    rejected("report", "plan.json", "--measurements", "plan.json", says=("not measurements", "igniter-opt/plan@1"))
    rejected("report", "plan.json", "--history", "list.json", says=("list.json: not a history",))
    rejected("report", "other.json", "--history", "history.json", says=("history of another solve",))
    rejected("report", "plan.json", "--what-if-time", "-1", says=("--what-if-time",))
    rejected("report", "plan.json", "--what-if-time", "nan", says=("--what-if-time",))
    rejected("report", "plan.json", "-o", "no/such/folder.html", says=("the folder no/such does not exist",))


def test_ctrl_c_in_the_what_ifs_still_writes_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    assert invoke("solve", "igniter-table3", "-o", "table3.json").code == 0
    monkeypatch.setattr(console.CountPrinter, "__call__", interrupt)
    monkeypatch.setattr(command, "is_running", lambda: True)
    run = invoke("report", "table3.json", "-o", "page.html")
    assert run.code == 130
    assert run.err == "interrupted: the page has what was found so far\n"
    assert "s given, interrupted" in Path("page.html").read_text(encoding="utf-8")


def test_a_log_goes_to_a_file_or_to_a_stderr_that_is_no_terminal() -> None:
    assert invoke("solve", "igniter-three", "--method", "patterns", "--log", "solve.log").code == 0
    head, problem, *_, outcome = Path("solve.log").read_text().splitlines()
    assert (head, problem.partition(":")[0]) == ("# log of igniter-opt solve", "patterns")
    assert outcome.startswith("optimal: cost ")
    assert invoke("solve", "igniter-three", "--method", "igniter", "--log", "solve.log").code == 0
    assert len(Path("solve.log").read_text().splitlines()) == 3
    run = invoke("solve", "igniter-three", "--method", "patterns", "--log", "-")
    assert " bound/h " in run.err
    assert "; ended: cost and total share are proven" in run.err
    assert not Path("-").exists()
    rejected("solve", "igniter-three", "--log", "x", "-o", "x", says=("would overwrite",))

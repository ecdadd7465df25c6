"""The command ``whatif``: what it writes and says, bad input, and Ctrl-C."""

import csv
import signal
from pathlib import Path

import pytest

from igniter_opt.cli import console
from tests.cli.helpers import invoke, rejected

ASKED = ("whatif", "igniter-table3", "--vary", "slo=0.9:1.2:4", "--workers", "1")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_points_steps_and_files() -> None:
    run = invoke(*ASKED, "-o", "sweep.csv", "--plot", "sweep.png")
    assert (run.code, run.err) == (0, "")
    assert "1 GPU less from 1.1 times on (proven)" in run.out
    assert "4 points: 4 proven, " in run.out
    with Path("sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["slo"], row["cost_per_hour"]) for row in rows] == [
        ("0.9", "18.36"), ("1.0", "18.36"), ("1.1", "15.3"), ("1.2", "15.3"),
    ]  # fmt: skip
    assert Path("sweep.png").stat().st_size > 10_000


def test_json_has_points_and_steps() -> None:
    found = invoke(*ASKED, "--json").json()
    assert [entry["cost_per_hour"] for entry in found["points"]] == [18.36, 18.36, 15.3, 15.3]
    assert found["steps"] == [
        {"below": 1.0, "above": 1.1, "words": "1 GPU less from 1.1 times on", "proven": True},
    ]
    assert found["vary"] == [{"key": "slo", "what": "all SLOs (times)", "values": [0.9, 1.0, 1.1, 1.2]}]


def test_where_nothing_holds_there_is_no_picture() -> None:
    run = invoke("whatif", "igniter-table3", "--vary", "rate=5,6", "--workers", "1", "--plot", "sweep.png")
    assert run.code == 0
    assert "infeasible" in run.out
    assert "sweep.png was not drawn" in run.err
    assert not Path("sweep.png").exists()


def test_ctrl_c_writes_the_points_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    def press(_: object, done: int, of_all: int) -> None:
        if done == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(console.CountPrinter, "__call__", press)
    run = invoke(*ASKED, "-o", "sweep.csv")
    assert run.code == 130
    assert "interrupted: these are the points so far" in run.err
    assert len(Path("sweep.csv").read_text().splitlines()) == 1 + 2


def test_bad_input() -> None:
    assert "Missing option '--vary'" in rejected("whatif", "igniter-table3")
    assert "did you mean 'slo'?" in rejected("whatif", "igniter-table3", "--vary", "sloo=1:2:3")
    assert "goes with the SLO rule p99 only" in rejected("whatif", "igniter-table3", "--vary", "percentile=0.9,0.99")
    assert "--scheduler" in rejected(*ASKED[:4], "--engine", "dask")
    assert "did you mean" in rejected(*ASKED[:4], "--engine", "loca")
    assert "sweep.json: a sweep is written as .csv" in rejected(*ASKED, "-o", "sweep.json")
    assert "must end in png" in rejected(*ASKED, "--plot", "sweep.txt").replace(".png", "png")
    Path("mine.csv").write_text("a,b\n1,2\n")
    assert "exists and is not a sweep" in rejected(*ASKED, "-o", "mine.csv")
    assert Path("mine.csv").read_text() == "a,b\n1,2\n"

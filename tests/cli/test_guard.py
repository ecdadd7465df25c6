"""The guard's command line: what it refuses, and what it prints; nothing is started."""

import json
from pathlib import Path

import pytest

import igniter_opt as ig
from igniter_opt.cli.tables.guard import Printer
from igniter_opt.deploy.approval import plan_digest
from igniter_opt.deploy.state import Store
from igniter_opt.guard.journal import LOG_FILE, Event
from tests.cli.helpers import invoke, rejected
from tests.deploy.models import write_installation
from tests.guard.test_choose import three
from tests.guard.test_run import deployment
from tests.measure.fake_server import endpoints_of


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ig.write_plan(three(), tmp_path / "plan.json")
    return tmp_path


@pytest.fixture
def deployed(folder: Path) -> Store:
    """A state as a launcher leaves it, of servers that are not there."""
    store = Store(folder / "state", "igniter-three")
    store.create()
    found = deployment(three()).model_copy(
        update={"name": store.name, "owner": store.owner, "plan_digest": plan_digest(three()), "plan_path": "plan.json"}
    )
    store.save(found)
    return store


def test_what_is_not_deployed(folder: Path) -> None:
    assert "deploy the plan first" in rejected("guard", "plan.json")
    assert "no such file" in rejected("guard", "none.json")
    rejected("guard", "plan.json", "--name", "../x", says=("--name",))


def test_another_plan(deployed: Store) -> None:
    other = ig.solve(ig.read_instance("igniter-three"), "ffd++").plan
    ig.write_plan(other, Path("other.json"))
    rejected("guard", "other.json", "--state", "state", says=("runs another plan (plan.json)",))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--interval", "0"], "interval must be between"),
        (["--window", "0.1"], "window must be between 0.25"),
        (["--window", "nan"], "window must be between"),
        (["--looks", "0"], "looks must be between 1"),
        (["--cool-down", "0"], "cool-down must be between 1"),
        (["--step", "-5"], "step must be between"),
        (["--allowance", "1"], "--allowance goes with --feed"),
        (["--allowance", "-1", "--feed", "feed.jsonl"], "allowance must be between 0"),
        (["--for", "0"], "duration must be between"),
        (["--drain", "-1"], "--drain"),
        (["--base-port", "1"], "--base-port"),
        (["--feed", "."], "is no regular file"),
        (["--feed", "none/feed"], "the folder none does not exist"),
        (["--image", "x"], "these are processes"),
        (["--tritonserver", "none"], "is no executable file"),
    ],
)
def test_options_out_of_range(deployed: Store, options: list[str], says: str) -> None:
    run = invoke("guard", "plan.json", "--state", "state", *options)
    assert run.code == 2, run.err
    assert run.err.count("error: ") == 1 and says in run.err
    assert run.out == ""
    assert not (deployed.folder / LOG_FILE).exists()


def test_servers_whose_files_are_gone(deployed: Store) -> None:
    write_installation(Path("cache/igniter-opt/triton-2.51.0"))
    run = invoke("guard", "plan.json", "--state", "state", "--for", "1")
    assert run.code == 2 and "the files of V100-1/R#1 are gone; run `igniter-opt deploy` again" in run.err
    assert not (deployed.folder / LOG_FILE).exists()


def test_a_feed_that_cannot_be_written(folder: Path) -> None:
    endpoints = endpoints_of(("127.0.0.1:1", "http://127.0.0.1:2"), rate=1.0)
    Path("endpoints.json").write_text(json.dumps(endpoints.model_dump(mode="json", by_alias=True)))
    for feed, says in ((".", "cannot be written"), ("none/feed", "cannot be written"), ("endpoints.json", "overwrite")):
        assert says in rejected("measure", "endpoints.json", "--feed", feed)


EVENT = Event(
    at="2026-11-24T12:49:28.136+00:00", event="repair", workload="A", replica=1, requests=234, late=200,
    percentile=0.99, percentile_ms=304.572, slo_ms=40.0, rate_rps=234.0, factor=1.3352, gpu="V100-1",
    share_percent=20.0, to_gpu="V100-2", to_share_percent=30.0, why="the least [red]share",
)  # fmt: skip


def test_events_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    with Printer(json=False, quiet=False) as printer:
        printer.event(EVENT)
        printer.event(EVENT.model_copy(update={"percentile_ms": None, "dry_run": True}))
        printer.event(EVENT.model_copy(update={"percentile": None, "percentile_ms": None, "mean_ms": 50.0}))
        printer.event(Event(at=EVENT.at, event="ended"))
    first, second, third, last = capsys.readouterr().out.splitlines()
    assert first == (
        "12:49:28.136 repair A#1: 20 % -> 30 % on V100-2; P99 304.57 ms of 40 ms, 200 of 234 late,"
        " batches take 1.34 times as long; the least [red]share"
    )
    assert "P99 infinite of 40 ms" in second and "not done (dry run)" in second
    assert "mean 50.00 ms of 40 ms (234 requests)" in third
    assert last == "12:49:28.136 ended"


def test_events_as_json_and_not_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    with Printer(json=True, quiet=False) as printer:
        printer.event(EVENT)
    assert json.loads(capsys.readouterr().out) == json.loads(EVENT.line())
    with Printer(json=False, quiet=True) as printer:
        printer.event(EVENT)
    assert capsys.readouterr().out == ""

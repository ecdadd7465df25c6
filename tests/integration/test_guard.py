"""A guard on real Triton servers whose batches take 1.3 times as long as predicted: found, and repaired within 5 s.

AlexNet of the three-workload plan, as in Figure 17 of Xu et al. 2023, in time slowed eightfold (80 ms, 150 req/s).
"""

import json
import math
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import igniter_opt as ig
from bench.guard.slowed import slowed_instance
from igniter_opt.deploy import launch
from igniter_opt.deploy.apply import Options
from igniter_opt.deploy.approval import approval_path, make_approval, write_approval
from igniter_opt.deploy.backends.process import ProcessBackend
from igniter_opt.deploy.state import Store
from igniter_opt.deploy.triton.install import Installation
from igniter_opt.guard.choose import variants
from igniter_opt.guard.journal import Event, GuardLog
from igniter_opt.rehearse.emulation import write_emulated_models
from tests.cli.helpers import Run, Running, script

pytestmark = pytest.mark.alone

SLOWED, ERROR, SLO_MS = 8.0, 1.3, 80.0
# From the guard's first full window (of 1 s) to the switch.
REPAIRED_S = 5.0


class Stage:
    """The plan, deployed on models that are slower than it says."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state, self.plan = folder, folder / "state", folder / "plan.json"
        self.running: list[Running] = []
        plan = ig.solve(slowed_instance(SLOWED), "igniter").plan
        ig.write_plan(plan, self.plan)
        write_approval(make_approval(plan), approval_path(self.plan))
        write_emulated_models(plan, folder / "models", slowdown=ERROR, variants=variants(plan, ("A", 1)))
        self.store = Store(self.state, plan.instance.name)
        self.deploy()

    def deploy(self) -> launch.Prepared:
        request = launch.Request(
            plan=self.plan,
            models=self.folder / "models",
            cpu=True,
            options=Options(base_port=28000),
        )
        return launch.deploy(request, self.store, ProcessBackend())

    def load(self, seconds: float) -> Running:
        out = ["--feed", self.folder / "feed.jsonl", "-o", self.folder / "measured.json"]
        options = ["--only", "A", "--arrivals", "constant", "--warm-up", "0", "--duration", str(seconds)]
        running = Running("measure", self.plan, "--state", self.state, *options, *out)
        self.running.append(running)
        self.wait_for(lambda: len(self.latencies()) > 30, "no load came")
        return running

    def guard(self, *options: str | Path) -> Running:
        running = Running("guard", self.plan, "--state", self.state, "--base-port", "28000", *options)
        self.running.append(running)
        return running

    def events(self) -> list[Event]:
        return GuardLog(self.store.folder).read()

    def last(self, kind: str) -> Event:
        return [event for event in self.events() if event.event == kind][-1]

    def latencies(self, server: str | None = None, since: float = 0.0) -> list[float]:
        path = self.folder / "feed.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        rows = [json.loads(line) for line in lines if line.endswith("\n")]
        kept = [row for row in rows if server in (None, row["server"]) and row["at"] >= since]
        return [latency for row in kept for latency in row["latencies_ms"]]

    def is_starting(self) -> bool:
        """Whether a server is being started."""
        state = self.store.load()
        return state is not None and any(r.phase == "starting" and r.handle for r in state.replicas)

    def wait_for_events(self, kind: str, count: int = 1) -> None:
        self.wait_for(lambda: [e.event for e in self.events()].count(kind) >= count, f"no event {kind}")

    @staticmethod
    def wait_for(what: Any, otherwise: str) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if what():
                return
            time.sleep(0.05)
        raise AssertionError(otherwise)

    def measured(self) -> Any:
        return json.loads((self.folder / "measured.json").read_text())


@pytest.fixture
def stage(triton: Installation, tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    for running in made.running:
        running.process.kill()
        running.process.wait()
    launch.teardown(made.store, ProcessBackend(), Options())


def seconds_of(event: Event) -> float:
    return datetime.fromisoformat(event.at).timestamp()


def assert_no_request_failed(run: Run, found: Any) -> None:
    assert run.code in (1, 2), run.err  # the SLO was broken before the repair; a busy machine gives no verdict
    (workload,) = found["workloads"]
    assert workload["requests"] == workload["answered"] > 0
    assert (workload["failed"], found["partial"]) == (0, None)


def test_found_and_repaired_although_guards_are_killed(stage: Stage) -> None:
    for attempt in range(3):
        load = stage.load(15)
        first = stage.guard("--feed", stage.folder / "feed.jsonl")
        stage.wait_for(stage.is_starting, "no server is started")
        first.send(signal.SIGKILL)
        first.wait(10)
        second = stage.guard("--feed", stage.folder / "feed.jsonl", "--for", "6", "--json")
        guarded, loaded = second.wait(40), load.wait(40)
        found = stage.measured()
        assert_no_request_failed(loaded, found)
        p99, after, repaired_s = math.inf, list[float](), math.inf
        if found["switches"]:
            switched = seconds_of(stage.last("switched"))
            after = stage.latencies(found["switches"][0]["after"], switched + 0.5)
            p99 = float(np.quantile(after, 0.99))
            repaired_s = switched - (seconds_of(stage.last("watching")) + 1.0)
        print(f"attempt {attempt}: {repaired_s:.1f} s, P99 {p99:.1f} ms, {found['cpu_percent']:.0f} % busy")
        well = p99 <= SLO_MS and repaired_s <= REPAIRED_S
        if well or attempt == 2:
            break
        stage.deploy()  # once more: other work on the machine only ever adds to latencies
        GuardLog(stage.store.folder).path.unlink()
        (stage.folder / "feed.jsonl").unlink()
    assert (p99 <= SLO_MS, repaired_s <= REPAIRED_S, len(found["switches"])) == (True, True, 1)
    assert len(after) > 500
    assert guarded.code == 0, (guarded.out, guarded.err)
    events = [json.loads(line) for line in guarded.out.splitlines()]
    assert [e["event"] for e in events] == ["resumed", "watching", "repair", "switched", "done", "ended"]
    assert "half-started before" in events[0]["why"]
    repair = stage.last("repair")
    assert (repair.share_percent, repair.to_share_percent, repair.as_planned) == (20.0, 30.0, False)
    assert ERROR - 0.05 < (repair.factor or 0) < ERROR + 0.25

    run = script("status", "--state", stage.state)
    assert run.code == 0 and "30 (guarded; plan: 20)" in run.out
    assert not stage.deploy().nothing
    assert stage.deploy().nothing


def test_found_by_the_servers_own_statistics(stage: Stage) -> None:
    load = stage.load(10)
    running = stage.guard()
    stage.wait_for_events("done")
    run = script("guard", stage.plan, "--state", stage.state)
    assert run.code == 2 and "is watched by a guard already (process" in run.err
    running.send(signal.SIGINT)
    run = running.wait(20)
    assert run.code == 130, run.err
    assert "repair A#1: 20 % -> 30 %" in run.out and "ended: interrupted" in run.out
    repair = stage.last("repair")
    assert repair.percentile_ms is None and (repair.mean_ms or 0) > SLO_MS
    loaded = load.wait(30)
    assert_no_request_failed(loaded, stage.measured())
    assert "note: A replica 1 went to the server at" in loaded.err

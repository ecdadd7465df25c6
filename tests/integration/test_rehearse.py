"""Rehearsals on real servers beside the simulation of the same requests."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import igniter_opt as ig
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.deploy.apply import Options as ApplyOptions
from igniter_opt.deploy.backends.base import OWNER
from igniter_opt.deploy.backends.process import ProcessBackend
from igniter_opt.deploy.records import ReplicaRecord
from igniter_opt.deploy.state import Deployment, Store
from igniter_opt.deploy.triton.install import Installation
from igniter_opt.measure.options import MeasureOptions
from igniter_opt.measure.server import model_statistics
from igniter_opt.rehearse.run import RehearsalSite, rehearse
from tests.cli.helpers import SCRIPT, Running, script


class Stage:
    """A folder of plans, and where rehearsals keep their state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.options = ["--state", self.state, "--base-port", "26000"]

    def plan(self, name: str, *options: str) -> Path:
        path = self.folder / f"{name}.json"
        run = script("solve", "igniter-three", *options, "-o", path)
        assert run.code == 0, run.err
        return path

    def rehearse(self, plan: Path, *options: str) -> Any:
        """Rehearse as fast as this machine can judge: busy with other work, it says that it cannot."""
        for scale, seconds in (("0.5", 12), ("0.25", 20), ("0.1", 30)):
            pace = ["--scale", scale, "--duration", str(seconds), "--warm-up", "2"]
            run = script("rehearse", plan, *self.options, *options, *pace, "--json")
            if run.code != 2:
                break
            assert "no verdict: " in run.err
        assert run.code in (0, 1), run.err
        found = run.json()
        assert run.code == (0 if all(entry["holds"] for entry in found["workloads"]) else 1)
        assert found["verdict"]["reasons"] == []
        return found

    def state_of(self) -> Deployment | None:
        return Store(self.state, "rehearsal-igniter-three").load()

    def wait_for_servers(self) -> None:
        """Wait until all three servers are ready."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            state = self.state_of()
            if state is not None and [record.phase for record in state.replicas] == ["ready"] * 3:
                return
            time.sleep(0.1)
        raise AssertionError("the servers did not get ready")

    def record(self, workload: str) -> ReplicaRecord:
        state = self.state_of()
        assert state is not None
        return next(record for record in state.replicas if record.workload == workload)

    def server(self, workload: str) -> psutil.Process:
        return psutil.Process(int(self.record(workload).handle or 0))

    def wait_for_load(self, workload: str, requests: int) -> None:
        """Wait until a server has answered so many requests."""
        record, deadline = self.record(workload), time.monotonic() + 60
        while time.monotonic() < deadline:
            found = model_statistics(f"http://127.0.0.1:{record.ports.http}", record.model)
            if found is not None and int(found["inference_count"]) > requests:
                return
            time.sleep(0.1)
        raise AssertionError("no load came")

    def left(self) -> list[psutil.Process]:
        owner = Store(self.state, "rehearsal-igniter-three").owner
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(OWNER) == owner:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found


@pytest.fixture
def stage(triton: Installation, tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    assert made.left() == []
    assert not list(made.state.glob("*/servers/*"))


@pytest.mark.alone
def test_a_half_plan_fails_and_a_p99_plan_holds_as_simulated(stage: Stage) -> None:
    """Under Poisson arrivals; the p99 plan has a little room, so that chance does not decide."""
    half = stage.plan("half", "--method", "igniter")
    p99 = stage.plan("p99", "--slo-rule", "p99", "--max-replicas", "2", "--margin", "0.1")
    for plan, expected in ((half, False), (p99, True)):
        found = stage.rehearse(plan, "--seed", "2")
        for entry in found["workloads"]:
            assert entry["difference"] == pytest.approx(0.0, abs=0.15), entry
            assert entry["holds"] == entry["simulated_holds"] == expected, entry
        order = sorted(found["workloads"], key=lambda entry: entry["rehearsed_ms"])
        assert order == sorted(order, key=lambda entry: entry["simulated_ms"])


@pytest.mark.alone
def test_alone_under_constant_arrivals_the_mean_is_the_predicted_one(stage: Stage) -> None:
    """One workload alone: rehearsal, simulation and `verify` agree."""
    instance = stage.folder / "one.yaml"
    instance.write_text(
        "name: igniter-three\nslo_rule: deadline\n"
        "gpu_types: [{name: V100, profile: v100, price_per_hour: 3.06}]\n"
        "workloads: [{name: R, model: resnet50, slo_ms: 40, rate_rps: 200}]\n"
    )
    plan = stage.folder / "one.json"
    assert script("solve", instance, "-o", plan).code == 0
    found = stage.rehearse(plan, "--arrivals", "constant")
    (entry,) = found["workloads"]
    without = entry["rehearsed_mean_ms"] - entry["overhead_ms"]
    assert without == pytest.approx(entry["simulated_mean_ms"], rel=0.03)
    (check,) = script("verify", plan, "--json").json()["placements"]
    batch, rate = check["batch"], check["rate_rps"]
    waiting = (batch - 1) / 2 / rate * 1000.0  # a batch's requests come evenly spaced
    assert without == pytest.approx(check["latency_ms"] + waiting, rel=0.03)
    (measured,) = found["measurement"]["workloads"]
    assert measured["server"]["batch_ms"][str(batch)] == pytest.approx(check["latency_ms"], rel=0.08)


@pytest.mark.alone
@pytest.mark.slow
def test_a_plan_whose_predictions_are_wrong(stage: Stage) -> None:
    """What the GPU takes longer than predicted is the plan's fault, neither overhead nor a machine too small."""
    plan = ig.read_plan(stage.plan("half", "--method", "igniter"))
    options = MeasureOptions(arrivals=Arrivals("constant"), duration_s=4.0, warm_up_s=1.0, pace=0.25)
    site = RehearsalSite(ProcessBackend(), stage.state, ApplyOptions(base_port=26000))
    found = rehearse(plan, site, options, slowdown=1.5)
    for entry in found.workloads:
        assert entry.rehearsed_mean_ms is not None and entry.excess is not None
        added = entry.rehearsed_mean_ms - entry.overhead_ms - entry.simulated_mean_ms
        assert added > 0.2 * entry.simulated_mean_ms
        assert entry.excess < 0.2


def test_a_machine_that_is_too_small_is_blamed_not_the_plan(stage: Stage) -> None:
    plan = stage.plan("half", "--method", "igniter")
    data = json.loads(plan.read_text())
    for workload in data["instance"]["workloads"]:
        workload["rate_rps"] *= 6
    for gpu in data["gpus"]:
        for placement in gpu["placements"]:
            placement["rate_rps"] *= 6
    plan.write_text(json.dumps(data))
    run = script("rehearse", plan, *stage.options, "--duration", "4", "--warm-up", "1", "--processes", "1")
    assert run.code == 2, run.out + run.err
    assert "no verdict: " in run.err and "too late" in run.err


def test_interrupted_rehearsals_leave_nothing(stage: Stage) -> None:
    plan = stage.plan("half", "--method", "igniter")
    for number, pause_s in ((signal.SIGINT, 4), (signal.SIGTERM, 1)):
        running = Running("rehearse", plan, *stage.options, "--duration", "60", "--scale", "0.2", "--warm-up", "0")
        stage.wait_for_servers()
        time.sleep(pause_s)
        running.send(number)
        run = running.wait(60)
        assert run.code == 130, run.err
        assert "interrupted" in run.err and "Traceback" not in run.err
        assert stage.left() == []


@pytest.mark.slow
def test_nobody_reads_what_a_rehearsal_says(stage: Stage) -> None:
    """Its output is a pipe whose reader has gone: the servers are stopped all the same."""
    plan = stage.plan("half", "--method", "igniter")
    ours, theirs = os.pipe()
    os.close(ours)
    command = ["rehearse", plan, *stage.options, "--duration", "2", "--warm-up", "0", "--scale", "0.2"]
    done = subprocess.run([SCRIPT, *map(str, command)], stdout=theirs, stderr=theirs, timeout=90, check=False)
    os.close(theirs)
    assert done.returncode == 0


@pytest.mark.slow
def test_a_server_killed_under_load(stage: Stage) -> None:
    plan, out = stage.plan("half", "--method", "igniter"), stage.folder / "part.json"
    options = ["--duration", "60", "--scale", "0.2", "--warm-up", "0", "-o", out]
    running = Running("rehearse", plan, *stage.options, *options)
    stage.wait_for_servers()
    stage.wait_for_load("R", 300)
    stage.server("R").kill()
    run = running.wait(60)
    assert run.code == 1, run.err
    assert "partial: the server of R replica 1 does not answer" in run.err
    part = json.loads(out.read_text())
    assert part["measurement"]["partial"]
    for entry in part["workloads"]:
        # Compared with the simulation of what was measured, not of the whole minute.
        if entry["workload"] != "R":
            assert entry["rehearsed_mean_ms"] > 0 and entry["simulated_mean_ms"] > 0


def test_what_a_killed_rehearsal_left_is_cleaned_by_the_next(stage: Stage) -> None:
    plan = stage.plan("half", "--method", "igniter")
    running = Running("rehearse", plan, *stage.options, "--duration", "60", "--scale", "0.2")
    stage.wait_for_servers()
    running.send(signal.SIGKILL)
    running.wait(10)
    left = {process.pid for process in stage.left()}
    assert left
    run = script("rehearse", plan, *stage.options, "--duration", "1", "--warm-up", "0", "--scale", "0.2")
    assert run.code == 2 if "no verdict: " in run.err else run.code in (0, 1), run.err
    assert ("no verdict: " if run.code == 2 else "within the SLO for") in run.out
    assert not left & {process.pid for process in psutil.process_iter()}

"""The load generator beside NVIDIA's own, on the same real server."""

import csv
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import igniter_opt as ig
from igniter_opt.base.nanoseconds import NS_PER_S
from igniter_opt.data.arrivals import ArrivalKind, Arrivals
from igniter_opt.deploy import launch
from igniter_opt.deploy.apply import Options
from igniter_opt.deploy.approval import approval_path, make_approval, write_approval
from igniter_opt.deploy.backends.base import OWNER, shared_memory
from igniter_opt.deploy.backends.process import ProcessBackend
from igniter_opt.deploy.endpoints import ENDPOINTS_FILE
from igniter_opt.deploy.state import Store
from igniter_opt.deploy.triton.install import Installation
from igniter_opt.measure.server import model_statistics
from igniter_opt.rehearse.emulation import write_emulated_models
from igniter_opt.simulation.schedule import Randomness, arrivals_for
from tests.cli.helpers import Running, script
from tests.integration.conftest import missing
from tests.integration.perf_analyzer import PerfAnalyzer, Report


@pytest.fixture(scope="module")
def witness(triton: Installation, tmp_path_factory: pytest.TempPathFactory) -> PerfAnalyzer:
    try:
        return PerfAnalyzer(tmp_path_factory.mktemp("perf_analyzer"), triton)
    except subprocess.CalledProcessError:
        missing("perf_analyzer cannot be fetched from PyPI")


# Batches take twice as long as in the plan, four times where latencies are compared: so they are long beside what a
# busy machine adds to them.
TWICE, SLOWER = 0.5, 0.25
PERIOD_S, ROUNDS = 3.0, 4


class Deployed:
    """The three-workload plan on emulated models."""

    def __init__(self, folder: Path, scale: float) -> None:
        self.plan = folder / "plan.json"
        plan = ig.solve(ig.read_instance("igniter-three"), "igniter").plan
        ig.write_plan(plan, self.plan)
        write_approval(make_approval(plan), approval_path(self.plan))
        write_emulated_models(plan, folder / "models", scale=scale)
        self.state = folder / "state"
        self.store = Store(self.state, plan.instance.name)
        request = launch.Request(plan=self.plan, models=folder / "models", cpu=True, options=Options(base_port=25000))
        launch.deploy(request, self.store, ProcessBackend())
        self.endpoints = self.store.folder / ENDPOINTS_FILE

    def grpc(self, workload: str) -> str:
        found = json.loads(self.endpoints.read_text())["workloads"]
        return str(found[workload]["replicas"][0]["grpc"])

    def server(self, workload: str) -> psutil.Process:
        state = self.store.load()
        assert state is not None
        (record,) = (record for record in state.replicas if record.workload == workload)
        return psutil.Process(int(record.handle or 0))


@pytest.fixture
def deployed(request: pytest.FixtureRequest, triton: Installation, tmp_path: Path) -> Iterator[Deployed]:
    made = Deployed(tmp_path, getattr(request, "param", TWICE))
    owner, state = made.store.owner, made.store.load()
    yield made
    launch.teardown(made.store, ProcessBackend(), Options())
    assert state is not None
    assert not shared_memory([record.token for record in state.replicas])
    alive = [process for process in psutil.process_iter() if _owner(process) == owner]
    assert not alive


def _owner(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(OWNER) if process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, OSError):
        return None


@pytest.mark.alone
@pytest.mark.parametrize("deployed", [SLOWER], indirect=True)
@pytest.mark.parametrize("kind", ["constant", "poisson"])
def test_agrees_with_perf_analyzer(
    deployed: Deployed, witness: PerfAnalyzer, tmp_path: Path, kind: ArrivalKind
) -> None:
    """Both send the very same requests, in turns, so that chance has no part in the difference.

    Other work on the machine only ever adds to latencies: each side's least disturbed round counts.
    """
    rate = 0.8 * SLOWER * 1200.0  # four fifths of what the slowed server is planned for
    times = arrivals_for(Arrivals(kind), rate, PERIOD_S, Randomness(7, 0, 0)) / NS_PER_S
    rows = [f"{round_ * PERIOD_S + at:.6f}" for round_ in range(3) for at in times]
    trace = tmp_path / "trace.csv"
    trace.write_text("\n".join(["timestamp", *rows]) + "\n")
    options = ["--only", "A", "--trace", f"A={trace}", "--warm-up", str(PERIOD_S), "--duration", str(2 * PERIOD_S)]
    theirs, ours = [], []
    for _ in range(ROUNDS):
        theirs.append(witness.run(deployed.grpc("A"), "alexnet", times.tolist(), PERIOD_S))
        run = script("measure", deployed.endpoints, *options, "--json")
        if run.code == 2 and "too late" in run.err:  # by its own rule no measurement
            continue
        assert run.code == 0, run.err
        (found,) = run.json()["workloads"]
        assert (found["requests"], found["failed"]) == (2 * len(times), 0)
        assert found["throughput_rps"] == pytest.approx(len(times) / PERIOD_S, rel=0.02)
        assert found["throughput_rps"] == pytest.approx(theirs[-1].throughput_rps, rel=0.02)
        assert found["server"]["mean_batch"] > 2
        ours.append(found)
        if _near(ours, theirs, 99) and _near(ours, theirs, 50):
            return
    pytest.fail(f"{[(e['p50_ms'], e['p99_ms']) for e in ours]} against {[(e.p50_ms, e.p99_ms) for e in theirs]}")


def _near(ours: list[Any], theirs: list[Report], percent: int) -> bool:
    """Whether the two generators' least disturbed percentiles agree within 10 %."""
    least = min(float(getattr(entry, f"p{percent}_ms")) for entry in theirs)
    return min(float(entry[f"p{percent}_ms"]) for entry in ours) == pytest.approx(least, rel=0.10)


def wait_for_load(deployed: Deployed, workload: str, model: str, requests: int = 40) -> None:
    """Wait until the server has answered so many requests."""
    url = json.loads(deployed.endpoints.read_text())["workloads"][workload]["replicas"][0]["http"]
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        found = model_statistics(url, model)
        if found is not None and int(found["inference_count"]) > requests:
            return
        time.sleep(0.1)
    raise AssertionError("no load came")


def test_a_server_killed_in_mid_measurement(deployed: Deployed, tmp_path: Path) -> None:
    out = tmp_path / "part.json"
    options = ["--state", deployed.state, "--scale", "0.2", "--duration", "60", "--warm-up", "0", "-o", out]
    running = Running("measure", deployed.plan, *options)
    wait_for_load(deployed, "R", "resnet50")
    deployed.server("R").kill()
    run = running.wait(40)
    assert run.code == 2, run.err
    assert "partial: the server of R replica 1 does not answer" in run.err
    assert "alexnet" in run.out, run.out
    part = json.loads(out.read_text())
    assert part["partial"] and part["duration_s"] < 30
    late = "without an answer when the measurement ended"  # on a busy machine any server's requests may be
    failures = {entry["workload"]: set(entry["failures"]) - {late} for entry in part["workloads"]}
    assert failures == {"A": set(), "R": {"failed"}, "S": set()}


def test_a_server_that_hangs(deployed: Deployed) -> None:
    options = ["--state", deployed.state, "--scale", "0.2", "--duration", "60", "--warm-up", "0", "--timeout", "2"]
    running = Running("measure", deployed.plan, *options)
    wait_for_load(deployed, "R", "resnet50")
    server = deployed.server("R")
    server.suspend()
    try:
        run = running.wait(40)
    finally:
        server.resume()
    assert run.code == 2, run.err
    assert "partial: the server of R replica 1 does not answer" in run.err


def test_interrupted_in_mid_measurement_by_shared_memory(deployed: Deployed, tmp_path: Path) -> None:
    out = tmp_path / "part.csv"
    options = ["--state", deployed.state, "--scale", "0.2", "--duration", "60", "--warm-up", "0", "-o", out]
    running = Running("measure", deployed.plan, *options, "--shared-memory")
    wait_for_load(deployed, "R", "resnet50")
    mapped = {Path(entry.path) for entry in psutil.Process(running.process.pid).memory_maps()}
    regions = [path for path in mapped if path.name.startswith("igniter-opt-measure-")]
    assert len(regions) == 3 and all(path.exists() for path in regions)
    running.send(signal.SIGINT)
    run = running.wait(30)
    assert run.code == 130, run.err
    assert "this is what was measured so far" in run.err
    assert len(out.read_text().splitlines()) == 4
    with out.open() as file:
        assert all(int(row["answered"]) > 0 for row in csv.DictReader(file))
    assert not any(path.exists() for path in regions)


def test_what_is_not_the_deployed_plan(deployed: Deployed, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    ig.write_plan(ig.solve(ig.read_instance("igniter-three"), "ffd++").plan, other)
    run = script("measure", other, "--state", deployed.state)
    assert run.code == 2 and "runs another plan" in run.err
    run = script("measure", deployed.plan, "--state", tmp_path / "nowhere")
    assert run.code == 2 and "deploy the plan first" in run.err
    run = script("measure", deployed.endpoints, "--only", "Z")
    assert run.code == 2 and "no workload 'Z'" in run.err

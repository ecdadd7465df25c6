"""The three-workload plan on real Triton servers, from solve to teardown, with both backends."""

import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from tritonclient import grpc

from igniter_opt.data.plan import Plan, read_plan
from igniter_opt.deploy.backends.base import OWNER
from igniter_opt.deploy.backends.docker import LABELS
from igniter_opt.deploy.state import Deployment, Store
from tests.cli.helpers import Run, script
from tests.deploy.models import write_models


class Site:
    """A folder with plan and models, and the options of one backend."""

    def __init__(self, folder: Path, options: list[str], base_port: int, engine: Any = None) -> None:
        self.folder = folder
        self.engine = engine
        self.models = write_models(folder / "models")
        self.state = folder / "state"
        self.store = Store(self.state, "three")
        self.options = ["--models", str(self.models), *options, "--cpu", "--state", str(self.state)]
        self.options += ["--base-port", str(base_port), "--name", "three"]

    def plan(self, name: str, **rates: float) -> Path:
        """Solve and approve the three-workload instance, at other rates."""
        data = yaml.safe_load(script("instances", "show", "igniter-three").out)
        for workload in data["workloads"]:
            workload["rate_rps"] = rates.get(workload["name"], workload["rate_rps"])
        (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(data))
        plan = self.folder / f"{name}.json"
        assert script("solve", self.folder / f"{name}.yaml", "--method", "igniter", "-o", plan).code == 0
        assert script("approve", plan, "--yes").code == 0
        return plan

    def deploy(self, plan: Path, *more: str) -> Run:
        return script("deploy", plan, *self.options, *more)

    def verbs(self, plan: Path) -> list[str]:
        run = self.deploy(plan, "--json")
        assert run.code == 0, run.err
        return sorted(action["verb"] for action in run.json()["actions"])

    def teardown(self) -> Run:
        return script("teardown", "--name", "three", "--state", self.state)

    def load(self) -> Deployment:
        state = self.store.load()
        assert state is not None
        return state

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(OWNER) == self.store.owner:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def containers(self) -> list[Any]:
        if self.engine is None:
            return []
        label = f"{LABELS[OWNER]}={self.store.owner}"
        return list(self.engine.containers.list(all=True, filters={"label": label}))

    def clean_up(self) -> None:
        for container in self.containers():
            container.remove(force=True)
        for process in self.processes():
            process.kill()


@pytest.fixture(params=["process", "docker"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    if request.param == "process":
        request.getfixturevalue("triton")
        made = Site(tmp_path, ["--backend", "process"], 23000)
    else:
        request.getfixturevalue("foreign_container")
        options = ["--backend", "docker", "--docker-host", request.getfixturevalue("docker_url")]
        options += ["--image", request.getfixturevalue("image")]
        made = Site(tmp_path, options, 24000, request.getfixturevalue("engine"))
    yield made
    made.clean_up()


def get(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(url, data=data, timeout=10) as response:
        return json.load(response)


def infer_http(url: str, model: str) -> list[float]:
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3.5]}
    answer = get(f"{url}/v2/models/{model}/infer", {"inputs": [tensor]})
    return list(answer["outputs"][0]["data"])


def infer_grpc(authority: str, model: str) -> list[float]:
    with grpc.InferenceServerClient(authority) as client:
        tensor = grpc.InferInput("x", [1, 3], "FP32")
        tensor.set_data_from_numpy(np.array([[1, 2, 3.5]], np.float32))
        return [float(value) for value in client.infer(model, [tensor]).as_numpy("y").ravel()]


def batches_served(http: str, authority: str, model: str, requests: int) -> dict[int, int]:
    """Send single requests all at once; return how many executions had which batch."""
    before = _batches(http, model)
    with grpc.InferenceServerClient(authority) as client:
        tensor = grpc.InferInput("x", [1, 3], "FP32")
        tensor.set_data_from_numpy(np.array([[1, 2, 3]], np.float32))
        errors: list[Any] = []
        pending = [
            client.async_infer(model, [tensor], lambda result, error: errors.append(error)) for _ in range(requests)
        ]
        deadline = time.monotonic() + 20
        while len(errors) < len(pending) and time.monotonic() < deadline:
            time.sleep(0.02)
    assert errors == [None] * requests
    return {size: count - before.get(size, 0) for size, count in _batches(http, model).items()}


def _batches(http: str, model: str) -> dict[int, int]:
    (stats,) = get(f"{http}/v2/models/{model}/stats")["model_stats"]
    return {entry["batch_size"]: entry["compute_infer"]["count"] for entry in stats["batch_stats"]}


def batches_of(plan: Plan) -> dict[str, int]:
    return {placement.workload: placement.batch for gpu in plan.gpus for placement in gpu.placements}


def test_solve_approve_deploy_change_teardown(site: Site, foreign_process: subprocess.Popen[bytes]) -> None:
    plan = site.plan("plan")
    dry = site.deploy(plan, "--dry-run")
    assert dry.code == 0, dry.err
    assert not site.state.exists()

    run = site.deploy(plan)
    assert run.code == 0, run.err
    assert "no GPU and no MPS" in run.err
    workloads = json.loads((site.store.folder / "endpoints.json").read_text())["workloads"]
    batches = batches_of(read_plan(plan))
    assert set(workloads) == set(batches) == {"A", "R", "S"}
    delays = {"A": 5000, "R": 15000, "S": 20000}
    for name, workload in workloads.items():
        (replica,) = workload["replicas"]
        model, http = workload["model"], replica["http"]
        assert infer_http(http, model) == [2.0, 4.0, 7.0]
        assert infer_grpc(replica["grpc"], model) == [2.0, 4.0, 7.0]
        config = get(f"{http}/v2/models/{model}/config")
        assert config["max_batch_size"] == batches[name]
        assert config["dynamic_batching"]["preferred_batch_size"] == [batches[name]]
        assert int(config["dynamic_batching"]["max_queue_delay_microseconds"]) == delays[name]
        served = batches_served(http, replica["grpc"], model, 4 * batches[name])
        assert served[batches[name]] >= 1
        assert max(served) == batches[name]

    status = script("status", "--state", site.state, "--json")
    assert status.code == 0, status.err
    (found,) = status.json()
    assert found["ok"]
    assert all(server["ready"] and not server["drift"] for server in found["servers"])

    handles = {record.workload: record.handle for record in site.load().replicas}
    assert site.verbs(plan) == ["keep"] * 3
    assert {record.workload: record.handle for record in site.load().replicas} == handles

    changed = site.plan("changed", R=300)
    assert site.verbs(changed) == ["keep", "keep", "start", "stop"]
    after = {record.workload: record.handle for record in site.load().replicas}
    assert after["R"] != handles["R"]
    assert (after["A"], after["S"]) == (handles["A"], handles["S"])

    state = site.load()
    run = site.teardown()
    assert run.code == 0, run.err
    assert site.processes() == []
    assert site.containers() == []
    assert not site.store.folder.exists()
    for record in state.replicas:
        assert not list(Path("/dev/shm").glob(f"*{record.token}*"))
        for port in (record.ports.http, record.ports.grpc, record.ports.metrics):
            with socket.socket() as probe:
                assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert script("status", "--state", site.state).code == 0
    assert foreign_process.poll() is None


def test_a_model_that_cannot_load_is_rolled_back_with_the_servers_log(site: Site) -> None:
    plan = site.plan("plan")
    (site.models / "ssd/1/model.py").write_text("raise ValueError('broken on purpose')\n")
    run = site.deploy(plan)
    assert run.code == 1
    assert "V100-1/S#1: its server exited before it was ready" in run.err
    assert "broken on purpose" in run.err
    assert site.processes() == []
    assert site.containers() == []


def test_drift_is_seen_and_put_right(site: Site) -> None:
    plan = site.plan("plan")
    assert site.deploy(plan).code == 0
    record = site.load().replicas[0]
    if site.engine is None:
        psutil.Process(int(str(record.handle))).kill()
    else:
        site.engine.containers.get(record.handle).kill()
    run = script("status", "--state", site.state)
    assert run.code == 1
    assert "gone" in run.out
    assert site.verbs(plan) == ["clean", "keep", "keep", "start"]
    assert script("status", "--state", site.state).code == 0
    assert site.teardown().code == 0

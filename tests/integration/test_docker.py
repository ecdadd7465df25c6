"""Containers on a real Docker engine: what they are created with, and that faults leave nothing behind."""

import signal
from pathlib import Path
from typing import Any

import pytest

import igniter_opt as ig
from igniter_opt.base.errors import DeploymentError, InputError
from igniter_opt.data.plan import Plan, read_plan
from igniter_opt.deploy import launch
from igniter_opt.deploy.apply import Options
from igniter_opt.deploy.backends.base import OWNER, ServerJob
from igniter_opt.deploy.backends.docker import LABELS, PIPE_FOLDER, ContainerSettings, DockerBackend
from igniter_opt.deploy.inventory import Device
from igniter_opt.deploy.records import DaemonRecord, HostRecord, Ports, ReplicaRecord
from igniter_opt.deploy.state import Store, new_token
from igniter_opt.deploy.status import read_status
from tests.deploy import child
from tests.deploy.conftest import approved, solve
from tests.deploy.models import write_models

BASE_PORT = 26000


@pytest.fixture(scope="module")
def plan() -> Plan:
    return solve(ig.read_instance("igniter-three"))


def backend(url: str, image: str, **settings: Any) -> DockerBackend:
    return DockerBackend((HostRecord(name="local", docker=url),), ContainerSettings(image, **settings))


def request(folder: Path, url: str, **more: Any) -> launch.Request:
    options = Options(base_port=BASE_PORT, hook=more.pop("hook", lambda _: None))
    return launch.Request(
        plan=folder / "plan.json",
        models=folder / "models",
        hosts=(HostRecord(name="local", docker=url),),
        options=options,
        **more,
    )


def ours(engine: Any, owner: str) -> list[Any]:
    return list(engine.containers.list(all=True, filters={"label": f"{LABELS[OWNER]}={owner}"}))


def _killed(folder: Path, url: str, image: str, step: int) -> None:
    launch.deploy(
        request(folder, url, cpu=True, hook=child.Fault(step)), Store(folder / "state", "test"), backend(url, image)
    )


# Before a container is created; when it runs and is not recorded; when the third is about to be recorded.
@pytest.mark.parametrize("step", [2, 3, 13])
def test_killed_between_starts(
    tmp_path: Path, docker_url: str, engine: Any, image: str, foreign_container: Any, plan: Plan, step: int
) -> None:
    approved(plan, tmp_path / "plan.json")
    write_models(tmp_path / "models")
    launcher = child.start(_killed, tmp_path, docker_url, image, step)
    launcher.join(60)
    assert launcher.exitcode == -signal.SIGKILL
    store = Store(tmp_path / "state", "test")
    assert len(ours(engine, store.owner)) == {2: 0, 3: 1, 13: 2}[step]
    if step == 3:
        launch.deploy(request(tmp_path, docker_url, cpu=True), store, backend(docker_url, image))
        state = store.load()
        assert state is not None
        assert read_status(store, state, backend(docker_url, image)).ok
        assert len(ours(engine, store.owner)) == 3
        _changed_by_hand(engine, store, backend(docker_url, image))
    launch.teardown(store, backend(docker_url, image), Options())
    assert ours(engine, store.owner) == []
    assert not store.folder.exists()


def _changed_by_hand(engine: Any, store: Store, runner: DockerBackend) -> None:
    state = store.load()
    assert state is not None
    first, second, _ = state.replicas
    engine.containers.get(first.handle).update(cpu_shares=512)
    engine.containers.get(second.handle).restart()
    drift = [server.drift for server in read_status(store, state, runner).servers]
    assert "limits or configuration were changed" in drift[0]
    assert "restarted" in drift[1]
    assert drift[2] == ""


def test_what_a_gpu_server_is_created_with(tmp_path: Path, docker_url: str, engine: Any, image: str) -> None:
    """Without NVIDIA's runtime a container can be created, not started: enough to look at it, and at the message."""
    runner = backend(docker_url, image, cpus=1.5, memory_mib=512)
    daemon = DaemonRecord(token=new_token(), host="local", device="GPU-1111")
    record = ReplicaRecord(
        token=new_token(), phase="starting", workload="A", replica=1, model="m", gpu="V100-1", host="local",
        device="GPU-1111", device_name="V100", share_percent=37.5, batch=4, queue_delay_us=0, rate_rps=1.0,
        spec="0" * 64, config_digest="0" * 64, ports=Ports(http=26100, grpc=26101, metrics=26102), daemon=daemon.token,
    )  # fmt: skip
    owner = new_token()
    (tmp_path / "repository").mkdir()
    job = ServerJob(
        record, owner, "sha256:1", tmp_path / "repository", tmp_path / "log", "127.0.0.1", daemon, "37.5", 2000.5
    )
    with pytest.raises(DeploymentError, match="Docker has no NVIDIA runtime"):
        runner.start(job)
    (container,) = ours(engine, owner)
    config, host = container.attrs["Config"], container.attrs["HostConfig"]
    (gpu,) = host["DeviceRequests"]
    assert gpu["DeviceIDs"] == ["GPU-1111"]
    assert (host["IpcMode"], host["NetworkMode"], host["NanoCpus"], host["Memory"]) == (
        "host",
        "host",
        1.5e9,
        512 * 2**20,
    )
    assert {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=37.5", "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT=0=2513M"} <= set(config["Env"])
    assert f"CUDA_MPS_PIPE_DIRECTORY={PIPE_FOLDER}" in config["Env"]
    assert {mount["Destination"]: mount["RW"] for mount in container.attrs["Mounts"]} == {
        "/igniter-opt-models": False,
        PIPE_FOLDER: True,
    }
    assert config["Labels"]["igniter-opt.placement"] == "V100-1/A#1"
    assert config["Labels"]["igniter-opt.plan"] == "sha256:1"
    assert "--http-address=127.0.0.1" in config["Cmd"]
    runner.stop(owner, {record.token: "local", daemon.token: "local"})
    assert ours(engine, owner) == []
    engine.volumes.get(f"igniter-opt-mps-{daemon.token}").remove()  # made by the engine without our label


def test_no_nvidia_runtime_is_one_clear_message(
    tmp_path: Path, docker_url: str, engine: Any, image: str, plan: Plan
) -> None:
    approved(plan, tmp_path / "plan.json")
    write_models(tmp_path / "models")
    store = Store(tmp_path / "state", "test")
    device = Device("local", "GPU-1111", "Tesla V100-SXM2-16GB")
    before = {volume.name for volume in engine.volumes.list()}
    with pytest.raises(DeploymentError, match="Docker has no NVIDIA runtime there"):
        launch.deploy(request(tmp_path, docker_url, devices=[device]), store, backend(docker_url, image))
    assert ours(engine, store.owner) == []
    assert {volume.name for volume in engine.volumes.list()} == before
    assert not store.file.exists()


def test_no_image_is_pulled_unasked(tmp_path: Path, docker_url: str, plan: Plan) -> None:
    approved(plan, tmp_path / "plan.json")
    write_models(tmp_path / "models")
    store = Store(tmp_path / "state", "test")
    with pytest.raises(InputError, match="has no image 'example/nothing:1'; pull it there, or give --pull"):
        launch.deploy(request(tmp_path, docker_url, cpu=True), store, backend(docker_url, "example/nothing:1"))
    assert not store.folder.exists()
    assert read_plan(tmp_path / "plan.json") == plan

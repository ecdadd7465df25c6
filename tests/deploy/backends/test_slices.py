"""Servers on slices under MIG: existing instances are matched by kind, and told apart by their UUIDs."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import igniter_opt as ig
from igniter_opt.base.errors import InputError
from igniter_opt.data.plan import Plan
from igniter_opt.data.profile_files import read_slice_profile
from igniter_opt.deploy import launch
from igniter_opt.deploy.backends import docker
from igniter_opt.deploy.backends.base import ServerJob
from igniter_opt.deploy.inventory import read_devices, read_hosts
from igniter_opt.deploy.mig_layout import mig_layout
from igniter_opt.deploy.records import DaemonRecord, HostRecord, Ports, ReplicaRecord
from igniter_opt.deploy.state import new_token
from igniter_opt.deploy.status import read_status
from igniter_opt.deploy.targets import largest_batches, make_targets, served_gpus
from igniter_opt.deploy.triton.model_repository import read_models
from tests.cli.helpers import invoke
from tests.deploy.backends.test_mps import control, environments
from tests.deploy.conftest import Site, approved
from tests.deploy.fake_nvml import FakeNvml
from tests.support.mig import instance_of

__all__ = ["control"]
A100 = "NVIDIA A100-SXM4-80GB"


@pytest.fixture(scope="module")
def cut() -> Plan:
    workloads = [
        {"model": "resnet50", "slo_ms": 60.0, "rate_rps": 1000.0},
        {"model": "ssd", "slo_ms": 120.0, "rate_rps": 150.0},
    ]
    found = ig.solve(instance_of(read_slice_profile("a100-mig-synthetic"), workloads)).plan
    assert sum(len(gpu.placements) for gpu in found.gpus) > 2
    return found


@pytest.fixture
def cut_site(site: Site, cut: Plan) -> Iterator[Site]:
    site.plan = approved(cut, site.folder / "cut.json")
    yield site


def instances(plan: Plan, first: int = 1) -> list[dict[str, object]]:
    kinds = [placement.slice for gpu in plan.gpus for placement in gpu.placements]
    return [
        {"uuid": f"MIG-{number}", "name": f"{A100} MIG {kind}", "mib": 9728} for number, kind in enumerate(kinds, first)
    ]


def card(*cut: dict[str, object]) -> dict[str, object]:
    return {"uuid": "GPU-1", "name": A100, "mib": 81920, "mig": 1, "instances": list(cut)}


def request(site: Site, *cards: dict[str, object]) -> launch.Request:
    return replace(site.request(), cpu=False, devices=read_devices(FakeNvml(*cards), otherwise=""))


def test_instances_are_read_with_their_kind() -> None:
    found = read_devices(
        FakeNvml(
            card(
                {"uuid": "MIG-1", "name": f"{A100} MIG 3g.40gb", "mib": 40192, "pids": [3]},
                {"uuid": "MIG-2", "name": f"{A100} MIG 1c.3g.40gb", "mib": 40192},
            )
        ),
        otherwise="",
    )
    assert [(device.uuid, device.slice, device.mig) for device in found] == [
        ("GPU-1", None, True),
        ("MIG-1", "3g.40gb", False),
    ]
    assert found[1].processes == (3,)


def test_hosts_files_list_slices(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text(f"hosts:\n  - name: a\n    gpus:\n      - {{uuid: MIG-7, name: {A100}, slice: 3g.40gb}}\n")
    (device,) = read_hosts(path).devices()
    assert (device.uuid, device.slice) == ("MIG-7", "3g.40gb")


def test_every_slice_has_one_server_with_its_processes_as_instances(cut_site: Site, cut: Plan) -> None:
    models = read_models(cut_site.models, largest_batches(cut))
    targets = make_targets(cut, models, cpu=False, runtime={})
    placements = [placement for gpu in cut.gpus for placement in gpu.placements]
    assert [target.gpu for target in targets] == [gpu.name for gpu in served_gpus(cut)]
    assert len({target.gpu for target in targets}) == len(placements)
    for target, placement in zip(targets, placements, strict=True):
        assert f"count: {placement.processes}" in target.config
        assert target.share_percent == 100.0


def test_servers_run_on_the_instances_of_their_kinds(cut_site: Site, cut: Plan) -> None:
    strangers = [{"uuid": "MIG-9", "name": f"{A100} MIG 7g.80gb", "mib": 80000}]
    kinds = {entry["uuid"]: str(entry["name"]).rpartition(" ")[2] for entry in instances(cut)}
    launch.deploy(request(cut_site, card(*strangers, *instances(cut))), cut_site.store, cut_site.backend())
    state = cut_site.store.load()
    assert state is not None
    assert sorted(record.device for record in state.replicas) == sorted(kinds)
    wanted = {gpu.name: gpu.placements[0].slice for gpu in served_gpus(cut)}
    assert all(kinds[record.device] == wanted[record.gpu] for record in state.replicas)
    for environment in environments(cut_site).values():
        assert environment["CUDA_VISIBLE_DEVICES"].startswith("MIG-")
        assert environment["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "100"
    assert read_status(cut_site.store, state, cut_site.backend()).ok
    again = launch.deploy(request(cut_site, card(*strangers, *instances(cut))), cut_site.store, cut_site.backend())
    assert again.nothing
    cut_site.teardown()
    cut_site.assert_clean()


class Engine:
    """What creates containers, as far as the Docker backend asks: it only remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], dict[str, Any]]] = []
        self.containers = self.volumes = self.images = self

    def create(self, _: str, command: list[str] | None = None, /, **options: Any) -> SimpleNamespace:
        if command is not None:
            self.asked.append((command, options))
        return SimpleNamespace(id="made", start=lambda: None, reload=lambda: None, status="running")

    def get(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(id="sha256:1", exec_run=lambda _: SimpleNamespace(exit_code=0))


def test_containers_get_the_instance_by_its_uuid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("docker")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(docker, "_observation", lambda *_: None)
    runner = docker.DockerBackend([HostRecord(name="local")], docker.ContainerSettings(image="triton"))
    runner._clients["local"] = engine = Engine()
    daemon = DaemonRecord(token=new_token(), host="local", device="MIG-7")
    record = ReplicaRecord(
        token=new_token(), phase="starting", workload="A", replica=1, model="m", gpu="A100-1.slot4", host="local",
        device="MIG-7", device_name=A100, share_percent=100.0, batch=4, queue_delay_us=0, rate_rps=1.0,
        spec="0" * 64, config_digest="0" * 64, ports=Ports(http=26100, grpc=26101, metrics=26102), daemon=daemon.token,
    )  # fmt: skip
    owner = new_token()
    runner.start_daemon(daemon, owner)
    runner.start(ServerJob(record, owner, "sha256:1", tmp_path, tmp_path / "log", "127.0.0.1", daemon, "100", None))
    assert [command[0] for command, _ in engine.asked] == ["nvidia-cuda-mps-control", "tritonserver"]
    for _, options in engine.asked:
        assert [request["DeviceIDs"] for request in options["device_requests"]] == [["MIG-7"]]
    assert engine.asked[1][1]["environment"]["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "100"


def test_missing_slices_are_named_and_nothing_is_cut(cut_site: Site, cut: Plan) -> None:
    with pytest.raises(InputError) as error:
        launch.deploy(request(cut_site, card(*instances(cut)[1:])), cut_site.store, cut_site.backend())
    kind = cut.gpus[0].placements[0].slice
    assert f"1 x A100 {kind} cannot be had" in str(error.value)
    assert "--mig-layout" in str(error.value)
    whole = {"uuid": "GPU-5", "name": A100, "mib": 81920}
    with pytest.raises(InputError, match="is of none of the plan's types"):
        launch.deploy(request(cut_site, whole), cut_site.store, cut_site.backend())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"slot": 7}, "cannot begin at slot 7"),
        ({"slice": "5g.40gb"}, "has no slice '5g.40gb'"),
        ({"slice": "7g.80gb", "slot": 0}, "overlaps"),
    ],
)
def test_a_layout_that_no_card_has_is_not_printed(cut: Plan, changes: dict[str, object], words: str) -> None:
    gpu = next(gpu for gpu in cut.gpus if len(gpu.placements) > 1)
    wrong = (gpu.placements[0].model_copy(update=changes), *gpu.placements[1:])
    plan = cut.model_copy(update={"gpus": (gpu.model_copy(update={"placements": wrong}),)})
    with pytest.raises(InputError, match=f"do not fit {gpu.name}: .*{words}"):
        mig_layout(plan, "mig-parted")


def test_the_layout_is_printed_and_nothing_done(cut_site: Site, cut: Plan) -> None:
    commands = mig_layout(cut, "nvidia-smi")
    assert "nvidia-smi -i 0 -mig 1" in commands
    for placement in cut.gpus[0].placements:
        assert f"{placement.slice}:{placement.slot}" in commands
    parted = mig_layout(cut, "mig-parted")
    assert "mig-enabled: true" in parted
    assert "has run on a card under MIG" in commands and "has run on a card under MIG" in parted
    done = invoke("deploy", str(cut_site.plan), "--mig-layout", "nvidia-smi")
    assert (done.code, done.out) == (0, commands)
    assert invoke("deploy", str(cut_site.plan), "--mig-layout", "other").code == 2
    assert not cut_site.store.folder.exists()
    refused = invoke("deploy", str(cut_site.plan))
    assert refused.code == 2
    assert "--models DIR" in refused.err
    asked = invoke("deploy", str(cut_site.plan), "--mig-layout", "nvidia-smi", "--json")
    assert (asked.code, asked.out) == (2, "")
    with pytest.raises(InputError, match="no cards under MIG"):
        mig_layout(ig.solve("igniter-three", "igniter").plan, "nvidia-smi")

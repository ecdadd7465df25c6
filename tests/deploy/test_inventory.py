"""Which GPUs exist, and which of them serves as which GPU of the plan."""

from collections import Counter
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import igniter_opt as ig
from igniter_opt.base.errors import InputError
from igniter_opt.data.plan import Placement, PlanGpu
from igniter_opt.deploy.inventory import Device, read_devices, read_hosts
from igniter_opt.deploy.matching import is_type, match
from tests.deploy.fake_nvml import FakeNvml

TYPES = {gpu.name: gpu for gpu in ig.read_instance("igniter-three").gpu_types}


def plan_gpu(name: str) -> PlanGpu:
    placement = Placement(
        workload="W", replica=1, model="ssd", batch=1, share_percent=10, rate_rps=1, predicted_latency_ms=1,
        predicted_throughput_rps=1,
    )  # fmt: skip
    return PlanGpu(name=name, type="V100", placements=(placement,))


def card(uuid: str, name: str = "Tesla V100-SXM2-16GB", **more: object) -> Device:
    return Device("local", uuid, name, **more)  # type: ignore[arg-type]


def choose(gpus: list[str], devices: list[Device], own: frozenset[int] = frozenset(), **more: object) -> dict[str, str]:
    options: dict[str, object] = {"overrides": {}, "wanted": {}, "running": {}, "names": {}} | more
    options["wanted"] = {name: Counter() for name in gpus} | options["wanted"]  # type: ignore[operator]
    found = match([plan_gpu(name) for name in gpus], TYPES, devices, own_processes=own, **options)  # type: ignore[arg-type]
    return {name: device.uuid for name, device in found.items()}


def rejected(names: list[str], devices: list[Device], *says: str, **more: object) -> None:
    with pytest.raises(InputError) as error:
        choose(names, devices, **more)
    for text in says:
        assert text in str(error.value)


def test_cards_are_read_through_nvml() -> None:
    nvml = FakeNvml(
        {"uuid": b"GPU-1", "name": b"NVIDIA V100", "mib": 16384, "pids": [7]},
        {"uuid": "GPU-2", "name": "NVIDIA A100", "mib": 40960, "mode": 3, "mig": 1},
        {"uuid": "GPU-3", "name": "NVIDIA A100", "mib": 40960, "mode": 2, "mig": 0},
    )
    first, second, third = read_devices(nvml, otherwise="")
    assert first == Device("local", "GPU-1", "NVIDIA V100", 16384, "default", False, (7,))
    assert (second.compute_mode, second.mig) == ("exclusive process", True)
    assert (third.compute_mode, third.mig) == ("prohibited", False)
    assert not nvml.open


def test_no_driver_is_one_clear_message() -> None:
    with pytest.raises(InputError, match=r"NVML says Driver Not Loaded; install the driver, or walk$"):
        read_devices(FakeNvml(error="Driver Not Loaded"), otherwise="walk")


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("NVIDIA V100-SXM2-16GB", True),
        ("Tesla V100-SXM2-16GB", True),
        ("Tesla V100-PCIE-32GB", True),
        ("NVIDIA A100-SXM4-40GB", False),
        ("V1000", False),
        ("", False),
    ],
)
def test_types_are_told_by_the_cards_name(name: str, same: bool) -> None:
    assert is_type(card("GPU-1", name), TYPES["V100"]) is same


def test_too_few_wrong_or_closed_cards() -> None:
    rejected(["g"], [], "1 x V100 cannot be had", "no GPU was found")
    rejected(["g", "h"], [card("GPU-1")], "needs 2 x V100; 1 x V100 cannot be had", "GPU-1", "can be V100")
    rejected(["g"], [card("GPU-1", "NVIDIA L4")], "is of none of the plan's types", "--gpu PLAN-GPU=UUID")
    rejected(["g"], [card("GPU-1", mig=True)], "MIG is enabled")
    rejected(["g"], [card("GPU-1", compute_mode="prohibited")], "compute mode is prohibited")
    rejected(["g"], [card("GPU-1", compute_mode="exclusive process", processes=(7,))], "process 7 holds it")
    busy = card("GPU-1", compute_mode="exclusive process", processes=(7,))
    assert choose(["g"], [busy], own=frozenset({7})) == {"g": "GPU-1"}


def test_overrides_take_a_card_as_it_is() -> None:
    cards = [card("GPU-1"), card("GPU-2", "NVIDIA H100"), card("GPU-3", mig=True)]
    assert choose(["g", "h"], cards, overrides={"g": "GPU-2"}) == {"g": "GPU-2", "h": "GPU-1"}
    rejected(["g"], cards, "no GPU 'x'", overrides={"x": "GPU-1"})
    rejected(["g"], cards, "there is no GPU 'GPU-9'", "GPU-1, GPU-2, GPU-3", overrides={"g": "GPU-9"})
    rejected(["g"], cards, "MIG is enabled", overrides={"g": "GPU-3"})
    rejected(["g", "h"], cards, "given for 2 GPUs", overrides={"g": "GPU-1", "h": "GPU-1"})


def test_idle_cards_are_preferred_and_names_are_kept() -> None:
    cards = [card("GPU-1", processes=(5,)), card("GPU-2")]
    assert choose(["g"], cards) == {"g": "GPU-2"}
    assert choose(["g"], cards, names={("local", "GPU-1"): "g"}) == {"g": "GPU-1"}


KEYS = [("A", "1"), ("B", "2"), ("C", "3")]
sets = st.lists(st.lists(st.sampled_from(KEYS), max_size=4).map(Counter), min_size=3, max_size=3)


@given(wanted=sets, running=sets)
def test_as_many_servers_as_possible_are_kept(wanted: list[Counter], running: list[Counter]) -> None:  # type: ignore[type-arg]
    names, cards = ["g", "h", "i"], [card(f"GPU-{k}") for k in range(3)]
    at = {("local", f"GPU-{k}"): running[k] for k in range(3)}
    found = choose(names, cards, wanted=dict(zip(names, wanted, strict=True)), running=at)
    kept = sum(sum((wanted[k] & at["local", found[name]]).values()) for k, name in enumerate(names))
    best = max(
        sum(sum((wanted[k] & running[p]).values()) for k, p in enumerate(order)) for order in permutations(range(3))
    )
    assert kept == best


HOSTS = """
hosts:
  - name: one
    docker: ssh://me@node1:2222
    address: 10.0.0.1
    gpus: [{uuid: GPU-1, name: Tesla V100-SXM2-16GB, memory_mib: 16384}]
  - {name: two, gpus: [{uuid: GPU-2, name: V100}]}
"""


def test_hosts_file(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text(HOSTS)
    hosts = read_hosts(path)
    assert [(device.host, device.uuid, device.memory_mib) for device in hosts.devices()] == [
        ("one", "GPU-1", 16384),
        ("two", "GPU-2", None),
    ]
    assert hosts.hosts[0].record().docker == "ssh://me@node1:2222"
    assert hosts.hosts[1].record().address == "127.0.0.1"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("name: two", "name: one", "host 'one' is listed twice"),
        ("GPU-2", "GPU-1", "GPU 'GPU-1' is listed twice"),
        ("ssh://me@node1:2222", "ssh -o ProxyCommand=evil", "hosts[0].docker"),
        ("10.0.0.1", "10.0.0.1; rm", "hosts[0].address"),
        ("name: two", "name: ../two", "hosts[1].name"),
        ("uuid: GPU-2", "uuid: $(x)", "hosts[1].gpus[0].uuid"),
        ("gpus: [{uuid: GPU-2", "gpu: [{uuid: GPU-2", "did you mean 'gpus'?"),
        ("hosts:", "hosts: [", "not YAML"),
        (HOSTS, "", "expected a mapping"),
        (HOSTS, "hosts: []", "at least 1"),
    ],
)
def test_bad_hosts_files(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text(HOSTS.replace(old, new))
    with pytest.raises(InputError) as error:
        read_hosts(path)
    assert says in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hosts: !!int ''\n", "not YAML"),
        ("hosts: !!float ''\n", "not YAML"),
        ("hosts: !!timestamp x\n", "not YAML"),
        ("hosts: !!bool maybe\n", "not YAML"),
        ("hosts: [{name: a, name: b}]\n", "line 1, column 19: not YAML (the key 'name' is given twice)"),
        ("hosts: []\nhosts: []\n", "line 2, column 1: not YAML (the key 'hosts' is given twice)"),
        ("hosts: &a [*a]\n", "the alias *a is within what it stands for"),
    ],
)
def test_hosts_files_are_read_as_strictly_as_instances(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_hosts(path)
    assert str(caught.value).startswith(f"{path}: ") and says in str(caught.value)

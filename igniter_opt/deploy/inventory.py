"""The GPUs that exist: read through NVML, listed in a hosts file, or stood in for by the processor."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import Field

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import read_text
from igniter_opt.base.optional import load
from igniter_opt.base.schema import Name, Positive, Record, matching, parse_record
from igniter_opt.base.yaml_files import MOST_YAML_BYTES, parse_yaml
from igniter_opt.deploy.records import HostRecord, Uuid

LOCAL = "local"
# In names of MIG instances: `NVIDIA A100-SXM4-80GB MIG 3g.40gb`.
_SLICE = re.compile(r"MIG (\d+g\.\d+gb)$")
PROHIBITED, EXCLUSIVE_PROCESS = "prohibited", "exclusive process"


@dataclass(frozen=True)
class Device:
    """A GPU, or what stands in for one.

    Attributes
    ----------
    name
        The card's name, as NVML gives it.
    memory_mib
        Its memory in MiB, where known.
    compute_mode
        ``default``, ``exclusive process`` or ``prohibited``; None where unknown.
    mig
        Whether it is split into MIG instances, which are devices of their own.
    processes
        Ids of the processes that compute on it.
    slice
        Of a MIG instance: which kind of slice it is, such as ``3g.40gb``; None for a whole card.
    """

    host: str
    uuid: str
    name: str
    memory_mib: float | None = None
    compute_mode: str | None = None
    mig: bool = False
    processes: tuple[int, ...] = ()
    slice: str | None = None


class Nvml(Protocol):
    """What is used of NVML's Python module ``pynvml``."""

    NVMLError: type[Exception]

    def nvmlInit(self) -> None:  # noqa: N802
        """Connect to the driver."""

    def nvmlShutdown(self) -> None:  # noqa: N802
        """Disconnect."""

    def __getattr__(self, name: str) -> Any: ...


def read_devices(nvml: Nvml | None = None, *, otherwise: str) -> list[Device]:
    """Read this machine's GPUs through NVML.

    Parameters
    ----------
    otherwise
        What the user can do if there is none and no driver is to be installed.

    Raises
    ------
    InputError
        If there is no NVIDIA driver, or it does not answer.
    """
    library: Any = load("pynvml") if nvml is None else nvml
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        raise InputError(
            f"no NVIDIA GPU can be used here: NVML says {error}; install the driver, or {otherwise}"
        ) from None
    try:
        found = []
        for index in range(library.nvmlDeviceGetCount()):
            handle = library.nvmlDeviceGetHandleByIndex(index)
            card = _read(library, handle)
            found += [card, *(_instances(library, handle, card) if card.mig else [])]
        return found
    except library.NVMLError as error:
        raise InputError(f"NVML cannot read the GPUs: {error}") from None
    finally:
        library.nvmlShutdown()


def _read(library: Any, handle: Any) -> Device:
    modes = {
        library.NVML_COMPUTEMODE_DEFAULT: "default",
        library.NVML_COMPUTEMODE_PROHIBITED: PROHIBITED,
        library.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS: EXCLUSIVE_PROCESS,
    }
    try:
        mig = library.nvmlDeviceGetMigMode(handle)[0] == library.NVML_DEVICE_MIG_ENABLE
    except library.NVMLError:  # cards without MIG
        mig = False
    return Device(
        host=LOCAL,
        uuid=_text(library.nvmlDeviceGetUUID(handle)),
        name=_text(library.nvmlDeviceGetName(handle)),
        memory_mib=library.nvmlDeviceGetMemoryInfo(handle).total / 2**20,
        compute_mode=modes.get(library.nvmlDeviceGetComputeMode(handle)),
        mig=mig,
        processes=tuple(entry.pid for entry in library.nvmlDeviceGetComputeRunningProcesses(handle)),
    )


def _instances(library: Any, handle: Any, card: Device) -> list[Device]:
    """Return the MIG instances of a card; those whose compute is cut further are no slices of a plan."""
    found = []
    for index in range(library.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            instance = library.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except library.NVMLError:  # there are fewer
            continue
        name = _text(library.nvmlDeviceGetName(instance))
        kind = _SLICE.search(name)
        if kind is None:
            continue
        found.append(
            Device(
                host=LOCAL,
                uuid=_text(library.nvmlDeviceGetUUID(instance)),
                name=name,
                memory_mib=library.nvmlDeviceGetMemoryInfo(instance).total / 2**20,
                compute_mode=card.compute_mode,
                slice=kind[1],
                processes=tuple(entry.pid for entry in library.nvmlDeviceGetComputeRunningProcesses(instance)),
            )
        )
    return found


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def this_machine(docker: str | None, *, cpu: bool) -> tuple[tuple[HostRecord, ...], list[Device]]:
    """Return this machine as a host, with a Docker engine's URL if given, and its GPUs unless it is for its processor.

    Raises
    ------
    InputError
        If its GPUs are asked for and cannot be read.
    """
    devices = [] if cpu else read_devices(otherwise="try the launcher on the processor with --cpu")
    return (HostRecord(name=LOCAL, docker=docker),), devices


def processor_devices(count: int, hosts: Sequence[str]) -> list[Device]:
    """Return stand-ins for the GPUs of a plan, for running on the processor, spread over the hosts."""
    return [Device(hosts[position % len(hosts)], f"CPU-{position}", "processor") for position in range(count)]


class ListedGpu(Record):
    """A GPU as written in a hosts file; `nvidia-smi -L` on the host prints name and UUID.

    A MIG instance is written with its own UUID, the card's name, and `slice`: its kind, such as ``3g.40gb``.
    """

    uuid: Uuid
    name: str
    memory_mib: Positive | None = None
    slice: str | None = None


DockerUrl = Annotated[
    str,
    matching(
        r"^(ssh|tcp|unix)://[^\s]+$",
        "must be a Docker engine's URL: ssh://user@host[:port], unix:///path or tcp://host:port",
    ),
]
Address = Annotated[str, matching(r"^[0-9A-Za-z.:_-]{1,253}$", "must be an IP address or host name")]


class Host(Record):
    """A machine with a Docker engine.

    Attributes
    ----------
    docker
        ``ssh://user@host[:port]``, ``unix:///path`` or ``tcp://host:port``; not given: this machine's.
    address
        Where its servers listen; it must be reachable from here and from the clients.
    """

    name: Name
    docker: DockerUrl | None = None
    address: Address = "127.0.0.1"
    gpus: tuple[ListedGpu, ...] = ()

    def record(self) -> HostRecord:
        """Return what the state file keeps of it."""
        return HostRecord(name=self.name, docker=self.docker, address=self.address)


class Hosts(Record):
    """A hosts file."""

    hosts: tuple[Host, ...] = Field(min_length=1)

    def devices(self) -> list[Device]:
        """Return all listed GPUs."""
        return [
            Device(host.name, gpu.uuid, gpu.name, gpu.memory_mib, slice=gpu.slice)
            for host in self.hosts
            for gpu in host.gpus
        ]


def read_hosts(path: Path) -> Hosts:
    """Read a hosts file (YAML); raise InputError if it is none."""
    data = parse_yaml(read_text(path, MOST_YAML_BYTES), str(path))
    hosts = parse_record(Hosts, data, str(path))
    for what, values in (
        ("host", [host.name for host in hosts.hosts]),
        ("GPU", [gpu.uuid for host in hosts.hosts for gpu in host.gpus]),
    ):
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise InputError(f"{path}: the {what} {twice[0]!r} is listed twice")
    return hosts

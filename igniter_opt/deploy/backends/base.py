"""What a backend has to do, and what all backends share: labels and the server's command line."""

import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from igniter_opt.deploy.records import DaemonRecord, Ports, ReplicaRecord
from igniter_opt.deploy.triton.model_repository import ModelSource

# Environment variables of processes, and with other spelling labels of containers, that say whose a server is.
OWNER, TOKEN, PLACEMENT, SHARE, PLAN = (
    "IGNITER_OPT_OWNER",
    "IGNITER_OPT_TOKEN",
    "IGNITER_OPT_PLACEMENT",
    "IGNITER_OPT_SHARE",
    "IGNITER_OPT_PLAN",
)
# What a server takes for a moment beyond what its model was profiled with: before its batches are captured, each of
# them runs as it is. Without it ssd at a largest batch of 2 ran out of memory on an H200.
STARTING_MIB = 512
# By these a client of MPS limits itself.
MPS_PERCENTAGE, MPS_MEMORY = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"
LOG_LINES = 15
_CONNECT_TIMEOUT_S = 2.0
_LONGEST_LINE = 500
# Triton's error lines begin with E and the date; others say so.
_ERROR = re.compile(r"^E\d{4} |error|exception|cannot|failed", re.IGNORECASE)


@dataclass(frozen=True)
class Observation:
    """Something of ours that is there.

    Attributes
    ----------
    handle
        Process id or container id.
    started_at
        When it was started, as the operating system or Docker says.
    settings
        Digest of its limits and configuration as they are now; empty where nothing can be changed.
    running
        False for a container that exited or was never started.
    """

    token: str
    host: str
    handle: str
    started_at: str
    settings: str = ""
    running: bool = True


@dataclass(frozen=True)
class ServerJob:
    """All that starting a server takes (memory in MiB).

    Attributes
    ----------
    repository, log
        Where its model repository is, and where its output goes.
    address
        Where it listens.
    thread_percentage
        Its share, as MPS takes it; None on the processor.
    """

    record: ReplicaRecord
    owner: str
    plan_digest: str
    repository: Path
    log: Path
    address: str
    daemon: DaemonRecord | None
    thread_percentage: str | None
    memory_mib: float | None

    def labels(self) -> dict[str, str]:
        """Return what marks the server as ours."""
        return {
            OWNER: self.owner,
            TOKEN: self.record.token,
            PLACEMENT: self.record.placement,
            SHARE: f"{self.record.share_percent:g}",
            PLAN: self.plan_digest,
        }

    def mps_environment(self) -> dict[str, str]:
        """Return the variables that set this client's share and memory limit (MPS is per client, never server-wide)."""
        if self.thread_percentage is None:
            return {}
        return mps_limits(self.thread_percentage, self.memory_mib)


@dataclass(frozen=True)
class ServerOptions:
    """What the user says about how servers are started (memory in MiB); a backend takes what it knows.

    Attributes
    ----------
    inventory
        File that lists hosts and their GPUs.
    docker_host
        URL of a Docker engine.
    tritonserver
        The program to start.
    image
        Container image, by tag or digest.
    pull
        Whether a missing image may be fetched.
    cpus, memory_mib
        Limits of every server.
    shm_mib
        Its shared memory, where it has some of its own (on the processor).
    memlock
        Whether to lift the limit on locked memory.
    cluster
        File that says what only the user knows of a Kubernetes cluster.
    kubeconfig, context, namespace
        How to reach the cluster, and where in it.
    """

    inventory: Path | None = None
    docker_host: str | None = None
    tritonserver: Path | None = None
    image: str | None = None
    pull: bool = False
    cpus: float | None = None
    memory_mib: int | None = None
    shm_mib: int = 256
    memlock: bool = False
    cluster: Path | None = None
    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str | None = None


class Backend(Protocol):
    """Starts, observes and stops servers and MPS daemons; keeps no state of its own."""

    @property
    def name(self) -> str:
        """As users and state files name it."""

    def prepare(self, *, cpu: bool) -> dict[str, object]:
        """Check that servers can be started; return what determines how they run.

        Raises
        ------
        InputError
            Saying what is missing.
        """

    def start(self, job: ServerJob) -> Observation:
        """Start a server; raise DeploymentError if that fails at once."""

    def start_daemon(self, record: DaemonRecord, owner: str) -> None:
        """Start an MPS control daemon and check that it answers; raise DeploymentError if it does not."""

    def observe(self, owner: str) -> dict[str, Observation]:
        """Return everything that carries the owner's label, by token."""

    def alive(self, record: ReplicaRecord) -> bool:
        """Whether a started server still runs."""

    def daemon_answers(self, record: DaemonRecord) -> bool:
        """Whether an MPS daemon works."""

    def stop(self, owner: str, tokens: Mapping[str, str]) -> None:
        """Stop and remove what carries these tokens (token to host), and wait until it is gone."""

    def port_is_free(self, host: str, address: str, port: int) -> bool:
        """Whether nothing listens there."""

    def logs(self, record: ReplicaRecord, log: Path, lines: int = LOG_LINES) -> list[str]:
        """Return the last lines that a server wrote."""

    def processes(self, owner: str) -> frozenset[int]:
        """Return the ids of this owner's processes on this machine."""


def mps_limits(percentage: str, memory_mib: float | None) -> dict[str, str]:
    """Return the variables by which a client of MPS limits itself to a share and to the memory (MiB) that it needs.

    The limit is `STARTING_MIB` above that.
    """
    variables = {MPS_PERCENTAGE: percentage}
    if memory_mib:
        variables[MPS_MEMORY] = f"0={int(-(-memory_mib // 1)) + STARTING_MIB}M"
    return variables


@runtime_checkable
class ServesPython(Protocol):
    """A backend that can tell beforehand whether its servers' Python has what models need."""

    def check_python(self, models: Mapping[str, ModelSource]) -> None:
        """Raise InputError if a model will not start for lack of a package; called after `Backend.prepare`."""


def server_arguments(record: ReplicaRecord, address: str, repository: str, ports: Ports) -> list[str]:
    """Return the arguments of ``tritonserver``, the same for every backend."""
    return triton_arguments(record.server_id, address, repository, ports)


def triton_arguments(server_id: str, address: str, repository: str, ports: Ports) -> list[str]:
    """Return the arguments of ``tritonserver`` for a server of this name."""
    return [
        f"--id={server_id}",
        f"--model-repository={repository}",
        "--model-control-mode=none",
        "--strict-readiness=true",
        "--exit-timeout-secs=10",
        f"--http-address={address}",
        f"--http-port={ports.http}",
        f"--grpc-address={address}",
        f"--grpc-port={ports.grpc}",
        f"--metrics-address={address}",
        f"--metrics-port={ports.metrics}",
        f"--backend-config=python,shm-region-prefix-name={server_id}-",
    ]


def can_listen(address: str, port: int) -> bool:
    """Whether a server on this machine could listen there."""
    with socket.socket(_family(address), socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def nobody_answers(address: str, port: int) -> bool:
    """Whether nobody accepts connections there."""
    with socket.socket(_family(address), socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_TIMEOUT_S)
        return probe.connect_ex((address, port)) != 0


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def last_lines(text: str, lines: int) -> list[str]:
    """Return the last lines of a text that say something."""
    return [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]


def telling_lines(lines: Sequence[str], count: int = LOG_LINES) -> list[str]:
    """Return the lines of a log that tell most about a failure: the last errors, and the end."""
    end = count // 3
    first = len(lines) - end
    errors = [position for position, line in enumerate(lines) if position < first and _ERROR.search(line)]
    chosen = sorted({*errors[-(count - end) :], *range(max(0, first), len(lines))})
    return [lines[position][:_LONGEST_LINE] for position in chosen]


def shared_memory(tokens: Sequence[str]) -> list[Path]:
    """Return the shared-memory segments that servers left behind."""
    folder = Path("/dev/shm")  # noqa: S108
    return [path for token in tokens for path in folder.glob(f"igniter-opt-{token}-*")]

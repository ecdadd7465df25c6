"""Servers in containers, on this machine's Docker engine or on others' over SSH.

Containers use their host's network (so that ports are bound where we say, on 127.0.0.1 by default, and no
request passes a proxy); on GPUs also its IPC namespace, which MPS needs. Everything created carries labels,
and only what carries ours is ever stopped or removed.
"""

import hashlib
import json
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from igniter_opt.base.errors import DeploymentError, InputError
from igniter_opt.base.optional import load
from igniter_opt.deploy.backends.base import (
    LOG_LINES,
    OWNER,
    PLACEMENT,
    PLAN,
    SHARE,
    TOKEN,
    Observation,
    ServerJob,
    ServerOptions,
    can_listen,
    last_lines,
    nobody_answers,
    server_arguments,
    shared_memory,
)
from igniter_opt.deploy.backends.mps import PROGRAM as MPS_PROGRAM
from igniter_opt.deploy.inventory import Device, read_hosts, this_machine
from igniter_opt.deploy.records import DaemonRecord, HostRecord, ReplicaRecord

LABELS = {
    OWNER: "igniter-opt.owner",
    TOKEN: "igniter-opt.token",
    PLACEMENT: "igniter-opt.placement",
    SHARE: "igniter-opt.share",
    PLAN: "igniter-opt.plan",
}
MODELS_FOLDER, PIPE_FOLDER = "igniter-opt-models", "/igniter-opt-mps"
GRACE_S = 20
_TIMEOUT_S = 60
_PARALLEL = 8
# What `docker update` can change, and what a container was created with.
_SETTINGS = ("NanoCpus", "Memory", "MemorySwap", "CpuShares", "CpuQuota", "CpusetCpus", "PidsLimit", "DeviceRequests")


@dataclass(frozen=True)
class ContainerSettings:
    """What containers are made of (memory in MiB).

    Attributes
    ----------
    image
        Reference by tag or digest.
    pull
        Whether a missing image may be fetched.
    cpus, memory_mib
        Limits of every container.
    shm_mib
        Its shared memory, where it has some of its own (on the processor).
    memlock
        Whether to lift the limit on locked memory.
    """

    image: str
    pull: bool = False
    cpus: float | None = None
    memory_mib: int | None = None
    shm_mib: int = 256
    memlock: bool = False


class DockerBackend:
    """Starts servers in containers.

    Parameters
    ----------
    hosts
        The machines, each with its Docker engine.
    settings
        What containers are made of; not needed for looking and stopping.
    """

    name = "docker"

    def __init__(self, hosts: Sequence[HostRecord], settings: ContainerSettings | None = None) -> None:
        self.hosts = {host.name: host for host in hosts}
        self.settings = settings
        self._clients: dict[str, Any] = {}

    def _client(self, name: str) -> Any:
        """Return the client of a host's engine; raise InputError if it does not answer."""
        if name in self._clients:
            return self._clients[name]
        docker = load("docker")
        url = self.hosts[name].docker or os.environ.get("DOCKER_HOST")
        shown = url or "unix:///var/run/docker.sock"
        try:
            if url is None:
                client = docker.from_env(timeout=_TIMEOUT_S)
            else:
                client = docker.DockerClient(base_url=url, timeout=_TIMEOUT_S, use_ssh_client=url.startswith("ssh://"))
            client.ping()
        except (docker.errors.DockerException, OSError, ValueError) as error:
            raise InputError(
                f"the Docker engine of host {name!r} does not answer at {shown} ({_reason(error)});"
                " is it running, and may this user use it?"
            ) from None
        self._clients[name] = client
        return client

    def _local(self, name: str) -> bool:
        url = self.hosts[name].docker or os.environ.get("DOCKER_HOST") or "unix://"
        return url.startswith("unix://")

    def prepare(self, *, cpu: bool) -> dict[str, object]:
        """Check that every engine answers and has the image."""
        settings = self._settings()
        images = sorted({self._image(name) for name in self.hosts})
        return {
            "backend": self.name,
            "images": images,
            "cpus": settings.cpus,
            "memory_mib": settings.memory_mib,
            "shm_mib": settings.shm_mib if cpu else None,
            "memlock": settings.memlock,
        }

    def _settings(self) -> ContainerSettings:
        if self.settings is None:
            raise InputError("an image is needed to start containers")
        return self.settings

    def _image(self, host: str) -> str:
        docker, client, settings = load("docker"), self._client(host), self._settings()
        try:
            return str(client.images.get(settings.image).id)
        except docker.errors.ImageNotFound:
            if not settings.pull:
                raise InputError(
                    f"host {host!r} has no image {settings.image!r}; pull it there, or give --pull"
                ) from None
        except docker.errors.APIError as error:
            raise InputError(f"--image {settings.image!r}: {_reason(error)}") from None
        try:
            return str(client.images.pull(settings.image).id)
        except docker.errors.DockerException as error:
            raise InputError(f"image {settings.image!r} cannot be pulled on host {host!r}: {_reason(error)}") from None

    def start(self, job: ServerJob) -> Observation:
        """Create a container, give it its models, and start it."""
        record, host, settings = job.record, job.record.host, self._settings()
        local = self._local(host)
        options: dict[str, Any] = {
            "environment": {**job.labels(), **job.mps_environment(), **self._gpu_environment(job)},
            "volumes": {},
            "nano_cpus": None if settings.cpus is None else round(settings.cpus * 1e9),
            "mem_limit": None if settings.memory_mib is None else settings.memory_mib * 2**20,
        }
        if settings.memlock:
            options["ulimits"] = [load("docker").types.Ulimit(name="memlock", soft=-1, hard=-1)]
        if local:
            options["volumes"][str(job.repository)] = {"bind": f"/{MODELS_FOLDER}", "mode": "ro"}
        if job.thread_percentage is None:
            options["shm_size"] = settings.shm_mib * 2**20
        else:
            options |= self._gpu_options(record.device)
        if job.daemon is not None:
            options["volumes"][_volume(job.daemon.token)] = {"bind": PIPE_FOLDER, "mode": "rw"}
        arguments = ["tritonserver", *server_arguments(record, job.address, f"/{MODELS_FOLDER}", record.ports)]
        with self._failures(f"the container of {record.placement}"):
            container = self._create(host, record.workload, record.token, job.labels(), arguments, options)
            if not local:
                self._send(container, job.repository)
            container.start()
            container.reload()
        return _observation(record.token, host, container)

    def _gpu_environment(self, job: ServerJob) -> dict[str, str]:
        if job.thread_percentage is None:
            return {"NVIDIA_VISIBLE_DEVICES": "void"}
        return {} if job.daemon is None else {"CUDA_MPS_PIPE_DIRECTORY": PIPE_FOLDER}

    def _gpu_options(self, device: str) -> dict[str, Any]:
        request = load("docker").types.DeviceRequest(device_ids=[device], capabilities=[["gpu", "compute", "utility"]])
        return {"device_requests": [request], "ipc_mode": "host"}

    def _create(
        self, host: str, name: str, token: str, labels: Mapping[str, str], command: list[str], options: dict[str, Any]
    ) -> Any:
        return self._client(host).containers.create(
            self._image(host),
            command,
            name=f"igniter-opt-{name}-{token}",
            labels={LABELS[key]: value for key, value in labels.items()},
            network_mode="host",
            restart_policy={"Name": "no"},
            security_opt=["no-new-privileges"],
            init=True,
            log_config={"type": "json-file", "config": {"max-size": "10m", "max-file": "3"}},
            **options,
        )

    def _send(self, container: Any, repository: Path) -> None:
        """Copy a model repository into a container on another machine."""
        with tempfile.TemporaryFile() as file:
            with tarfile.open(fileobj=file, mode="w", dereference=True) as archive:
                archive.add(repository, MODELS_FOLDER)
            file.seek(0)
            container.put_archive("/", file)

    def start_daemon(self, record: DaemonRecord, owner: str) -> None:
        """Start an MPS control daemon in a container of its own; its pipe directory is a volume."""
        labels = {OWNER: owner, TOKEN: record.token, PLACEMENT: f"MPS daemon of {record.device}"}
        options = {
            "environment": {
                OWNER: owner,
                TOKEN: record.token,
                "CUDA_MPS_PIPE_DIRECTORY": PIPE_FOLDER,
                "CUDA_MPS_LOG_DIRECTORY": PIPE_FOLDER,
            },
            "volumes": {_volume(record.token): {"bind": PIPE_FOLDER, "mode": "rw"}},
            **self._gpu_options(record.device),
        }
        client = self._client(record.host)
        with self._failures(f"the MPS daemon of {record.device}"):
            client.volumes.create(_volume(record.token), labels={LABELS[key]: value for key, value in labels.items()})
            container = self._create(record.host, "mps", record.token, labels, [MPS_PROGRAM, "-f"], options)
            container.start()
        deadline = time.monotonic() + GRACE_S
        while not self.daemon_answers(record):
            container.reload()
            if container.status != "running" or time.monotonic() > deadline:
                lines = last_lines(container.logs(tail=LOG_LINES).decode(errors="replace"), LOG_LINES)
                raise DeploymentError("\n".join([f"the MPS daemon of {record.device} does not start:", *lines]))
            time.sleep(0.1)

    @contextmanager
    def _failures(self, what: str) -> Iterator[None]:
        """Turn the engine's errors into one message."""
        docker = load("docker")
        try:
            yield
        except docker.errors.DockerException as error:
            reason = _reason(error)
            if "could not select device driver" in reason:
                reason = "Docker has no NVIDIA runtime there (install the NVIDIA container toolkit, or try --cpu)"
            raise DeploymentError(f"{what} cannot be started: {reason}") from None

    def observe(self, owner: str) -> dict[str, Observation]:
        """Return all containers with the owner's label."""
        found = {}
        for host in self.hosts:
            for container in self._containers(host, owner):
                token = container.labels.get(LABELS[TOKEN], "")
                found[token] = _observation(token, host, container)
        return found

    def _containers(self, host: str, owner: str, token: str | None = None) -> list[Any]:
        labels = [f"{LABELS[OWNER]}={owner}"] + ([] if token is None else [f"{LABELS[TOKEN]}={token}"])
        docker = load("docker")
        try:
            return list(self._client(host).containers.list(all=True, filters={"label": labels}, ignore_removed=True))
        except (docker.errors.DockerException, OSError) as error:
            raise InputError(f"the Docker engine of host {host!r} fails: {_reason(error)}") from None

    def alive(self, record: ReplicaRecord) -> bool:
        """Whether the server's container runs."""
        docker = load("docker")
        try:
            return str(self._client(record.host).containers.get(record.handle).status) == "running"
        except docker.errors.NotFound:
            return False

    def daemon_answers(self, record: DaemonRecord) -> bool:
        """Whether a daemon's container runs and its control pipe is there."""
        docker = load("docker")
        try:
            container = self._client(record.host).containers.get(f"igniter-opt-mps-{record.token}")
            return bool(container.exec_run(["test", "-e", f"{PIPE_FOLDER}/control"]).exit_code == 0)
        except docker.errors.APIError:
            return False

    def stop(self, owner: str, tokens: Mapping[str, str]) -> None:
        """Stop and remove containers and volumes."""
        docker = load("docker")

        def remove(token: str) -> None:
            host = tokens[token]
            for container in self._containers(host, owner, token):
                _unless_gone(docker, partial(container.stop, timeout=GRACE_S))
                _unless_gone(docker, partial(container.remove, force=True, v=True))
            for volume in self._client(host).volumes.list(filters={"label": f"{LABELS[TOKEN]}={token}"}):
                if volume.attrs.get("Labels", {}).get(LABELS[OWNER]) == owner:
                    _unless_gone(docker, volume.remove)

        for host in set(tokens.values()):
            self._client(host)
        with ThreadPoolExecutor(_PARALLEL) as pool:
            list(pool.map(remove, tokens))
        for path in shared_memory([token for token, host in tokens.items() if self._local(host)]):
            path.unlink(missing_ok=True)

    def port_is_free(self, host: str, address: str, port: int) -> bool:
        """Whether a server could listen there; on other machines, whether nobody answers there."""
        return can_listen(address, port) if self._local(host) else nobody_answers(address, port)

    def logs(self, record: ReplicaRecord, log: Path, lines: int = LOG_LINES) -> list[str]:
        """Return the last lines that a server wrote."""
        docker = load("docker")
        # By its token: a launcher that was killed may not have noted which container it started.
        labels = {"label": f"{LABELS[TOKEN]}={record.token}"}
        try:
            for container in self._client(record.host).containers.list(all=True, filters=labels, ignore_removed=True):
                return last_lines(container.logs(tail=lines).decode(errors="replace"), lines)
        except docker.errors.APIError:
            pass
        return []

    def processes(self, owner: str) -> frozenset[int]:
        """Return the ids of the processes in all containers on this machine."""
        docker, found = load("docker"), set()
        for host in filter(self._local, self.hosts):
            for container in self._containers(host, owner):
                try:
                    table = container.top()
                except docker.errors.APIError:  # does not run
                    continue
                column = table["Titles"].index("PID")
                found |= {int(row[column]) for row in table["Processes"]}
        return frozenset(found)


def make(hosts: tuple[HostRecord, ...], options: ServerOptions) -> DockerBackend:
    """Make the backend; without an image it looks and stops only."""
    if options.image is None:
        return DockerBackend(hosts)
    settings = ContainerSettings(
        image=options.image,
        pull=options.pull,
        cpus=options.cpus,
        memory_mib=options.memory_mib,
        shm_mib=options.shm_mib,
        memlock=options.memlock,
    )
    return DockerBackend(hosts, settings)


def find(options: ServerOptions, cpu: bool) -> tuple[tuple[HostRecord, ...], list[Device]]:
    """Return the hosts and GPUs of the inventory, or those of this machine, by the engine that is given."""
    if options.inventory is None:
        return this_machine(options.docker_host, cpu=cpu)
    if options.docker_host is not None:
        raise InputError("--docker-host: give the engines in the --inventory file instead")
    listed = read_hosts(options.inventory)
    return tuple(host.record() for host in listed.hosts), listed.devices()


def _volume(token: str) -> str:
    return f"igniter-opt-mps-{token}"


def _observation(token: str, host: str, container: Any) -> Observation:
    state, config = container.attrs["State"], container.attrs["HostConfig"]
    settings = {key: config.get(key) for key in _SETTINGS} | {
        key: container.attrs["Config"].get(key) for key in ("Env", "Cmd")
    }
    return Observation(
        token=token,
        host=host,
        handle=container.id,
        started_at=state["StartedAt"],
        settings=hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
        running=bool(state["Running"]),
    )


def _unless_gone(docker: Any, action: Callable[[], object]) -> None:
    """Do something to a container or volume; that it is gone, or being removed, is fine."""
    try:
        action()
    except docker.errors.NotFound:
        pass
    except docker.errors.APIError as error:
        if error.status_code != 409:  # conflict: another one is removing it
            raise InputError(f"the Docker engine fails: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    explanation = getattr(error, "explanation", None)
    return (
        str(explanation or error).strip().splitlines()[0] if str(explanation or error).strip() else type(error).__name__
    )

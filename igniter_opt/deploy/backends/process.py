"""Servers as processes of this machine; they outlive the launcher."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from igniter_opt.base.errors import DeploymentError, InputError
from igniter_opt.base.optional import load
from igniter_opt.deploy.backends import mps, processes
from igniter_opt.deploy.backends.base import (
    LOG_LINES,
    OWNER,
    TOKEN,
    Observation,
    ServerJob,
    ServerOptions,
    can_listen,
    last_lines,
    server_arguments,
    shared_memory,
)
from igniter_opt.deploy.inventory import LOCAL, Device, this_machine
from igniter_opt.deploy.records import DaemonRecord, HostRecord, ReplicaRecord
from igniter_opt.deploy.triton.how_run import is_exported_torch
from igniter_opt.deploy.triton.install import Installation, find_installation
from igniter_opt.deploy.triton.model_repository import ModelSource

PROGRAM = "tritonserver"
_LOOK_S = 60.0
# Names what a torch module in the Python backend needs and is not there; quick, for nothing is imported.
_NEEDED = """\
from importlib.util import find_spec
print(*[name for name in ("igniter_opt", "torch") if find_spec(name) is None])
"""


def find_server(given: Path | None) -> Installation:
    """Return the server to start: the one given, on PATH, or fetched by `igniter-opt triton install`.

    Raises
    ------
    InputError
        If there is none.
    """
    if given is not None:
        if not given.is_file() or not os.access(given, os.X_OK):
            raise InputError(f"--tritonserver {given}: is no executable file")
        return Installation(given.absolute())
    on_path = shutil.which(PROGRAM)
    if on_path is not None:
        return Installation(Path(on_path).absolute())
    installed = find_installation()
    if installed is None:
        raise InputError(
            f"there is no {PROGRAM} on PATH; `igniter-opt triton install` fetches one, --tritonserver names one,"
            " and --backend docker runs one in containers"
        )
    return installed


class ProcessBackend:
    """Starts ``tritonserver`` processes in sessions of their own.

    Parameters
    ----------
    tritonserver
        The program, if the user names one.
    """

    name = "process"

    def __init__(self, tritonserver: Path | None = None) -> None:
        self.given = tritonserver
        self.installation: Installation | None = None

    def prepare(self, *, cpu: bool) -> dict[str, object]:
        """Find the server, and the MPS control program."""
        self.installation = find_server(self.given)
        if not cpu:
            mps.find_program()
        return {"backend": self.name, "server": str(self.installation.server.resolve())}

    def check_python(self, models: Mapping[str, ModelSource]) -> None:
        """Raise InputError where a torch module is to be served and the server's Python cannot import what it needs.

        That Python is the first on the server's PATH, which is where Triton's Python backend takes its packages from.
        """
        exported = [source for source in models.values() if is_exported_torch(source)]
        if not exported:
            return
        installation = self.installation
        assert installation is not None  # prepare() comes first  # noqa: S101
        inherited = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment = inherited | installation.environment(inherited)
        python = shutil.which("python3", path=environment.get("PATH"))
        if python is None:
            return
        try:
            done = subprocess.run(  # noqa: S603
                [python, "-c", _NEEDED],
                env=environment,
                cwd="/",
                capture_output=True,
                text=True,
                check=False,
                timeout=_LOOK_S,
            )
        except (OSError, subprocess.TimeoutExpired):
            return
        lacking = done.stdout.split()
        if done.returncode or not lacking:
            return
        how = (
            "`igniter-opt triton install --package igniter-opt --package torchvision` adds them"
            if installation.python is not None
            else f"install them there (`{python} -m pip install ...`), or put another Python first on PATH"
        )
        raise InputError(
            f"{exported[0].folder}: is a torch module, and {python}, which runs models' Python code for"
            f" {installation.server}, has no {', '.join(lacking)}; {how}"
        )

    def start(self, job: ServerJob) -> Observation:
        """Start a server."""
        installation = self.installation
        assert installation is not None  # prepare() comes first  # noqa: S101
        record = job.record
        arguments = server_arguments(record, job.address, str(job.repository), record.ports)
        if installation.backends is not None:
            arguments.append(f"--backend-directory={installation.backends}")
        environment = {key: value for key, value in os.environ.items() if not key.startswith("CUDA_MPS_")}
        environment |= installation.environment(environment)
        environment |= job.labels()
        environment["CUDA_VISIBLE_DEVICES"] = "" if job.thread_percentage is None else record.device
        if job.daemon is not None:
            environment |= mps.client_environment(job.daemon.token)
        environment |= job.mps_environment()
        try:
            with job.log.open("ab") as log:
                child = subprocess.Popen(  # noqa: S603
                    [str(installation.server), *arguments],
                    env=environment,
                    cwd=job.log.parent,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise DeploymentError(f"{installation.server}: cannot be started ({error.strerror})") from None
        processes.adopt(child)
        return Observation(record.token, LOCAL, str(child.pid), _start_time(child.pid))

    def start_daemon(self, record: DaemonRecord, owner: str) -> None:
        """Start an MPS control daemon."""
        mps.start(record, owner)

    def observe(self, owner: str) -> dict[str, Observation]:
        """Return the running servers and daemons with the owner's label."""
        processes.reap()
        found = {}
        for token, members in processes.labelled(owner).items():
            main = processes.root(members)
            found[token] = Observation(token, LOCAL, str(main.pid), _start_time(main.pid))
        return found

    def alive(self, record: ReplicaRecord) -> bool:
        """Whether the server's process runs."""
        processes.reap()
        psutil = load("psutil")
        try:
            environment = processes.environment_of(psutil.Process(int(record.handle or 0)))
        except psutil.Error:
            return False
        return environment.get(TOKEN) == record.token and OWNER in environment

    def daemon_answers(self, record: DaemonRecord) -> bool:
        """Whether an MPS daemon works."""
        return mps.answers(record)

    def stop(self, owner: str, tokens: Mapping[str, str]) -> None:
        """Stop servers and daemons, and remove their shared memory and directories."""
        daemons = [token for token in tokens if mps.has_folder(token)]
        processes.stop(owner, [token for token in tokens if token not in daemons])
        mps.stop(owner, daemons)
        for path in shared_memory(list(tokens)):
            path.unlink(missing_ok=True)

    def port_is_free(self, host: str, address: str, port: int) -> bool:
        """Whether a server could listen there."""
        return can_listen(address, port)

    def logs(self, record: ReplicaRecord, log: Path, lines: int = LOG_LINES) -> list[str]:
        """Return the last lines that a server wrote."""
        try:
            with log.open("rb") as file:
                file.seek(max(0, log.stat().st_size - 64 * 1024))
                return last_lines(file.read().decode(errors="replace"), lines)
        except OSError:
            return []

    def processes(self, owner: str) -> frozenset[int]:
        """Return the ids of all labelled processes."""
        return frozenset(process.pid for members in processes.labelled(owner).values() for process in members)


def make(hosts: tuple[HostRecord, ...], options: ServerOptions) -> ProcessBackend:
    """Make the backend; it knows no host but this machine."""
    return ProcessBackend(options.tritonserver)


def find(options: ServerOptions, cpu: bool) -> tuple[tuple[HostRecord, ...], list[Device]]:
    """Return this machine and its GPUs."""
    return this_machine(options.docker_host, cpu=cpu)


def _start_time(pid: int) -> str:
    psutil = load("psutil")
    try:
        return str(psutil.Process(pid).create_time())
    except psutil.Error:
        return ""

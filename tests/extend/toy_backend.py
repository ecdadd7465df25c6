"""A backend as somebody outside the package would write it: this file, and the row at its end."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from igniter_opt.deploy.backends.base import LOG_LINES, Observation, ServerJob, ServerOptions, can_listen
from igniter_opt.deploy.backends.base import server_arguments as arguments
from igniter_opt.deploy.backends.registry import BackendKind, Hosts
from igniter_opt.deploy.inventory import this_machine
from igniter_opt.deploy.records import DaemonRecord, ReplicaRecord

# What runs, by owner and token; a real backend asks whatever runs its servers.
RUNNING: dict[tuple[str, str], tuple[str, "subprocess.Popen[bytes]"]] = {}


class ToyBackend:
    """Starts children of this Python process."""

    name = "toy"

    def __init__(self, server: Path | None) -> None:
        self.server = server

    def prepare(self, *, cpu: bool) -> dict[str, object]:
        assert cpu
        return {"backend": self.name, "server": str(self.server)}

    def start(self, job: ServerJob) -> Observation:
        record, host = job.record, job.record.host
        words = [str(self.server), *arguments(record, job.address, str(job.repository), record.ports)]
        with job.log.open("ab") as log:
            child = subprocess.Popen(words, stdout=log, stderr=log)
        RUNNING[job.owner, record.token] = host, child
        return Observation(record.token, host, str(child.pid), "then")

    def start_daemon(self, record: DaemonRecord, owner: str) -> None:
        raise AssertionError("there are no GPUs here")

    def observe(self, owner: str) -> dict[str, Observation]:
        return {
            token: Observation(token, host, str(child.pid), "then", running=child.poll() is None)
            for (whose, token), (host, child) in RUNNING.items()
            if whose == owner
        }

    def alive(self, record: ReplicaRecord) -> bool:
        return any(token == record.token and child.poll() is None for (_, token), (_, child) in RUNNING.items())

    def daemon_answers(self, record: DaemonRecord) -> bool:
        return False

    def stop(self, owner: str, tokens: Mapping[str, str]) -> None:
        for token in tokens:
            _, child = RUNNING.pop((owner, token))
            child.terminate()
            child.wait(20)

    def port_is_free(self, host: str, address: str, port: int) -> bool:
        return can_listen(address, port)

    def logs(self, record: ReplicaRecord, log: Path, lines: int = LOG_LINES) -> list[str]:
        return log.read_text().splitlines()[-lines:]

    def processes(self, owner: str) -> frozenset[int]:
        return frozenset()


def make(hosts: Hosts, options: ServerOptions) -> ToyBackend:
    return ToyBackend(options.tritonserver)


TOY = BackendKind(
    name="toy",
    servers="toys",
    make=make,
    find=lambda options, cpu: this_machine(None, cpu=cpu),
    takes=("docker_host",),
    needs={"tritonserver": "such as a stand-in"},
)

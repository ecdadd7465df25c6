"""Where to send requests: a file for clients (`load_balancers` has the forms for others)."""

import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath, parse_json, read_text
from igniter_opt.base.schema import Count, Name, Positive, Record, matching, parse_record
from igniter_opt.deploy.records import ReplicaRecord
from igniter_opt.deploy.state import Deployment, Store

ENDPOINTS_FILE = "endpoints.json"
ENDPOINTS_SCHEMA: Final = "igniter-opt/endpoints@1"

_HOST = r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%]+\])"
Authority = Annotated[str, matching(rf"^{_HOST}:[0-9]{{1,5}}$", "must be a host and port, such as 127.0.0.1:8001")]
HttpUrl = Annotated[str, matching(rf"^http://{_HOST}:[0-9]{{1,5}}$", "must be http://, a host and port")]


class ReplicaEndpoint(Record):
    """Where one replica's server listens, and the rate in req/s that the plan gives it."""

    replica: Count = 1
    gpu: Name | None = None
    rate_rps: Positive
    http: HttpUrl | None = None
    grpc: Authority
    metrics: str | None = None


class WorkloadEndpoints(Record):
    """The servers of one workload."""

    model: Name
    replicas: tuple[ReplicaEndpoint, ...] = Field(min_length=1)


class Endpoints(Record):
    """The endpoints file: every workload with its ready replicas; `cpu` says that they have no GPU and no shares."""

    schema_: Literal["igniter-opt/endpoints@1"] = Field(default=ENDPOINTS_SCHEMA, alias="schema")
    deployment: str | None = None
    plan_digest: str | None = None
    protocol: str = "KServe v2 (HTTP and gRPC)"
    cpu: bool = False
    workloads: dict[Name, WorkloadEndpoints]


def endpoints(state: Deployment) -> Endpoints:
    """Return every workload with the URLs of its ready replicas."""
    workloads = {
        name: WorkloadEndpoints(
            model=records[0].model,
            replicas=tuple(
                ReplicaEndpoint(
                    replica=record.replica,
                    gpu=record.gpu,
                    rate_rps=record.rate_rps,
                    http=f"http://{authority(state, record, record.ports.http)}",
                    grpc=authority(state, record, record.ports.grpc),
                    metrics=f"http://{authority(state, record, record.ports.metrics)}/metrics",
                )
                for record in records
            ),
        )
        for name, records in sorted(serving_by_workload(state).items())
    }
    return Endpoints(deployment=state.name, plan_digest=state.plan_digest, cpu=state.cpu, workloads=workloads)


def endpoints_from_data(data: Any, source: str) -> Endpoints:
    """Validate the parsed JSON of an endpoints file."""
    return parse_record(Endpoints, data, source)


def read_endpoints(path: StrPath) -> Endpoints:
    """Read an endpoints file; raise InputError where it is none."""
    return endpoints_from_data(parse_json(read_text(path), str(path)), str(path))


class Follower:
    """Notices that an endpoints file was rewritten, at the price of a look at its directory entry."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int] | None = None

    def changed(self) -> Endpoints | None:
        """Return the endpoints if the file is another one than at the last call (at the first, in any case).

        None where it is the same, or cannot be read just now.
        """
        try:
            found = self.path.stat()
            if (found.st_ino, found.st_mtime_ns) == self._seen:
                return None
            endpoints = read_endpoints(self.path)
        except (OSError, InputError):
            return None
        self._seen = (found.st_ino, found.st_mtime_ns)
        return endpoints


def write_endpoints(state: Deployment, store: Store) -> None:
    """Write the endpoints file atomically, so that readers see the old servers or the new, never none."""
    store.write(store.folder / ENDPOINTS_FILE, endpoints_json(state).encode())


def _serving(state: Deployment) -> list[ReplicaRecord]:
    return [record for record in state.replicas if record.phase == "ready"]


def address_of(state: Deployment, record: ReplicaRecord) -> str:
    """Return where a server listens."""
    return state.host(record.host).address


def authority(state: Deployment, record: ReplicaRecord, port: int) -> str:
    """Return a server's address with one of its ports."""
    address = address_of(state, record)
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def endpoints_json(state: Deployment) -> str:
    """Return the content of the endpoints file."""
    return json.dumps(endpoints(state).model_dump(mode="json", by_alias=True), indent=1) + "\n"


def serving_by_workload(state: Deployment) -> dict[str, list[ReplicaRecord]]:
    """Return every workload's servers that are ready, in the order of their replicas."""
    groups: dict[str, list[ReplicaRecord]] = {}
    for record in sorted(_serving(state), key=lambda entry: (entry.workload, entry.replica)):
        groups.setdefault(record.workload, []).append(record)
    return groups

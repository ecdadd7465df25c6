"""Where to send requests: a file for clients, and configurations for load balancers."""

import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import parse_json, read_text
from igniter_opt.base.schema import Count, Name, Positive, Record, matching, one_of, parse_record
from igniter_opt.deploy.records import ReplicaRecord
from igniter_opt.deploy.state import Deployment, Store

ENDPOINTS_FILE = "endpoints.json"
ENDPOINTS_SCHEMA: Final = "igniter-opt/endpoints@1"
# Load balancers listen from here up, one port for every workload.
FIRST_LISTENER = 9000

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
                    http=f"http://{_authority(state, record, record.ports.http)}",
                    grpc=_authority(state, record, record.ports.grpc),
                    metrics=f"http://{_authority(state, record, record.ports.metrics)}/metrics",
                )
                for record in records
            ),
        )
        for name, records in sorted(_by_workload(state).items())
    }
    return Endpoints(deployment=state.name, plan_digest=state.plan_digest, cpu=state.cpu, workloads=workloads)


def endpoints_from_data(data: Any, source: str) -> Endpoints:
    """Validate the parsed JSON of an endpoints file."""
    if isinstance(data, dict):
        data = {"schema_" if key == "schema" else key: value for key, value in data.items()}
    return parse_record(Endpoints, data, source)


def read_endpoints(path: Path) -> Endpoints:
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
    store.write(store.folder / ENDPOINTS_FILE, render(state, "json").encode())


def render(state: Deployment, form: str) -> str:
    """Render the endpoints as ``json``, or as an ``nginx`` or ``envoy`` configuration.

    Replicas are weighted by the rates that the plan gives them.
    """
    forms = {"json": _json, "nginx": _nginx, "envoy": _envoy}
    return forms[one_of(form, forms, "endpoints: unknown form", "forms")](state)


def _serving(state: Deployment) -> list[ReplicaRecord]:
    return [record for record in state.replicas if record.phase == "ready"]


def _address(state: Deployment, record: ReplicaRecord) -> str:
    return state.host(record.host).address


def _authority(state: Deployment, record: ReplicaRecord, port: int) -> str:
    address = _address(state, record)
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _json(state: Deployment) -> str:
    return json.dumps(endpoints(state).model_dump(mode="json", by_alias=True), indent=1) + "\n"


def _by_workload(state: Deployment) -> dict[str, list[ReplicaRecord]]:
    groups: dict[str, list[ReplicaRecord]] = {}
    for record in sorted(_serving(state), key=lambda entry: (entry.workload, entry.replica)):
        groups.setdefault(record.workload, []).append(record)
    return groups


def _weights(records: list[ReplicaRecord]) -> list[int]:
    """Whole-number weights in proportion to the rates; the smallest is at least 1, the largest at most 100."""
    largest = max(record.rate_rps for record in records)
    return [max(1, round(100 * record.rate_rps / largest)) for record in records]


def _nginx(state: Deployment) -> str:
    """Two upstreams for every workload (HTTP and gRPC), weighted, each behind a local listener."""
    lines = [f"# Deployment {state.name}. Include this inside nginx's http block."]
    for position, (workload, records) in enumerate(_by_workload(state).items()):
        for protocol in ("http", "grpc"):
            lines.append(f'upstream "{workload}-{protocol}" {{')
            for record, weight in zip(records, _weights(records), strict=True):
                lines.append(
                    f"    server {_authority(state, record, getattr(record.ports, protocol))} weight={weight};"
                )
            lines += ["    keepalive 32;", "}"]
        port = FIRST_LISTENER + 2 * position
        lines += [
            f"server {{  # {workload}: HTTP",
            f"    listen 127.0.0.1:{port};",
            "    location / {",
            f'        proxy_pass "http://{workload}-http";',
            "        proxy_http_version 1.1;",
            '        proxy_set_header Connection "";',
            "    }",
            "}",
            f"server {{  # {workload}: gRPC",
            f"    listen 127.0.0.1:{port + 1} http2;",
            f'    location / {{ grpc_pass "grpc://{workload}-grpc"; }}',
            "}",
        ]
    return "\n".join(lines) + "\n"


def _envoy(state: Deployment) -> str:
    """A static Envoy configuration: one listener and one weighted cluster for every workload, over gRPC."""
    listeners, clusters = [], []
    for position, (workload, records) in enumerate(_by_workload(state).items()):
        manager = {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
            ".HttpConnectionManager",
            "stat_prefix": workload,
            "codec_type": "AUTO",
            "route_config": {
                "virtual_hosts": [
                    {
                        "name": workload,
                        "domains": ["*"],
                        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": workload, "timeout": "0s"}}],
                    }
                ]
            },
            "http_filters": [
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                }
            ],
        }
        listeners.append(
            {
                "name": workload,
                "address": _socket("127.0.0.1", FIRST_LISTENER + position),
                "filter_chains": [
                    {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
                ],
            }
        )
        clusters.append(
            {
                "name": workload,
                "type": "STRICT_DNS",
                "lb_policy": "LEAST_REQUEST",
                "typed_extension_protocol_options": {
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                        "explicit_http_config": {"http2_protocol_options": {}},
                    }
                },
                "load_assignment": {
                    "cluster_name": workload,
                    "endpoints": [
                        {
                            "lb_endpoints": [
                                {
                                    "endpoint": {"address": _socket(_address(state, record), record.ports.grpc)},
                                    "load_balancing_weight": weight,
                                }
                                for record, weight in zip(records, _weights(records), strict=True)
                            ]
                        }
                    ],
                },
            }
        )
    return json.dumps({"static_resources": {"listeners": listeners, "clusters": clusters}}, indent=1) + "\n"


def _socket(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}

"""A deployment's endpoints in the form that is asked for: the file's own, or a load balancer's configuration."""

import json
from collections.abc import Callable
from typing import Any

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import one_of
from igniter_opt.deploy.endpoints import address_of, authority, endpoints_json, serving_by_workload
from igniter_opt.deploy.records import ReplicaRecord
from igniter_opt.deploy.state import Deployment, listener_slots

# Load balancers listen from here up: a workload keeps its listener for as long as it is served.
FIRST_LISTENER = 9000


_HIGHEST_PORT = 65535


def render_endpoints(state: Deployment, form: str, first_listener: int = FIRST_LISTENER) -> str:
    """Render the endpoints as ``json``, or as an ``nginx`` or ``envoy`` configuration.

    Replicas are weighted by the rates that the plan gives them.

    Parameters
    ----------
    first_listener
        The port that load balancers listen on from up; deployments behind one load balancer need different ones.

    Raises
    ------
    InputError
        There is no such form, or there are no ports from there up for all workloads.
    """
    forms: dict[str, Callable[[Deployment, int], str]] = {
        "json": lambda state, _: endpoints_json(state),
        "nginx": _nginx,
        "envoy": _envoy,
    }
    render = forms[one_of(form, forms, "endpoints: unknown form", "forms")]
    last = first_listener + 2 * max(listener_slots(state.listeners, serving_by_workload(state)).values(), default=0) + 1
    if first_listener < 1 or last > _HIGHEST_PORT:
        raise InputError(f"--first-listener: listeners would be at {first_listener} to {last}; give another port")
    return render(state, first_listener)


def _weights(records: list[ReplicaRecord]) -> list[int]:
    """Whole-number weights in proportion to the rates; the smallest is at least 1, the largest at most 100."""
    largest = max(record.rate_rps for record in records)
    return [max(1, round(100 * record.rate_rps / largest)) for record in records]


def _nginx(state: Deployment, first_listener: int) -> str:
    """Two upstreams for every workload (HTTP and gRPC), weighted, each behind a local listener.

    Their names begin with the deployment's, so that one nginx can include the configurations of several.
    """
    lines = [f"# Deployment {state.name}. Include this inside nginx's http block."]
    groups = serving_by_workload(state)
    slots = listener_slots(state.listeners, groups)
    for workload, records in groups.items():
        for protocol in ("http", "grpc"):
            lines.append(f'upstream "{state.name}--{workload}-{protocol}" {{')
            for record, weight in zip(records, _weights(records), strict=True):
                lines.append(f"    server {authority(state, record, getattr(record.ports, protocol))} weight={weight};")
            lines += ["    keepalive 32;", "}"]
        port = first_listener + 2 * slots[workload]
        lines += [
            f"server {{  # {workload}: HTTP",
            f"    listen 127.0.0.1:{port};",
            "    location / {",
            f'        proxy_pass "http://{state.name}--{workload}-http";',
            "        proxy_http_version 1.1;",
            '        proxy_set_header Connection "";',
            "    }",
            "}",
            f"server {{  # {workload}: gRPC",
            f"    listen 127.0.0.1:{port + 1} http2;",
            f'    location / {{ grpc_pass "grpc://{state.name}--{workload}-grpc"; }}',
            "}",
        ]
    return "\n".join(lines) + "\n"


def _envoy(state: Deployment, first_listener: int) -> str:
    """A static Envoy configuration: one listener and one weighted cluster for every workload, over gRPC."""
    listeners, clusters = [], []
    groups = serving_by_workload(state)
    slots = listener_slots(state.listeners, groups)
    for workload, records in groups.items():
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
                "address": _socket("127.0.0.1", first_listener + slots[workload]),
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
                                    "endpoint": {"address": _socket(address_of(state, record), record.ports.grpc)},
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

"""What clients see of a workload: a Service over its replicas, weights, a budget for disruptions; who may come."""

from collections.abc import Sequence
from typing import Any

from igniter_opt.base.errors import InputError
from igniter_opt.deploy.kubernetes.names import (
    DEPLOYMENT,
    SERVER,
    WORKLOAD,
    Object,
    hashed_name,
    label_value,
    metadata,
    plain_name,
)
from igniter_opt.deploy.kubernetes.pods import PORTS
from igniter_opt.deploy.kubernetes.settings import ClusterSettings, GatewayRef
from igniter_opt.deploy.targets import Target

# Weights of routes are whole numbers.
_WEIGHTS = 1000
# More backends a rule of Gateway API must not have, and requests are divided within a rule.
_MOST_BACKENDS = 16
_GATEWAY_API = "gateway.networking.k8s.io"
# Relatively; replicas at rates this near each other count as equal.
_EQUAL = 0.01

Replicas = Sequence[tuple[Target, str]]


def workload_objects(workload: str, replicas: Replicas, settings: ClusterSettings) -> list[Object]:
    """Return a workload's objects, given its replicas with the names of their servers."""
    found = [_service(workload, settings), _budget(workload, len(replicas), settings)]
    if settings.cluster.gateway is not None:
        found += [_replica_service(target, server, settings) for target, server in replicas]
        found += [_route(*row, settings.cluster.gateway, workload, replicas, settings) for row in _ROUTES]
    return found


def uneven(replicas: Replicas) -> bool:
    """Whether pods have rates so different that clients should not divide requests evenly."""
    rates = [target.rate_rps for target, _ in replicas]
    return max(rates) - min(rates) > _EQUAL * max(rates)


def service_name(deployment: str, workload: str) -> str:
    """Return the name of a workload's Service."""
    return plain_name(deployment, workload)


def _service(workload: str, settings: ClusterSettings) -> Object:
    deployment = settings.deployment
    chosen = {DEPLOYMENT: label_value(deployment), WORKLOAD: label_value(workload)}
    return _over(service_name(deployment, workload), workload, chosen, settings)


def _replica_service(target: Target, server: str, settings: ClusterSettings) -> Object:
    return _over(_replica_name(server, settings), target.workload, {SERVER: server}, settings, {SERVER: server})


def _replica_name(server: str, settings: ClusterSettings) -> str:
    return hashed_name(settings.deployment, "service of", server, readable=(server,))


def _over(
    name: str, workload: str, chosen: dict[str, str], settings: ClusterSettings, labels: dict[str, str] | None = None
) -> Object:
    """Return a Service over the pods with some labels."""
    marks = {WORKLOAD: label_value(workload), **(labels or {})}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(settings.namespace, settings.deployment, name, marks, {}),
        "spec": {
            "type": "ClusterIP",
            "selector": chosen,
            "ports": [
                {"name": name, "port": port, "protocol": "TCP", "targetPort": name}
                for name, port in PORTS.model_dump().items()
            ],
        },
    }


def _budget(workload: str, pods: int, settings: ClusterSettings) -> Object:
    """Return the budget for voluntary disruptions: one pod may be away if there is another."""
    name = hashed_name(settings.deployment, "budget of", workload, readable=(settings.deployment, workload))
    chosen = {DEPLOYMENT: label_value(settings.deployment), WORKLOAD: label_value(workload)}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(settings.namespace, settings.deployment, name, {WORKLOAD: label_value(workload)}, {}),
        "spec": {
            "minAvailable": max(1, pods - 1),
            "selector": {"matchLabels": chosen},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


# Kind, port, and what is before the Service's name in the host: a listener that takes both kinds refuses the second of
# two routes that have a host in common.
_ROUTES = (("HTTPRoute", PORTS.http, ""), ("GRPCRoute", PORTS.grpc, "grpc."))


def _route(
    kind: str,
    port: int,
    before: str,
    gateway: GatewayRef,
    workload: str,
    replicas: Replicas,
    settings: ClusterSettings,
) -> Object:
    """Return a route that divides requests as the plan divides the workload's rate.

    What the server would fill in is written out, as in claims.
    """
    if len(replicas) > _MOST_BACKENDS:
        raise InputError(
            f"{workload}: has {len(replicas)} replicas, and a route divides requests among {_MOST_BACKENDS} at most;"
            " leave out gateway in the cluster's file"
        )
    total = sum(target.rate_rps for target, _ in replicas)
    host = f"{before}{service_name(settings.deployment, workload)}.{settings.namespace}"
    parent: dict[str, Any] = {"group": _GATEWAY_API, "kind": "Gateway", "name": gateway.name}
    if gateway.namespace is not None:
        parent["namespace"] = gateway.namespace
    backends = [
        {
            "group": "",
            "kind": "Service",
            "name": _replica_name(server, settings),
            "port": port,
            "weight": max(1, round(_WEIGHTS * target.rate_rps / total)),
        }
        for target, server in replicas
    ]
    rule: Object = {"backendRefs": backends}
    if kind == "HTTPRoute":
        rule["matches"] = [{"path": {"type": "PathPrefix", "value": "/"}}]
    name = hashed_name(settings.deployment, kind, workload, readable=(settings.deployment, workload))
    return {
        "apiVersion": f"{_GATEWAY_API}/v1",
        "kind": kind,
        "metadata": metadata(settings.namespace, settings.deployment, name, {WORKLOAD: label_value(workload)}, {}),
        "spec": {"parentRefs": [parent], "hostnames": [host], "rules": [rule]},
    }


def deployment_wide(settings: ClusterSettings) -> list[Object]:
    """Return what there is once of a deployment: who may reach its servers, and who reads their metrics."""
    deployment, cluster = settings.deployment, settings.cluster
    chosen = {"matchLabels": {DEPLOYMENT: label_value(deployment)}}
    found: list[Object] = []
    if cluster.allow_from is not None:
        name = hashed_name(deployment, "policy of", readable=(deployment,))
        ports = [{"port": port, "protocol": "TCP"} for port in PORTS.model_dump().values()]
        allowed = {"from": [{"namespaceSelector": {"matchLabels": dict(cluster.allow_from)}}], "ports": ports}
        # What fetches models has to reach them, and a policy holds for all containers of a pod.
        directions = ["Ingress", "Egress"] if cluster.models.fetch is None else ["Ingress"]
        found.append(
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": metadata(settings.namespace, deployment, name, {}, {}),
                "spec": {"podSelector": chosen, "policyTypes": directions, "ingress": [allowed]},
            }
        )
    if cluster.monitor:
        name = hashed_name(deployment, "monitor of", readable=(deployment,))
        # A Service of a replica alone would have its pods scraped twice.
        services = {"matchExpressions": [{"key": SERVER, "operator": "DoesNotExist"}], **chosen}
        found.append(
            {
                "apiVersion": "monitoring.coreos.com/v1",
                "kind": "ServiceMonitor",
                "metadata": metadata(settings.namespace, deployment, name, dict(cluster.monitor_labels), {}),
                "spec": {
                    "selector": services,
                    "endpoints": [{"port": "metrics"}],
                    "podTargetLabels": [WORKLOAD, SERVER],
                },
            }
        )
    return found

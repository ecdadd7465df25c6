"""The pod of a placement: Triton with the plan's configuration, its model, its share of the GPU, no privilege."""

from typing import Any

from igniter_opt.deploy.backends.base import triton_arguments
from igniter_opt.deploy.kubernetes.devices import REQUEST, DeviceRequest, node_affinity
from igniter_opt.deploy.kubernetes.names import (
    DEPLOYMENT,
    GPU,
    MANAGED_BY,
    MANAGER,
    MODEL_FILES,
    NAME,
    SERVER,
    SPEC,
    WORKLOAD,
    Object,
    digest,
    label_value,
)
from igniter_opt.deploy.kubernetes.quantities import mebibytes, processors
from igniter_opt.deploy.kubernetes.settings import ClusterSettings, Fetch
from igniter_opt.deploy.records import Ports
from igniter_opt.deploy.targets import Target
from igniter_opt.deploy.triton.model_config import CONFIG_FILE

PORTS = Ports(http=8000, grpc=8001, metrics=8002)
CONTAINER = "triton"
_REPOSITORY, _SOURCE = "/models", "/source"
_PROBE_S = 5
_ASKED_MIB = 2048
# Triton may finish its requests for 10 s (`triton_arguments`), and then some.
_END_S = 20


def pod_template(
    target: Target, request: DeviceRequest, settings: ClusterSettings, server: str, config_map: str
) -> Object:
    """Return the template of a placement's pod; two servers that are to behave alike have the same `SPEC` label."""
    cluster = settings.cluster
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "containers": [_container(target, request, settings, server)],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": cluster.user,
            "runAsGroup": cluster.group,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": cluster.stop_delay_s + _END_S,
        "volumes": _volumes(settings, config_map),
    }
    if cluster.models.fetch is not None:
        spec["initContainers"] = [_fetch(cluster.models.fetch)]
    if request.claim is not None:
        spec["resourceClaims"] = [{"name": REQUEST, "resourceClaimName": request.claim["metadata"]["name"]}]
    if request.products:
        spec["affinity"] = node_affinity(request.products)
    if cluster.node_selector:
        spec["nodeSelector"] = dict(cluster.node_selector)
    if cluster.tolerations:
        spec["tolerations"] = [entry.model_dump(exclude_none=True) for entry in cluster.tolerations]
    if cluster.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in cluster.pull_secrets]
    labels = {
        MANAGED_BY: MANAGER,
        DEPLOYMENT: label_value(settings.deployment),
        WORKLOAD: label_value(target.workload),
        GPU: label_value(target.gpu),
        SERVER: server,
    }
    notes = {NAME: settings.deployment, MODEL_FILES: target.source.digest, **request.annotations}
    labels[SPEC] = digest([spec, labels, notes])
    return {"metadata": {"labels": labels, "annotations": notes}, "spec": spec}


def _container(target: Target, request: DeviceRequest, settings: ClusterSettings, server: str) -> Object:
    resources: dict[str, Any] = {
        "requests": {
            "cpu": processors(settings.cpus),
            "memory": mebibytes(settings.memory_mib or _ASKED_MIB),
            **request.limits,
        }
    }
    limits = dict(request.limits)
    if settings.memory_mib is not None:
        limits["memory"] = mebibytes(settings.memory_mib)
    if limits:
        resources["limits"] = limits
    if request.claim is not None:
        resources["claims"] = [{"name": REQUEST, "request": REQUEST}]
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": settings.image,
        "command": ["tritonserver"],
        # All addresses of the pod, for its Service; a NetworkPolicy says who may come there.
        "args": triton_arguments(server, "0.0.0.0", _REPOSITORY, PORTS),  # noqa: S104
        "ports": [
            {"name": name, "containerPort": port, "protocol": "TCP"} for name, port in PORTS.model_dump().items()
        ],
        "startupProbe": _probe("ready", -(-settings.cluster.start_timeout_s // _PROBE_S)),
        "readinessProbe": _probe("ready", 1),
        "livenessProbe": _probe("live", 6),
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": _mounts(target, settings),
    }
    if request.env:
        container["env"] = [{"name": name, "value": value} for name, value in sorted(request.env.items())]
    if settings.cluster.stop_delay_s:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": settings.cluster.stop_delay_s}}}
    return container


def _probe(what: str, failures: int) -> Object:
    return {
        "httpGet": {"path": f"/v2/health/{what}", "port": "http"},
        "periodSeconds": _PROBE_S,
        "timeoutSeconds": _PROBE_S,
        "failureThreshold": failures,
    }


def _mounts(target: Target, settings: ClusterSettings) -> list[Object]:
    """Mount the plan's configuration in place of the user's, and all else of the model's folder, into an empty one."""
    model = f"{_REPOSITORY}/{target.model}"
    within = "/".join(filter(None, [settings.cluster.models.path, target.model]))
    parts = sorted({inner.split("/", 1)[0] for inner in target.source.files})
    return [
        {"name": "repository", "mountPath": _REPOSITORY},
        {"name": "config", "mountPath": f"{model}/{CONFIG_FILE}", "subPath": CONFIG_FILE, "readOnly": True},
        *(
            {"name": "source", "mountPath": f"{model}/{part}", "subPath": f"{within}/{part}", "readOnly": True}
            for part in parts
        ),
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
    ]


def _volumes(settings: ClusterSettings, config_map: str) -> list[Object]:
    claim = settings.cluster.models.claim
    source = {"emptyDir": {}} if claim is None else {"persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
    return [
        {"name": "repository", "emptyDir": {}},
        {"name": "config", "configMap": {"name": config_map}},
        {"name": "source", **source},
        {"name": "tmp", "emptyDir": {}},
    ]


def _fetch(fetch: Fetch) -> Object:
    container: dict[str, Any] = {
        "name": "fetch",
        "image": fetch.image,
        "command": list(fetch.command),
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "source", "mountPath": _SOURCE}, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }
    if fetch.secret is not None:
        container["envFrom"] = [{"secretRef": {"name": fetch.secret}}]
    return container

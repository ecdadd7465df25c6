"""One Deployment for every placement of a plan."""

import json

from igniter_opt.deploy.kubernetes.devices import DeviceRequest, PlannedGpu
from igniter_opt.deploy.kubernetes.names import (
    GPU,
    PLACEMENT,
    SERVER,
    WORKLOAD,
    Object,
    hashed_name,
    label_value,
    metadata,
)
from igniter_opt.deploy.kubernetes.pods import pod_template
from igniter_opt.deploy.kubernetes.settings import ClusterSettings
from igniter_opt.deploy.targets import Target

_DEADLINE_S = 600


def server_name(deployment: str, gpu: str, workload: str, position: int) -> str:
    """Return the name of a server: of the deployment's servers of a workload on a GPU, counted from 0.

    Neither share nor batch is in it, so that what only changes these changes this Deployment; nor is the replica's
    number, by which another plan may call the same server.
    """
    return hashed_name(deployment, gpu, workload, position, readable=(deployment, gpu, workload))


def deployment_of(
    target: Target,
    gpu: PlannedGpu,
    request: DeviceRequest,
    settings: ClusterSettings,
    server: str,
    config_map: str,
) -> Object:
    """Return a placement's Deployment.

    Its pod is replaced by one that is ready already. What the plan says is an annotation of the Deployment, not of its
    pods, which need not start anew when only a rate or a replica's number changes.
    """
    planned: dict[str, object] = {
        "gpu": target.gpu,
        "type": gpu.type.name,
        "workload": target.workload,
        "replica": target.replica,
        "model": target.model,
        "batch": target.batch,
        "share_percent": target.share_percent,
        "rate_rps": target.rate_rps,
        "queue_delay_us": target.queue_delay_us,
    }
    if target.slice is not None:
        planned |= {"slice": target.slice, "slot": target.slot, "processes": target.processes}
    labels = {WORKLOAD: label_value(target.workload), GPU: label_value(target.gpu), SERVER: server}
    notes = {PLACEMENT: json.dumps(planned, sort_keys=True)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(settings.namespace, settings.deployment, server, labels, notes),
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": _DEADLINE_S + settings.cluster.start_timeout_s,
            "selector": {"matchLabels": {SERVER: server}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": pod_template(target, request, settings, server, config_map),
        },
    }

"""What plays Kubernetes' controllers, scheduler and kubelets: an API server alone makes no pods of a Deployment.

A pod is made of every Deployment's template and gets ready, is slow or crashes, as the test wants it. When it is ready,
the pods of earlier templates end, as with `maxSurge: 1, maxUnavailable: 0`; so do those of Deployments that are gone.
"""

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from igniter_opt.base.errors import InputError
from igniter_opt.deploy.kubernetes.client import POD, Client
from igniter_opt.deploy.kubernetes.kinds import KINDS
from igniter_opt.deploy.kubernetes.names import SERVER, SPEC, WORKLOAD, selector

Object = dict[str, Any]
# What becomes of a pod, by its labels.
Fate = Callable[[dict[str, str]], str]
PERIOD_S = 0.06


def ready(_: dict[str, str]) -> str:
    return "ready"


class Controller(threading.Thread):
    """Follows the Deployments of a namespace; it knows when a workload had no ready pod.

    Attributes
    ----------
    fate
        ``ready``, ``pending``, ``crash`` or ``pull`` (an image that is not there).
    gaps
        Workloads that had been served and were not, while something of theirs was still deployed.
    together
        The most pods that were ready at once of every workload.
    """

    def __init__(self, client: Client) -> None:
        super().__init__(daemon=True)
        self.client = client
        self.fate: Fate = ready
        self.gaps: set[str] = set()
        self.together: dict[str, int] = {}
        self._served: set[str] = set()
        self._over = threading.Event()
        self.paused = False

    def run(self) -> None:
        while not self._over.wait(PERIOD_S):
            if not self.paused:
                with suppress(InputError):  # the server may be away
                    self.once()

    def end(self) -> None:
        self._over.set()
        self.join(10)

    def once(self) -> None:
        deployments, _ = self.client.objects(KINDS["Deployment"], selector())
        pods = self.pods()
        self._watch_gaps(deployments, pods)  # before anybody is told of what this round changes
        wanted = {}
        names = {name for entry in deployments for name in pod_names(entry)}
        for entry in deployments:
            labels = entry["spec"]["template"]["metadata"]["labels"]
            wanted[labels[SERVER]] = labels[SPEC]
            for name in pod_names(entry):
                if name not in pods:
                    self._send("POST", "", self._pod(entry["spec"]["template"], name))
        for name, pod in pods.items():
            labels = pod["metadata"]["labels"]
            server = labels[SERVER]
            current = wanted.get(server) == labels[SPEC]
            beyond = current and name not in names
            successor = next((p for p in pods.values() if self._is(p, server, wanted.get(server))), None)
            if server not in wanted or beyond or (not current and successor is not None and is_ready(successor)):
                self._send("DELETE", name, None)
            elif current:
                status = self._status({**labels, "name": name})
                if pod.get("status", {}).get("conditions") != status["conditions"]:
                    self._send("PUT", name, {**pod, "status": status})

    def _watch_gaps(self, deployments: list[Object], pods: dict[str, Object]) -> None:
        serving: dict[str, int] = {}
        for pod in pods.values():
            if is_ready(pod):
                name = pod["metadata"]["labels"][WORKLOAD]
                serving[name] = serving.get(name, 0) + 1
        for name, number in serving.items():
            self.together[name] = max(number, self.together.get(name, 0))
        deployed = {entry["metadata"]["labels"][WORKLOAD] for entry in deployments}
        self.gaps |= (self._served & deployed) - serving.keys()
        self._served = (self._served | serving.keys()) & deployed

    def pods(self) -> dict[str, Object]:
        found, _ = self.client.objects(POD, selector())
        return {pod["metadata"]["name"]: pod for pod in found}

    def _is(self, pod: Object, server: str, spec: str | None) -> bool:
        labels = pod["metadata"]["labels"]
        return (labels[SERVER], labels[SPEC]) == (server, spec)

    def _pod(self, template: Object, name: str) -> Object:
        about = {**template["metadata"], "name": name}
        spec = {**template["spec"], "nodeName": "node1"}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec, "status": {"phase": "Pending"}}

    def _status(self, labels: dict[str, str]) -> Object:
        fate = self.fate(labels)
        reason = {"crash": "CrashLoopBackOff", "pull": "ImagePullBackOff"}.get(fate)
        condition = {"type": "Ready", "status": "True" if fate == "ready" else "False"}
        if fate == "pending":
            condition["message"] = "0/1 nodes are available: 1 cannot allocate all claims"
        status: Object = {"phase": "Running" if fate == "ready" else "Pending", "conditions": [condition]}
        status["startTime"] = "2026-01-01T00:00:00Z"
        if reason is not None:
            container = {"name": "triton", "image": "i", "imageID": "", "ready": False, "restartCount": 3}
            container["state"] = {"waiting": {"reason": reason, "message": "back-off 10s"}}
            status["containerStatuses"] = [container]
        return status

    def _send(self, method: str, name: str, body: Object | None) -> None:
        path = POD.path(self.client.namespace, name)
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        with suppress(InputError):  # changed or gone meanwhile: the next round sees it
            self.client._request(method, path, f"{method} a pod", body=content, headers=headers, absent=True)


def pod_names(deployment: Object) -> list[str]:
    """Names of the pods that a Deployment is to have."""
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    return [f"{labels[SERVER][:40]}-{labels[SPEC]}-{k}" for k in range(deployment["spec"]["replicas"])]


def is_ready(pod: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod.get("status", {}).get("conditions", ()))

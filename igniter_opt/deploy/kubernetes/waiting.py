"""Waiting for pods: those that shall serve become ready, those that were replaced go."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from igniter_opt.base.errors import DeploymentError
from igniter_opt.deploy.backends.base import telling_lines
from igniter_opt.deploy.kubernetes.client import POD, Client, WatchLostError
from igniter_opt.deploy.kubernetes.names import SERVER, SPEC, Object

# A watch is opened anew after so long, so that a request to stop is seen.
_WATCH_S = 2
# Beside connections that are refused at once.
_RELIST_PAUSE_S = 0.3
_LOG_LINES = 200
# What a container waits for that no waiting mends.
_HOPELESS = {
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
}

Pods = dict[str, Object]


@dataclass(frozen=True)
class PodTrouble:
    """Why a pod will not get ready, or is not yet."""

    pod: str
    why: str
    hopeless: bool


def wait_until_ready(
    client: Client,
    selector: str,
    wanted: Mapping[str, tuple[str, int]],
    placements: Mapping[str, str],
    timeout_s: float,
    check_stop: Callable[[], None],
) -> None:
    """Wait until every server has ready pods of its spec, as many as it is to have.

    Parameters
    ----------
    wanted
        The spec of every server, and how many pods, by its name.
    placements
        What messages call them.

    Raises
    ------
    DeploymentError
        One never will, or is not in time.
    """

    def missing(pods: Pods) -> dict[str, PodTrouble | None]:
        ready = Counter(_key(pod) for pod in pods.values() if is_ready(pod))
        left = {(name, spec) for name, (spec, number) in wanted.items() if ready[name, spec] < number}
        found: dict[str, PodTrouble | None] = dict.fromkeys(sorted(name for name, _ in left))
        for pod in pods.values():
            if _key(pod) in left and not is_ready(pod):
                trouble = pod_trouble(pod)
                if trouble is not None and (found[_key(pod)[0]] is None or trouble.hopeless):
                    found[_key(pod)[0]] = trouble
        return found

    def done(pods: Pods) -> bool:
        left = missing(pods)
        for name, trouble in left.items():
            if trouble is not None and trouble.hopeless:
                raise _failure(client, placements[name], trouble)
        return not left

    last = watch_pods(client, selector, done, timeout_s, check_stop)
    left = missing(last)
    if left:
        name, trouble = next(iter(left.items()))
        more = f" ({len(left) - 1} more are not)" if left.keys() - {name} else ""
        why = f"not ready after {timeout_s:g} s{more}"
        if trouble is None:
            raise DeploymentError(f"{placements[name]}: {why}: it has no pod; does the cluster's controller run?")
        raise _failure(client, placements[name], PodTrouble(trouble.pod, f"{why}: {trouble.why}", hopeless=True))


def wait_until_gone(
    client: Client, selector: str, servers: set[str], timeout_s: float, check_stop: Callable[[], None]
) -> bool:
    """Wait until no pod of some servers is there; whether none is."""

    def done(pods: Pods) -> bool:
        return not any(_key(pod)[0] in servers for pod in pods.values())

    return done(watch_pods(client, selector, done, timeout_s, check_stop))


def watch_pods(
    client: Client, selector: str, done: Callable[[Pods], bool], timeout_s: float, check_stop: Callable[[], None]
) -> Pods:
    """Follow pods until they are as wanted, or time is over; return them as they were last.

    A watch that is lost, with its connection or server, is begun anew from a fresh list.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        check_stop()
        listed, version = client.objects(POD, selector)
        pods = {pod["metadata"]["name"]: pod for pod in listed}
        if done(pods):
            return pods
        try:
            while time.monotonic() < deadline:
                check_stop()
                for change, pod in client.watch(POD, selector, version, _WATCH_S):
                    version = pod["metadata"]["resourceVersion"]
                    if change == "DELETED":
                        pods.pop(pod["metadata"]["name"], None)
                    elif change != "BOOKMARK":
                        pods[pod["metadata"]["name"]] = pod
                    if done(pods):
                        return pods
            return pods
        except WatchLostError:
            if time.monotonic() >= deadline:
                return pods
            client.pause(_RELIST_PAUSE_S)


def is_ready(pod: Object) -> bool:
    """Whether a pod serves and is not about to end."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def pod_trouble(pod: Object) -> PodTrouble | None:
    """Return what keeps a pod from being ready, if it says so."""
    status, name = pod.get("status") or {}, pod["metadata"]["name"]
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    for container in containers:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason"):
            said = " ".join(filter(None, [waiting["reason"], waiting.get("message", "")]))
            return PodTrouble(name, said, waiting["reason"] in _HOPELESS)
    if status.get("phase") == "Failed":
        return PodTrouble(name, status.get("message") or status.get("reason") or "it failed", hopeless=True)
    for entry in status.get("conditions") or ():
        if entry["status"] != "True" and entry.get("message"):
            return PodTrouble(name, entry["message"], hopeless=False)
    return PodTrouble(name, f"its phase is {status.get('phase', 'unknown')}", hopeless=False)


def _failure(client: Client, placement: str, trouble: PodTrouble) -> DeploymentError:
    lines = telling_lines(client.log(trouble.pod, _LOG_LINES))
    log = "\n".join(["", "from its log:", *(f"  {line}" for line in lines)]) if lines else ""
    return DeploymentError(f"{placement}: pod {trouble.pod}: {trouble.why}{log}")


def _key(pod: Object) -> tuple[str, str]:
    labels = pod["metadata"].get("labels") or {}
    return labels.get(SERVER, ""), labels.get(SPEC, "")

"""What a full Kubernetes fills in of objects, which the API server of these tests does not."""

from typing import Any

Object = dict[str, Any]


def defaulted(found: Object) -> Object:
    """Fill in, in place, what Kubernetes does of an object, or of those of a list, as far as it is of our kinds."""
    for entry in found.get("items") or ():
        defaulted({"kind": str(found.get("kind", "")).removesuffix("List"), **entry})
    if (found.get("metadata") or {}).get("name") and found.get("kind") in _FILL:
        _FILL[found["kind"]](found["spec"])
    return found


def _deployment(spec: Object) -> None:
    pod = spec["template"]["spec"]
    _fill(pod, restartPolicy="Always", dnsPolicy="ClusterFirst", schedulerName="default-scheduler")
    for container in [*pod["containers"], *(pod.get("initContainers") or ())]:
        _fill(container, imagePullPolicy="IfNotPresent", terminationMessagePolicy="File")
        _fill(container, terminationMessagePath="/dev/termination-log")
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            if name in container:
                _fill(container[name], successThreshold=1)
                _fill(container[name]["httpGet"], scheme="HTTP")
    for volume in pod["volumes"]:
        if "configMap" in volume:
            _fill(volume["configMap"], defaultMode=0o644)


def _service(spec: Object) -> None:
    _fill(spec, clusterIP="10.0.0.7", clusterIPs=["10.0.0.7"], ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")
    _fill(spec, sessionAffinity="None", internalTrafficPolicy="Cluster")


def _claim(spec: Object) -> None:
    for request in spec["devices"]["requests"]:
        _fill(request["exactly"], allocationMode="ExactCount", count=1)


def _fill(value: Object, **fields: Any) -> None:
    for name, filled in fields.items():
        value.setdefault(name, filled)


_FILL = {"Deployment": _deployment, "Service": _service, "ResourceClaim": _claim}

"""The table of the kinds of objects that a plan becomes, in the order in which they are applied."""

from collections.abc import Callable
from dataclasses import dataclass

from igniter_opt.deploy.kubernetes.settings import ClusterFile


@dataclass(frozen=True)
class ObjectKind:
    """A row of the table.

    Attributes
    ----------
    extension
        Whether a cluster may lack it: it comes with software that not all have.
    wanted
        Whether such objects are made with a cluster's settings.
    """

    name: str
    api_version: str
    plural: str
    wanted: Callable[[ClusterFile], bool] = lambda _: True
    extension: bool = False

    @property
    def group(self) -> str:
        """The API group; empty for the core."""
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str, name: str = "") -> str:
        """Return where such objects, or one of them, are in the API."""
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"
        return f"{root}/namespaces/{namespace}/{self.plural}" + (f"/{name}" if name else "")


KINDS = {
    kind.name: kind
    for kind in (
        ObjectKind("ConfigMap", "v1", "configmaps"),
        ObjectKind(
            "ResourceClaim",
            "resource.k8s.io/v1",
            "resourceclaims",
            wanted=lambda cluster: cluster.allocation == "dra",
            extension=True,
        ),
        ObjectKind("Service", "v1", "services"),
        ObjectKind("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets"),
        ObjectKind(
            "NetworkPolicy",
            "networking.k8s.io/v1",
            "networkpolicies",
            wanted=lambda cluster: cluster.allow_from is not None,
            extension=True,
        ),
        ObjectKind("Deployment", "apps/v1", "deployments"),
        ObjectKind(
            "HTTPRoute",
            "gateway.networking.k8s.io/v1",
            "httproutes",
            wanted=lambda cluster: cluster.gateway is not None,
            extension=True,
        ),
        ObjectKind(
            "GRPCRoute",
            "gateway.networking.k8s.io/v1",
            "grpcroutes",
            wanted=lambda cluster: cluster.gateway is not None,
            extension=True,
        ),
        ObjectKind(
            "ServiceMonitor",
            "monitoring.coreos.com/v1",
            "servicemonitors",
            wanted=lambda cluster: cluster.monitor,
            extension=True,
        ),
    )
}

"""The least that the launcher needs to be allowed to do, in one namespace; an administrator applies it once."""

from igniter_opt.deploy.kubernetes.kinds import KINDS, ObjectKind
from igniter_opt.deploy.kubernetes.names import MANAGER, Object
from igniter_opt.deploy.kubernetes.settings import ClusterFile

ACCOUNT = "igniter-opt"


def used_kinds(cluster: ClusterFile) -> list[ObjectKind]:
    """Return the kinds of objects that are made with a cluster's settings."""
    return [kind for kind in KINDS.values() if kind.wanted(cluster)]


def launcher_rbac(namespace: str, cluster: ClusterFile) -> list[Object]:
    """Return a service account for the launcher, its role and the binding."""
    groups: dict[str, list[str]] = {}
    for kind in used_kinds(cluster):
        groups.setdefault(kind.group, []).append(kind.plural)
    rules = [
        {"apiGroups": [group], "resources": sorted(plurals), "verbs": ["create", "delete", "get", "list", "patch"]}
        for group, plurals in sorted(groups.items())
    ]
    rules += [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    ]
    about = {"name": ACCOUNT, "namespace": namespace, "labels": {"app.kubernetes.io/name": MANAGER}}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": ACCOUNT}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": about},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": about, "rules": rules},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": about,
            "roleRef": reference,
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}],
        },
    ]

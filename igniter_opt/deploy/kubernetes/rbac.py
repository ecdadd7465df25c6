"""The least that the launcher needs to be allowed to do, in one namespace; an administrator applies it once."""

from collections.abc import Sequence

from igniter_opt.deploy.kubernetes.kinds import KINDS, ObjectKind
from igniter_opt.deploy.kubernetes.names import MANAGER, Object
from igniter_opt.deploy.kubernetes.settings import ClusterFile

ACCOUNT = "igniter-opt"


def used_kinds(cluster: ClusterFile) -> list[ObjectKind]:
    """Return the kinds of objects that are made with a cluster's settings."""
    return [kind for kind in KINDS.values() if kind.wanted(cluster)]


def launcher_rbac(namespace: str, cluster: ClusterFile) -> list[Object]:
    """Return a service account for the launcher, its role and the binding."""
    used = used_kinds(cluster)
    # Objects of kinds that are no longer made are looked for all the same, and removed.
    others = [kind for kind in KINDS.values() if kind not in used]
    rules = [
        *_rules(used, ["create", "delete", "get", "list", "patch"]),
        *_rules(others, ["delete", "get", "list"]),
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


def _rules(kinds: Sequence[ObjectKind], verbs: Sequence[str]) -> list[Object]:
    groups: dict[str, list[str]] = {}
    for kind in kinds:
        groups.setdefault(kind.group, []).append(kind.plural)
    return [
        {"apiGroups": [group], "resources": sorted(plurals), "verbs": list(verbs)}
        for group, plurals in sorted(groups.items())
    ]

"""Every kind of object against the schemas of Kubernetes itself, for each version that is claimed."""

from functools import cache
from typing import Any

import pytest

from igniter_opt.deploy.kubernetes.kinds import KINDS
from igniter_opt.deploy.kubernetes.names import Object, digest
from igniter_opt.deploy.kubernetes.rbac import launcher_rbac
from igniter_opt.deploy.kubernetes.settings import ClusterFile
from tests.deploy.kubernetes.plans import made_plan, objects_of, placement, settings, sliced
from tests.integration.conftest import missing

# Of these the project has schemas; Dynamic Resource Allocation is v1 since 1.34.
VERSIONS = {
    "dra": ("1.34", "1.35", "1.36", "1.37"),
    "hami": ("1.30", "1.33", "1.37"),
    "device-plugin": ("1.30", "1.37"),
}
# Not of Kubernetes: extensions, of which it has no schemas.
OTHERS = {"HTTPRoute", "GRPCRoute", "ServiceMonitor"}
FULL = {
    "models": {"fetch": {"image": "fetcher:1", "command": ["get"], "secret": "keys"}, "path": "v1"},
    "node_selector": {"pool": "gpu"},
    "tolerations": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}, {"operator": "Equal", "key": "a", "value": "b"}],
    "pull_secrets": ["registry"],
    "monitor": True,
    "allow_from": {"team": "web"},
    "gateway": {"name": "front", "namespace": "edge"},
}


@pytest.fixture(scope="module")
def validator() -> Any:
    try:
        import kubernetes_validate
        import kubernetes_validate.utils as inner
    except ImportError:
        missing("no kubernetes-validate (pip install '.[cluster]')")
    plain = inner.schema_contents
    inner.schema_contents = cache(plain)  # it reads megabytes for every object
    yield kubernetes_validate
    inner.schema_contents = plain


def rendered(cluster: dict[str, Any]) -> list[Object]:
    gpus = [
        ("V100-1", "V100", [placement("search", 1), placement("ads", 1, "ssd")]),
        ("H200-1", "H200", [placement("search", 2, share=12.5)]),
    ]
    if cluster["allocation"] == "device-plugin":
        gpus = [(name, card, there[:1]) for name, card, there in gpus]
    plans = [made_plan(gpus)]
    if cluster["allocation"] != "hami":  # which has no slices
        plans.append(sliced(2 if cluster["allocation"] == "dra" else 1))
    found = ClusterFile.model_validate(cluster)
    made = [entry for plan in plans for entry in objects_of(plan, settings(cluster=found)).objects]
    return [*made, *launcher_rbac("ig", found)]


@pytest.mark.parametrize("allocation", VERSIONS)
def test_objects_pass_the_strict_schemas(validator: Any, allocation: str) -> None:
    seen = set()
    for cluster in ({"models": {"claim": "models"}}, FULL):
        for entry in rendered({**cluster, "allocation": allocation}):
            shape = digest(entry)
            if entry["kind"] in OTHERS or shape in seen:
                continue
            seen.add(shape)
            for version in VERSIONS[allocation]:
                assert validator.validate(entry, version, strict=True) == version


def test_every_kind_was_among_them() -> None:
    kinds = {entry["kind"] for entry in rendered({**FULL, "allocation": "dra"})}
    assert kinds == {*KINDS, "Role", "RoleBinding", "ServiceAccount"}


def test_a_wrong_field_is_found(validator: Any) -> None:
    (found,) = [e for e in rendered({**FULL, "allocation": "dra"}) if e["kind"] == "ResourceClaim"][:1]
    found["spec"]["devices"]["requests"][0]["deviceClassName"] = "gpu.nvidia.com"
    with pytest.raises(validator.ValidationError):
        validator.validate(found, "1.34", strict=True)

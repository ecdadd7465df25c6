"""What is undone on a real API server: values that were taken over come back, what others made is left."""

import json
from typing import Any

import pytest

from igniter_opt.base.errors import DeploymentError, InputError
from igniter_opt.deploy.kubernetes.client import connect
from igniter_opt.deploy.kubernetes.fields import owned
from igniter_opt.deploy.kubernetes.kinds import KINDS
from igniter_opt.deploy.kubernetes.launching import deploy_plan, servers_of
from tests.deploy.kubernetes.plans import two_gpus
from tests.integration.kubernetes.conftest import Cluster, Unchecked
from tests.integration.kubernetes.test_rollout import changed, only_old


def values(cluster: Cluster) -> dict[tuple[str, str], Any]:
    """What objects hold, whoever set it; their labels and annotations, without those of Kubernetes itself."""
    kept = ("spec", "data", "immutable")
    return {
        key: (
            {name: entry[name] for name in kept if name in entry},
            entry["metadata"].get("labels"),
            {k: v for k, v in (entry["metadata"].get("annotations") or {}).items() if "kubernetes.io" not in k},
        )
        for key, entry in cluster.objects().items()
    }


def fail_taking_over(cluster: Cluster) -> str:
    cluster.controller.fate = only_old(cluster, "crash")
    with pytest.raises(DeploymentError) as failed:
        cluster.deploy(cluster.approve(changed(), "next.json"), take_over=True)
    return str(failed.value)


def test_what_was_scaled_by_others_and_taken_over_is_scaled_again_when_that_is_undone(unchecked: Unchecked) -> None:
    cluster = unchecked(two_gpus())
    victim = next(s.name for s in servers_of(cluster.deployments()) if s.placement.share_percent == 60.0)
    cluster.client._request(
        "PATCH",
        KINDS["Deployment"].path(cluster.namespace, victim),
        "scale",
        query={"fieldManager": "kubectl"},
        headers={"Content-Type": "application/merge-patch+json"},
        body=b'{"spec": {"replicas": 3}}',
    )
    before = values(cluster)
    assert "has the values that it had before" in fail_taking_over(cluster)
    assert values(cluster) == before
    assert next(e for e in cluster.deployments() if e["metadata"]["name"] == victim)["spec"]["replicas"] == 3


def test_objects_that_others_made_with_our_labels_get_their_values_back(unchecked: Unchecked) -> None:
    """As `kubectl apply` of the rendered file makes them, without our name as field manager."""
    cluster = unchecked(two_gpus())
    for entry in cluster.objects().values():
        if entry["kind"] in ("Service", "Deployment"):
            mine = owned(entry)
            assert mine is not None
            mine["metadata"].pop("uid", None)
            cluster.client.delete(entry)
            cluster.client._request(
                "PATCH",
                KINDS[entry["kind"]].path(cluster.namespace, entry["metadata"]["name"]),
                "apply",
                query={"fieldManager": "kubectl"},
                headers={"Content-Type": "application/apply-patch+yaml"},
                body=json.dumps(mine).encode(),
            )
    cluster.settle()
    before = values(cluster)
    assert "has the values that it had before" in fail_taking_over(cluster)
    assert values(cluster) == before


def test_what_somebody_made_between_comparing_and_applying_is_left(unchecked: Unchecked, cluster: Cluster) -> None:
    del unchecked
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "test-search"}}
    spec = {"selector": {"igniter-opt/workload": "theirs"}, "ports": [{"name": "http", "port": 8000, "targetPort": 1}]}

    def make(what: str) -> None:
        if what == "before applying Service/test-search":
            cluster.client._request(
                "PATCH",
                KINDS["Service"].path(cluster.namespace, "test-search"),
                "apply",
                query={"fieldManager": "colleague"},
                headers={"Content-Type": "application/apply-patch+yaml"},
                body=json.dumps({**theirs, "spec": spec}).encode(),
            )

    said = r"fields are somebody else's: .*everything that this run changed is as it was"
    with pytest.raises(InputError, match=said):
        cluster.deploy(cluster.approve(two_gpus()), hook=make)
    found = cluster.client.get(KINDS["Service"], "test-search")
    assert found is not None
    assert found["spec"]["selector"] == spec["selector"]
    cluster.client.delete(found)
    assert not cluster.objects()


def test_what_another_launcher_made_is_not_undone(unchecked: Unchecked, cluster: Cluster) -> None:
    """Two at once: the second one gives up, and the first one's servers go on."""
    del unchecked
    path = cluster.approve(two_gpus())
    made: list[dict[tuple[str, str], Any]] = []

    def first(what: str) -> None:
        if not made:
            deploy_plan(cluster.request(path), connect(cluster.kubeconfig, None, cluster.namespace))
            made.append(values(cluster))

    said = "it was made since this run looked; run deploy once more; not all could be undone.*: somebody else made it"
    with pytest.raises(InputError, match=said):
        cluster.deploy(cluster.approve(two_gpus(second=70.0), "next.json"), hook=first)
    assert values(cluster) == made[0]
    assert cluster.cli("status").code == 0

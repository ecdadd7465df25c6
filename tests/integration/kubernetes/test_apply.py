"""Plans on a real API server: applied, applied again, changed, refused, removed."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from igniter_opt.base.errors import DeploymentError, InputError
from igniter_opt.data.plan import Plan
from igniter_opt.deploy import approval
from igniter_opt.deploy.kubernetes import launching, names
from igniter_opt.deploy.kubernetes.client import connect
from igniter_opt.deploy.kubernetes.kinds import KINDS
from igniter_opt.deploy.kubernetes.launching import ClusterDifference, recorded_plan
from tests.cli.helpers import invoke
from tests.deploy.kubernetes.plans import sliced, two_gpus
from tests.integration.conftest import missing
from tests.integration.kubernetes.conftest import Cluster, Judged, Unchecked

Object = dict[str, Any]


def verbs(found: ClusterDifference) -> dict[str, list[str]]:
    """Kinds of the objects that changed, by what became of them."""
    result: dict[str, list[str]] = {}
    for change in found.changes:
        if change.verb != "keep":
            result.setdefault(change.verb, []).append(change.kind)
    return result


def apply_as(cluster: Cluster, manager: str, found: Object, *, force: bool = True) -> None:
    """Apply some fields as somebody else."""
    kind = KINDS[found["kind"]]
    cluster.client._request(
        "PATCH",
        kind.path(cluster.namespace, found["metadata"]["name"]),
        "apply",
        query={"fieldManager": manager, "force": str(force).lower()},
        headers={"Content-Type": "application/apply-patch+yaml"},
        body=json.dumps(found).encode(),
    )


def named(found: Object, **fields: Any) -> Object:
    about = {"name": found["metadata"]["name"]}
    return {"apiVersion": found["apiVersion"], "kind": found["kind"], "metadata": about, **fields}


def test_a_plan_is_applied_and_applied_again_without_a_change(cluster: Cluster, plan: Plan) -> None:
    path = cluster.approve(plan)
    run = cluster.cli_deploy(path)
    assert run.code == 0, run.err
    before = cluster.versions()
    again = cluster.cli_deploy(path)
    assert (again.code, "nothing to change" in again.err) == (0, True), again.err
    assert cluster.versions() == before
    status = cluster.cli("status")
    assert status.code == 0, status.out
    (told,) = cluster.cli("status", "--json").json()
    assert (told["ok"], told["plan_digest"]) == (True, recorded_plan(list(cluster.objects().values())))
    assert [server["ready"] for server in told["servers"]] == [True] * 3


def test_a_changed_share_touches_one_deployment_and_its_pod(unchecked: Unchecked) -> None:
    cluster = unchecked(two_gpus())
    before, pods = cluster.versions(), set(cluster.controller.pods())
    found = cluster.deploy(cluster.approve(two_gpus(second=70.0), "next.json"))
    assert verbs(found) == {"update": ["Deployment", "ConfigMap"]}
    after = cluster.versions()
    assert before.keys() == after.keys()
    assert sorted(kind for (kind, _), version in after.items() if version not in before.values()) == [
        "ConfigMap",
        "Deployment",
    ]
    cluster.settle()
    assert len(pods & set(cluster.controller.pods())) == len(pods) - 1


def test_a_moved_placement_starts_before_the_old_one_stops(unchecked: Unchecked) -> None:
    cluster = unchecked(two_gpus())
    found = cluster.deploy(cluster.approve(two_gpus(ads="V100-2"), "next.json"))
    assert verbs(found) == {"create": ["Deployment"], "update": ["ConfigMap"], "remove": ["Deployment"]}
    assert cluster.controller.together["ads"] == 2
    assert len(cluster.controller.pods()) == 3


def test_a_server_in_a_slice_goes_when_its_successor_is_ready(unchecked: Unchecked) -> None:
    cluster = unchecked(sliced())
    assert len(cluster.controller.pods()) == 3
    assert cluster.cli("status").code == 0
    old = set(cluster.controller.pods())
    cluster.controller.fate = lambda labels: "ready" if labels["name"] in old else "crash"
    with pytest.raises(DeploymentError, match=r"A100-1\.slot0/search#1: .*CrashLoopBackOff"):
        cluster.deploy(cluster.approve(sliced(3), "next.json"))
    cluster.settle()
    assert set(cluster.controller.pods()) == old


def test_diff_and_dry_run_change_nothing(unchecked: Unchecked) -> None:
    cluster = unchecked(two_gpus())
    path, before = cluster.approve(two_gpus(second=70.0, ads="V100-2"), "next.json"), cluster.versions()
    diff = cluster.cli_deploy(path, "--diff")
    assert diff.code == 0, diff.err
    assert re.search(r"(?m)^- *value: '60'$", diff.out)
    assert re.search(r"(?m)^\+ *value: '70'$", diff.out)
    assert "resourceVersion" not in diff.out
    dry = cluster.cli_deploy(path, "--dry-run", "--json").json()
    assert dry["counts"] == {"create": 1, "update": 2, "remove": 1, "keep": 9}
    (why,) = [e["why"] for e in dry["objects"] if e["verb"] == "update" and e["placement"]]
    assert why == "share 60 % to 70 %"
    assert cluster.versions() == before
    same = cluster.cli_deploy(cluster.folder / "plan.json", "--diff")
    assert (same.code, same.out) == (0, "")


def test_a_field_of_somebody_else_is_left_and_its_owner_named(unchecked: Unchecked) -> None:
    cluster = unchecked(two_gpus())
    victim = cluster.deployments()[0]
    apply_as(cluster, "scaler", named(victim, spec={"replicas": 3}))
    before = cluster.versions()
    status = cluster.cli("status", "--name", "test")
    assert (status.code, "changed by scaler" in status.out) == (1, True)
    for word in ("--diff", "--json"):
        run = cluster.cli_deploy(cluster.folder / "plan.json", word)
        assert run.code == 2
        assert 'fields are somebody else\'s: .spec.replicas: conflict with "scaler"' in run.err
    assert cluster.versions() == before
    run = cluster.cli_deploy(cluster.folder / "plan.json", "--take-over")
    assert run.code == 0, run.err
    assert {entry["spec"]["replicas"] for entry in cluster.deployments()} == {1}
    assert cluster.cli("status", "--name", "test").code == 0


def test_an_object_of_somebody_else_in_our_place_is_left_alone(unchecked: Unchecked, cluster: Cluster) -> None:
    del unchecked
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "test-search"},
        "spec": {"ports": [{"port": 1}]},
    }
    apply_as(cluster, "colleague", theirs)
    with pytest.raises(InputError, match=r"Service/test-search: is there already.*set by colleague"):
        cluster.deploy(cluster.approve(two_gpus()))
    assert not cluster.objects()
    found = cluster.client.get(KINDS["Service"], "test-search")
    assert found is not None
    cluster.client.delete(found)


def test_teardown_and_prune_take_what_is_labelled_and_nothing_else(unchecked: Unchecked) -> None:
    cluster = unchecked(two_gpus())
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs", "labels": {"a": "b"}}}
    apply_as(cluster, "colleague", theirs)
    other = cluster.cli_deploy(cluster.folder / "plan.json", "--name", "other")
    assert other.code == 0, other.err
    several = cluster.cli("teardown", "--yes")
    assert (several.code, "give --name, one of: other, test" in several.err) == (2, True)
    assert len(cluster.cli("status", "--json").json()) == 2
    run = cluster.cli("teardown", "--name", "test", "--yes")
    assert run.code == 0, run.err
    assert not cluster.objects()
    assert len(cluster.controller.pods()) == 3
    assert cluster.client.get(KINDS["ConfigMap"], "theirs") is not None
    assert cluster.cli("teardown", "--yes").code == 0
    assert "nothing is deployed" in cluster.cli("teardown", "--yes").err
    assert cluster.cli("status").out == ""
    assert {name for kind in KINDS.values() if not kind.extension for name in cluster.client.names(kind)} == {"theirs"}


def finalizers(cluster: Cluster, found: Object, *given: str) -> None:
    cluster.client._request(
        "PATCH",
        KINDS[found["kind"]].path(cluster.namespace, found["metadata"]["name"]),
        "patch",
        headers={"Content-Type": "application/merge-patch+json"},
        body=json.dumps({"metadata": {"finalizers": list(given)}}).encode(),
    )


def test_a_claim_that_is_still_being_deleted_is_waited_for(
    unchecked: Unchecked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Kubernetes keeps a claim until its last pod has gone."""
    cluster = unchecked(two_gpus())
    claim = next(entry for entry in cluster.objects().values() if entry["kind"] == "ResourceClaim")
    finalizers(cluster, claim, "resource.kubernetes.io/delete-protection")
    torn = cluster.cli("teardown", "--name", "test", "--yes")
    assert (torn.code, "; 1 not gone yet (kept by finalizers)" in torn.err) == (0, True), torn.err
    told = cluster.cli("status", "--name", "test")
    assert (told.code, "is being deleted; run deploy again" in told.out) == (1, True), told.out
    monkeypatch.setattr(launching, "LEAVING_S", 0.5)
    with pytest.raises(InputError, match=r"ResourceClaim/.*: deleted, but still there, kept by resource\.kubernetes"):
        cluster.deploy(cluster.folder / "plan.json")
    assert list(cluster.objects()) == [("ResourceClaim", claim["metadata"]["name"])]
    monkeypatch.undo()
    monkeypatch.setattr(approval, "verify", lambda _: Judged())
    said: list[str] = []

    def report(line: str) -> None:
        said.append(line)
        if line.startswith("waiting until what was deleted has gone"):
            finalizers(cluster, claim)

    found = cluster.deploy(cluster.folder / "plan.json", report=report)
    assert said[0].startswith("waiting until what was deleted has gone: ResourceClaim/")
    assert set(verbs(found)) == {"create"}
    assert cluster.cli("status").code == 0


def test_what_others_removed_or_edited_is_told_and_mended(unchecked: Unchecked) -> None:
    cluster = unchecked(two_gpus())
    first, second, _ = cluster.deployments()
    (service, *_) = [e for e in cluster.objects().values() if e["kind"] == "Service"]
    apply_as(cluster, "kubectl-edit", named(service, spec={"selector": {"igniter-opt/workload": "none"}}))
    container = {"name": "triton", "env": [{"name": "EXTRA", "value": "1"}]}
    apply_as(cluster, "debugger", named(first, spec={"template": {"spec": {"containers": [container]}}}))
    cluster.client.delete(second)
    said = cluster.cli("status", "--name", "test")
    assert said.code == 1
    assert f"Deployment/{second['metadata']['name']}: is gone" in said.out
    assert f"Service/{service['metadata']['name']}: changed by kubectl-edit" in said.out
    assert "debugger set" in said.out
    found = cluster.deploy(cluster.folder / "plan.json", take_over=True)
    assert verbs(found) == {"create": ["Deployment"], "update": ["Service"]}


def kubectl(cluster: Cluster, *words: str | Path) -> "subprocess.CompletedProcess[str]":
    return kubectl_with(cluster.kubeconfig, cluster.namespace, *words)


def kubectl_with(kubeconfig: Path, namespace: str, *words: str | Path) -> "subprocess.CompletedProcess[str]":
    program = shutil.which("kubectl")
    if program is None:
        missing("no kubectl (Debian: kubernetes-client)")
    where = ["--kubeconfig", str(kubeconfig), "--namespace", namespace]
    command = [program, *where, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_kubectl_sees_no_difference_after_a_deploy(unchecked: Unchecked) -> None:
    cluster = unchecked(two_gpus())
    folder = cluster.folder / "rendered"
    run = cluster.cli_deploy(cluster.folder / "plan.json", "--render", folder)
    assert run.code == 0, run.err
    for words in (["-f", folder], ["-k", folder], ["-f", folder, "--server-side", "--field-manager", "igniter-opt"]):
        done = kubectl(cluster, "diff", *words)
        assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
    changed = cluster.cli_deploy(cluster.approve(two_gpus(second=70.0), "next.json"), "--render", folder)
    assert changed.code == 0, changed.err
    done = kubectl(cluster, "diff", "-f", folder)
    assert done.returncode == 1
    assert '+          value: "70"' in done.stdout
    applied = kubectl(cluster, "apply", "--server-side", "--field-manager", names.MANAGER, "-f", folder)
    assert applied.returncode == 0, applied.stderr
    cluster.settle()
    found = cluster.deploy(cluster.folder / "next.json")
    assert found.nothing, "what kubectl applied is what deploy would"


def test_a_cluster_that_is_not_there_is_told(cluster: Cluster, plan: Plan) -> None:
    path = cluster.approve(plan)
    run = cluster.cli_deploy(path, "--context", "nobody")
    assert (run.code, "no cluster: " in run.err) == (2, True), run.err
    nowhere = invoke("status", "--backend", "kubernetes", "--kubeconfig", cluster.folder / "none")
    assert (nowhere.code, "no cluster: " in nowhere.err) == (2, True), nowhere.err


def test_a_context_names_the_namespace_and_wrong_ones_are_told(kubeconfig: Path, tmp_path: Path) -> None:
    assert connect(kubeconfig, None, None).namespace == "ig"
    for words in ((tmp_path / "nowhere", None), (kubeconfig, "nobody")):
        with pytest.raises(InputError, match=r"no cluster: .*--kubeconfig and --context"):
            connect(*words, None)

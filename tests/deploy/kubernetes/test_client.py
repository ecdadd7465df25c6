"""What the client makes of kubeconfigs and answers that are not as they should be."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from igniter_opt.base.errors import InputError
from igniter_opt.deploy.kubernetes.client import connect
from igniter_opt.deploy.kubernetes.kinds import KINDS
from igniter_opt.deploy.kubernetes.names import DEPLOYMENT, MANAGED_BY, MANAGER, NAME, selector
from igniter_opt.deploy.kubernetes.rbac import launcher_rbac
from tests.cli.helpers import Run, invoke
from tests.deploy.kubernetes.fake_server import FakeServer, fake_server
from tests.deploy.kubernetes.plans import CLUSTER

pytest.importorskip("kubernetes")

EMPTY: dict[str, Any] = {"metadata": {"resourceVersion": "1"}, "items": []}


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as found:
        found.answers = lambda method, path, body: (200, EMPTY)
        yield found


def command(server: FakeServer, folder: Path, *words: str, **settings: Any) -> Run:
    return invoke(*words, "--backend", "kubernetes", "--kubeconfig", server.kubeconfig(folder, **settings))


@pytest.mark.parametrize("token", ["s3cret-t\u00f6ken", "s3cret\ntoken", "s3cret\x7f"])
def test_a_token_that_is_none_is_told_and_not_shown(server: FakeServer, tmp_path: Path, token: str) -> None:
    run = command(server, tmp_path, "status", credential=token)
    assert (run.code, "the kubeconfig's token is no token" in run.err) == (2, True), run.err
    assert "s3cret" not in run.err + run.out
    assert not server.asked


def test_a_token_may_end_with_a_line_end(server: FakeServer, tmp_path: Path) -> None:
    client = connect(server.kubeconfig(tmp_path, credential="abc\n"), None, None)
    assert client._headers() == {"authorization": "Bearer abc"}
    assert command(server, tmp_path, "status", credential="abc\n").code == 0


@pytest.mark.parametrize("namespace", ["../../nodes", "a/b", "Upper", "a\n", 7])
def test_the_contexts_namespace_is_checked(server: FakeServer, tmp_path: Path, namespace: Any) -> None:
    run = command(server, tmp_path, "teardown", "--yes", namespace=namespace)
    said = "the namespace of the kubeconfig's context 'c': must be"
    assert (run.code, said in run.err) == (2, True), run.err
    assert not server.asked


@pytest.mark.parametrize(
    "answer",
    [
        "<html>hello</html>",
        "[]",
        {"kind": "x"},
        {"items": []},
        {"metadata": {}, "items": {}},
        {"metadata": {}, "items": [7]},
        {"metadata": {}, "items": [{"metadata": {}}]},
        {"metadata": 1, "items": []},
        "[" * 100_000,
    ],
)
def test_a_server_that_is_no_cluster_is_told(server: FakeServer, tmp_path: Path, answer: Any) -> None:
    server.answers = lambda method, path, body: (200, answer)
    run = command(server, tmp_path, "status")
    said = f"cannot list configmaps: http://127.0.0.1:{server.server_port} answered, but with"
    assert (run.code, said in run.err, "is it a Kubernetes API server?" in run.err) == (2, True, True), run.err


@pytest.mark.parametrize("answer", ["<html>no</html>", {"details": 1}, {"details": {"causes": [1]}}])
def test_a_refusal_in_no_known_words_is_told(server: FakeServer, tmp_path: Path, answer: Any) -> None:
    server.answers = lambda method, path, body: (409, answer)
    run = command(server, tmp_path, "status")
    assert (run.code, "cannot list configmaps: Conflict (HTTP 409)" in run.err) == (2, True), run.err


def test_an_object_and_what_was_applied_are_checked(server: FakeServer, tmp_path: Path) -> None:
    client = connect(server.kubeconfig(tmp_path), None, None)
    wanted = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}
    for answer in ("<html>", {"metadata": {"name": "a"}}, {"kind": "x"}):
        server.answers = lambda method, path, body, answer=answer: (200, answer)  # type: ignore[misc]
        with pytest.raises(InputError, match="is it a Kubernetes API server"):
            client.get(KINDS["Service"], "a")
        with pytest.raises(InputError, match="is it a Kubernetes API server"):
            client.apply(wanted)


# Kinds that the cluster lacks, and kinds that we may not look for.


def cluster_with(hidden: str, known: list[str], there: list[Any]) -> Any:
    """A cluster in which a kind may not be listed; its group has some kinds, None: there is no such group."""

    left = list(there)

    def answers(method: str, path: str, body: Any) -> tuple[int, Any]:
        kind = KINDS[hidden]
        if path.startswith(f"/apis/{kind.api_version}?"):
            return (200, {"resources": [{"name": name} for name in known]}) if known else (404, {})
        if f"/{kind.plural}?" in path:
            return 403, {"message": "forbidden"}
        if method == "GET" and "/services?" in path:
            return 200, {**EMPTY, "items": left}
        if method == "DELETE":
            left.clear()
        return 200, EMPTY

    return answers


SERVICE = {
    "metadata": {
        "name": "test-search",
        "uid": "u1",
        "labels": {MANAGED_BY: MANAGER, DEPLOYMENT: "test"},
        "annotations": {NAME: "test"},
    }
}


def test_a_teardown_that_may_not_look_everywhere_says_so(server: FakeServer, tmp_path: Path) -> None:
    server.answers = cluster_with("NetworkPolicy", ["networkpolicies", "ingresses"], [SERVICE])
    run = command(server, tmp_path, "teardown", "--yes", "--json")
    assert run.code == 1, run.err
    assert "test: removed 1 object, but some may be left: not allowed to look for objects of kind NetworkPolicy" in (
        run.err
    )
    assert "nothing of it is left" not in run.err
    assert run.json() == {"deployment": "test", "stopped": 1, "not_looked_for": ["NetworkPolicy"]}
    assert [path.partition("?")[0] for method, path, _ in server.asked if method == "DELETE"] == [
        "/api/v1/namespaces/ig/services/test-search"
    ]
    nothing = cluster_with("NetworkPolicy", ["networkpolicies"], [])
    server.answers = nothing
    again = command(server, tmp_path, "teardown", "--yes")
    assert (again.code, "nothing is deployed" in again.err) == (1, False), again.err
    looked = command(server, tmp_path, "status")
    assert "warning: not allowed to look for objects of kind NetworkPolicy" in looked.err


@pytest.mark.parametrize("known", [[], ["gateways"]])
def test_a_kind_that_the_cluster_lacks_is_not_missed(server: FakeServer, tmp_path: Path, known: list[str]) -> None:
    """A role that does not name a kind is refused it before the server looks whether there is such a kind."""
    server.answers = cluster_with("HTTPRoute", known, [SERVICE])
    run = command(server, tmp_path, "teardown", "--yes")
    assert (run.code, "test: nothing of it is left" in run.err) == (0, True), run.err


def test_an_extension_that_is_not_there_has_no_objects(server: FakeServer, tmp_path: Path) -> None:
    server.answers = lambda method, path, body: (404, {})
    client = connect(server.kubeconfig(tmp_path), None, None)
    assert client.objects(KINDS["HTTPRoute"], selector()) == ([], "")
    assert not client.hidden
    with pytest.raises(InputError, match="HTTP 404"):
        client.objects(KINDS["Service"], selector())


def test_the_role_may_look_for_and_remove_every_kind() -> None:
    (role,) = (entry for entry in launcher_rbac("ig", CLUSTER) if entry["kind"] == "Role")
    given = {
        (group, name): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for name in rule["resources"]
    }
    for kind in KINDS.values():
        assert given[kind.group, kind.plural] >= {"delete", "get", "list"}
    assert "patch" not in given["networking.k8s.io", "networkpolicies"]

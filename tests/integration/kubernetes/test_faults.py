"""What an API server may do to a launcher: refuse it, hold it up, drop its watches, be away for a while."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from igniter_opt.base.errors import InputError
from igniter_opt.deploy.kubernetes.client import Client, connect
from tests.deploy.kubernetes.plans import two_gpus
from tests.integration.kubernetes.conftest import Cluster, Unchecked
from tests.integration.kubernetes.proxy import Proxy, proxied, refusal
from tests.integration.kubernetes.test_rollout import changed, content, only_old


@pytest.fixture
def between(cluster: Cluster) -> Iterator[tuple[Proxy, Client]]:
    """A proxy between the launcher and the server; the controller has a connection of its own."""
    with proxied(cluster.kubeconfig, cluster.folder) as (proxy, kubeconfig):
        yield proxy, connect(kubeconfig, None, cluster.namespace)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (403, "deployments.apps is forbidden: User x cannot patch (HTTP 403); `deploy --render DIR` writes the role"),
        (422, "is invalid: spec.template: (HTTP 422)"),
        (401, "the cluster does not take the kubeconfig's credentials"),
    ],
)
def test_a_refusal_is_told_and_what_was_done_is_undone(
    unchecked: Unchecked, between: tuple[Proxy, Client], code: int, said: str
) -> None:
    cluster, (proxy, client) = unchecked(two_gpus()), between
    before = content(cluster)
    message = {403: "deployments.apps is forbidden: User x cannot patch", 422: "is invalid: spec.template:", 401: "no"}
    seen: list[str] = []

    def fault(method: str, path: str) -> Any:
        """The second Deployment is refused."""
        if method == "PATCH" and "/deployments/" in path:
            seen.append(path)
            if len(seen) == 2:
                return refusal(code, message[code])
        return None

    proxy.fault = fault
    with pytest.raises(InputError) as failed:
        cluster.deploy(cluster.approve(changed(), "next.json"), client)
    assert said in str(failed.value)
    assert "everything that this run changed is as it was before" in str(failed.value)
    assert content(cluster) == before


def test_what_cannot_be_undone_is_told(unchecked: Unchecked, between: tuple[Proxy, Client]) -> None:
    cluster, (proxy, client) = unchecked(two_gpus()), between
    seen: list[str] = []

    def fault(method: str, path: str) -> Any:
        if method in ("PATCH", "DELETE") and "/deployments/" in path:
            seen.append(path)
            if len(seen) >= 2:
                return refusal(403, "no longer")
        return None

    proxy.fault = fault
    with pytest.raises(InputError, match="not all could be undone, run `igniter-opt deploy` again"):
        cluster.deploy(cluster.approve(changed(), "next.json"), client)
    proxy.fault = lambda method, path: None
    cluster.deploy(cluster.folder / "plan.json", client)
    assert cluster.cli("status").code == 0


def test_too_many_requests_and_a_busy_server_are_waited_for(
    unchecked: Unchecked, between: tuple[Proxy, Client]
) -> None:
    cluster, (proxy, client) = unchecked(two_gpus()), between
    turned: dict[str, int] = {}

    def fault(method: str, path: str) -> Any:
        """A list is refused once, and so is every Deployment."""
        turned[path] = turned.get(path, 0) + 1
        if turned[path] > 1 or "watch=true" in path:
            return None
        if method == "GET" and "/services" in path:
            return refusal(503, "busy")
        if method == "PATCH" and "/deployments" in path:
            return refusal(429, "too many requests", **{"Retry-After": "1"})
        return None

    proxy.fault = fault
    cluster.deploy(cluster.approve(changed(), "next.json"), client)
    assert sum(method == "PATCH" and "/deployments" in path for method, path in proxy.asked) == 4
    assert cluster.cli("status").code == 0


def test_dropped_watches_are_taken_up_again(unchecked: Unchecked, between: tuple[Proxy, Client]) -> None:
    cluster, (proxy, client) = unchecked(two_gpus()), between
    proxy.fault = lambda method, path: "drop" if "watch=true" in path else None

    def watches() -> int:
        return sum("watch=true" in path for _, path in proxy.asked)

    slow = only_old(cluster, "pending")
    cluster.controller.fate = lambda labels: "ready" if watches() >= 3 else slow(labels)
    cluster.deploy(cluster.approve(changed(), "next.json"), client)
    assert watches() >= 3
    assert cluster.cli("status").code == 0


def test_a_watch_of_a_forgotten_version_begins_anew(unchecked: Unchecked, between: tuple[Proxy, Client]) -> None:
    cluster, (proxy, client) = unchecked(two_gpus()), between
    gone = '{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}\n'
    answers = [(200, {"Content-Type": "application/json"}, gone), refusal(410, "too old"), refusal(500, "no")]
    proxy.fault = lambda method, path: answers.pop() if answers and "watch=true" in path else None
    slow = only_old(cluster, "pending")
    cluster.controller.fate = lambda labels: slow(labels) if answers else "ready"
    cluster.deploy(cluster.approve(changed(), "next.json"), client)
    assert not answers
    assert cluster.cli("status").code == 0


@pytest.mark.parametrize("when", ["GET /api/v1/", "PATCH /apis/apps/v1/", "watch=true"])
def test_a_server_that_is_away_for_a_while_is_waited_for(
    unchecked: Unchecked, between: tuple[Proxy, Client], when: str
) -> None:
    """Every connection ends, as when the server restarts: while things are listed, applied, waited for."""
    cluster, (proxy, client) = unchecked(two_gpus()), between
    away_until: list[float] = []

    def fault(method: str, path: str) -> Any:
        if when in f"{method} {path}" and not away_until:
            away_until.append(time.monotonic() + 1.0)
        return "away" if away_until and time.monotonic() < away_until[0] else None

    proxy.fault = fault
    slow = only_old(cluster, "pending")
    cluster.controller.fate = lambda labels: (
        "ready" if away_until and time.monotonic() > away_until[0] else slow(labels)
    )
    cluster.deploy(cluster.approve(changed(), "next.json"), client)
    assert away_until
    assert time.monotonic() > away_until[0]
    assert cluster.cli("status").code == 0


def test_a_server_that_stays_away_is_given_up(unchecked: Unchecked, between: tuple[Proxy, Client]) -> None:
    cluster, (proxy, client) = unchecked(two_gpus()), between
    before = content(cluster)
    proxy.fault = lambda method, path: "away"
    client.patience_s = 0.5
    with pytest.raises(InputError, match=r"cannot list configmaps: http://127\.0\.0\.1:.* does not answer"):
        cluster.deploy(cluster.approve(changed(), "next.json"), client)
    assert content(cluster) == before

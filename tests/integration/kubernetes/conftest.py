"""A real API server, which tests reach by the kubeconfig that IGNITER_OPT_TEST_KUBECONFIG names."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import igniter_opt as ig
from igniter_opt.base.errors import InputError
from igniter_opt.data.plan import Plan, write_plan
from igniter_opt.deploy import approval
from igniter_opt.deploy.apply import Options
from igniter_opt.deploy.approval import Approval, VerificationSummary, approval_path, plan_digest, write_approval
from igniter_opt.deploy.kubernetes.client import Client, connect
from igniter_opt.deploy.kubernetes.cluster_changes import live_objects
from igniter_opt.deploy.kubernetes.kinds import KINDS
from igniter_opt.deploy.kubernetes.launching import ClusterDifference, ClusterRequest, deploy_plan, deployed_names, end
from igniter_opt.deploy.kubernetes.settings import ClusterSettings
from tests.cli.helpers import Run, invoke
from tests.deploy.kubernetes.plans import CLUSTER
from tests.deploy.models import write_models
from tests.integration.conftest import missing
from tests.integration.kubernetes.controller import Controller, pod_names

Object = dict[str, Any]
_NUMBERS = count(1)


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """The server's kubeconfig."""
    named = os.environ.get("IGNITER_OPT_TEST_KUBECONFIG")
    if not named:
        missing("no API server (IGNITER_OPT_TEST_KUBECONFIG names a kubeconfig)")
    try:
        connect(Path(named), None, None)
    except InputError as error:
        missing(str(error))
    return Path(named)


class Cluster:
    """A namespace with a controller, models and a place for plans."""

    def __init__(self, folder: Path, kubeconfig: Path) -> None:
        self.folder, self.kubeconfig = folder, kubeconfig
        self.namespace = f"t{os.getpid()}-{next(_NUMBERS)}"
        self.client = connect(kubeconfig, None, self.namespace)
        self.controller = Controller(connect(kubeconfig, None, self.namespace))
        self.models = write_models(folder / "models")
        (folder / "cluster.yaml").write_text("models: {claim: models}\n")

    def settle(self) -> None:
        """Wait until the controller has only the pods that it is to have."""
        deadline = time.monotonic() + 10
        while set(self.controller.pods()) != {name for entry in self.deployments() for name in pod_names(entry)}:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def approve(self, plan: Plan, name: str = "plan.json") -> Path:
        """Write a plan with an approval, whether it holds or not."""
        path = self.folder / name
        write_plan(plan, path)
        known = VerificationSummary(gpus=1, placements=1, cost_per_hour=1.0, tightest=())
        given = Approval(
            plan_digest=plan_digest(plan),
            approved_at="now",
            approved_by="me",
            margin=0.0,
            servers=1,
            verification=known,
        )
        write_approval(given, approval_path(path))
        return path

    def request(
        self, plan: Path, image: str = "example/triton:1", take_over: bool = False, **options: Any
    ) -> ClusterRequest:
        how = Options(**{"ready_timeout_s": 10.0, **options})
        settings = ClusterSettings(self.namespace, "test", image, CLUSTER)
        return ClusterRequest(plan, self.models, settings, take_over=take_over, options=how)

    def deploy(self, plan: Path, client: Client | None = None, **options: Any) -> ClusterDifference:
        return deploy_plan(self.request(plan, **options), client or self.client)

    def cli(self, command: str, *words: str | Path) -> Run:
        where = ("--kubeconfig", self.kubeconfig, "--namespace", self.namespace)
        return invoke(command, *words, "--backend", "kubernetes", *where)

    def cli_deploy(self, plan: Path, *words: str | Path) -> Run:
        image = ("--image", "example/triton:1", "--cluster", self.folder / "cluster.yaml")
        return self.cli("deploy", plan, "--models", self.models, "--name", "test", *image, *words)

    def objects(self) -> dict[tuple[str, str], Object]:
        return {(e["kind"], e["metadata"]["name"]): e for e in live_objects(self.client, "test")}

    def versions(self) -> dict[tuple[str, str], str]:
        return {key: entry["metadata"]["resourceVersion"] for key, entry in self.objects().items()}

    def deployments(self) -> list[Object]:
        found, _ = self.client.objects(KINDS["Deployment"], "")
        return sorted(found, key=lambda entry: str(entry["metadata"]["name"]))


@pytest.fixture
def cluster(tmp_path: Path, kubeconfig: Path) -> Iterator[Cluster]:
    """A namespace of the server; the controller runs until the test ends, and saw nothing left without a server."""
    found = Cluster(tmp_path, kubeconfig)
    found.controller.start()
    yield found
    found.client.patience_s = 1
    for name in deployed_names(found.client):
        end(connect(kubeconfig, None, found.namespace), name, Options())
    found.controller.end()
    assert not found.controller.gaps


Unchecked = Callable[[Plan], Cluster]


@pytest.fixture
def unchecked(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Unchecked:
    """Deploys a plan that need not hold: what is tested is not the predictor."""
    monkeypatch.setattr(approval, "verify", lambda _: Judged())

    def deployed(plan: Plan) -> Cluster:
        cluster.deploy(cluster.approve(plan))
        return cluster

    return deployed


@dataclass(frozen=True)
class Judged:
    """A verification of a plan that holds."""

    ok: bool = True
    placements: tuple[Any, ...] = ()


@pytest.fixture(scope="session")
def plan() -> Plan:
    return ig.solve("igniter-three", "igniter").plan

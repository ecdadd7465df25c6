"""A real API server, which tests reach by the kubeconfig that IGNITER_OPT_TEST_KUBECONFIG names; each has a namespace."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import igniter_opt as ig
from igniter_opt.base.errors import InputError
from igniter_opt.data.plan import Plan
from igniter_opt.deploy.apply import Options
from igniter_opt.deploy.kubernetes.client import Client, connect
from igniter_opt.deploy.kubernetes.cluster_changes import live_objects
from igniter_opt.deploy.kubernetes.kinds import KINDS
from igniter_opt.deploy.kubernetes.launching import ClusterDifference, ClusterRequest, deploy_plan, end
from igniter_opt.deploy.kubernetes.settings import Settings
from tests.cli.helpers import Run, invoke
from tests.deploy.conftest import approved
from tests.deploy.kubernetes.plans import CLUSTER
from tests.deploy.models import write_models
from tests.integration.conftest import missing
from tests.integration.kubernetes.controller import Controller

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

    def approve(self, plan: Plan, name: str = "plan.json") -> Path:
        return approved(plan, self.folder / name)

    def request(
        self, plan: Path, image: str = "example/triton:1", take_over: bool = False, **options: Any
    ) -> ClusterRequest:
        how = Options(**{"ready_timeout_s": 10.0, **options})
        settings = Settings(self.namespace, "test", image, CLUSTER)
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
        return self.client.objects(KINDS["Deployment"], "")[0]


@pytest.fixture
def cluster(tmp_path: Path, kubeconfig: Path) -> Iterator[Cluster]:
    """A namespace of the server; the controller runs until the test ends, and saw nothing left without a server."""
    found = Cluster(tmp_path, kubeconfig)
    found.controller.start()
    yield found
    end(connect(kubeconfig, None, found.namespace), "test", Options())
    found.controller.end()
    assert not found.controller.gaps


@pytest.fixture(scope="session")
def plan() -> Plan:
    return ig.solve("igniter-three", "igniter").plan

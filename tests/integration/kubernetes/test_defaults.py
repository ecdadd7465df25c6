"""What Kubernetes itself fills in of our objects is nobody's change."""

import json

import pytest

from igniter_opt.deploy.kubernetes.client import connect
from igniter_opt.deploy.kubernetes.kinds import KINDS
from tests.cli.helpers import invoke
from tests.deploy.kubernetes.plans import sliced, two_gpus
from tests.integration.kubernetes.conftest import Unchecked
from tests.integration.kubernetes.defaults import defaulted
from tests.integration.kubernetes.proxy import proxied
from tests.integration.kubernetes.test_apply import kubectl_with


@pytest.mark.parametrize("plan", [two_gpus(), sliced()], ids=["shares", "slices"])
def test_what_kubernetes_fills_in_is_no_change(unchecked: Unchecked, plan: object) -> None:
    cluster = unchecked(plan)  # type: ignore[arg-type]
    rendered = cluster.folder / "rendered"
    assert cluster.cli_deploy(cluster.folder / "plan.json", "--render", rendered).code == 0
    with proxied(cluster.kubeconfig, cluster.folder) as (proxy, kubeconfig):
        proxy.answered = lambda text: json.dumps(defaulted(json.loads(text))).encode()
        client = connect(kubeconfig, None, cluster.namespace)
        claims, _ = client.objects(KINDS["ResourceClaim"], "")
        services, _ = client.objects(KINDS["Service"], "")
        assert all(entry["spec"]["clusterIP"] for entry in services), "filled in"
        assert all(entry["spec"]["devices"]["requests"][0]["exactly"]["count"] == 1 for entry in claims)
        assert cluster.deploy(cluster.folder / "plan.json", client).nothing
        words = ("--backend", "kubernetes", "--kubeconfig", kubeconfig, "--namespace", cluster.namespace)
        status = invoke("status", *words)
        assert status.code == 0, status.out
        done = kubectl_with(kubeconfig, cluster.namespace, "diff", "-f", rendered)
        assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr

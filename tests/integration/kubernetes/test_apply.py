"""Plans on a real API server: applied, applied again, changed, refused, removed."""

from igniter_opt.data.plan import Plan
from tests.integration.kubernetes.conftest import Cluster


def test_a_plan_is_applied_and_applied_again_without_a_change(cluster: Cluster, plan: Plan) -> None:
    path = cluster.approve(plan)
    run = cluster.cli_deploy(path)
    assert run.code == 0, run.err
    print(run.out, run.err)
    before = cluster.versions()
    again = cluster.cli_deploy(path)
    assert (again.code, "nothing to change" in again.err) == (0, True), again.err
    assert cluster.versions() == before
    status = cluster.cli("status")
    print(status.out)
    assert status.code == 0, status.out

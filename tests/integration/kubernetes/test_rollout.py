"""The order of a rollout on a real API server: it waits, it gives up, it undoes exactly what it did, it goes on."""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from igniter_opt.base.errors import DeploymentError, DeploymentInterruptedError
from igniter_opt.base.stop import StopRequest
from igniter_opt.data.migration import Disruption, MigratedServer, Migration, MigrationStep
from igniter_opt.data.plan import Plan
from igniter_opt.deploy.apply import Options
from igniter_opt.deploy.approval import plan_digest
from igniter_opt.deploy.kubernetes.client import connect
from igniter_opt.deploy.kubernetes.fields import owned
from igniter_opt.deploy.kubernetes.launching import deploy_plan, end, recorded_plan, servers_of
from igniter_opt.deploy.kubernetes.names import SPEC
from tests.deploy.kubernetes.plans import made_plan, placement, two_gpus
from tests.integration.kubernetes.conftest import Cluster, Unchecked

Object = dict[str, Any]


def content(cluster: Cluster) -> dict[tuple[str, str], Object | None]:
    """What is ours in every object."""
    return {key: owned(entry) for key, entry in cluster.objects().items()}


def only_old(cluster: Cluster, fate: str) -> Callable[[dict[str, str]], str]:
    """Pods that are there stay as they are; new ones have another fate."""
    old = {pod["metadata"]["labels"][SPEC] for pod in cluster.controller.pods().values()}
    return lambda labels: "ready" if labels[SPEC] in old else fate


def changed() -> Plan:
    return two_gpus(second=70.0, ads="V100-2")


@pytest.mark.parametrize(
    ("fate", "said"),
    [
        ("crash", "CrashLoopBackOff back-off 10s"),
        ("pull", "ImagePullBackOff"),
        ("pending", "not ready after 1 s (1 more are not): 0/1 nodes are available"),
    ],
)
def test_what_does_not_get_ready_is_undone_and_the_old_stays(unchecked: Unchecked, fate: str, said: str) -> None:
    cluster = unchecked(two_gpus())
    before, pods = content(cluster), set(cluster.controller.pods())
    cluster.controller.fate = only_old(cluster, fate)
    with pytest.raises(DeploymentError) as failed:
        cluster.deploy(cluster.approve(changed(), "next.json"), ready_timeout_s=1.0)
    assert said in str(failed.value)
    assert "everything that this run changed is as it was before" in str(failed.value)
    assert content(cluster) == before
    cluster.settle()
    assert set(cluster.controller.pods()) == pods
    assert cluster.cli("status").code == 0


def test_a_first_deployment_that_fails_leaves_nothing(unchecked: Unchecked, cluster: Cluster) -> None:
    del unchecked
    cluster.controller.fate = lambda _: "crash"
    with pytest.raises(DeploymentError, match="CrashLoopBackOff"):
        cluster.deploy(cluster.approve(two_gpus()))
    assert not cluster.objects()


def test_slow_servers_are_waited_for(unchecked: Unchecked) -> None:
    cluster = unchecked(two_gpus())
    slow = only_old(cluster, "pending")
    late = time.monotonic() + 1.5
    cluster.controller.fate = lambda labels: "ready" if time.monotonic() > late else slow(labels)
    cluster.deploy(cluster.approve(changed(), "next.json"))
    assert time.monotonic() > late
    assert cluster.cli("status").code == 0


def test_an_interrupt_undoes_and_says_so(unchecked: Unchecked) -> None:
    cluster = unchecked(two_gpus())
    before, stop = content(cluster), StopRequest()
    cluster.controller.fate = only_old(cluster, "pending")
    threading.Timer(0.7, stop.set).start()
    with pytest.raises(DeploymentInterruptedError, match="interrupted; everything that this run changed is as it was"):
        cluster.deploy(cluster.approve(changed(), "next.json"), stop=stop)
    assert content(cluster) == before


# A migration in which a server gives way, and both of a workload's serve side by side for a step.


def server(gpu: str, workload: str, replica: int, share: float, model: str = "alexnet") -> MigratedServer:
    return MigratedServer(
        gpu=gpu,
        workload=workload,
        replica=replica,
        model=model,
        batch=4,
        share_percent=share,
        queue_delay_us=500,
    )


def migrated() -> tuple[Plan, Plan]:
    """From two servers on a card each to both of `search` smaller and `ads` moved, in three steps."""
    old = two_gpus()
    new = two_gpus(search=35.0, second=50.0, ads="V100-2")
    steps = (
        MigrationStep(
            start=(server("V100-2", "ads", 1, 30.0, "ssd"),), stop=(server("V100-1", "ads", 1, 30.0, "ssd"),)
        ),
        # The new server starts beside the old one, which stops a step later.
        MigrationStep(start=(server("V100-1", "search", 1, 35.0),)),
        MigrationStep(
            start=(server("V100-2", "search", 2, 50.0),),
            stop=(server("V100-1", "search", 1, 40.0), server("V100-2", "search", 2, 60.0)),
        ),
    )
    none = Disruption(moves=1, restarts=0, resizes=2, starts=0, stops=0, kept=0, weighted=1.2)
    way = Migration(running=plan_digest(old), rates="both", disruption=none, steps=steps)
    return old, new.model_copy(update={"migration": way})


def test_a_migration_is_followed_step_by_step(unchecked: Unchecked) -> None:
    old, new = migrated()
    cluster = unchecked(old)
    said: list[str] = []
    found = cluster.deploy(cluster.approve(new, "next.json"), report=said.append)
    assert [number for number, _ in found.steps.steps] == [1, 2, 3]
    steps = [line for line in said if "of the migration" in line]
    assert steps == [
        f"step {k} of 3 of the migration: 1 to start, {stops} to stop" for k, stops in ((1, 1), (2, 0), (3, 2))
    ]
    assert cluster.controller.together["search"] >= 3, "old and new served side by side"
    servers = {
        (s.placement.gpu, s.placement.workload, s.placement.share_percent) for s in servers_of(cluster.deployments())
    }
    assert servers == {("V100-1", "search", 35.0), ("V100-2", "search", 50.0), ("V100-2", "ads", 30.0)}
    assert cluster.deploy(cluster.folder / "next.json").nothing
    assert cluster.cli("status").code == 0


def test_a_failing_step_is_undone_and_the_steps_before_it_stay(unchecked: Unchecked) -> None:
    old, new = migrated()
    cluster = unchecked(old)

    def report(line: str) -> None:
        if line.startswith("step 2"):
            cluster.controller.fate = only_old(cluster, "crash")

    path = cluster.approve(new, "next.json")
    with pytest.raises(DeploymentError, match="everything that step 2 of 3 of the migration changed is as it was"):
        cluster.deploy(path, report=report)
    there = {
        (s.placement.gpu, s.placement.workload, s.placement.share_percent) for s in servers_of(cluster.deployments())
    }
    assert there == {("V100-1", "search", 40.0), ("V100-2", "search", 60.0), ("V100-2", "ads", 30.0)}
    assert recorded_plan(list(cluster.objects().values())) == plan_digest(old)
    cluster.controller.fate = lambda _: "ready"
    assert [number for number, _ in cluster.deploy(path).steps.steps] == [2, 3]
    assert cluster.cli("status").code == 0


def test_what_runs_and_is_no_state_of_the_migration_is_changed_all_at_once(unchecked: Unchecked) -> None:
    old, new = migrated()
    cluster = unchecked(two_gpus(search=45.0))
    said: list[str] = []
    cluster.deploy(cluster.approve(new, "next.json"), report=said.append)
    assert any("what runs is not the plan that it begins with" in line for line in said)
    assert old != new
    assert cluster.cli("status").code == 0


def test_a_server_that_gave_way_starts_again_where_its_successor_does_not_get_ready(unchecked: Unchecked) -> None:
    """Its GPU has no room for both: the migration has a gap, which a failure must not make last."""
    old, new = two_gpus(), two_gpus(ads="V100-2")
    steps = (
        MigrationStep(stop=(server("V100-1", "ads", 1, 30.0, "ssd"),), gap=("ads",)),
        MigrationStep(start=(server("V100-2", "ads", 1, 30.0, "ssd"),)),
    )
    none = Disruption(moves=1, restarts=0, resizes=0, starts=0, stops=0, kept=2, weighted=1.0)
    way = Migration(running=plan_digest(old), rates="both", disruption=none, steps=steps)
    cluster = unchecked(old)
    before = content(cluster)
    cluster.controller.fate = only_old(cluster, "crash")
    path = cluster.approve(new.model_copy(update={"migration": way}), "next.json")
    said: list[str] = []
    with pytest.raises(DeploymentError, match="started again, for their workloads had no server left: V100-1/ads#1"):
        cluster.deploy(path, report=said.append)
    assert any("1 to stop; without a server then: ads" in line for line in said)
    assert content(cluster) == before
    cluster.settle()
    assert cluster.cli("status").code == 0
    cluster.controller.fate = lambda _: "ready"
    assert [number for number, _ in cluster.deploy(path).steps.steps] == [1, 2]
    assert cluster.cli("status").code == 0
    cluster.controller.gaps.discard("ads")  # as planned, and told


# Killed at every step.


def killed(action: Callable[[Callable[[str], None]], None], step: int) -> list[str]:
    """Do something in a process that is killed at a step; return the steps it got to, none if it was not killed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(read)
            left = [step]

            def hook(what: str) -> None:
                os.write(write, f"{what}\n".encode())
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            action(hook)
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as pipe:
        lines = pipe.read().splitlines()
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, lines
    return lines if os.WIFSIGNALED(status) else []


# Hooks come in pairs: after one thing is before the next.
EVERY = 2


def killed_everywhere(cluster: Cluster, before: str | None, after: str) -> int:
    """Kill a launcher on its way from one plan to another at every step; each time the next one gets there."""
    step, wanted = 0, None

    def deployed(hook: Callable[[str], None]) -> None:
        client = connect(cluster.kubeconfig, None, cluster.namespace)
        deploy_plan(cluster.request(cluster.folder / after, hook=hook), client)

    while True:
        if before is None:
            for entry in cluster.objects().values():
                cluster.client.delete(entry)
        else:
            cluster.deploy(cluster.folder / before)
        reached = killed(deployed, step)
        cluster.deploy(cluster.folder / after)
        found = content(cluster)
        wanted = wanted or found
        assert found == wanted, reached[-1:]
        if not reached:
            return step
        step += EVERY


def test_killed_at_every_step_of_a_change_the_next_run_gets_there(unchecked: Unchecked) -> None:
    cluster = unchecked(two_gpus())
    cluster.approve(changed(), "next.json")
    assert killed_everywhere(cluster, "plan.json", "next.json") >= 8


@pytest.mark.slow
def test_killed_at_every_step_of_a_migration_the_next_run_gets_there(unchecked: Unchecked) -> None:
    old, new = migrated()
    cluster = unchecked(old)
    cluster.approve(new, "next.json")
    assert killed_everywhere(cluster, "plan.json", "next.json") >= 20


def test_killed_at_every_step_of_a_teardown_the_next_one_gets_there(unchecked: Unchecked) -> None:
    cluster = unchecked(made_plan([("V100-1", "V100", [placement("search")])]))

    def torn(hook: Callable[[str], None]) -> None:
        end(connect(cluster.kubeconfig, None, cluster.namespace), "test", Options(hook=hook))

    step = 0
    while True:
        cluster.deploy(cluster.folder / "plan.json")
        reached = killed(torn, step)
        run = cluster.cli("teardown", "--yes")
        assert run.code == 0, (reached[-1:], run.err)
        assert not cluster.objects(), reached[-1:]
        if not reached:
            break
        step += EVERY
    assert step >= 12, "two hooks for each of six objects"


def test_killed_at_every_step_of_the_first_deployment_the_next_run_gets_there(
    unchecked: Unchecked, cluster: Cluster
) -> None:
    del unchecked
    cluster.approve(made_plan([("V100-1", "V100", [placement("search")])]))
    assert killed_everywhere(cluster, None, "plan.json") >= 10

"""Deploying, changing and ending deployments, on a stand-in server."""

import json
import socket
from pathlib import Path

import psutil
import pytest

import igniter_opt as ig
from igniter_opt.base.errors import DeploymentError, InputError, RefusedError
from igniter_opt.data.plan import plan_from_data
from igniter_opt.deploy import launch
from igniter_opt.deploy.apply import Options
from igniter_opt.deploy.backends.docker import DockerBackend
from igniter_opt.deploy.endpoints import ENDPOINTS_FILE
from igniter_opt.deploy.state import Store
from igniter_opt.deploy.status import read_status
from tests.deploy.conftest import Site, approved, solve


def pids(site: Site) -> dict[str, str]:
    state = site.store.load()
    assert state is not None
    return {record.workload: str(record.handle) for record in state.replicas if record.phase == "ready"}


def changed_plan(site: Site, **rates: float) -> Path:
    """The same workloads at other rates."""
    instance = ig.read_instance("igniter-three")
    workloads = tuple(
        workload.model_copy(update={"rate_rps": rates.get(workload.name, workload.rate_rps)})
        for workload in instance.workloads
    )
    return approved(solve(instance.model_copy(update={"workloads": workloads})), site.folder / "changed.json")


def verbs(prepared: launch.Prepared) -> list[str]:
    return sorted(action.verb for action in prepared.changes.actions())


def test_deploy_again_change_and_teardown(site: Site, stranger: psutil.Process) -> None:
    assert verbs(site.deploy()) == ["start"] * 3
    first = pids(site)
    assert set(first) == {"A", "R", "S"}

    again = site.deploy()
    assert again.nothing
    assert pids(site) == first

    # At a lower rate R needs less; A and S stay what they are.
    changed = changed_plan(site, R=300)
    assert verbs(site.deploy(changed)) == ["keep", "keep", "start", "stop"]
    second = pids(site)
    assert second["R"] != first["R"]
    assert (second["A"], second["S"]) == (first["A"], first["S"])
    assert not psutil.pid_exists(int(first["R"])) or psutil.Process(int(first["R"])).status() == "zombie"

    site.teardown()
    site.assert_clean()
    assert stranger.is_running()


def test_a_reordered_plan_changes_nothing(site: Site) -> None:
    site.deploy()
    data = json.loads(site.plan.read_text())
    (gpu,) = data["gpus"]
    gpu["placements"].reverse()
    gpu["name"] = "other-name"
    path = approved(plan_from_data(data, "x"), site.folder / "reordered.json")
    before = pids(site)
    assert verbs(site.deploy(path)) == ["keep"] * 3
    assert pids(site) == before
    state = site.store.load()
    assert state is not None
    assert {record.gpu for record in state.replicas} == {"other-name"}


def test_endpoints_follow_the_plan(site: Site) -> None:
    site.deploy()
    file = site.store.folder / ENDPOINTS_FILE
    first = json.loads(file.read_text())
    assert set(first["workloads"]) == {"A", "R", "S"}
    site.deploy(changed_plan(site, R=300))
    second = json.loads(file.read_text())
    assert second["workloads"]["R"]["replicas"][0]["http"] != first["workloads"]["R"]["replicas"][0]["http"]
    assert second["workloads"]["A"] == first["workloads"]["A"]


def ports(site: Site) -> dict[str, int]:
    state = site.store.load()
    assert state is not None
    return {record.workload: record.ports.http for record in state.replicas if record.phase == "ready"}


def test_what_stays_keeps_its_port_also_across_a_restart_of_the_machine(site: Site) -> None:
    site.deploy()
    first = ports(site)
    site.deploy(changed_plan(site, R=300))
    second = ports(site)
    assert (second["A"], second["S"]) == (first["A"], first["S"])
    assert second["R"] not in first.values()  # old and new one ran side by side
    # The next change finds the first port free again.
    site.deploy()
    assert ports(site) == first
    site.deploy(changed_plan(site, R=300))
    # All die. In the plan's order the first free ports would be others.
    site.kill()
    site.deploy(changed_plan(site, R=300))
    assert ports(site) == second


def test_a_port_that_somebody_took_meanwhile_is_left_to_them(site: Site) -> None:
    site.deploy()
    first = ports(site)
    site.kill()
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", first["R"]))
        stranger.listen()
        site.deploy()
    second = ports(site)
    assert second["R"] not in first.values()
    assert (second["A"], second["S"]) == (first["A"], first["S"])


def test_listeners_of_workloads_outlive_a_change_of_plan(site: Site) -> None:
    site.deploy()
    state = site.store.load()
    assert state is not None
    assert state.listeners == {"A": 0, "R": 1, "S": 2}
    instance = ig.read_instance("igniter-three")
    kept = tuple(entry for entry in instance.workloads if entry.name != "A")
    added = kept[0].model_copy(update={"name": "0", "rate_rps": 50})
    plan = solve(instance.model_copy(update={"workloads": (added, *kept)}))
    site.deploy(approved(plan, site.folder / "changed.json"))
    state = site.store.load()
    assert state is not None
    assert state.listeners == {"0": 3, "R": 1, "S": 2}


def test_a_server_that_died_is_started_again(site: Site) -> None:
    site.deploy()
    before = pids(site)
    state = site.store.load()
    assert state is not None
    site.kill(next(record.token for record in state.replicas if record.workload == "A"))
    status = read_status(site.store, state, site.backend())
    assert [server.workload for server in status.servers if server.drift] == ["A"]
    assert not status.ok
    result = site.deploy()
    assert verbs(result) == ["clean", "keep", "keep", "start"]
    after = pids(site)
    assert after["A"] != before["A"]
    assert after["R"] == before["R"]
    # Its child, which outlived it, is gone as well.
    tokens = {process.environ()["IGNITER_OPT_TOKEN"] for process in site.processes()}
    assert len(tokens) == 3


def test_a_configuration_changed_by_hand_is_drift_and_put_right(site: Site) -> None:
    site.deploy()
    state = site.store.load()
    assert state is not None
    record = next(record for record in state.replicas if record.workload == "R")
    path = site.store.server_folder(record.token) / "repository/resnet50/config.pbtxt"
    path.write_text(path.read_text().replace("max_batch_size: 9", "max_batch_size: 90"))
    status = read_status(site.store, state, site.backend())
    assert [server.workload for server in status.servers if "changed" in server.drift] == ["R"]
    assert verbs(site.deploy()) == ["keep", "keep", "start", "stop"]


def test_changed_model_files_replace_the_server(site: Site) -> None:
    site.deploy()
    path = site.models / "alexnet" / "1" / "weights"
    path.write_text("new")
    assert verbs(site.deploy()) == ["keep", "keep", "start", "stop"]


def test_dry_run_changes_nothing(site: Site) -> None:
    request = site.request()
    prepared = launch.prepare(request, site.store, site.backend(), *launch.check(request, site.backend()))
    assert verbs(prepared) == ["start"] * 3
    assert not site.store.folder.exists()
    assert site.processes() == []


def test_unapproved_plans_are_refused_before_anything_starts(site: Site, plan: ig.Plan) -> None:
    other = site.folder / "other.json"
    ig.write_plan(plan, other)
    with pytest.raises(RefusedError, match="not approved"):
        site.deploy(other)
    assert not site.store.folder.exists()


def test_another_backend_is_refused_while_servers_run(site: Site) -> None:
    site.deploy()
    request, checked = site.request(), launch.check(site.request(), site.backend())
    with pytest.raises(InputError, match="runs by backend process on the processor"):
        launch.prepare(request, site.store, DockerBackend(()), *checked)


def test_teardown_of_nothing(site: Site) -> None:
    assert site.teardown() == 0
    assert not site.store.folder.exists()


def test_two_deployments_side_by_side(site: Site) -> None:
    site.deploy()
    other = Store(site.folder / "state", "other")
    launch.deploy(site.request(), other, site.backend())
    ports = set()
    for store in (site.store, other):
        state = store.load()
        assert state is not None
        ports |= {record.ports.http for record in state.replicas}
    assert len(ports) == 6
    launch.teardown(other, site.backend(), Options())
    state = site.store.load()
    assert state is not None
    assert read_status(site.store, state, site.backend()).ok


def test_servers_outlive_a_failed_change(site: Site) -> None:
    """A plan that cannot be started leaves what ran before running."""
    site.deploy()
    before = pids(site)
    site.misbehave("resnet50", "exit")
    with pytest.raises(DeploymentError, match="failed to load all models"):
        site.deploy(changed_plan(site, R=300))
    assert pids(site) == before
    state = site.store.load()
    assert state is not None
    assert read_status(site.store, state, site.backend()).ok
    assert len(list((site.store.folder / "failed").iterdir())) == 1

"""Whatever goes wrong, nothing is left half-started, nothing of others is touched, and the message helps.

The launcher is killed at every step (a few of them by default, all with ``--run-slow``); afterwards ``deploy``
and ``teardown`` each have to put things right.
"""

import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from igniter_opt.base.errors import DeploymentError, InputError
from igniter_opt.deploy import launch
from igniter_opt.deploy.apply import Options
from igniter_opt.deploy.backends.base import Observation, ServerJob, shared_memory
from igniter_opt.deploy.backends.process import ProcessBackend
from igniter_opt.deploy.state import Store
from igniter_opt.deploy.status import read_status
from igniter_opt.deploy.triton.inference import endpoint, is_ready
from tests.deploy import child
from tests.deploy.conftest import Site
from tests.deploy.test_launch import changed_plan, pids

# Steps of the first deployment of three servers, and of the change that replaces one of them: see the two tests
# that count them.
FIRST_STEPS, CHANGE_STEPS, TEARDOWN_STEPS = 29, 15, 3


def steps(count: int, sample: set[int]) -> list[object]:
    return [step if step in sample else pytest.param(step, marks=pytest.mark.slow) for step in range(count)]


def test_number_of_steps(site: Site) -> None:
    fault = child.Fault(None)
    site.deploy(hook=fault)
    assert len(fault.steps) == FIRST_STEPS
    fault = child.Fault(None)
    site.deploy(changed_plan(site, R=300), hook=fault)
    assert len(fault.steps) == CHANGE_STEPS
    fault = child.Fault(None)
    launch.teardown(site.store, site.backend(), Options(hook=fault))
    assert len(fault.steps) == TEARDOWN_STEPS


@pytest.mark.parametrize("step", steps(FIRST_STEPS, {0, 1, 4, 13, 28}))
def test_killed_at_any_step_of_the_first_deployment(site: Site, stranger: psutil.Process, step: int) -> None:
    assert child.deploy(site, step=step) == -signal.SIGKILL
    if step % 2:
        site.deploy()
        state = site.store.load()
        assert state is not None
        assert read_status(site.store, state, site.backend()).ok
        assert len(state.replicas) == 3
        assert len({process.environ()["IGNITER_OPT_TOKEN"] for process in site.processes()}) == 3
    site.teardown()
    site.assert_clean()
    assert stranger.is_running()


@pytest.mark.parametrize("step", steps(CHANGE_STEPS, {3, 9, 11, 13}))
def test_killed_at_any_step_of_a_change(site: Site, stranger: psutil.Process, step: int) -> None:
    site.deploy()
    before = pids(site)
    changed = changed_plan(site, R=300)
    assert child.deploy(site, changed, step) == -signal.SIGKILL

    # Every workload still has a ready replica.
    state = site.store.load()
    assert state is not None
    served = {r.workload for r in state.replicas if is_ready(endpoint(r, "127.0.0.1"))}
    assert served == {"A", "R", "S"}

    site.deploy(changed)
    after = pids(site)
    assert (after["A"], after["S"]) == (before["A"], before["S"])
    state = site.store.load()
    assert state is not None
    assert read_status(site.store, state, site.backend()).ok
    assert len(state.replicas) == 3
    site.teardown()
    site.assert_clean()
    assert stranger.is_running()


@pytest.mark.parametrize("step", range(TEARDOWN_STEPS))
def test_killed_at_any_step_of_a_teardown(site: Site, step: int) -> None:
    site.deploy()
    assert child.teardown(site, step) == -signal.SIGKILL
    site.teardown()
    site.assert_clean()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [0, 4, 7, 13, 26])
def test_interrupted_in_the_first_deployment(
    site: Site, stranger: psutil.Process, step: int, number: signal.Signals
) -> None:
    assert child.deploy(site, step=step, number=number) == 130
    site.assert_clean()
    assert stranger.is_running()


def test_interrupted_in_a_change(site: Site) -> None:
    """Before all new servers are ready a change is undone, afterwards it is finished."""
    site.deploy()
    before = pids(site)
    changed = changed_plan(site, R=300)
    assert child.deploy(site, changed, 5, signal.SIGINT) == 130
    assert pids(site) == before
    assert child.deploy(site, changed, CHANGE_STEPS - 4, signal.SIGINT) == 0
    assert pids(site)["R"] != before["R"]
    assert len(site.processes()) == 6  # three servers with a child each


def test_a_server_that_ends_later_is_found_gone_by_the_next_look(site: Site) -> None:
    site.deploy()
    state = site.store.load()
    assert state is not None
    ended = next(record for record in state.replicas if record.workload == "A")
    site.kill(ended.token)
    drift = {server.workload: server.drift for server in read_status(site.store, state, site.backend()).servers}
    assert "does not run" in drift["A"]
    assert drift["R"] == ""
    assert site.teardown() == 3
    site.assert_clean()


BEHAVIOURS = {
    "exit": "exited before it was ready",
    "empty": "output 'y' at batch 1 is empty",
    "short": "fewer bytes than its shape needs",
    "wrong": "3 wrong value(s), at [0, 0]",
    "nan": "not finite",
    "shape": "has shape [1, 3, 1], its configuration says [1, 3]",
    "missing": "output 'y' at batch 1 is missing",
    "hang": "not ready after 3 s",
}


@pytest.mark.parametrize("how", BEHAVIOURS)
def test_a_server_that_misbehaves_is_rolled_back(site: Site, stranger: psutil.Process, how: str) -> None:
    site.misbehave("alexnet", how)
    with pytest.raises(DeploymentError) as error:
        site.deploy(ready_timeout_s=3.0 if how == "hang" else 60.0)
    assert "V100-1/A#1" in str(error.value)
    assert BEHAVIOURS[how] in str(error.value)
    site.assert_clean()
    assert stranger.is_running()
    assert len(list((site.store.folder / "failed").glob("*-V100-1-A#1-*.log"))) == 1


def test_without_a_sample_outputs_are_still_checked(site: Site) -> None:
    (site.models / "alexnet" / "check.json").unlink()
    site.deploy()
    site.teardown()
    site.misbehave("alexnet", "empty")
    with pytest.raises(DeploymentError, match="is empty"):
        site.deploy()


def test_ports_in_use_are_passed_over(site: Site) -> None:
    with socket.create_server(("127.0.0.1", site.base_port + 1)), socket.create_server(("", site.base_port + 6)):
        site.deploy()
        state = site.store.load()
        assert state is not None
        assert sorted(r.ports.http - site.base_port for r in state.replicas) == [3, 9, 12]


def test_a_port_taken_at_the_last_moment(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else answers on the port, perhaps even as a ready server: never taken for ours."""
    monkeypatch.setattr(ProcessBackend, "port_is_free", lambda *_: True)
    with socket.create_server(("127.0.0.1", site.base_port)), pytest.raises(DeploymentError) as error:
        site.deploy()
    assert "exited before it was ready" in str(error.value)
    assert "Address already in use" in str(error.value)
    site.assert_clean()


def test_another_ready_server_on_the_port_is_not_ours(site: Site) -> None:
    site.deploy()
    state = site.store.load()
    assert state is not None
    ours, other = (endpoint(record, "127.0.0.1") for record in state.replicas[:2])
    assert is_ready(ours)
    assert not is_ready(replace(ours, http=other.http))


def test_a_missing_model_is_found_before_anything_starts(site: Site) -> None:
    (site.models / "ssd").rename(site.models / "sdd")
    with pytest.raises(InputError, match="did you mean 'sdd'"):
        site.deploy()
    assert not site.store.folder.exists()


def test_two_launchers_at_once(site: Site) -> None:
    site.misbehave("alexnet", "hang")
    first = child.start_deploy(site)
    deadline = time.monotonic() + 20
    while not site.store.file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(InputError, match=f"another launcher \\(process {first.pid} since"):
        site.deploy()
    with pytest.raises(InputError, match="another launcher"):
        site.teardown()
    assert first.pid is not None
    psutil.Process(first.pid).send_signal(signal.SIGINT)
    first.join(30)
    assert first.exitcode == 130
    site.assert_clean()


DAMAGED = {
    "empty": "",
    "half": '{"schema": "igniter-opt/deployment@1", "name": "te',
    "list": "[]",
    "other": '{"schema": "terraform"}',
    "keys": '{"schema": "igniter-opt/deployment@1", "name": "test"}',
    "binary": "\x00\x01",
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_state_file_is_left_alone(site: Site, text: str) -> None:
    site.deploy()
    running = {process.pid for process in site.processes()}
    good = site.store.file.read_text()
    site.store.file.write_text(text)
    for action in (site.deploy, site.teardown):
        with pytest.raises(InputError, match="nothing was touched") as error:
            action()
        assert str(site.store.file) in str(error.value)
    assert site.store.file.read_text() == text
    assert {process.pid for process in site.processes()} == running

    # As the message says: put it back, and all is well; or move it away, and the labels suffice.
    site.store.file.write_text(good)
    assert site.deploy().nothing
    site.store.file.unlink()
    assert site.teardown() == 3
    site.assert_clean()


def test_a_lost_state_file_makes_deploy_replace_what_runs(site: Site) -> None:
    site.deploy()
    site.store.file.unlink()
    result = site.deploy()
    assert len(result.orphans) == 3
    assert len({process.environ()["IGNITER_OPT_TOKEN"] for process in site.processes()}) == 3
    assert len(list(site.store.folder.glob("servers/*"))) == 3


@pytest.mark.parametrize("action", ["deploy", "teardown"])
def test_what_servers_left_whom_nobody_knows_is_removed(site: Site, action: str) -> None:
    """The state was lost, and so were the servers: their folders and shared memory are still there."""
    site.deploy()
    tokens = [folder.name for folder in site.store.folder.glob("servers/*")]
    site.store.file.unlink()
    site.kill()
    assert len(shared_memory(tokens)) == 3
    if action == "deploy":
        site.deploy()
        assert len(list(site.store.folder.glob("servers/*"))) == 3
    else:
        site.teardown()
        site.assert_clean()
    assert shared_memory(tokens) == []


def test_a_state_file_of_another_deployment_is_refused(site: Site, tmp_path: Path) -> None:
    site.deploy()
    other = Store(tmp_path / "state", "other")
    other.create()
    other.file.write_text(site.store.file.read_text())
    with pytest.raises(InputError, match="belongs to deployment 'test'"):
        launch.teardown(other, site.backend(), Options())
    # A whole folder copied elsewhere does not own the processes either.
    copy = Store(tmp_path / "elsewhere", "test")
    copy.create()
    copy.file.write_text(site.store.file.read_text())
    with pytest.raises(InputError, match="of another folder or machine"):
        launch.teardown(copy, site.backend(), Options())
    assert len(pids(site)) == 3


def test_a_recycled_process_id_is_never_killed(site: Site, stranger: psutil.Process) -> None:
    """The state may name a process id that now belongs to somebody else."""
    site.deploy()
    state = site.store.load()
    assert state is not None
    site.kill()
    site.store.save(
        state.model_copy(
            update={"replicas": tuple(r.model_copy(update={"handle": str(stranger.pid)}) for r in state.replicas)}
        )
    )
    status = read_status(site.store, state, site.backend())
    assert all("does not run" in server.drift for server in status.servers)
    site.teardown()
    site.assert_clean()
    assert stranger.is_running()
    assert not list(Path("/dev/shm").glob(f"igniter-opt-{state.replicas[0].token}*"))


def test_a_backend_that_says_what_no_state_can_hold(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Backends may be others' work: what they started is stopped again, and the state stays readable."""
    start = ProcessBackend.start

    def start_with_a_number(self: ProcessBackend, job: ServerJob) -> Observation:
        seen = start(self, job)
        return replace(seen, handle=int(seen.handle))  # type: ignore[arg-type]

    monkeypatch.setattr(ProcessBackend, "start", start_with_a_number)
    with pytest.raises(InputError, match=r"replicas\[0\].handle: must be text"):
        site.deploy()
    site.assert_clean()

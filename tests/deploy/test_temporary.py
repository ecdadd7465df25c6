"""Servers that last no longer than what started them, on a stand-in server."""

import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from igniter_opt.base.errors import DeploymentError, InputError
from igniter_opt.deploy import launch
from igniter_opt.deploy.apply import Options
from igniter_opt.deploy.backends.process import ProcessBackend
from igniter_opt.deploy.state import Store
from tests.deploy import child
from tests.deploy.conftest import Site


def temporary(site: Site, **options: object):  # type: ignore[no-untyped-def]
    request, backend = site.request(**options), site.backend()
    return launch.temporary(request, site.store, backend, *launch.check(request, backend))


def _hold(folder: Path, plan: Path, base_port: int, server: Path) -> None:
    """Run temporary servers until this process is ended."""
    request = launch.Request(plan=plan, models=folder / "models", cpu=True, options=Options(base_port=base_port))
    backend, store = ProcessBackend(server), Store(folder / "state", "test")
    with launch.temporary(request, store, backend, *launch.check(request, backend)):
        while not request.options.stop.is_set():
            time.sleep(0.05)
    sys.exit(130)


def hold(site: Site) -> psutil.Process:
    """Start another process's temporary servers, and wait until all are ready."""
    started = child.start(_hold, site.folder, site.plan, site.base_port, site.server)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        state = site.store.load()
        if state is not None and len(state.replicas) == 3 and all(r.phase == "ready" for r in state.replicas):
            assert started.pid is not None
            return psutil.Process(started.pid)
        time.sleep(0.05)
    raise AssertionError("the servers did not get ready")


def test_servers_end_with_the_context(site: Site, stranger: psutil.Process) -> None:
    with temporary(site) as state:
        assert {record.phase for record in state.replicas} == {"ready"}
        assert len(site.processes()) == 6  # three servers with a child each
    site.assert_clean()
    assert not site.store.folder.exists()
    assert stranger.is_running()


def test_an_exception_ends_them_too(site: Site) -> None:
    with pytest.raises(ZeroDivisionError), temporary(site):
        raise ZeroDivisionError
    site.assert_clean()


def test_a_server_that_does_not_start_leaves_nothing(site: Site) -> None:
    site.misbehave("ssd", "exit")
    with pytest.raises(DeploymentError, match="failed to load all models"), temporary(site):
        pytest.fail("the servers are not ready")
    site.assert_clean()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_end_them(site: Site, number: signal.Signals) -> None:
    running = hold(site)
    running.send_signal(number)
    assert running.wait(60) in (None, 130)
    site.assert_clean()


def test_leftovers_of_a_killed_run_are_cleaned_first(site: Site) -> None:
    running = hold(site)
    before = {process.pid for process in site.processes()}
    running.kill()
    running.wait(20)
    assert {process.pid for process in site.processes()} == before
    with pytest.raises(InputError, match="what a killed rehearsal left; tear it down first"):
        site.deploy()
    with temporary(site):
        assert not before & {process.pid for process in site.processes()}
        assert len(site.processes()) == 6
    site.assert_clean()


def test_of_two_at_once_the_second_is_refused(site: Site) -> None:
    running = hold(site)
    before = {process.pid for process in site.processes()}
    with pytest.raises(InputError, match=f"another launcher \\(process {running.pid} since"), temporary(site):
        pytest.fail("two at once")
    assert {process.pid for process in site.processes()} == before
    running.terminate()
    running.wait(60)
    site.assert_clean()


def test_a_lasting_deployment_of_that_name_is_not_touched(site: Site) -> None:
    site.deploy()
    before = {process.pid for process in site.processes()}
    with pytest.raises(InputError, match="which a rehearsal must not touch"), temporary(site):
        pytest.fail("it was taken over")
    assert {process.pid for process in site.processes()} == before
    assert site.deploy().nothing

"""Deployments on a stand-in server, and checks that nothing of ours is left and nothing of others is touched."""

import contextlib
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psutil
import pytest

import igniter_opt as ig
from igniter_opt.data.plan import Plan
from igniter_opt.deploy import launch
from igniter_opt.deploy.apply import Options
from igniter_opt.deploy.approval import approval_path, make_approval, write_approval
from igniter_opt.deploy.backends.base import OWNER, TOKEN, shared_memory
from igniter_opt.deploy.backends.process import ProcessBackend
from igniter_opt.deploy.backends.processes import environment_of, reap
from igniter_opt.deploy.state import Store
from tests.deploy.models import write_models

FAKE = Path(__file__).with_name("fake_tritonserver.py")


def write_server(folder: Path) -> Path:
    """Write an executable stand-in server."""
    path = folder / "tritonserver"
    path.write_text(f"#!{sys.executable}\n{FAKE.read_text()}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def approved(plan: Plan, path: Path) -> Path:
    """Write a plan with its approval."""
    ig.write_plan(plan, path)
    write_approval(make_approval(plan), approval_path(path))
    return path


def solve(instance: ig.Instance) -> Plan:
    return ig.solve(instance, "igniter").plan


@pytest.fixture(scope="session")
def plan() -> Plan:
    return solve(ig.read_instance("igniter-three"))


class Site:
    """A machine to deploy on: folders, a stand-in server, an approved plan."""

    def __init__(self, folder: Path, plan: Plan, base_port: int) -> None:
        self.folder = folder
        self.models = write_models(folder / "models")
        self.server = write_server(folder)
        self.plan = approved(plan, folder / "plan.json")
        self.store = Store(folder / "state", "test")
        self.base_port = base_port

    def backend(self) -> ProcessBackend:
        return ProcessBackend(self.server)

    def request(self, plan: Path | None = None, file_sd: Path | None = None, **options: object) -> launch.Request:
        return launch.Request(
            plan=plan or self.plan,
            models=self.models,
            cpu=True,
            file_sd=file_sd,
            options=Options(base_port=self.base_port, **options),  # type: ignore[arg-type]
        )

    def deploy(self, plan: Path | None = None, file_sd: Path | None = None, **options: object) -> launch.Prepared:
        return launch.deploy(self.request(plan, file_sd, **options), self.store, self.backend())

    def teardown(self) -> int:
        return launch.teardown(self.store, self.backend(), Options())

    def misbehave(self, model: str, how: str) -> None:
        path = self.models / model / "1" / "behaviour"
        path.unlink(missing_ok=True)  # a running server may share the file
        path.write_text(how)

    def processes(self) -> list[psutil.Process]:
        """All processes of this deployment, found without the code under test."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(OWNER) == self.store.owner:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def assert_clean(self) -> None:
        """Nothing of this deployment is left."""
        assert self.processes() == []
        assert not self.store.file.exists()
        assert not list(self.store.folder.glob("servers/*"))

    def kill(self, token: str | None = None) -> None:
        """Kill the processes with a token, or all, and wait until none of them runs: a signal takes its time."""
        end = time.monotonic() + 20
        while found := [
            process for process in self.processes() if token is None or environment_of(process).get(TOKEN) == token
        ]:
            assert time.monotonic() < end, f"{found} were killed and run"
            for process in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(0.01)
        reap()  # other tests look at the children of this process


# Other runs of these tests on the same machine begin elsewhere; tests/integration has 23000 and up.
PORTS = (10000 + 60 * (number % 200) for number in count(61 * os.getpid()))


@pytest.fixture
def site(tmp_path: Path, plan: Plan) -> Iterator[Site]:
    made = Site(tmp_path, plan, next(PORTS))
    yield made
    tokens = {process.environ()[TOKEN] for process in made.processes()}
    made.kill()
    for path in shared_memory(list(tokens)):
        path.unlink(missing_ok=True)


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[psutil.Process]:
    """A process of somebody else that looks much like ours: labelled, but by another owner."""
    environment = {**os.environ, OWNER: "0" * 16, "IGNITER_OPT_TOKEN": "1" * 16}
    child = subprocess.Popen(["sleep", "600"], env=environment, cwd=tmp_path)
    time.sleep(0.05)
    process = psutil.Process(child.pid)
    yield process
    assert child.poll() is None, "a foreign process was stopped"
    child.kill()
    child.wait()

"""A launcher in a process of its own, which is killed or interrupted at a given step."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from igniter_opt.base.errors import DeploymentError, DeploymentInterruptedError, InputError
from igniter_opt.deploy import launch
from igniter_opt.deploy.apply import Options
from igniter_opt.deploy.backends.process import ProcessBackend
from igniter_opt.deploy.state import Store
from tests.deploy.conftest import Site

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])


class Fault:
    """A hook that counts steps and sends this process a signal at one of them."""

    def __init__(self, step: int | None, number: signal.Signals = signal.SIGKILL) -> None:
        self.step = step
        self.number = number
        self.steps: list[str] = []

    def __call__(self, name: str) -> None:
        if len(self.steps) == self.step:
            os.kill(os.getpid(), self.number)
        self.steps.append(name)


def _deploy(folder: Path, plan: Path, base_port: int, server: Path, step: int | None, number: signal.Signals) -> None:
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    request = launch.Request(
        plan=plan,
        models=folder / "models",
        cpu=True,
        options=Options(base_port=base_port, hook=Fault(step, number)),
    )
    try:
        launch.deploy(request, Store(folder / "state", "test"), ProcessBackend(server))
    except DeploymentInterruptedError:
        sys.exit(130)
    except DeploymentError:
        sys.exit(1)
    except InputError:
        sys.exit(2)


def _teardown(folder: Path, step: int) -> None:
    options = Options(hook=Fault(step))
    launch.teardown(Store(folder / "state", "test"), ProcessBackend(), options)


def start(function: Callable[..., None], *arguments: object) -> multiprocessing.process.BaseProcess:
    """Start a launcher process."""
    child = CONTEXT.Process(target=function, args=arguments)
    child.start()
    return child


def deploy(
    site: Site, plan: Path | None = None, step: int | None = None, number: signal.Signals = signal.SIGKILL
) -> int | None:
    """Deploy in a child that gets a signal at a step; return its exit code (negative: the signal)."""
    child = start_deploy(site, plan, step, number)
    child.join(60)
    return child.exitcode


def start_deploy(
    site: Site, plan: Path | None = None, step: int | None = None, number: signal.Signals = signal.SIGKILL
) -> multiprocessing.process.BaseProcess:
    """Start deploying in a child."""
    return start(_deploy, site.folder, plan or site.plan, site.base_port, site.server, step, number)


def teardown(site: Site, step: int) -> int | None:
    """Tear down in a child that is killed at a step; return its exit code."""
    child = start(_teardown, site.folder, step)
    child.join(60)
    return child.exitcode

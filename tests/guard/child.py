"""A guard's change in a process of its own, which is killed at a given step."""

import os
from pathlib import Path

from igniter_opt.data.plan import read_plan
from igniter_opt.deploy.apply import Options
from igniter_opt.deploy.approval import plan_digest
from igniter_opt.deploy.backends.process import ProcessBackend
from igniter_opt.deploy.state import Store
from igniter_opt.guard.change import PlacementChange, Site, perform
from tests.deploy import child
from tests.deploy.conftest import Site as Place

MORE = PlacementChange(("A", 1), "V100-1", 30.0, "test")
BACK = PlacementChange(("A", 1), "V100-1", 20.0, "test")


def site_of(place: Place, **options: object) -> Site:
    """What is guarded on the stand-in site."""
    return _site(place.folder, place.base_port, place.server, **options)


def _site(folder: Path, base_port: int, server: Path, **options: object) -> Site:
    plan = read_plan(folder / "plan.json")
    return Site(
        Store(folder / "state", "test"),
        ProcessBackend(server),
        plan,
        plan_digest(plan),
        Options(base_port=base_port, ready_timeout_s=20.0, **options),  # type: ignore[arg-type]
        drain_s=5.0,
        quiet_s=0.2,
    )


def _perform(folder: Path, base_port: int, server: Path, step: int) -> None:
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    perform(_site(folder, base_port, server, hook=child.Fault(step)), MORE, lambda _: None)


def change_killed_at(place: Place, step: int) -> int | None:
    """Give A more in a child that is killed at a step; return its exit code."""
    process = child.start(_perform, place.folder, place.base_port, place.server, step)
    process.join(60)
    return process.exitcode

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Before NumPy is loaded, here and in the programs that tests start: the threads of its OpenBLAS wait by spinning, which
# makes fits ten times slower where more processes run than there are processors.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from igniter_opt import Profile, read_profile
from igniter_opt.base import stop
from igniter_opt.fitting import kept
from igniter_opt.slo import kept_limits

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

_KEPT, _FOLDER = "igniter_opt_kept", pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Fits and limits of earlier runs are not what is tested; those of this run are made once for all its processes."""
    given = getattr(config, "workerinput", {}).get(_KEPT)
    if given is None:
        folder = tempfile.TemporaryDirectory()
        config.add_cleanup(folder.cleanup)
        given = folder.name
    config.stash[_FOLDER] = given
    kept.cache_folders = kept_limits.cache_folders = lambda: [Path(given)]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process of pytest-xdist where they are."""
    node.workerinput[_KEPT] = node.config.stash[_FOLDER]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="run the whole of every sampled test")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--run-slow"):
        return
    slow = [item for item in items if "slow" in item.keywords]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if "slow" not in item.keywords]


@pytest.fixture(autouse=True)
def interrupts_as_before() -> Iterator[None]:
    """Commands that run in this process end by ignoring Ctrl-C, which every program started later would inherit."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def v100() -> Profile:
    return read_profile("v100")


@pytest.fixture(autouse=True)
def nobody_pressed_ctrl_c_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two tests that press Ctrl-C, the second one's is not a second one."""
    monkeypatch.setattr(stop._Last, "again_until", 0.0)

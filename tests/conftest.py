import os

import pytest

# Before NumPy is loaded, here and in the programs that tests start: the threads of its OpenBLAS wait by spinning, which
# makes fits ten times slower where more processes run than there are processors.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from igniter_opt import Profile, read_profile


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="run the whole of every sampled test")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--run-slow"):
        return
    slow = [item for item in items if "slow" in item.keywords]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if "slow" not in item.keywords]


@pytest.fixture(scope="session")
def v100() -> Profile:
    return read_profile("v100")

"""One service for the tests that need no other."""

from collections.abc import Iterator

import pytest

from tests.serve.service import Service, service


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with the usual limits, and two jobs at once."""
    with service(tmp_path_factory.mktemp("shared") / "state", "--workers", "2") as running:
        yield running

"""What tests of the observed world share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.observe.fake import Fake, serving


@pytest.fixture
def fake() -> Iterator[Fake]:
    with serving() as found:
        yield found


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path

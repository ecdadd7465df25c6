"""How servers are ended, and what they leave behind."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from igniter_opt.deploy.backends import processes
from igniter_opt.deploy.backends.base import OWNER, TOKEN

OWN, SERVER = "a" * 16, "b" * 16
# A server whose child will not end: asked to, it ends after a second and says so.
PROGRAM = """
sh -c "trap '' TERM; touch child; while :; do sleep 0.1; done" &
trap 'sleep 1; touch ended; exit' TERM
touch server
while :; do sleep 0.1; done
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    monkeypatch.setattr(processes, "GRACE_S", 60.0)
    environment = {**os.environ, OWNER: OWN, TOKEN: SERVER}
    started = subprocess.Popen(["sh", "-c", PROGRAM], cwd=tmp_path, env=environment, start_new_session=True)
    while not ((tmp_path / "child").exists() and (tmp_path / "server").exists()):
        time.sleep(0.01)
    processes.adopt(started)
    yield started
    for process in processes.labelled(OWN).get(SERVER, []):
        process.kill()


def test_what_a_killed_server_left_is_not_waited_for(server: subprocess.Popen[bytes]) -> None:
    server.kill()
    server.wait()
    assert processes.labelled(OWN)
    before = time.monotonic()
    processes.stop(OWN, [SERVER], orphan_grace_s=0.5)
    assert time.monotonic() - before < 0.5 * processes.GRACE_S
    assert not processes.labelled(OWN)


def test_a_server_has_its_time_although_its_children_have_less(server: subprocess.Popen[bytes], tmp_path: Path) -> None:
    processes.stop(OWN, [SERVER], orphan_grace_s=0.1)
    assert server.returncode == 0
    assert (tmp_path / "ended").exists()
    assert not processes.labelled(OWN)

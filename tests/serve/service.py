"""A service in a process of its own, and its clients."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

# Takes minutes, and stops within a second or two of being asked to.
LONG = {"requests": 1_000_000, "seeds": 1000}
PATIENCE_S = 60.0


class Service:
    """`igniter-opt serve` on a free port of this machine, or on the port that its environment says (None)."""

    def __init__(self, state: Path, *options: str, port: int | None = 0) -> None:
        words = [sys.executable, "-m", "igniter_opt", "serve", "--state", str(state), *options]
        words += [] if port is None else ["--port", str(port)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.url = line.removeprefix("serving on ").strip()
        if not line.startswith("serving on "):
            raise AssertionError(self.end()[1])
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE_S)

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal and wait for the end; return exit code and what was said."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        said = self.process.communicate(timeout=PATIENCE_S)[1]
        return self.process.returncode, said

    def post(self, kind: str, body: dict[str, Any], wait: float = 0) -> httpx.Response:
        """Make a job."""
        return self.client.post(f"/v1/{kind}", json=body, params={"wait": wait})

    def job(self, identifier: str) -> Any:
        """Return a job as it is shown."""
        return self.client.get(f"/v1/jobs/{identifier}").json()

    def until(self, identifier: str, *states: str) -> Any:
        """Wait until a job is in one of these states."""
        until = time.monotonic() + PATIENCE_S
        while (job := self.job(identifier))["state"] not in states:
            assert time.monotonic() < until, job
            time.sleep(0.05)
        return job

    def workers(self) -> list[int]:
        """Return the processes of jobs: the children of the one that they are forked from."""
        return [child for parent in _children(self.process.pid) for child in _children(parent)]

    def worker(self) -> int:
        """Return the process of the only job, once there is one."""
        until = time.monotonic() + PATIENCE_S
        while len(found := self.workers()) != 1:
            assert time.monotonic() < until, found
            time.sleep(0.02)
        return found[0]


@contextmanager
def service(state: Path, *options: str, port: int | None = 0) -> Iterator[Service]:
    """Run a service."""
    running = Service(state, *options, port=port)
    try:
        yield running
    finally:
        running.client.close()
        running.end()


def _children(parent: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        found += [int(word) for word in task.read_text().split()]
    return found


def is_there(process: int) -> bool:
    """Whether a process runs, and is no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def private(path: Path, text: str) -> Path:
    """Write a file for this user alone."""
    path.write_text(text)
    os.chmod(path, 0o600)  # noqa: PTH101
    return path

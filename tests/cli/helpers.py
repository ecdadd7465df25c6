"""Running the command line in tests: in this process where that is the same, as the installed script where not."""

import copy
import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from igniter_opt.cli.main import app

SCRIPT = Path(sys.executable).parent / "igniter-opt"

INSTANCE: dict[str, Any] = {
    "name": "test",
    "slo_rule": "half",
    "gpu_types": [{"name": "V100", "profile": "v100", "price_per_hour": 3.06}],
    "workloads": [
        {"name": "A", "model": "alexnet", "slo_ms": 15, "rate_rps": 500},
        {"name": "B", "model": "resnet50", "slo_ms": 40, "rate_rps": 100},
    ],
}


class Run:
    """What a command did: exit code, stdout, stderr."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def json(self) -> Any:
        return json.loads(self.out)


def invoke(*arguments: str | Path) -> Run:
    """Run a command in this process; an exception other than an exit fails the test."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Run(result.exit_code, result.stdout, result.stderr)


def script(*arguments: str | Path) -> Run:
    """Run the installed script with stdout and stderr piped."""
    done = subprocess.run(
        [SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return Run(done.returncode, done.stdout, done.stderr)


class Running:
    """The installed script at work, with stdout and stderr in files."""

    def __init__(self, *arguments: str | Path) -> None:
        self._out, self._err = (tempfile.TemporaryFile("w+") for _ in range(2))  # noqa: SIM115
        self.process = subprocess.Popen(
            [SCRIPT, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._err
        )

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float) -> Run:
        """Wait for its end; what takes longer is killed, and the test fails."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            texts = []
            for file in (self._out, self._err):
                file.seek(0)
                texts.append(file.read())
                file.close()
        return Run(code, *texts)


def files() -> dict[str, bytes]:
    """Return the files below the current folder with their content."""
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def assert_rejected(run: Run, before: dict[str, bytes], *fragments: str) -> None:
    """Check exit code 2, one message with all fragments on stderr, nothing on stdout, no file touched."""
    assert run.code == 2, run.err
    assert run.out == ""
    assert run.err.lower().count("error: ") == 1
    assert "Traceback" not in run.err
    assert run.err.startswith(("error: ", "Usage: "))
    for fragment in fragments:
        assert fragment in run.err
    assert files() == before


def rejected(*arguments: str | Path, says: tuple[str, ...] = ()) -> str:
    """Run a command that must be rejected; return its message."""
    before = files()
    run = invoke(*arguments)
    assert_rejected(run, before, *says)
    return run.err


def with_value(value: object, *path: str | int, data: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a copy of the data (by default `INSTANCE`) with one value changed or added."""
    changed = copy.deepcopy(INSTANCE if data is None else data)
    target: Any = changed
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return changed


def write_instance(data: dict[str, Any], name: str = "instance.yaml") -> Path:
    """Write an instance file into the current folder."""
    path = Path(name)
    path.write_text(yaml.safe_dump(data, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path

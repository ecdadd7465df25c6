"""Files of changed structure: every one ends in exit code 0, 1 or 2 and one message, in bounded time and memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 20


def run(*arguments: object, limit_s: float) -> list[dict[str, object]]:
    """Run cases in a process of their own; return them, and at the end how many there were."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(seed: int, seconds: float) -> list[dict[str, object]]:
    *found, total = run("--all", "--seed", seed, "--seconds", seconds, limit_s=seconds + 300)
    wrong = [case for case in found if case["problem"] is not None]
    assert not wrong, f"{len(wrong)} of {len(found)} (again: python -m tests.fuzz --seed {seed} --case N): {wrong[:3]}"
    assert total == {"seed": seed, "cases": len(found), "problems": 0}
    return found


def test_files_of_changed_structure() -> None:
    found = check(1, SECONDS)
    # That it reached all that it means to reach: every kind of file several times, refused and not.
    kinds = {case["file"] for case in found}
    assert len(kinds) >= 17 and len(found) >= 3 * len(kinds)
    assert {case["code"] for case in found} == {0, 1, 2}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 8))
def test_more_files(seed: int) -> None:
    check(seed, 120)

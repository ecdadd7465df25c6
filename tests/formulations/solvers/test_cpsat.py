import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(importlib.util.find_spec("ortools") is None, reason="needs the extra 'solvers'")
def test_cpsat_equals_brute_force() -> None:
    alone = Path(__file__).with_name("alone_cpsat.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(alone)],
        capture_output=True,
        text=True,
        check=False,
        cwd=alone.parents[3],
    )
    assert done.returncode == 0, done.stdout + done.stderr

"""Requests of all kinds to the service, made up from its own description, and none of them breaks it."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serve.service import service

# Of each operation.
MOST_EXAMPLES = 15
# Of all, so that there is something that could have failed.
FEWEST = 50


def test_nothing_that_the_description_allows_breaks_the_service(tmp_path: Path) -> None:
    if importlib.util.find_spec("schemathesis") is None:
        if os.environ.get("IGNITER_OPT_REQUIRE_INTEGRATION"):
            pytest.fail("schemathesis is not installed")
        pytest.skip("schemathesis is not installed (extra serve-test)")
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    assert program is not None
    options = ["--job-seconds", "2", "--stop-seconds", "1", "--queue", "1000", "--workers", "1"]
    with service(tmp_path / "state", *options) as running:
        command = [program, "run", f"{running.url}/openapi.json", "--phases", "coverage,fuzzing", "--seed", "1"]
        command += ["--checks", "not_a_server_error,content_type_conformance,status_code_conformance"]
        command += ["--max-examples", str(MOST_EXAMPLES), "--request-timeout", "20", "--max-time", "30"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
        assert "Unresolvable" not in done.stdout
        made = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
        assert made is not None
        assert int(made[1]) >= FEWEST
        assert running.client.get("/healthz").status_code == 200
        assert running.process.poll() is None

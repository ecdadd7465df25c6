"""The page on the service: its lines do what it says, as typed, against a service that runs."""

import json
import shutil
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks, run
from tests.serve.service import service

PAGE = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_the_pages_requests_are_answered_as_shown(tmp_path: Path) -> None:
    found = blocks(PAGE)
    lines = [block.text for block in found if block.language == "bash"]
    (shown,) = (block.text for block in found if block.language == "text")
    assert len(lines) == 6
    with service(tmp_path / "state", "--workers", "1", "--stop-seconds", "20") as running:
        # A mark between the blocks' outputs.
        script = "printf '\\n=====\\n'\n".join(lines).replace("http://127.0.0.1:8470", running.url)
        done = run(script, tmp_path)
    assert done.returncode == 0, done.stdout
    _, predicted, solved, cancelled, mine, refused = (part.strip() for part in done.stdout.split("====="))
    assert json.loads(predicted)["result"]["placements"][1]["model"] == "ssd"
    assert solved.count("event: end") == 1
    assert json.loads((tmp_path / "result.json").read_text())["holds"]
    assert json.loads(cancelled)["state"] == "cancelled"
    assert json.loads(mine)["result"]["status"] == "optimal"
    assert refused == shown.strip()


def test_the_page_names_every_request() -> None:
    from igniter_opt.serve.requests import BODIES

    assert all(f"| `{kind}` |" in PAGE for kind in BODIES)

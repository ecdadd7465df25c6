"""What an operator sees when servers die, files are lost or disks are full: where it is, and the promised exit code."""

from pathlib import Path

from tests.cli.helpers import script
from tests.deploy.conftest import Site
from tests.deploy.test_cli import on


def test_a_guard_that_saw_nothing_ends_without_a_verdict(site: Site, tmp_path: Path) -> None:
    assert on(site, "deploy").code == 0
    options = ["--name", "test", "--state", site.folder / "state", "--tritonserver", site.server]
    run = script("guard", site.plan, *options, "--feed", tmp_path / "fed.jsonl", "--for", "0.6")
    assert run.code == 2, run.err
    assert "fed.jsonl does not exist yet" in run.out
    assert "ended: no verdict: no request was seen of any placement" in run.out

"""The tutorial's runs on real servers, exactly as they stand there."""

from pathlib import Path

import pytest

from igniter_opt.deploy.triton.install import Installation
from tests.docs.blocks import ROOT, run, run_section, sections

pytestmark = pytest.mark.alone

TUTORIAL = ROOT / "docs" / "tutorial.md"
ATTEMPTS = 3


def rehearse(block: str, folder: Path) -> None:
    """Run a block that ends with a rehearsal; on a machine busy with other work that may take several attempts."""
    *before, rehearsal = block.strip().splitlines()
    assert rehearsal.startswith("igniter-opt rehearse plan.json")
    done = run("\n".join(before), folder)
    assert done.returncode == 0, done.stdout
    for _ in range(ATTEMPTS):
        done = run(rehearsal, folder)
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stdout
    assert "within the SLO for 3 of 3 workloads; the simulation says otherwise of none" in done.stdout


def test_the_tutorials_rehearsal_and_deployment(tmp_path: Path, triton: Installation) -> None:
    found = sections(TUTORIAL)
    run_section(found["Describe the workloads"], tmp_path)
    run_section(found["Random traffic"][2:3], tmp_path)
    rehearse(found["Rehearse it"][0].text, tmp_path)
    printed = run_section(found["Deploy it"], tmp_path)
    assert printed.count("inference checked") == 3
    assert '"data":[2.0,4.0,6.0]' in printed
    assert "nothing to change" in printed
    assert "nothing of it runs any more" in printed
    assert not list((tmp_path / "state").rglob("state.json"))

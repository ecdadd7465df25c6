"""The example of recorded requests, exactly as it stands there."""

from pathlib import Path

from igniter_opt import read_plan, verify
from tests.docs.blocks import ROOT, run_section, sections


def test_a_plan_is_made_of_what_was_recorded(tmp_path: Path) -> None:
    found = sections(ROOT / "docs" / "traffic.md")["Start from what was recorded"]
    assert [block.language for block in found] == ["bash", "text"]
    run_section(found, tmp_path)
    assert verify(read_plan(tmp_path / "plan.json")).ok

"""The tutorial, exactly as it stands there; what needs a Triton server is in `tests/integration/test_tutorial.py`."""

from pathlib import Path

from tests.docs.blocks import ROOT, run_section, sections

TUTORIAL = ROOT / "docs" / "tutorial.md"
NEED_TRITON = ("Rehearse it", "Deploy it")


def test_the_tutorial_runs_as_typed_and_prints_what_it_shows(tmp_path: Path) -> None:
    found = sections(TUTORIAL)
    assert list(found) == [
        "Install",
        "Describe the workloads",
        "The cheapest plan",
        "Random traffic",
        "The report",
        *NEED_TRITON,
    ]
    for heading, blocks in found.items():
        if heading not in NEED_TRITON:
            run_section(blocks, tmp_path)
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The plan holds" in report
    assert "https:" not in report

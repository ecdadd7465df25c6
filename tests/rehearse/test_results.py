"""A rehearsal's verdict: less the overhead, and none where the machine is to blame."""

import json
from pathlib import Path
from typing import Any

import pytest

from igniter_opt.cli.tables.measure import print_rehearsal
from igniter_opt.measure.results import LoadStatistics, Measurement, statistics
from igniter_opt.rehearse.results import Rehearsal, Rehearsed, judged, write_rehearsal
from igniter_opt.report.measured import read_measurements
from tests.measure.test_results import HEAD, records


def rehearsal(excess: float = 0.0, sent_late_ms: float = 0.0, holds: bool = True, pace: float = 1.0) -> Rehearsal:
    entry: LoadStatistics = statistics(HEAD, records([9.0, 10.5, 10.5]), (0.0, 3e7))
    entry = entry.model_copy(update={"sent_late_ms": sent_late_ms})
    measurement = Measurement(source="plan.json", started_at="now", duration_s=0.03, workloads=(entry,))
    row = Rehearsed(
        workload="W",
        slo_ms=10.0,
        percentile=0.9,
        overhead_ms=1.0,
        rehearsed_mean_ms=10.0,
        simulated_mean_ms=9.0,
        rehearsed_ms=10.5,
        simulated_ms=9.0,
        difference=0.0,
        holds=holds,
        simulated_holds=True,
        excess=excess,
    )
    verdict = judged(measurement, [row], pace)
    return Rehearsal(instance="x", pace=pace, verdict=verdict, workloads=(row,), measurement=measurement)


def test_the_overhead_is_left_out() -> None:
    verdict = rehearsal(pace=0.5).verdict
    assert verdict.outcome == "holds"
    assert verdict.text.startswith(
        "with time slowed to 0.5: P90 less the overhead is within the SLO for 1 of 1 workload"
    )
    assert rehearsal(holds=False).verdict.over == ("W",)


def test_a_verdict_from_almost_no_requests_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = rehearsal()
    few = ", but 1 workload had fewer than 10 requests beyond it, which says little (W); a longer --duration tells more"
    assert found.verdict.few == ("W",)
    assert found.verdict.text.endswith(few)
    print_rehearsal(found)
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("W"))
    assert row.split()[-3:] == ["holds", "?", "holds"]
    # So does one in a file of an older version, once a plan's SLOs are known.
    write_rehearsal(found, tmp_path / "r.json")
    data = json.loads((tmp_path / "r.json").read_text())
    del data["verdict"]["few"]
    (tmp_path / "r.json").write_text(json.dumps(data))
    older = read_measurements(tmp_path / "r.json").judged_by({"W": 10.0})
    assert older.verdict is not None and older.verdict.few == ("W",)


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ({"excess": 0.5}, "batches of W took up to 50% longer than they were told to"),
        ({"sent_late_ms": 5.0}, "requests of W were sent up to 5.0 ms too late (of the plan's time, at the judged"),
    ],
)
def test_without_a_verdict_nothing_is_said_to_hold(
    case: dict[str, Any], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = rehearsal(**case)
    assert found.verdict.outcome == "none" and says in found.verdict.text
    print_rehearsal(found)
    out = capsys.readouterr().out
    assert "no verdict: " in out and says in out and "within the SLO" not in out
    row = next(line for line in out.splitlines() if line.startswith("W"))
    assert row.split()[-2:] == ["-", "holds"]  # what the simulation says stands

    write_rehearsal(found, tmp_path / "r.json")
    read = read_measurements(tmp_path / "r.json")
    assert (read.kind, read.verdict) == ("rehearsed", found.verdict)
    assert read.workloads[0].overhead_ms == 1.0 and read.workloads[0].p99_ms == 10.5
    # A file of an older version says it in other words.
    data = json.loads((tmp_path / "r.json").read_text())
    del data["verdict"]
    (tmp_path / "r.json").write_text(json.dumps({**data, "too_small": ["it is too small"]}))
    older = read_measurements(tmp_path / "r.json").judged_by({"W": 10.0}).verdict
    assert older is not None and older.text == "no verdict: it is too small"

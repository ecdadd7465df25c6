"""Plans from the recorded hour hold on it, at its own rate and compressed. The record is no part of the repository."""

from pathlib import Path

import numpy as np
import pytest

from bench.recorded import SLOS_MS, instance_for, judged, rows_for, written
from igniter_opt import solve

RECORD = Path(__file__).parents[3] / "shared" / "reference" / "traffic" / "azure-2023-conversation-s.csv"


@pytest.mark.skipif(not RECORD.is_file(), reason="the recorded hour is not here")
@pytest.mark.parametrize("compression", SLOS_MS)
def test_plans_hold_on_the_hour_they_were_made_from(compression: int, tmp_path: Path) -> None:
    trace = written(np.loadtxt(RECORD) / compression, tmp_path / "hour.csv")
    result = solve(instance_for(trace, SLOS_MS[compression]), "bestfit")
    assert result.verification.ok
    assert "as recorded" in str(result.verification.basis)
    found = judged(result.plan, trace)
    assert found.held == len(SLOS_MS[compression])
    assert found.late <= 0.01


def test_rows(tmp_path: Path) -> None:
    times = np.cumsum(np.random.default_rng(0).gamma(0.5, 2.0, 5000))
    rows = rows_for(times, 100, tmp_path)
    assert len(rows) == 3
    assert all(row.count("|") == rows[0].count("|") for row in rows)
    assert "2 of 2" in rows[0]

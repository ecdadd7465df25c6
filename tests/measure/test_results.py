"""Statistics against independent re-computation, and the file format."""

import json
import math
import statistics as plain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from igniter_opt.base.errors import InputError
from igniter_opt.measure.client import FAILED, OK, RECORD, TIMED_OUT
from igniter_opt.measure.results import (
    Head,
    Measurement,
    ServerSplit,
    read_measurement,
    statistics,
    write_measurement,
)

HEAD = Head(workload="W", model="m", rate_rps=100.0, slo_ms=10.0, percentile=0.9)


def records(latencies_ms: list[float | None], gap_ms: float = 10.0) -> np.ndarray:
    """One request every `gap_ms`; None fails."""
    rows = []
    for k, latency in enumerate(latencies_ms):
        due = int(k * gap_ms * 1e6)
        done = due + int((latency or 0.0) * 1e6)
        rows.append((0, k, due, due + 1000, done, FAILED if latency is None else OK))
    return np.array(rows, dtype=RECORD)


@given(st.lists(st.one_of(st.none(), st.integers(1, 40).map(float)), min_size=1, max_size=200), st.integers(0, 50))
def test_statistics_equal_a_plain_recomputation(latencies: list[float | None], first: int) -> None:
    gap, end = 10.0, 10.0 * len(latencies)
    begin = min(first, len(latencies) - 1) * gap
    found = statistics(HEAD, records(latencies), (begin * 1e6, end * 1e6))
    counted = latencies[int(begin / gap) :]
    good = [value for value in counted if value is not None]
    ordered = sorted(math.inf if value is None else value for value in counted)
    assert (found.requests, found.answered, found.failed) == (len(counted), len(good), len(counted) - len(good))
    assert found.failures == ({"failed": len(counted) - len(good)} if len(good) < len(counted) else {})
    if good:
        assert found.mean_ms == pytest.approx(plain.fmean(good))
        assert found.max_ms == max(good)
    for name, at in (("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99), ("percentile_ms", 0.9)):
        rank = next(k for k in range(1, len(ordered) + 1) if k >= at * len(ordered) - 1e-9)
        expected = ordered[rank - 1]
        assert getattr(found, name) == (None if math.isinf(expected) else expected)
    late = sum(1 for value in ordered if value > 10.0)
    assert found.late_fraction == pytest.approx(late / len(counted))
    assert found.holds == (found.percentile_ms is not None and found.percentile_ms <= 10.0)
    assert found.offered_rps == pytest.approx(1000.0 / gap)
    inside = [k for k, value in enumerate(latencies) if value is not None and begin <= k * gap + value < end]
    assert found.throughput_rps == pytest.approx(len(inside) / ((end - begin) / 1000.0))
    assert found.sent_late_ms == pytest.approx(0.001)


def test_no_plan_no_verdict() -> None:
    found = statistics(HEAD.model_copy(update={"slo_ms": None}), records([5.0] * 30), (0.0, 3e8))
    assert (found.holds, found.late_fraction, found.certain) == (None, None, False)


def test_nothing_was_sent() -> None:
    found = statistics(HEAD, records([]), (0.0, 0.0))
    assert (found.requests, found.p99_ms, found.holds, found.offered_rps) == (0, None, None, 0.0)


def test_an_interval_that_reaches_across_the_limit_is_not_certain() -> None:
    certain = statistics(HEAD, records([5.0] * 1000), (0.0, 1e10))
    assert certain.holds and certain.certain
    # A tenth is late, all in one stretch: by chance, it may well be more.
    unsure = statistics(HEAD, records([20.0] * 90 + [5.0] * 910), (0.0, 1e10))
    assert unsure.holds and not unsure.certain
    assert unsure.late_fraction_low is not None and unsure.late_fraction_high is not None
    assert unsure.late_fraction_low < 0.1 < unsure.late_fraction_high


def test_a_growing_queue_is_told_from_a_stable_one() -> None:
    overloaded = statistics(HEAD, records([k * 5.0 for k in range(1000)]), (0.0, 1e10))
    assert overloaded.growing
    assert not statistics(HEAD, records([900.0] * 1000), (0.0, 1e10)).growing


def test_late_sending_is_blamed_on_the_generator() -> None:
    rows = records([5.0] * 100)
    assert not statistics(HEAD, rows, (0.0, 1e9)).sent_too_late
    rows["sent"] = rows["due"] + 2_000_000
    assert statistics(HEAD, rows, (0.0, 1e9)).sent_too_late


SPLIT = ServerSplit(
    requests=2, executions=1, mean_batch=2.0, queue_ms=1.0, input_ms=0.0, compute_ms=4.0, output_ms=0.0,
    batches={"2": 1}, batch_ms={"2": 4.0},
)  # fmt: skip


def measurement() -> Measurement:
    part = statistics(HEAD.model_copy(update={"replica": 1}), records([5.0, None, 7.0]), (0.0, 3e7), SPLIT)
    whole = statistics(HEAD, records([5.0, None, 7.0]), (0.0, 3e7), SPLIT, (part, part))
    return Measurement(source="x", started_at="now", duration_s=0.03, workloads=(whole,))


def test_files_round_trip(tmp_path: Path) -> None:
    write_measurement(measurement(), tmp_path / "m.json")
    assert read_measurement(tmp_path / "m.json") == measurement()
    assert json.loads((tmp_path / "m.json").read_text())["schema"] == "igniter-opt/measurement@1"
    write_measurement(measurement(), tmp_path / "m.csv")
    frame = pd.read_csv(tmp_path / "m.csv")
    assert list(frame["replica"].fillna(0)) == [0, 1, 1]
    assert list(frame["server_compute_ms"]) == [4.0] * 3
    assert list(frame["failed"]) == [1] * 3


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"schema": "igniter-opt/plan@1"}')
    with pytest.raises(InputError, match="not a measurement"):
        read_measurement(tmp_path / "m.json")


def test_time_outs_are_named() -> None:
    rows = records([None, 5.0])
    rows["outcome"][0] = TIMED_OUT
    assert statistics(HEAD, rows, (0.0, 1e9)).failures == {"timed out": 1}

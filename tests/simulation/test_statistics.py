"""Estimates, intervals and percentiles against independent computations."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from igniter_opt.simulation.statistics import METRICS, Served, Tally, estimate, percentile


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.sampled_from([0.01, 0.07, 0.5, 0.9, 0.95, 0.99, 1.0]))
@settings(deadline=None)
def test_percentile_is_the_least_latency_with_enough_below(values: list[int], probability: float) -> None:
    found = percentile(np.sort(np.array(values, dtype=float)), probability)
    enough = [v for v in values if sum(other <= v for other in values) >= probability * len(values) - 1e-9]
    assert found == min(enough)


def test_percentile_at_exact_ranks() -> None:
    for size in (100, 1000, 10_000):
        for per_cent in range(1, 101):
            assert percentile(np.arange(1.0, size + 1), per_cent / 100) == per_cent * size / 100


def test_interval_is_student_t() -> None:
    values = [3.0, 5.0, 4.5, 7.25]
    found = estimate(values)
    expected = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(values), *expected))


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(4000):
        _, low, high = estimate((10.0 + rng.standard_normal(10)).tolist())
        assert low is not None
        assert high is not None
        covered += low <= 10.0 <= high
    assert covered / 4000 == pytest.approx(0.95, abs=0.015)


def test_estimates_without_an_interval() -> None:
    assert estimate([4.0]) == (4.0, None, None)
    assert estimate([math.inf, 2.0]) == (math.inf, None, None)
    assert estimate([4.0, math.nan]) == (4.0, None, None)
    assert math.isnan(estimate([math.nan]).value)
    assert estimate([0.0, 0.0, 1.0]).low == 0.0


def test_a_run_without_requests_counts_for_nothing() -> None:
    tally = Tally(limit_ns=5e6, judged=0.99, batch=2)
    tally.add(Served(np.array([7e6, 1e6, 2e6, 5e6]), np.array([2, 1]), 1e9, 2e8, 4e8, 3, 4))
    tally.add(Served(np.empty(0), np.array([0, 0]), 1e9, 0.0, 0.0, 0, 0))
    found = {name: value.value for name, value in tally.estimates().items()}
    assert list(found) == list(METRICS)
    assert found["percentile_ms"] == found["p99_ms"] == found["p999_ms"] == 7.0
    assert (found["p50_ms"], found["mean_ms"], found["violation_ratio"]) == (2.0, 3.75, 0.25)
    assert (found["utilisation"], found["mean_queue"]) == (0.1, 0.2)
    assert (found["offered_rps"], found["throughput_rps"], found["mean_batch"]) == (1.5, 2.0, 4 / 3)
    assert (tally.requests, tally.max_queue, tally.histogram()) == (4, 3, {1: 2, 2: 1})
    assert tally.curve_ms()[-1] == 7.0

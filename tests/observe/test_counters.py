"""Requests and rates from counters: restarts, gaps, servers that come and go; each case by hand."""

import numpy as np
import pytest

from igniter_opt.base.arrays import FloatArray
from igniter_opt.observe.client import Series
from igniter_opt.observe.counters import Counter, counter, in_steps, step_edges

SCRAPES = np.arange(0.0, 601.0, 10.0)


def of(times: FloatArray, values: FloatArray) -> Counter:
    found = counter(Series({}, np.asarray(times, dtype=float), np.asarray(values, dtype=float)))
    assert found is not None
    return found


def steady(rate: float, start: float = 0.0, end: float = 600.0, first: float = 100.0) -> Counter:
    times = SCRAPES[(start <= SCRAPES) & (end >= SCRAPES)]
    return of(times, first + rate * (times - start))


EDGES = np.arange(0.0, 601.0, 60.0)


def test_a_steady_counter_has_its_rate_in_every_step() -> None:
    steps = in_steps([steady(2.5)], EDGES)
    assert steps.whole.all()
    assert steps.rates_rps == pytest.approx(2.5)
    assert steps.requests.sum() == pytest.approx(1500.0)  # what it said at first came before


def test_servers_are_summed_at_their_own_times() -> None:
    shifted = of(SCRAPES[:-1] + 3.7, 5.0 + 4.0 * SCRAPES[:-1])
    steps = in_steps([steady(2.5), shifted], EDGES)
    assert steps.whole.all()
    assert steps.rates_rps[1:-1] == pytest.approx(6.5)


def test_a_restart_loses_nothing_but_what_came_between_the_last_scrape_and_it() -> None:
    """300 requests to 300 s, then from 0 again."""
    values = np.where(SCRAPES <= 300, SCRAPES, SCRAPES - 300.0)
    found = of(SCRAPES, 1000.0 * (SCRAPES <= 300) + values)
    assert found.restart.sum() == 1 and found.restart[30]
    assert found.total[-1] == pytest.approx(600.0)
    assert in_steps([found], EDGES).rates_rps == pytest.approx(1.0)


def test_a_gap_is_neither_requests_nor_time() -> None:
    """Nothing is scraped from 100 to 200 s; the counter went on."""
    there = (SCRAPES <= 100) | (SCRAPES >= 200)
    found = of(SCRAPES[there], 2.0 * SCRAPES[there])
    steps = in_steps([found], EDGES)
    assert steps.whole.tolist() == [True, False, False, False] + [True] * 6
    assert np.isnan(steps.rates_rps[1:4]).all()
    assert steps.rates_rps[steps.whole] == pytest.approx(2.0)
    # Of a sum no part may be missing.
    both = in_steps([found, steady(5.0)], EDGES)
    assert both.whole.tolist() == steps.whole.tolist()
    assert both.rates_rps[both.whole] == pytest.approx(7.0)


def test_scrapes_that_are_missing_now_and_then_are_no_gap() -> None:
    there = np.arange(len(SCRAPES)) % 7 != 3
    found = of(SCRAPES[there], 3.0 * SCRAPES[there])
    assert not found.gap.any()
    assert in_steps([found], EDGES).rates_rps == pytest.approx(3.0)


def test_a_server_that_takes_the_place_of_another() -> None:
    """The first is seen to 290 s, the second from 300 s on, on another port."""
    steps = in_steps([steady(4.0, 0.0, 290.0), steady(4.0, 300.0, 600.0, first=0.0)], EDGES[::2])
    assert steps.whole.all()
    assert steps.rates_rps == pytest.approx(4.0)


def test_before_and_after_all_servers_nothing_is_known() -> None:
    steps = in_steps([steady(4.0, 130.0, 400.0)], EDGES)
    assert steps.whole.tolist() == [False, False, False, True, True, True, False, False, False, False]


def test_a_replica_that_comes_later_adds_to_the_rate() -> None:
    steps = in_steps([steady(4.0), steady(3.0, 300.0, 600.0)], EDGES)
    assert steps.rates_rps == pytest.approx([4.0] * 5 + [7.0] * 5)


def test_samples_that_are_no_counts_are_left_out() -> None:
    values = 2.0 * SCRAPES
    values[[3, 17]] = np.nan, -5.0
    assert in_steps([of(SCRAPES, values)], EDGES).rates_rps == pytest.approx(2.0)
    assert counter(Series({}, np.array([1.0]), np.array([2.0]))) is None
    assert counter(Series({}, np.array([1.0, 2.0]), np.array([np.nan, 2.0]))) is None


def test_steps_begin_on_the_hour() -> None:
    assert step_edges(3500.0, 11000.0, 3600.0).tolist() == [3600.0, 7200.0, 10800.0]
    assert step_edges(3600.0, 7200.0, 3600.0).tolist() == [3600.0, 7200.0]
    assert len(step_edges(10.0, 50.0, 3600.0)) < 2

"""How bursty made-up streams are, from counters that are scraped: what is known of them is found again."""

import numpy as np
import pytest

from igniter_opt import Arrivals
from igniter_opt.base.arrays import FloatArray
from igniter_opt.observe.client import Series
from igniter_opt.observe.counters import Counter, counter
from igniter_opt.observe.dispersion import Dispersion, dispersion, gamma_burstiness
from tests.observe.fake import counted

LENGTH_S, SCRAPE_S, STEP_S = 60_000.0, 15.0, 600.0


def gamma(burstiness: float, rate: float, seed: int = 0, seconds: float = LENGTH_S) -> FloatArray:
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.gamma(1.0 / burstiness, burstiness / rate, int(1.3 * rate * seconds)))


def scraped(times: FloatArray, offset: float = 0.0) -> Counter:
    scrapes = np.arange(offset, LENGTH_S, SCRAPE_S)
    found = counter(Series({}, scrapes, counted(times, scrapes)))
    assert found is not None
    return found


def of(counters: list[Counter], rate: float) -> Dispersion:
    found = dispersion(counters, rate, STEP_S)
    assert found is not None
    return found


@pytest.mark.parametrize("rate", [0.5, 3.0, 30.0])
@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0, 10.0])
def test_the_burstiness_of_a_steady_stream_is_found(burstiness: float, rate: float) -> None:
    """Also of slow streams, whose bins are several scrapes long; within three standard errors."""
    found = of([scraped(gamma(burstiness, rate))], rate)
    assert found.mean >= 9.9
    assert found.bin_s == pytest.approx(SCRAPE_S * np.ceil(10.0 / (rate * SCRAPE_S)))
    allowance = 1.0 + 1.0 / found.mean  # higher terms of the expansion
    assert found.burstiness == pytest.approx(burstiness, abs=3.0 * found.error * allowance)
    assert not found.is_clustered


def test_the_formula_and_its_inverse() -> None:
    for c in (0.1, 1.0, 4.0, 9.0):
        for m in (10.0, 100.0):
            assert gamma_burstiness(c + (1.0 - c * c) / (6.0 * m), m) == pytest.approx(c)
    assert gamma_burstiness(100.0, 10.0) == 30.0  # beyond what the formula is of


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_servers_that_share_a_stream(burstiness: float) -> None:
    """Three servers scraped at different times: within a tenth of the distance to 1, and chance."""
    times, rate = gamma(burstiness, 30.0, 1), 30.0
    part = np.random.default_rng(2).integers(0, 3, len(times))
    found = of([scraped(times[part == k], 1.0 + 4.3 * k) for k in range(3)], rate)
    assert found.bin_s == 4 * SCRAPE_S
    assert found.index == pytest.approx(burstiness, abs=3.0 * found.error + 0.12 * abs(burstiness - 1.0))


def test_drift_is_not_counted() -> None:
    """The rate swings between a half and one and a half times its mean, once in three hours."""
    clock = np.linspace(0.0, LENGTH_S, 6001)
    swung = clock + 0.5 * 10_800 / (2 * np.pi) * (1 - np.cos(2 * np.pi * clock / 10_800))
    times = np.interp(gamma(1.0, 100.0), swung, clock)
    found = of([scraped(times)], 100.0)
    assert found.index == pytest.approx(1.0, abs=3.0 * found.error + 0.02)
    counts = np.diff(counted(times, np.arange(0.0, LENGTH_S, SCRAPE_S)))
    assert counts.var() / counts.mean() > 100.0  # what all counts together would say


def test_clusters_longer_than_a_bin_are_told() -> None:
    times = (
        Arrivals("mmpp", burst_ratio=3.0, burst_seconds=60.0).times_ns(10.0, 700_000, np.random.default_rng(3)) / 1e9
    )
    assert of([scraped(times)], 10.0).is_clustered


def test_restarts_and_gaps_do_not_look_like_bursts() -> None:
    whole = scraped(gamma(1.0, 30.0, 4))
    values = np.concatenate([[7.0], 7.0 + np.cumsum(np.diff(whole.total))])
    values[1000:] -= values[1000] - 50.0  # started anew
    there = np.ones(len(values), dtype=bool)
    there[2000:2300] = False
    found = counter(Series({}, whole.times[there], values[there]))
    assert found is not None and found.restart.sum() == 1 and found.gap.sum() == 1
    index = of([found], 30.0)
    assert index.index == pytest.approx(1.0, abs=3.0 * index.error)


def test_too_few_counts_say_nothing() -> None:
    scrapes = np.arange(0.0, 300.0, 15.0)
    short = counter(Series({}, scrapes, 2.0 * scrapes))
    assert short is not None
    assert dispersion([short], 2.0, 60.0) is None
    quiet = scraped(gamma(1.0, 0.001))
    assert dispersion([quiet], 0.001, STEP_S) is None

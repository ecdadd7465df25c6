"""Streams have the rate and the variation they are asked for."""

import math

import numpy as np
import pytest

from igniter_opt.base.errors import InputError
from igniter_opt.data.arrivals import ARRIVAL_KINDS, Arrivals

RATE, REQUESTS = 200.0, 400_000
RANDOM_KINDS = [
    Arrivals("poisson"),
    Arrivals("gamma", burstiness=0.25),
    Arrivals("gamma"),
    Arrivals("mmpp"),
    Arrivals("mmpp", burst_ratio=20.0, burst_seconds=0.05),
]


def seconds(process: Arrivals, seed: int = 0, rate: float = RATE, requests: int = REQUESTS) -> np.ndarray:
    times = process.times_ns(rate, requests, np.random.default_rng(seed))
    assert times.shape == (requests,)
    assert (times == np.floor(times)).all()
    assert (np.diff(times) >= 0).all()
    return times / 1e9


@pytest.mark.parametrize("process", RANDOM_KINDS, ids=str)
def test_rate(process: Arrivals) -> None:
    """The mean over independent streams is the rate, within four standard errors."""
    rates = [REQUESTS / seconds(process, seed)[-1] for seed in range(8)]
    error = np.std(rates, ddof=1) / math.sqrt(len(rates))
    assert np.mean(rates) == pytest.approx(RATE, abs=4 * error)
    assert error < 0.03 * RATE


@pytest.mark.parametrize(
    ("burstiness", "process"), [(1.0, RANDOM_KINDS[0]), (0.25, RANDOM_KINDS[1]), (4.0, RANDOM_KINDS[2])]
)
def test_squared_variation_of_gaps(burstiness: float, process: Arrivals) -> None:
    gaps = np.diff(seconds(process))
    assert np.var(gaps) / np.mean(gaps) ** 2 == pytest.approx(burstiness, rel=0.03)


def test_mmpp_gaps_and_counts_have_the_moments_of_the_theory() -> None:
    """Dispersion of counts over a window t: 1 + 2 v (1 - (1 - e^-rt) / (rt)) / (R r), v = variance of the rate."""
    process = Arrivals("mmpp", burst_ratio=20.0, burst_seconds=0.05)
    high = 2 * RATE * 20 / 21
    variance, rate_of_change, window = (high - RATE) ** 2, 2 / 0.05, 0.3
    x = rate_of_change * window
    expected = 1 + 2 * variance * (1 - (1 - math.exp(-x)) / x) / (RATE * rate_of_change)
    found = []
    for seed in range(8):
        times = seconds(process, seed)
        counts = np.bincount((times / window).astype(int))[:-1]
        found.append(np.var(counts) / np.mean(counts))
    assert np.mean(found) == pytest.approx(expected, abs=4 * np.std(found, ddof=1) / math.sqrt(len(found)))
    assert expected > 5


def test_constant_gaps_are_whole_periods() -> None:
    times = Arrivals("constant").times_ns(300.0, 10_001, np.random.default_rng(0))
    assert times[0] == 0
    assert set(np.diff(times)) == {3333333.0, 3333334.0}
    # Three periods are 10 ms, exactly, everywhere.
    assert set(times[3:] - times[:-3]) == {1e7}


def test_seeds_make_streams_repeatable() -> None:
    for process in RANDOM_KINDS:
        assert (seconds(process, 3, requests=1000) == seconds(process, 3, requests=1000)).all()
        assert (seconds(process, 3, requests=1000) != seconds(process, 4, requests=1000)).any()


@pytest.mark.parametrize("process", [Arrivals(kind) for kind in ARRIVAL_KINDS if kind != "trace"], ids=str)
@pytest.mark.parametrize("rate", [1e-6, 1e9])
def test_extreme_rates_and_single_requests(process: Arrivals, rate: float) -> None:
    assert np.isfinite(seconds(process, rate=max(rate, 0.01) if process.kind == "mmpp" else rate, requests=1)).all()
    assert np.isfinite(seconds(process, rate=max(rate, 0.01) if process.kind == "mmpp" else rate, requests=50)).all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kind": "possion"}, "unknown kind 'possion'; did you mean 'poisson'?"),
        ({"kind": "poisson", "burstiness": 2.0}, "burstiness belongs to gamma arrivals; the arrivals are poisson"),
        ({"kind": "gamma", "burst_ratio": 2.0}, "burst_ratio belongs to mmpp arrivals"),
        ({"kind": "gamma", "burstiness": 0.0}, "burstiness must be between 0.0001 and 10000; found 0"),
        ({"kind": "gamma", "burstiness": math.nan}, "found nan"),
        ({"kind": "mmpp", "burst_ratio": 0.5}, "burst_ratio must be between 1 and 1e+06; found 0.5"),
        ({"kind": "mmpp", "burst_seconds": math.inf}, "burst_seconds must be between"),
    ],
)
def test_bad_settings(options: dict[str, object], says: str) -> None:
    with pytest.raises(InputError) as caught:
        Arrivals(**options)  # type: ignore[arg-type]
    assert says in str(caught.value)


def test_bursts_too_short_to_be_any() -> None:
    with pytest.raises(InputError, match="the rates average out"):
        Arrivals("mmpp", burst_seconds=1e-9).times_ns(1.0, 10, np.random.default_rng(0))

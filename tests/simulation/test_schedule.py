"""Which request is due when, and for whom: whole, ascending, of the asked rate, and the same again for equal seeds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igniter_opt.data.arrivals import Arrivals
from igniter_opt.simulation.schedule import ARRIVALS, SPLIT, Randomness, arrivals_for, scheduled


@given(st.floats(0.5, 3000.0), st.floats(0.01, 5.0))
def test_constant_arrivals_come_evenly_and_end_in_time(rate: float, seconds: float) -> None:
    times = arrivals_for(Arrivals("constant"), rate, seconds, Randomness(0, 0, 0))
    plain = []
    k = 0
    while np.floor(k * (1e9 / rate) + 0.5) < seconds * 1e9:
        plain.append(float(np.floor(k * (1e9 / rate) + 0.5)))
        k += 1
    assert times.tolist() == plain


@given(
    st.sampled_from([Arrivals("poisson"), Arrivals("gamma", burstiness=4.0), Arrivals("mmpp")]),
    st.floats(20.0, 500.0),
    st.integers(0, 1000),
)
def test_a_longer_stream_begins_like_a_shorter_one(process: Arrivals, rate: float, seed: int) -> None:
    """However many requests were guessed to suffice, and whatever that guess costs."""
    random = Randomness(seed, 0, 0)
    short, again = (arrivals_for(process, rate, 0.5, random) for _ in range(2))
    assert np.array_equal(short, again)
    assert (np.diff(short) >= 0).all() and (short == np.floor(short)).all()
    assert not len(short) or (short[0] >= 0 and short[-1] < 0.5e9)


def test_poisson_streams_have_the_rate_and_are_independent() -> None:
    streams = [arrivals_for(Arrivals(), 400.0, 100.0, Randomness(1, 0, workload)) for workload in range(6)]
    for times in streams:
        assert len(times) == pytest.approx(40_000, abs=5 * 200)
    counts = np.array([np.histogram(times, bins=1000, range=(0, 100e9))[0] for times in streams])
    correlation = np.corrcoef(counts)
    assert np.abs(correlation - np.eye(6)).max() < 5 / np.sqrt(1000)


def test_streams_differ_by_seed_run_workload_and_purpose() -> None:
    first = Randomness(0, 0, 0).stream(ARRIVALS).random(4)
    others = [
        Randomness(1, 0, 0).stream(ARRIVALS),
        Randomness(0, 1, 0).stream(ARRIVALS),
        Randomness(0, 0, 1).stream(ARRIVALS),
        Randomness(0, 0, 0).stream(SPLIT),
    ]
    drawn = [tuple(first), *(tuple(other.random(4)) for other in others)]
    assert len(set(drawn)) == 5
    assert tuple(Randomness(0, 0, 0).stream(ARRIVALS).random(4)) == tuple(first)


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.floats(1.0, 100.0), min_size=1, max_size=4), st.sampled_from(["random", "round-robin"]))
def test_every_request_has_a_replica(rates: list[float], how: str) -> None:
    times = np.arange(500) * 1e6
    schedule = scheduled(times, 50, how, np.array(rates), Randomness(0, 0, 0))  # type: ignore[arg-type]
    assert schedule.times_ns is times and schedule.ahead == 50
    assert schedule.replica.shape == (500,)
    assert set(schedule.replica) <= set(range(len(rates)))
    if how == "round-robin":
        shares = np.bincount(schedule.replica, minlength=len(rates)) / 500
        assert np.abs(shares - np.array(rates) / sum(rates)).max() <= len(rates) / 500

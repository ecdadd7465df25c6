"""The compiled pass against a plain event loop, by hand, and against queueing theory."""

import math
from decimal import Decimal, getcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igniter_opt.base.arrays import FloatArray
from igniter_opt.physics.batcher import serve
from tests.support.reference_simulation import serve_plainly


class Run:
    """What the compiled pass says about one placement (times in ns)."""

    def __init__(
        self,
        arrival: list[float] | FloatArray,
        gpu: list[float],
        *,
        first: int = 0,
        delay: float = 0.0,
        load: list[float] | None = None,
        feedback: list[float] | None = None,
        noise: list[float] | None = None,
    ) -> None:
        zeros = [0.0] * len(gpu)
        times = np.array(arrival, dtype=float)
        self.latency, self.batches = np.full(len(times), np.nan), np.zeros(len(gpu), dtype=np.int64)
        self.busy, self.waited, self.longest, self.completed = serve(
            times,
            first,
            times[first],
            times[-1],
            float(delay),
            np.array(gpu, dtype=float),
            np.array(load or zeros, dtype=float),
            np.array(feedback or zeros, dtype=float),
            np.array(noise or [], dtype=float),
            self.latency,
            self.batches,
        )


@st.composite
def cases(draw: st.DrawFn) -> dict[str, object]:
    """Small queues whose whole-numbered times collide often: ties, delay 0, single requests, overload, noise."""
    largest = draw(st.integers(1, 4))
    requests = draw(st.integers(1, 25))
    gaps = draw(st.lists(st.integers(0, 6), min_size=requests, max_size=requests))
    times = st.lists(st.integers(0, 12), min_size=largest, max_size=largest)
    factors = st.lists(st.sampled_from([0.5, 0.8, 1.0, 1.3, 2.0]), min_size=requests, max_size=requests)
    return {
        "arrival": np.cumsum(gaps).astype(float).tolist(),
        "delay": draw(st.integers(0, 15)),
        "gpu": draw(times),
        "load": draw(times),
        "feedback": draw(times),
        "noise": draw(st.one_of(st.just([]), factors)),
        "first": draw(st.integers(0, requests - 1)),
    }


@settings(max_examples=1000, deadline=None)
@given(cases())
def test_same_as_the_plain_event_loop(case: dict[str, list[float]]) -> None:
    first = case.pop("first")
    run = Run(**case, first=first)  # type: ignore[arg-type]
    latency, batches = serve_plainly(**case)  # type: ignore[arg-type]
    assert run.latency.tolist() == latency
    arrival = case["arrival"]
    begin, end = arrival[first], arrival[-1]  # type: ignore[call-overload]
    starts = [start for start, _, size, _ in batches for _ in range(size)]
    answered = [moment + late for moment, late in zip(arrival, latency, strict=True)]
    counted = np.cumsum([size for _, _, size, _ in batches]) > first
    of_counted = [batch for batch, count in zip(batches, counted, strict=True) if count]
    sizes = [size for _, _, size, _ in of_counted]
    assert run.batches.tolist() == [sizes.count(k + 1) for k in range(len(case["gpu"]))]
    assert run.longest == max(waiting for _, _, _, waiting in of_counted)
    assert run.completed == sum(begin < moment <= end for moment in answered)
    assert run.waited == sum(max(0, min(s, end) - max(a, begin)) for a, s in zip(arrival, starts, strict=True))
    assert run.busy == sum(max(0, min(s + time, end) - max(s, begin)) for s, time, _, _ in batches)


@settings(max_examples=300, deadline=None)
@given(cases())
def test_first_come_first_served_and_no_batch_is_too_large_or_too_late(case: dict[str, list[float]]) -> None:
    _, batches = serve_plainly(**{key: case[key] for key in case if key != "first"})  # type: ignore[arg-type]
    arrival, free, done = case["arrival"], -math.inf, 0
    for start, time, size, waiting in batches:
        assert 1 <= size <= min(waiting, len(case["gpu"]))
        assert start >= max(free, arrival[done + size - 1])
        # Not a moment later than the rules allow.
        full = arrival[done + len(case["gpu"]) - 1] if done + len(case["gpu"]) <= len(arrival) else math.inf
        assert start == max(free, min(full, arrival[done] + case["delay"]))  # type: ignore[operator]
        free, done = start + time, done + size


def test_by_hand_full_batches_and_a_delay() -> None:
    # Three at a time, or whoever has waited 10; the last two wait out the delay.
    run = Run([0, 4, 8, 12, 16], [20, 21, 22], delay=10, load=[1, 2, 3], feedback=[5, 6, 7])
    # Full at 8, answered at 8 + 3 + 22 + 7 = 40; the instance is free at 37, when both others have waited enough.
    assert run.latency.tolist() == [40, 36, 32, 37 + 2 + 21 + 6 - 12, 37 + 2 + 21 + 6 - 16]
    assert run.batches.tolist() == [0, 1, 1]
    assert run.longest == 3


def test_by_hand_no_delay_takes_what_waits() -> None:
    run = Run([0, 1, 2, 3, 50], [10, 12, 14])
    # Alone at 0, three at 10, alone at 50.
    assert run.latency.tolist() == [10, 23, 22, 21, 10]
    assert run.batches.tolist() == [2, 0, 1]
    assert (run.busy, run.waited, run.longest) == (24, 9 + 8 + 7, 3)


def test_load_overlaps_the_batch_before() -> None:
    # Back to back: a batch every 12, although each takes 12 and 9 more to load.
    run = Run([0, 0, 0, 0], [10], load=[9], feedback=[2])
    assert run.latency.tolist() == [21, 33, 45, 57]


def test_a_batch_that_fills_as_its_delay_expires_is_full() -> None:
    run = Run([0, 5, 10, 15, 20, 25], [1, 1, 1], delay=10)
    assert run.batches.tolist() == [0, 0, 2]


def test_an_impossible_batch_never_ends() -> None:
    run = Run([0, 1, 2], [math.inf, math.inf], feedback=[1, 1])
    assert np.isinf(run.latency).all()
    assert (run.completed, run.waited) == (0, 1)


@pytest.mark.parametrize("load", [0.3, 0.7, 0.9])
def test_md1_mean_wait_and_percentile(load: float) -> None:
    """Single requests, Poisson arrivals: mean wait ρ s / (2 (1 - ρ)), and Erlang's formula for the distribution."""
    service, requests, runs = 1e6, 1_000_000, 8
    means, high = [], []
    for seed in range(runs):
        gaps = np.random.default_rng([seed, 7]).exponential(service / load, requests)
        waits = Run(np.floor(np.cumsum(gaps)), [service]).latency[requests // 10 :] - service
        means.append(waits.mean() / service)
        high.append(np.quantile(waits, 0.99) / service)
    error = 4 * np.std(means, ddof=1) / math.sqrt(runs)
    assert error < 0.05 * np.mean(means)
    assert np.mean(means) == pytest.approx(load / (2 * (1 - load)), abs=error)
    low, up = np.mean(high) - 4 * np.std(high) / math.sqrt(runs), np.mean(high) + 4 * np.std(high) / math.sqrt(runs)
    assert _md1_wait_cdf(load, low) - 1e-6 <= 0.99 <= _md1_wait_cdf(load, up) + 1e-6


def _md1_wait_cdf(load: float, x: float) -> float:
    """P(wait ≤ x services) in M/D/1 (Erlang 1909), in many digits, since its terms alternate in sign."""
    getcontext().prec = 80
    total = Decimal(0)
    for k in range(math.floor(x) + 1):
        y = Decimal(load) * (k - Decimal(x))
        total += y**k / math.factorial(k) * (-y).exp()
    return float((1 - Decimal(load)) * total)

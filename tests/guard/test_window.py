"""When observed latencies count as a violation, against binomial tails computed otherwise."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igniter_opt.guard.window import (
    CALM_LEVEL,
    LEVEL,
    Look,
    Window,
    WindowSettings,
    fewest_calm_requests,
    fewest_requests,
)

SETTINGS = WindowSettings(window_s=1.0, calm_s=2.0, longest_s=60.0, looks=3)
FINE, LATE = 5.0, 20.0


def window(batch: int = 1, percentile: float = 0.99, given: WindowSettings = SETTINGS) -> Window:
    return Window(10.0, percentile, batch, given, 0.0)


def feed(made: Window, looks: list[tuple[int, int]], interval: float = 0.25, begin: float = 0.0) -> list[Look]:
    """Add (requests, late ones) at regular looks; return what each says."""
    found = []
    for k, (requests, late) in enumerate(looks):
        now = begin + (k + 1) * interval
        made.add(now, np.array([LATE] * late + [FINE] * (requests - late)), 0)
        found.append(made.look(now))
    return found


def tail(n: int, x: int, p: Fraction) -> Fraction:
    """P(Binomial(n, p) >= x), exactly."""
    return sum((math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(x, n + 1)), start=Fraction(0))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 8), st.integers(0, 300), st.integers(0, 300))
def test_violation_is_the_binomial_tail_over_batches(batch: int, requests: int, late: int) -> None:
    late = min(late, requests)
    made = window(batch)
    made.add(1.0, np.array([LATE] * late + [FINE] * (requests - late)), 0)
    look = made.look(1.0)
    chance = tail(requests // batch, late // batch, Fraction(1, 100))
    assert look.violated == (requests >= fewest_requests(0.99, batch) and chance < Fraction(LEVEL).limit_denominator())
    assert (look.requests, look.late) == (requests, late)


@pytest.mark.parametrize(("percentile", "batch", "fewest"), [(0.99, 1, 2), (0.99, 6, 12), (0.95, 1, 3), (0.9995, 4, 4)])
def test_fewest_requests(percentile: float, batch: int, fewest: int) -> None:
    assert fewest_requests(percentile, batch) == fewest
    late = 1.0 - percentile
    assert late ** (fewest / batch) < LEVEL
    assert late ** (fewest / batch - 1) >= LEVEL


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
@settings(deadline=None)
def test_no_decision_on_fewer_requests_than_it_takes(counts: list[int]) -> None:
    """Even if all are late."""
    made = window(batch=8)
    for k, look in enumerate(feed(made, [(n, n) for n in counts])):
        if sum(counts[: k + 1]) < fewest_requests(0.99, 8):
            assert not look.violated and not look.sustained and not look.calm


def test_a_window_that_is_not_full_says_nothing() -> None:
    assert [look.violated for look in feed(window(), [(100, 100)] * 5)] == [False, False, False, True, True]


def test_sustained_takes_late_requests_at_every_look() -> None:
    assert [look.sustained for look in feed(window(), [(100, 50)] * 7)] == [False] * 5 + [True] * 2
    # One stall: all its requests are late, and stay in the window, but none after them are.
    looks = feed(window(), [(100, 0)] * 5 + [(100, 100)] + [(100, 0)] * 8)
    assert sum(look.violated for look in looks) == 4
    assert not any(look.sustained for look in looks)


def test_looks_without_requests_neither_confirm_nor_deny() -> None:
    looks = feed(window(), [(10, 10)] * 5 + [(0, 0), (0, 0)] + [(10, 10)] * 2)
    assert not looks[6].sustained
    assert looks[8].sustained


def test_few_requests_make_the_window_longer() -> None:
    """One request every 5 s, all late: two of them suffice, 5 s apart, in a window of 1 s at least."""
    looks = feed(window(), [(1, 1) if k % 20 == 0 else (0, 0) for k in range(81)])
    assert not looks[19].violated
    assert looks[20].violated and looks[20].requests == 2
    assert not looks[40].sustained or looks[40].requests >= 2
    assert looks[60].sustained


def test_failures_are_late() -> None:
    made = window()
    made.add(1.0, np.array([FINE] * 10), 5)
    look = made.look(1.0)
    assert (look.requests, look.late, look.violated) == (15, 5, True)
    assert math.isinf(look.percentile_ms)


@pytest.mark.parametrize(
    ("requests", "late", "calm"), [(298, 0, False), (299, 0, True), (400, 1, False), (500, 1, True)]
)
def test_calm(requests: int, late: int, calm: bool) -> None:
    assert fewest_calm_requests(0.99, 1) == 299
    p = Fraction(1, 100)
    assert (1 - tail(requests, late + 1, p) < Fraction(CALM_LEVEL).limit_denominator()) == calm
    made = window()
    looks = feed(made, [(requests - requests // 2, late), (requests // 2, 0)], interval=1.25)
    assert looks[-1].calm == calm


def test_calm_is_not_of_times_before_the_last_change() -> None:
    made = window()
    assert feed(made, [(100, 0)] * 12)[-1].calm
    made.clear(3.0)
    assert not feed(made, [(1000, 0)] * 7, begin=3.0)[-1].calm
    assert feed(made, [(100, 0)] * 2, begin=4.75)[-1].calm


def test_chance_alone_is_hardly_ever_a_violation() -> None:
    """A workload whose P99 just holds, for an hour: batches of 6, late ones by chance."""
    random = np.random.default_rng(1)
    made, alarms = window(batch=6), 0
    for k in range(4 * 3600):
        now = 0.25 * (k + 1)
        late = 6 * int(random.binomial(50, 0.01))
        made.add(now, np.array([LATE] * late + [FINE] * (300 - late)), 0)
        alarms += made.look(now).sustained
    assert alarms == 0


def test_what_is_kept_is_bounded() -> None:
    made = window()
    feed(made, [(100, 0)] * 1000)
    assert made._held <= 1200  # 2 s of looks, and those at their edges

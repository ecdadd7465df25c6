"""Forecasts: from the past only, above as much of it as was asked for."""

import numpy as np
import pytest

import igniter_opt as ig
from igniter_opt.scheduling.forecast import forecast

RNG = np.random.default_rng(3)
PAST = np.abs(np.sin(np.arange(240)[:, None] * np.pi / 12.0)) * [100.0, 10.0] + RNG.uniform(0.0, 5.0, (240, 2))


@pytest.mark.parametrize("kind", ["seasonal", "smoothed", "naive"])
def test_it_suffices_as_often_as_asked_for(kind: str) -> None:
    span = 1 if kind == "naive" else 24
    above = []
    for begin in range(120, 240, span):
        found = forecast(kind, PAST[:begin], span, 24, 0.9)
        assert found.shape == (span, 2)
        assert (found <= PAST[:begin].max(axis=0)).all()
        above.append(found >= PAST[begin : begin + span])
    assert 0.8 <= np.concatenate(above).mean() <= 0.97


def test_seasonal_is_one_season_earlier_and_what_that_missed() -> None:
    missed = PAST[24:] - PAST[:-24]
    expected = np.minimum(PAST[-24:] + np.quantile(missed, 0.5, axis=0), PAST.max(axis=0))
    assert forecast("seasonal", PAST, 24, 24, 0.5) == pytest.approx(np.maximum(expected, 0.0))


def test_a_season_that_is_not_whole_counts_from_the_end() -> None:
    steps = np.arange(60.0)[:, None] % 24.0
    assert forecast("seasonal", steps, 6, 24, 0.5)[:, 0].tolist() == [12, 13, 14, 15, 16, 17]


def test_too_short_a_past_is_refused() -> None:
    with pytest.raises(ig.InputError, match="needs a past of two seasons, 48 steps; there are 47"):
        forecast("seasonal", PAST[:47], 24, 24, 0.9)
    with pytest.raises(ig.InputError, match="two steps at least"):
        forecast("naive", PAST[:1], 24, 24, 0.9)

"""Margins by fresh readings: they cover each kind, by model; readings that are not fresh are refused."""

import numpy as np
import pytest

import igniter_opt as ig
from igniter_opt.base.errors import InputError
from igniter_opt.data.measurement_files import read_measurements
from igniter_opt.data.measurements import ColocatedMeasurements
from igniter_opt.fitting.calibration import margin_at, predict_readings, sure_margin
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.fitting.fresh import calibrate_fresh, covered, spreads


@pytest.fixture(scope="module")
def before() -> ig.Profile:
    """The H200's profile by its counters and probes alone: quick to fit, and none of the readings is in it."""
    nothing = {"solo_measurements": None, "colocated_measurements": None, "calibration": None}
    return ig.read_profile("h200").model_copy(update=nothing)


def readings(name: str) -> tuple[str, ColocatedMeasurements]:
    return name, read_measurements(name).side_by_side()


def test_spreads_are_means_drawn_to_the_average() -> None:
    model = np.array(["a"] * 20 + ["b"] * 20)
    error = np.array([0.01] * 20 + [-0.03] * 20)
    found = spreads(["a", "b", "c"], model, error)
    assert found == pytest.approx({"a": (0.5 * 20 + 20) / 40, "b": (1.5 * 20 + 20) / 40, "c": 1.0})
    assert spreads(["a", "b"], model, 0.0 * error) == {"a": 1.0, "b": 1.0}


def test_margins_suffice_for_random_groups_and_for_plans(before: ig.Profile) -> None:
    random, planned = readings("h200-colocated-fresh"), readings("h200-colocated-fresh-solved")
    found = calibrate_fresh(before, random, planned, "2026-11-30")
    assert found.calibration is not None
    entry = found.calibration["refined"]
    assert (entry.groups, entry.held_out) == (152, "unseen") and entry.planned is not None and entry.spread is not None
    assert entry.planned.groups == 27
    plain = fit_coefficients(before)
    for way, (_, part) in ((margin_at, random), (sure_margin, planned)):
        predicted = predict_readings(plain, part)
        scaled = predicted.error / np.array([entry.spread[name] for name in part.model])
        asked = way(scaled, part.group, 0.9)
        assert asked is not None and found.margin_at(0.9) >= asked - 1e-6
        assert covered(found, part, predicted, 0.9) >= 0.89
        assert covered(found, part, predicted, 0.99) > covered(found, part, predicted, 0.9)
    alone = calibrate_fresh(before, random, None, "2026-11-30")
    assert alone.calibration is not None and alone.calibration["refined"].planned is None


def test_readings_that_were_fitted_are_no_fresh_ones() -> None:
    card = ig.read_profile("h200")
    with pytest.raises(InputError, match="holds readings that are in profile h200"):
        calibrate_fresh(card, readings("h200-colocated"), None, "2026-11-30")

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from igniter_opt import InputError, Profile, read_instance, read_profile, solve, verify
from igniter_opt.calibration import (
    calibrate,
    margin_at,
    measurements_hash,
    predict_readings,
    predict_unseen,
)
from igniter_opt.coefficients import fit_coefficients
from igniter_opt.measurement_files import read_colocated
from igniter_opt.profile import COEFFICIENT_SETS
from tests.refined_profiles import refined_profile


@given(st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=300), st.floats(0.01, 0.999))
def test_margin_is_the_conservative_order_statistic(errors: list[float], confidence: float) -> None:
    margin = margin_at(np.array(errors), confidence)
    if margin is None:
        assert (len(errors) + 1) * confidence > len(errors)
        return
    within = sum(error <= margin for error in errors)
    assert within >= math.floor((len(errors) + 1) * confidence)
    if margin > 0:
        assert margin in errors
        assert sum(error < margin for error in errors) < (len(errors) + 1) * confidence


@pytest.mark.parametrize("name", COEFFICIENT_SETS)
def test_shipped_margins_are_what_calibration_finds(name: str) -> None:
    profile = read_profile("v100", coefficients=name)
    assert profile.calibration is not None
    shipped = profile.calibration[profile.coefficients]
    again = calibrate(profile, read_colocated("v100-colocated"), "v100-colocated", shipped.date).calibration
    assert again is not None
    found = again[profile.coefficients]
    assert found.model_dump(exclude={"margin"}) == shipped.model_dump(exclude={"margin"})
    assert found.margin == pytest.approx(shipped.margin, abs=2e-5)
    assert shipped.held_out == ("cross-validated" if name == "refined" else "unseen")


def test_shipped_measurements_are_those_in_the_profile(v100: Profile) -> None:
    assert v100.colocated_measurements is not None
    readings = read_colocated("v100-colocated")
    columns = {"std_ms": None, "note": None}
    assert readings.model_copy(update=columns) == v100.colocated_measurements.model_copy(update=columns)


@pytest.mark.parametrize("name", COEFFICIENT_SETS)
def test_margin_holds_on_pairs_that_neither_fit_nor_calibration_saw(name: str) -> None:
    profile = read_profile("v100", coefficients=name)
    readings = profile.colocated_measurements
    assert readings is not None
    numbers = sorted(set(readings.group))
    random.Random(7).shuffle(numbers)
    first, second = readings.take(numbers[::2]), readings.take(numbers[1::2])
    assert first is not None and second is not None
    half = profile.model_copy(update={"colocated_measurements": first, "calibration": None})
    margin = calibrate(half, first, "half", "2026-11-24").margin_at(0.99)
    judged = predict_readings(fit_coefficients(half), second)
    assert (judged.measured_ms <= judged.predicted_ms * (1 + margin)).mean() >= 0.985
    assert margin <= (0.05 if name == "refined" else 0.20)


def test_readings_that_were_fitted_are_predicted_without_their_batch(v100: Profile) -> None:
    refined = read_profile("v100", coefficients="refined")
    readings = read_colocated("v100-colocated")
    unseen, crossed = predict_unseen(refined, readings)
    assert crossed
    assert not predict_unseen(v100, readings)[1]
    fitted = predict_readings(fit_coefficients(refined), readings)
    assert np.abs(unseen.error).mean() > np.abs(fitted.error).mean()
    at = np.array(readings.batch) == 16
    without = readings.take(
        number for number, members in readings.members().items() if 16 not in {readings.batch[k] for k in members}
    )
    plain = fit_coefficients(refined.model_copy(update={"colocated_measurements": without}))
    assert predict_readings(plain, readings).error[at] == pytest.approx(unseen.error[at], rel=1e-12)


def test_new_readings_are_judged_by_the_profiles_own_fit() -> None:
    profile = refined_profile(random.Random(1))
    beside = profile.colocated_measurements
    assert beside is not None
    other = beside.model_copy(update={"latency_ms": tuple(1.01 * value for value in beside.latency_ms)})
    assert not predict_unseen(profile, other)[1]
    assert predict_unseen(profile, beside)[1]


def test_readings_without_a_prediction_are_beyond_every_margin() -> None:
    """At the pole of iGniter's formula nothing is predicted: such readings are errors, not agreement."""
    profile = read_profile("h100", coefficients="igniter")
    readings = profile.colocated_measurements
    assert readings is not None
    lost = [k for k, model in enumerate(readings.model) if model == "vit_b_16"]
    share = list(readings.share_percent)
    for k in lost:
        share[k] = 3 * profile.hardware.share_unit_percent
    changed = readings.model_copy(update={"share_percent": tuple(share)})
    error = predict_unseen(profile, changed)[0].error
    assert np.isinf(error[lost]).all() and np.isfinite(np.delete(error, lost)).all()
    entry = (calibrate(profile, changed, "changed", "2026-11-24").calibration or {})["igniter"]
    assert entry.confidence[-1] <= 1 - len(lost) / len(error)
    only = readings.take(n for n, rows in readings.members().items() if set(rows) & set(lost))
    assert only is not None
    all_lost = only.model_copy(
        update={"model": ("vit_b_16",) * len(only.model), "share_percent": (share[lost[0]],) * len(only.model)}
    )
    with pytest.raises(InputError, match=r"predict no latency for .* readings; use others"):
        calibrate(profile, all_lost, "lost", "2026-11-24")


def test_a_hash_tells_measurements_apart(v100: Profile) -> None:
    readings = read_colocated("v100-colocated")
    assert measurements_hash(readings) == measurements_hash(readings.model_copy(update={"note": "else"}))
    changed = readings.model_copy(update={"latency_ms": (1.0, *readings.latency_ms[1:])})
    assert measurements_hash(readings) != measurements_hash(changed)


def test_confidence_is_the_margin_of_the_profile_and_plans_say_so() -> None:
    instance = read_instance("igniter-three")
    plan = solve(instance, "bestfit", confidence=0.97, coefficients="refined").plan
    profile = plan.instance.gpu_types[0].profile
    assert profile.coefficients == "refined"
    assert plan.solver.confidence == 0.97
    assert plan.solver.margin == profile.margin_at(0.99) == profile.margin_at(0.97) > profile.margin_at(0.95)
    assert verify(plan).ok
    claimed = plan.model_copy(update={"solver": plan.solver.model_copy(update={"margin": 0.001})})
    assert [entry.kind for entry in verify(claimed).violations] == ["confidence"]


def test_errors_about_confidence_say_what_to_do() -> None:
    instance = read_instance("igniter-three")
    with pytest.raises(InputError, match="a margin or a confidence, not both"):
        solve(instance, "bestfit", confidence=0.9, margin=0.1)
    with pytest.raises(InputError, match="above 0 and below 1"):
        solve(instance, "bestfit", confidence=99)
    with pytest.raises(InputError, match=r"714 readings, up to a confidence of 0.9986; `igniter-opt profile calibrate"):
        solve(instance, "bestfit", confidence=0.9999)
    bare = instance.gpu_types[0].profile.model_copy(update={"calibration": None})
    gpu = instance.gpu_types[0].model_copy(update={"profile": bare})
    with pytest.raises(InputError, match="has no margins for its igniter coefficients; `igniter-opt profile calibrate"):
        solve(instance.model_copy(update={"gpu_types": (gpu,)}), "bestfit", confidence=0.9)

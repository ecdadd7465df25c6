import math
import random
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from igniter_opt import InputError, Profile, predict, read_instance, read_profile, solve, verify
from igniter_opt.base.errors import Caution
from igniter_opt.data.measurement_files import read_measurements
from igniter_opt.data.measurements import ColocatedMeasurements, SoloMeasurements, Spot
from igniter_opt.data.profile import COEFFICIENT_SETS, CoefficientSet
from igniter_opt.fitting.calibration import (
    calibrate,
    folds,
    margin_at,
    measurements_hash,
    predict_planned,
    predict_readings,
    predict_unseen,
    sure_margin,
)
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.fitting.enough import FEWEST_READINGS, fits_contention
from tests.support.refined_profiles import refined_profile

Groups = list[list[float]]
GROUPS = st.lists(st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=4), min_size=1, max_size=100)


def test_shipped_mean_errors_are_those_of_the_readings() -> None:
    """Recomputed reading by reading for the set that is not cross-validated."""
    for card in ("v100", "h100", "h200"):
        readings = read_measurements(f"{card}-colocated").side_by_side()
        profile = read_profile(card, coefficients="igniter")
        total = 0.0
        for rows in readings.members().values():
            placed = [(readings.model[k], readings.batch[k], readings.share_percent[k]) for k in rows]
            found = predict(profile, placed).latency_ms
            total += sum(abs(found[j] / readings.latency_ms[k] - 1.0) for j, k in enumerate(rows))
        assert profile.calibration is not None
        assert profile.calibration["igniter"].mean_error == pytest.approx(total / len(readings.model), abs=1e-6)


def calibrated(own: float | None, other: float | None, name: CoefficientSet) -> Profile:
    shipped = read_profile("v100", coefficients=name)
    assert shipped.calibration is not None
    errors = {name: own, "refined" if name == "igniter" else "igniter": other}
    entries = {key: shipped.calibration[key].model_copy(update={"mean_error": errors[key]}) for key in COEFFICIENT_SETS}
    return shipped.model_copy(update={"calibration": entries})


@pytest.mark.parametrize("name", COEFFICIENT_SETS)
def test_a_set_is_cautioned_against_where_another_errs_less_than_half_as_much(name: CoefficientSet) -> None:
    assert calibrated(0.11, 0.05, name).caution() is not None
    assert calibrated(0.09, 0.05, name).caution() is None
    assert calibrated(0.04, 0.01, name).caution() is None  # nothing to mind
    assert calibrated(0.05, 0.11, name).caution() is None
    assert calibrated(None, 0.05, name).caution() is None
    assert calibrated(0.5, None, name).caution() is None
    assert read_profile("v100", coefficients=name).model_copy(update={"calibration": None}).caution() is None


def test_solve_warns_of_a_much_worse_set() -> None:
    instance = read_instance("cards-table3")
    with pytest.warns(Caution) as caught:
        solve(instance, "igniter", coefficients="igniter")
    assert [str(entry.message).partition(" on average")[0] for entry in caught] == [
        "GPU type H100: the igniter coefficients of profile h100 err by 33 %",
        "GPU type H200: the igniter coefficients of profile h200 err by 97 %",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error", Caution)
        solve(instance, "igniter")


def columns(groups: Groups) -> tuple[np.ndarray, list[int]]:
    return np.array([e for own in groups for e in own]), [n for n, own in enumerate(groups) for _ in own]


def weight_within(groups: Groups, margin: float) -> float:
    return sum(sum(error <= margin for error in own) / len(own) for own in groups)


@given(GROUPS, st.floats(0.01, 0.999))
def test_margin_is_the_least_within_which_groups_weigh_enough(groups: Groups, confidence: float) -> None:
    margin = margin_at(*columns(groups), confidence)
    enough = (len(groups) + 1) * confidence
    if margin is None:
        assert enough > len(groups) - 1e-6
        return
    assert weight_within(groups, margin) >= enough - 1e-6
    if margin > 0:
        errors = sorted(error for own in groups for error in own)
        assert margin in errors
        below = [error for error in errors if error < margin]
        assert not below or weight_within(groups, below[-1]) < enough + 1e-6


@given(st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=300), st.floats(0.01, 0.999))
def test_with_one_reading_a_group_it_is_the_conservative_order_statistic(
    errors: list[float], confidence: float
) -> None:
    rank = math.ceil((len(errors) + 1) * confidence - 1e-9)
    expected = None if rank > len(errors) else max(0.0, sorted(errors)[rank - 1])
    assert margin_at(np.array(errors), list(range(len(errors))), confidence) == expected


def test_margin_covers_readings_of_further_groups_whose_readings_err_together() -> None:
    """Simulated: where readings of a group are alike, counting readings would cover too few."""
    random = np.random.default_rng(3)
    covered = {"groups": 0.0, "readings": 0.0}
    for _ in range(1500):
        groups = [
            [error] * size for error, size in zip(random.normal(size=20), random.choice([1, 30], 20), strict=True)
        ]
        errors, numbers = columns(groups[:-1])
        further = random.choice(groups[-1])
        for what, of in (("groups", numbers), ("readings", list(range(len(errors))))):
            margin = margin_at(errors, of, 0.9)
            assert margin is not None
            covered[what] += (further <= margin) / 1500
    # Two standard errors are 1.5 %.
    assert covered["groups"] >= 0.9 - 0.015 > covered["readings"]


@pytest.mark.parametrize("name", COEFFICIENT_SETS)
def test_shipped_margins_are_what_calibration_finds(name: str) -> None:
    profile = read_profile("v100", coefficients=name)
    assert profile.calibration is not None
    shipped = profile.calibration[profile.coefficients]
    again = calibrate(
        profile, read_measurements("v100-colocated").side_by_side(), "v100-colocated", shipped.date
    ).calibration
    assert again is not None
    found = again[profile.coefficients]
    margins = {"margin", "margin_measured"}
    assert found.model_dump(exclude=margins) == shipped.model_dump(exclude=margins)
    assert found.margin == pytest.approx(shipped.margin, abs=2e-5)
    assert found.margin_measured == pytest.approx(shipped.margin_measured, abs=2e-5)
    assert shipped.held_out == ("cross-validated" if name == "refined" else "unseen")


def test_shipped_measurements_are_those_in_the_profile(v100: Profile) -> None:
    assert v100.colocated_measurements is not None
    readings = read_measurements("v100-colocated").side_by_side()
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
    calibrated = calibrate(half, first, "half", "2026-11-24")
    judged = predict_readings(fit_coefficients(half), second)
    assert (judged.error <= calibrated.margin_at(0.99)).mean() >= 0.985
    assert calibrated.calibration is not None
    entry = calibrated.calibration[profile.coefficients]
    # These placements were measured alone: the narrower margin suffices.
    measured = entry.margin_measured or entry.margin
    assert (entry.margin_measured is None) == (name == "igniter")
    assert (judged.error <= measured[entry.confidence.index(0.99)]).mean() >= 0.985
    assert measured[entry.confidence.index(0.99)] <= (0.05 if name == "refined" else 0.20)


def without(profile: Profile, spots: set[Spot]) -> Profile:
    """The profile without the groups, and the latencies alone, of some placements."""
    beside, alone = profile.colocated_measurements, profile.solo_measurements
    assert beside is not None and alone is not None
    unit = profile.hardware.share_unit_percent
    together = zip(beside.model, beside.batch, beside.share_percent, beside.group, strict=True)
    gone = {n for m, b, s, n in together if (m, b, round(s / unit)) in spots}
    columns = ("model", "batch", "share_percent", "latency_ms")
    rows = zip(alone.model, alone.batch, alone.share_percent, strict=True)
    kept = [k for k, (m, b, s) in enumerate(rows) if (m, b, round(s / unit)) not in spots]
    return profile.model_copy(
        update={
            "colocated_measurements": beside.take(set(beside.group) - gone),
            "solo_measurements": SoloMeasurements(**{c: tuple(getattr(alone, c)[k] for k in kept) for c in columns}),
        }
    )


def test_readings_that_were_fitted_are_predicted_without_their_like(v100: Profile) -> None:
    refined = read_profile("v100", coefficients="refined")
    readings = read_measurements("v100-colocated").side_by_side()
    unseen = predict_unseen(refined, readings)
    assert set(unseen) == {"group", "placement"}
    assert set(predict_unseen(v100, readings)) == {"nothing"}
    fitted = predict_readings(fit_coefficients(refined), readings)
    sizes = [np.abs(found.error).mean() for found in (fitted, unseen["group"], unseen["placement"])]
    assert sizes == sorted(sizes)
    unit = refined.hardware.share_unit_percent
    out = folds(readings.placements(unit).values())
    assert sorted(group for own in out for group in own) == sorted(set(readings.placements(unit).values()))
    inside = {number for number, own in readings.placements(unit).items() if own in out[3]}
    plain = refined.model_copy(update={"colocated_measurements": readings.take(set(readings.group) - inside)})
    at = np.isin(readings.group, list(inside))
    again = predict_readings(fit_coefficients(plain), readings)
    assert again.error[at] == pytest.approx(unseen["group"].error[at], rel=1e-9)
    spots = readings.spots(unit)
    some = set(folds(spots)[0])
    at = np.array([spot in some for spot in spots])
    again = predict_readings(fit_coefficients(without(refined, some)), readings)
    assert again.error[at] == pytest.approx(unseen["placement"].error[at], rel=1e-9)


def test_folds_that_leave_too_few_to_fit_to_are_divided() -> None:
    """An eighth of the placements leaves too little of AlexNet, any single one enough; or not, and that is said."""
    refined = read_profile("v100", coefficients="refined")
    readings = read_measurements("v100-colocated").side_by_side()
    unit = refined.hardware.share_unit_percent
    groups = readings.placements(unit)
    alexnet = [number for number, own in groups.items() if any(spot.model == "alexnet" for spot in own)]
    # Some will do; a fit takes as long as it has readings.
    rest = [number for number in groups if number not in alexnet][::3]

    def with_some(count: int) -> tuple[Profile, ColocatedMeasurements]:
        step = len(alexnet) // count
        few = readings.take([*alexnet[::step][:count], *rest])
        assert few is not None
        return refined.model_copy(update={"colocated_measurements": few}), few

    profile, few = with_some(16)
    left = [without(profile, set(own)) for own in folds(few.spots(unit))]
    assert not all(fits_contention(card) for card in left)
    found = predict_unseen(profile, few)
    assert set(found) == {"group", "placement"}
    assert all(np.isfinite(entry.error).all() for entry in found.values())
    profile, few = with_some(FEWEST_READINGS)
    with pytest.raises(InputError, match=r"without alexnet at batch .* too few of its readings are left to fit to"):
        predict_unseen(profile, few)


def test_placements_are_recognised_whatever_their_latencies_and_order() -> None:
    profile = refined_profile(random.Random(1))
    beside = profile.colocated_measurements
    assert beside is not None and beside.take(()) is None
    told: list[tuple[str, int, int]] = []
    known = set(predict_unseen(profile, beside, lambda *fit: told.append(fit)))
    assert known == {"group", "placement"}
    for what in ("groups", "placements"):  # every fit is told of before it begins
        fits = [(done, of_all) for doing, done, of_all in told if doing.endswith(f"without some {what}")]
        assert [done for done, _ in fits] == list(range(fits[-1][1]))
    rounded = tuple(round(1.01 * value, 2) for value in beside.latency_ms)
    assert set(predict_unseen(profile, beside.model_copy(update={"latency_ms": rounded}))) == known
    # Measured alone, but never side by side.
    apart = profile.model_copy(update={"colocated_measurements": None})
    spots = {(m, b, round(s)) for m, b, s in zip(beside.model, beside.batch, beside.share_percent, strict=True)}
    solo = apart.solo_measurements
    assert solo is not None and spots & set(zip(solo.model, solo.batch, map(round, solo.share_percent), strict=True))
    assert set(predict_unseen(apart, beside)) == {"placement"}
    # In no way.
    bare = apart.model_copy(update={"solo_measurements": None})
    assert set(predict_unseen(bare, beside)) == {"nothing"}
    entry = (calibrate(apart, beside, "x", "2026-11-26").calibration or {})["refined"]
    assert entry.margin_measured is None and entry.groups == len(set(beside.group))


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
    error = predict_unseen(profile, changed)["nothing"].error
    assert np.isinf(error[lost]).all() and np.isfinite(np.delete(error, lost)).all()
    entry = (calibrate(profile, changed, "changed", "2026-11-24").calibration or {})["igniter"]
    numbers = np.array(changed.group)
    weight = sum(np.isin(np.flatnonzero(numbers == n), lost).mean() for n in set(changed.group))
    assert entry.confidence[-1] <= 1 - weight / len(set(changed.group))
    only = readings.take(n for n, rows in readings.members().items() if set(rows) & set(lost))
    assert only is not None
    all_lost = only.model_copy(
        update={"model": ("vit_b_16",) * len(only.model), "share_percent": (share[lost[0]],) * len(only.model)}
    )
    with pytest.raises(InputError, match=r"predict no latency for .* readings; use others"):
        calibrate(profile, all_lost, "lost", "2026-11-24")


def test_a_hash_tells_measurements_apart(v100: Profile) -> None:
    readings = read_measurements("v100-colocated").side_by_side()
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
    with pytest.raises(InputError, match=r"714 readings, up to a confidence of 0.9972; `igniter-opt profile calibrate"):
        solve(instance, "bestfit", confidence=0.9999)
    bare = instance.gpu_types[0].profile.model_copy(update={"calibration": None})
    gpu = instance.gpu_types[0].model_copy(update={"profile": bare})
    with pytest.raises(InputError, match="has no margins for its igniter coefficients; `igniter-opt profile calibrate"):
        solve(instance.model_copy(update={"gpu_types": (gpu,)}), "bestfit", confidence=0.9)


@pytest.mark.parametrize(("count", "confidence"), [(63, 0.9), (63, 0.95), (40, 0.9), (200, 0.99)])
def test_a_sure_margin_covers_as_much_as_it_says_in_three_of_four_draws(count: int, confidence: float) -> None:
    random = np.random.default_rng(7)
    error = random.exponential(size=(4_000, count))
    margins = [sure_margin(row, list(range(count)), confidence) for row in error]
    if margins[0] is None:
        assert count == 200
        return
    covered = 1.0 - np.exp(-np.array(margins, dtype=float))
    assert np.mean(covered >= confidence) >= 0.75 - 0.02
    plain = 1.0 - np.exp(-np.array([margin_at(row, list(range(count)), confidence) for row in error], dtype=float))
    assert np.mean(plain >= confidence) < 0.75


def test_too_few_groups_give_no_sure_margin() -> None:
    """Of n groups the worst covers q with a chance of 1 - q to the n-th."""
    for count in range(1, 40):
        found = sure_margin(np.arange(count, dtype=float), list(range(count)), 0.9)
        assert (found is not None) == (1.0 - 0.9**count >= 0.75)


def test_plans_that_were_fitted_to_are_predicted_without_their_placements() -> None:
    known = refined_profile(random.Random(4))
    side = known.colocated_measurements
    assert side is not None
    groups = sorted(set(side.group))[:6]
    solved = side.take(groups)
    assert solved is not None
    seen, unseen = predict_readings(fit_coefficients(known), solved), predict_planned(known, solved)
    assert not np.allclose(seen.error, unseen.error)
    placed = side.placements(known.hardware.share_unit_percent)
    left_out = {placed[group] for group in groups}
    kept = side.take(group for group, own in placed.items() if own not in left_out)
    other = known.model_copy(update={"colocated_measurements": kept})
    own = predict_readings(fit_coefficients(other), solved)
    np.testing.assert_array_equal(predict_planned(other, solved).error, own.error)


def test_margins_allow_for_planned_gpus_at_every_confidence() -> None:
    """At those that so many GPUs support by their own errors, beyond by one factor on the margins of random groups."""
    card = read_profile("v100", coefficients="igniter")
    readings = read_measurements("v100-colocated").side_by_side()
    solved = readings.take(sorted(set(readings.group))[:40])
    assert solved is not None
    solved = solved.model_copy(update={"latency_ms": tuple(1.05 * value for value in solved.latency_ms)})
    plain, allowed = (
        calibrate(card, readings, "all", "2026-01-01", planned=planned) for planned in (None, ("solved", solved))
    )
    assert plain.calibration is not None and allowed.calibration is not None
    before, after = plain.calibration["igniter"], allowed.calibration["igniter"]
    error = predict_readings(fit_coefficients(card), solved).error
    count, everything = 40, predict_readings(fit_coefficients(card), readings).error
    usual = margin_at(everything, readings.group, math.floor(1e4 * count / (count + 1)) / 1e4)
    assert usual is not None
    factor = max(1.0, error.max() / usual)
    supported = {level: sure_margin(error, solved.group, level) for level in before.confidence}
    assert [level for level, margin in supported.items() if margin is None] == [0.99, *before.confidence[4:]]
    for level, old, new in zip(before.confidence, before.margin, after.margin, strict=True):
        asked = supported[level]
        least = factor * old if asked is None else max(old, asked)
        assert new == pytest.approx(max(least, error.max() if asked is None else 0.0), abs=2e-6)
    assert factor > 1.05 and after.margin[3] > before.margin[3]

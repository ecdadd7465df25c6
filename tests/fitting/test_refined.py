import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igniter_opt import InputError, Profile, predict, read_profile
from igniter_opt.data.measurements import ColocatedMeasurements
from igniter_opt.data.profile import shipped_profiles, with_coefficients
from igniter_opt.fitting.calibration import predict_readings
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.fitting.enough import FEWEST_READINGS
from igniter_opt.fitting.refined import _Fit
from igniter_opt.fitting.solo_surfaces import Points, fit_surfaces
from igniter_opt.fitting.surface import fit_surface
from igniter_opt.fitting.utilisation import WHOLE_PART, fit_utilisation
from igniter_opt.physics.curves import ActiveSurface
from igniter_opt.physics.interference import is_monotone, placement_terms, predict_many
from tests.support.refined_profiles import refined_profile, with_counters
from tests.support.scalar_model import predict_scalar


@pytest.fixture(scope="module")
def refined() -> Profile:
    return read_profile("v100", coefficients="refined")


def readings_of(profile: Profile) -> ColocatedMeasurements:
    assert profile.colocated_measurements is not None
    return profile.colocated_measurements


# The surface


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_surface_is_positive_and_monotone_whatever_was_measured(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batch, share = (axis.ravel().astype(float) for axis in np.meshgrid([1, 3, 4, 16], [5, 20, 70, 100]))
    keep = rng.random(len(batch)) < 0.8
    keep[[0, -1]] = True
    active = rng.lognormal(0.0, 1.0, len(batch))
    surface = fit_surface(batch[keep], share[keep], active[keep], np.full(keep.sum(), 0.01))
    grid = surface.at(np.arange(1, 40)[:, None], np.linspace(1, 100, 200)[None, :])
    assert np.all(grid > 0)
    assert np.all(np.diff(grid, axis=1) <= 1e-12 * grid[:, 1:])


def test_a_larger_batch_takes_less_where_that_is_no_noise() -> None:
    batch, share = (axis.ravel().astype(float) for axis in np.meshgrid([1, 2, 4, 8], [20, 50, 100], indexing="ij"))
    active = (3.0 * batch + 2.0) / share * 20.0 + 0.5 + 0.1 * batch
    other, noisy = np.where(batch == 8, 0.5, 1.0), np.where(batch == 8, 0.535, 1.0)
    fits = [fit_surface(batch, share, active * factor, np.full(12, 1e-3)) for factor in (other, noisy)]
    assert fits[0].at(8, share) == pytest.approx(0.5 * (3.0 * 8 + 2.0) / share * 20.0 + 0.65, rel=0.01)
    assert np.all(fits[0].at(8, 50) < 0.97 * fits[0].at(4, 50))
    assert np.all(fits[0].at(6, share) < fits[0].at(4, share))
    falls = [fit.at(8, np.array([20, 50, 100])) / fit.at(4, np.array([20, 50, 100])) for fit in fits]
    assert np.all(falls[0] < 0.97)
    assert np.all((falls[1] >= 1.0) | (falls[1] < 0.97))


def test_surface_meets_quiet_measurements_and_interpolates_between() -> None:
    batch, share = (axis.ravel().astype(float) for axis in np.meshgrid([1, 2, 4], [20, 50, 100], indexing="ij"))
    active = (3.0 * batch + 2.0) / share * 20.0 + 0.5 + 0.1 * batch
    surface = fit_surface(batch, share, active, np.full(9, 1e-4))
    assert surface.at(batch, share) == pytest.approx(active, rel=1e-3)
    assert surface.at(3.0, 50.0) == pytest.approx((surface.at(2.0, 50.0) + surface.at(4.0, 50.0)) / 2)
    assert surface.at(8.0, 50.0) == pytest.approx(2 * surface.at(4.0, 50.0))
    assert surface.at(4.0, 10.0) == pytest.approx(2 * surface.at(4.0, 20.0))


# The fit


@pytest.mark.parametrize("counters", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_monotone_whatever_was_measured(seed: int, counters: bool) -> None:
    rng = random.Random(seed)
    profile = refined_profile(rng, max_batch=rng.choice([2, 4, 8]), interference=rng.choice([0.0, 1.0, 4.0]))
    coefficients = fit_coefficients(with_counters(profile, rng) if counters else profile)
    assert coefficients.is_refined
    assert is_monotone(coefficients)


@pytest.mark.parametrize("name", shipped_profiles())
def test_shipped_profiles_are_monotone_and_have_no_pole(name: str) -> None:
    """For every model at every share of the card, whether or not it was measured in company."""
    profile = read_profile(name, coefficients="refined")
    bare = profile.model_copy(update={"solo_measurements": None, "colocated_measurements": None})
    for coefficients in (fit_coefficients(profile), fit_coefficients(bare)):
        shares = coefficients.hardware.shares()[None, :]
        for model, known in coefficients.models.items():
            assert is_monotone(coefficients, [model])
            batches = np.arange(1, known.max_batch + 1)[:, None]
            terms = placement_terms(coefficients, coefficients.index(model), batches, shares)
            assert np.all(np.isfinite(terms.active_ms)) and np.all(terms.active_ms > 0)
            assert np.all(np.diff(terms.active_ms, axis=1) <= 0)
            for caused in (terms.power_w, terms.cache, terms.traffic):
                assert np.all(np.diff(caused, axis=1) >= -1e-12 * caused[:, 1:])


def test_v100_is_monotone_and_fits_are_deterministic(refined: Profile) -> None:
    coefficients = fit_coefficients(refined)
    assert is_monotone(coefficients)
    renamed = refined.model_copy(update={"source": "the same data, but not from the cache"})
    assert fit_coefficients(renamed).models == coefficients.models


def test_fits_do_not_depend_on_the_number_of_threads(tmp_path: Path) -> None:
    program = """
from igniter_opt import read_profile
from igniter_opt.fitting.coefficients import fit_coefficients
print(fit_coefficients(read_profile("v100", coefficients="refined")))
"""
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            # Each in a cache of its own, so that both are fits.
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads, "NUMBA_CACHE_DIR": str(tmp_path / threads)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    }
    assert len(said) == 1 and "cache_sensitivity" in said.pop()


@pytest.mark.parametrize("name", ["v100", "h100"])
@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_equals_plain_recomputation(name: str, seed: int) -> None:
    rng = random.Random(seed)
    profile = read_profile(name, coefficients="refined")
    placements = [
        (rng.choice(list(profile.models)), rng.randint(1, 40), 2.5 * rng.randint(1, 8))
        for _ in range(rng.randint(1, 5))
    ]
    found = predict(profile, placements)
    expected = predict_scalar(fit_coefficients(profile), placements)
    assert found.latency_ms == pytest.approx([entry.latency for entry in expected], rel=1e-12)
    assert found.throughput_rps == pytest.approx([entry.throughput for entry in expected], rel=1e-12)


@pytest.mark.parametrize("name", ["v100", "h100"])
def test_fit_evaluates_the_model_of_the_predictor(name: str) -> None:
    refined = read_profile(name, coefficients="refined")
    faithful = fit_coefficients(with_coefficients(refined, "igniter"))
    fit = _Fit(refined, faithful, fit_surfaces(refined, faithful), readings_of(refined), 2)
    theta = fit.start(0) + 0.3 * np.sin(np.arange(len(fit.start(0))))
    theta[-1] = -100.0  # most pairs are above such a cap
    expected = predict_readings(fit.coefficients(theta), readings_of(refined)).predicted_ms
    assert fit.predicted(fit.unpack(theta)) == pytest.approx(expected, rel=1e-12)
    # Latencies that the model itself predicts imply its own active times.
    fit.latency = expected
    for k, (model, points) in enumerate(fit.implied(theta).items()):
        assert points.active_ms == pytest.approx(fit.surfaces[k].at(points.batch, points.share), rel=1e-9)
        assert model == list(refined.models)[k]


def test_counters_and_probes_predict_twins_from_the_profile_alone() -> None:
    """Where every probe says the same sensitivity, twins are slowed down exactly by what the probes measured."""
    rng = random.Random(5)
    profile = with_counters(refined_profile(rng), rng).model_copy(update={"colocated_measurements": None})
    surfaces = {name: fitted_surface(profile, name) for name in profile.models}
    models = {}
    for name, model in profile.models.items():
        probe, surface = model.interference_probe, surfaces[name]
        assert probe.batch is not None and probe.share_percent is not None
        whole = float(surface.at(probe.batch, 100.0) / surface.at(probe.batch, probe.share_percent))
        percent = float(fit_utilisation(model, surface).at(probe.batch))
        slower = 1.0 + 0.002 * percent * whole * (1.0 - WHOLE_PART + WHOLE_PART * whole)
        changed = probe.model_copy(update={"active_time_paired_ms": slower * probe.active_time_alone_ms})
        models[name] = model.model_copy(update={"interference_probe": changed})
    coefficients = fit_coefficients(profile.model_copy(update={"models": models}))
    for name, model in models.items():
        probe, known = model.interference_probe, coefficients.models[name]
        assert known.cache_sensitivity == pytest.approx(0.002 * (1.0 - WHOLE_PART), rel=1e-6)
        one = placement_terms(coefficients, coefficients.index(name), probe.batch, probe.share_percent)
        slowdown = float(one.sensitivity * one.cache)
        assert slowdown == pytest.approx(probe.active_time_paired_ms / probe.active_time_alone_ms - 1.0, rel=1e-6)


def fitted_surface(profile: Profile, name: str) -> ActiveSurface:
    terms = fit_coefficients(profile).models[name].refined
    assert terms is not None
    return terms.surface


def test_points_at_one_place_count_as_one() -> None:
    columns = np.array([[1, 50, 2.0, 0.1], [4, 50, 3.0, 0.2], [1, 50, 8.0, 0.1], [4, 20, 5.0, 0.3]]).T
    found = Points(*columns).merged()
    assert found.batch.tolist() == [1, 4, 4]
    assert found.share.tolist() == [50, 20, 50]
    assert found.active_ms == pytest.approx([4.0, 5.0, 3.0])
    assert found.noise == pytest.approx([0.1 / 2**0.5, 0.3, 0.2])


def test_power_is_never_negative_from_the_profile_alone() -> None:
    """Readings that fall with throughput, which the faithful coefficients follow."""
    rng = random.Random(2)
    profile = with_counters(refined_profile(rng), rng).model_copy(update={"colocated_measurements": None})
    first, model = next(iter(profile.models.items()))
    falling = tuple(tuple(400.0 - watt for watt in row) for row in model.solo_grid.power_w)
    odd = model.model_copy(update={"solo_grid": model.solo_grid.model_copy(update={"power_w": falling})})
    changed = profile.model_copy(update={"models": {**profile.models, first: odd}})
    assert fit_coefficients(with_coefficients(changed, "igniter")).models[first].power_slope < 0
    assert fit_coefficients(changed).models[first].power_slope == 0.0
    assert is_monotone(fit_coefficients(changed))


def test_utilisation_is_that_of_the_whole_card() -> None:
    model = read_profile("v100").models["vgg19"]
    surface = ActiveSurface((1.0, 32.0), (10.0, 50.0, 100.0), ((20.0, 4.0, 2.0), (600.0, 120.0, 60.0)))
    found = fit_utilisation(model, surface)
    small, middle, large = (point.value for point in model.l2_utilisation_percent_at)  # at 10, 50 and 100 %
    assert found.batches == (1.0, 16.0, 32.0)
    assert found.percent == pytest.approx((10 * small, 2 * middle, large))
    assert float(found.at(4.0)) == pytest.approx((10 * small + 2 * middle) / 2)
    assert float(found.at(100.0)) == pytest.approx(large)


def test_counted_contention_is_found_again() -> None:
    """Latencies made by counted contention alone are predicted, also in company that was never measured."""
    profile = read_profile("h100", coefficients="refined")
    law = fit_coefficients(profile.model_copy(update={"solo_measurements": None, "colocated_measurements": None}))
    beside = readings_of(profile)
    made = beside.model_copy(update={"latency_ms": tuple(predict_readings(law, beside).predicted_ms.tolist())})
    pair = {"alexnet", "unet"}
    rest = [n for n, at in made.members().items() if not pair <= {made.model[k] for k in at}]
    changed = {"solo_measurements": None, "colocated_measurements": made.take(rest)}
    found = predict_readings(fit_coefficients(profile.model_copy(update=changed)), made)
    error = np.abs(found.predicted_ms / found.measured_ms - 1.0)
    assert error.mean() <= 0.01
    assert error[~np.isin(made.group, rest)].mean() <= 0.01


def test_groups_of_any_size_are_fitted() -> None:
    profile = refined_profile(random.Random(3))
    names = list(profile.models)
    beside = readings_of(profile)
    number = max(beside.group) + 1
    more = {
        "group": (number,) * 3,
        "model": tuple(names),
        "batch": (1, 1, 1),
        "share_percent": (20.0, 30.0, 50.0),
        "latency_ms": tuple(1.5 * value for value in predict(profile, [(n, 1, 30.0) for n in names]).latency_ms),
    }
    columns = {name: getattr(beside, name) + column for name, column in more.items()}
    changed = profile.model_copy(update={"colocated_measurements": ColocatedMeasurements(**columns)})
    assert fit_coefficients(changed).models != fit_coefficients(profile).models
    assert is_monotone(fit_coefficients(changed))


def test_what_is_fitted_depends_on_what_is_there(refined: Profile) -> None:
    faithful = fit_coefficients(with_coefficients(refined, "igniter"))
    alone = fit_coefficients(refined.model_copy(update={"colocated_measurements": None}))
    few = readings_of(refined).take(list(readings_of(refined).members())[: FEWEST_READINGS - 1])
    too_few = fit_coefficients(refined.model_copy(update={"colocated_measurements": few}))
    for fitted in (alone, too_few):
        assert fitted.hardware == faithful.hardware
        for name, model in fitted.models.items():
            assert model.refined is not None
            assert model.refined.traffic_slope == model.refined.cache_whole == 0.0
            assert (model.cache_sensitivity, model.power_slope) == (
                faithful.models[name].cache_sensitivity,
                faithful.models[name].power_slope,
            )
    grid = fit_coefficients(refined.model_copy(update={"colocated_measurements": None, "solo_measurements": None}))
    assert grid.models["ssd"].refined != alone.models["ssd"].refined


def test_faithful_coefficients_ignore_the_measurements(v100: Profile) -> None:
    bare = v100.model_copy(update={"solo_measurements": None, "colocated_measurements": None, "calibration": None})
    assert fit_coefficients(bare) == fit_coefficients(v100)


def test_unknown_models_and_impossible_latencies(refined: Profile) -> None:
    models = {name: model for name, model in refined.models.items() if name != "ssd"}
    with pytest.raises(InputError, match=r"profile v100: solo_measurements\.model: unknown model 'ssd'"):
        fit_coefficients(refined.model_copy(update={"models": models}))
    solo = refined.solo_measurements
    assert solo is not None
    short = solo.model_copy(update={"latency_ms": (0.05, *solo.latency_ms[1:])})
    with pytest.raises(InputError, match=r"alexnet, batch 1, share .*: latency_ms 0.05 is no longer than transfers"):
        fit_coefficients(refined.model_copy(update={"solo_measurements": short}))
    with pytest.raises(InputError, match="unknown coefficients 'refine'; did you mean 'refined'"):
        read_profile("v100", coefficients="refine")


# How well it predicts (bench/accuracy has the tables)


def errors_by_batch(profile: Profile) -> np.ndarray:
    """Errors of fits without the groups that hold a reading's batch; of groups of up to four.

    Most larger groups hold every batch, so that hardly any would be left to fit to; they are all left out.
    """
    readings = readings_of(profile)
    members = readings.members()
    small = {number for number, at in members.items() if len(at) <= 4}
    error = np.full(len(readings.model), np.nan)
    for batch in sorted({readings.batch[k] for number in small for k in members[number]}):
        kept = [number for number in small if batch not in {readings.batch[k] for k in members[number]}]
        fitted = fit_coefficients(profile.model_copy(update={"colocated_measurements": readings.take(kept)}))
        found = predict_readings(fitted, readings)
        here = (np.array(readings.batch) == batch) & np.isin(readings.group, list(small))
        error[here] = np.abs(found.predicted_ms / found.measured_ms - 1)[here]
    return error[~np.isnan(error)]


def test_v100_pairs_left_out_by_batch_are_within_the_targets(refined: Profile) -> None:
    error = errors_by_batch(refined)
    assert error.mean() <= 0.02
    assert error.max() <= 0.10


def test_v100_pairs_left_out_by_models_are_within_the_targets(refined: Profile) -> None:
    readings = readings_of(refined)
    pairs = {number: frozenset(readings.model[k] for k in at) for number, at in readings.members().items()}
    errors = []
    for pair in sorted(set(pairs.values()), key=sorted):
        inside = [number for number, models in pairs.items() if models == pair]
        fitted = refined.model_copy(update={"colocated_measurements": readings.take(set(pairs) - set(inside))})
        judged = readings.take(inside)
        assert judged is not None
        found = predict_readings(fit_coefficients(fitted), judged)
        errors.append(np.abs(found.predicted_ms / found.measured_ms - 1))
    error = np.concatenate(errors)
    assert error.mean() <= 0.02
    assert error.max() <= 0.10


@pytest.mark.parametrize("name", ["h100", "h200"])
def test_newer_cards_are_within_the_targets(name: str) -> None:
    profile = read_profile(name, coefficients="refined")
    assert errors_by_batch(profile).mean() <= 0.04


@pytest.mark.parametrize("name", ["h100", "h200"])
def test_newer_cards_from_the_profile_alone(name: str) -> None:
    """Half the faithful coefficients' error at most."""
    profile = read_profile(name, coefficients="refined")
    readings = readings_of(profile)
    bare = profile.model_copy(update={"solo_measurements": None, "colocated_measurements": None})
    errors = [
        np.abs(found.predicted_ms / found.measured_ms - 1).mean()
        for found in (
            predict_readings(fit_coefficients(with_coefficients(bare, kind)), readings)
            for kind in ("refined", "igniter")
        )
    ]
    assert errors[0] <= 0.5 * errors[1]


def test_faithful_errors_are_the_published_ones(v100: Profile) -> None:
    found = predict_readings(fit_coefficients(v100), readings_of(v100))
    error = np.abs(found.predicted_ms / found.measured_ms - 1)
    assert 0.03 <= error.mean() <= 0.045  # 3.66 % on all 1,500 published readings
    assert 0.15 <= error.max() <= 0.20  # 18.4 %


def test_terms_of_absent_placements_are_nothing(refined: Profile) -> None:
    coefficients = fit_coefficients(refined)
    absent = placement_terms(coefficients, [-1], [1.0], [10.0])
    assert float(absent.traffic[0]) == float(absent.power_w[0]) == float(absent.cache[0]) == 0.0
    alone = predict_many(coefficients, np.array([[0]]), [[4]], [[20.0]])
    padded = predict_many(coefficients, np.array([[0, -1]]), [[4, 1]], [[20.0, 1.0]])
    assert padded.latency_ms[0, 0] == alone.latency_ms[0, 0]


def test_profile_file_names_its_set(tmp_path: Path, refined: Profile) -> None:
    from igniter_opt.data.profile import profile_json

    path = tmp_path / "card.json"
    path.write_text(profile_json(refined))
    assert read_profile(path) == refined
    assert read_profile(path, coefficients="igniter").coefficients == "igniter"

"""Coefficients of models as they are served."""

import json
import warnings

import numpy as np
import pytest

import igniter_opt as ig
from igniter_opt.base.errors import Caution
from igniter_opt.data.measurement_files import read_measurements
from igniter_opt.data.profile import Profile, profile_from_data, profile_json
from igniter_opt.data.serving import ServedModel, Serving
from igniter_opt.fitting.calibration import predict_readings
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.physics.partial_batches import batch_service_times
from igniter_opt.profiler.check import check_profile
from igniter_opt.profiler.runners.runner import Job
from igniter_opt.profiler.runners.synthetic import SyntheticRunner

ADDED = ServedModel(batch_ms=1.5, request_ms=0.25, way_ms=0.5, residual_ms=0.0, batches=100, requests=400)


def served(profile: Profile, *models: str) -> Profile:
    added = dict.fromkeys(models or profile.models, ADDED)
    return profile.model_copy(update={"serving": Serving(backend="process", date="2026-11-29", models=added)})


def test_a_batch_takes_its_part_longer_and_the_way_keeps_nobody_waiting(v100: Profile) -> None:
    spots = [("alexnet", 4, 20.0), ("vgg19", 8, 50.0)]
    before, after = (ig.predict(card, spots).latency_ms for card in (v100, served(v100)))
    # The clock of two models is not lowered here, and contention is that of the models alone.
    np.testing.assert_allclose(after - before, [1.5 + 0.25 * 4 + 0.5, 1.5 + 0.25 * 8 + 0.5], rtol=1e-9)
    times = [
        batch_service_times(fit, [fit.index("alexnet")], [4], [20.0])
        for fit in map(fit_coefficients, (v100, served(v100)))
    ]
    busy = [entry.gpu_ms[0] + entry.feedback_ms[0] for entry in times]
    # Inputs are copied between batches, not beside them.
    np.testing.assert_allclose(busy[1] - busy[0], 1.5 + 0.25 * np.arange(1, 5) + times[0].load_ms[0], rtol=1e-9)
    np.testing.assert_allclose(times[1].load_ms[0], 0.5)


def test_models_that_were_not_served_stay_as_they_are(v100: Profile) -> None:
    card = served(v100, "ssd")
    assert ig.predict(card, [("alexnet", 4, 20.0)]).latency_ms == ig.predict(v100, [("alexnet", 4, 20.0)]).latency_ms
    assert card.not_served(["ssd", "alexnet"]) == ["alexnet"]
    assert v100.not_served(["ssd"]) == ["ssd"]


def test_it_is_part_of_the_file_and_of_no_judgement_of_the_profile(v100: Profile) -> None:
    card = served(v100)
    assert profile_from_data(json.loads(profile_json(card)), "f", "f") == card
    assert card.bare() == v100
    assert check_profile(card).to_dict() == check_profile(v100).to_dict()
    job = [Job("ssd", 4, 40)]
    assert SyntheticRunner(card).measure(job, 0.5) == SyntheticRunner(v100).measure(job, 0.5)
    readings = read_measurements("v100-colocated").side_by_side()
    bare, whole = (predict_readings(fit_coefficients(entry), readings).error for entry in (v100, card))
    assert (whole < bare).all()


def test_plans_allow_for_it_and_a_profile_without_it_is_warned_of() -> None:
    instance = ig.read_instance("igniter-three").with_options(slo_rule="p99", max_replicas=3)
    with pytest.warns(Caution, match=r"profile serve v100 -o FILE"):
        bare = ig.solve(instance, "bestfit")
    (gpu,) = instance.gpu_types
    card = gpu.model_copy(update={"profile": served(gpu.profile)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ig.solve(instance.model_copy(update={"gpu_types": (card,)}), "bestfit")
    assert found.plan.total_share_percent > bare.plan.total_share_percent
    assert ig.verify(found.plan).ok
    assert not ig.verify(bare.plan.model_copy(update={"instance": found.plan.instance})).ok


def test_rules_of_constant_rates_promise_no_percentile() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ig.solve(ig.read_instance("igniter-three"), "bestfit")

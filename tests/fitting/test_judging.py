"""Margins by model: a placement is judged by the margin times its model's spread, and nothing else changes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import igniter_opt as ig
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.instance import Workload
from igniter_opt.data.profile import Profile, with_coefficients
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.fitting.judging import judging_coefficients, model_margin, time_factors
from igniter_opt.physics.interference import is_monotone, predict_many
from igniter_opt.physics.partial_batches import batch_service_times
from igniter_opt.problem.configurations import Problem

NAMES = ["h200", "v100"]


def spread_out(name: str, coefficients: str, seed: int) -> Profile:
    """A shipped profile whose models have spreads from a half to twice."""
    card = with_coefficients(ig.read_profile(name), coefficients)
    assert card.calibration is not None
    random = np.random.default_rng(seed)
    spread = {model: float(random.uniform(0.5, 2.0)) for model in card.models}
    entry = card.calibration[coefficients].model_copy(update={"spread": spread})
    return card.model_copy(update={"calibration": {**card.calibration, coefficients: entry}})


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(NAMES), st.sampled_from(["igniter", "refined"]), st.floats(0.0, 0.5))
def test_every_latency_has_its_models_margin(seed: int, name: str, coefficients: str, margin: float) -> None:
    card = spread_out(name, coefficients, seed)
    plain, judging = fit_coefficients(card), judging_coefficients(card, margin, 0.9)
    random = np.random.default_rng(seed)
    count, models = int(random.integers(1, 5)), list(card.models)
    model = random.integers(0, len(models), (1, count))
    batch, share = random.integers(1, 17, (1, count)), random.choice([10.0, 20.0, 25.0], (1, count))
    own = np.array([[model_margin(card, models[k], margin, 0.9) for k in model[0]]])
    wanted = predict_many(plain, model, batch, share, own)
    found = predict_many(judging, model, batch, share, margin)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)
    partial = batch_service_times(plain, model[0], batch[0], share[0], own[0]).gpu_ms
    again = batch_service_times(judging, model[0], batch[0], share[0], margin).gpu_ms
    for one, other in zip(again, partial, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)
    assert is_monotone(judging) == is_monotone(plain)


def test_without_a_confidence_or_spreads_nothing_differs() -> None:
    card = spread_out("h200", "refined", 1)
    assert judging_coefficients(card, 0.2, None) is fit_coefficients(card)
    assert judging_coefficients(card, 0.0, 0.9) is fit_coefficients(card)
    v100 = ig.read_profile("v100")
    assert judging_coefficients(v100, 0.2, 0.9) is fit_coefficients(v100)
    assert set(time_factors(v100, 0.2, 0.9).values()) == {1.0}


@pytest.mark.parametrize("rule", ["deadline", "p99"])
def test_limits_leave_what_the_margin_of_the_model_takes(rule: str) -> None:
    """A problem of one model has the limits that it has with the model's own margin."""
    card = spread_out("h200", "refined", 2)
    entry = Workload(name="a", model="alexnet", slo_ms=20.0, rate_rps=300.0)
    gpu = GpuType(name="GPU", profile=card, price_per_hour=1.0)
    case = ig.Instance(name="one", slo_rule=rule, gpu_types=(gpu,), workloads=(entry,))
    margin = card.margin_at(0.9)
    problem, other = Problem(case, margin, 0.9), Problem(case, model_margin(card, "alexnet", margin, 0.9))
    factor = problem.time_factor(0, "alexnet")
    assert factor != 1.0
    found, wanted = problem.limits_ms(0, 0, 300.0), other.limits_ms(0, 0, 300.0)
    np.testing.assert_allclose(found / factor, wanted, rtol=6e-4)
    assert (wanted > 0).any()


@pytest.mark.parametrize("rule", ["deadline", "p99"])
@pytest.mark.parametrize("method", ["bestfit", "patterns"])
def test_plans_are_judged_by_the_margins_of_their_models(rule: str, method: str) -> None:
    card = spread_out("h200", "refined", 3)
    gpu = GpuType(name="GPU", profile=card, price_per_hour=1.0)
    models = ["alexnet", "vgg19", "bert_base"]
    workloads = tuple(Workload(name=name, model=name, slo_ms=25.0, rate_rps=200.0) for name in models)
    case = ig.Instance(name="three", slo_rule=rule, gpu_types=(gpu,), workloads=workloads)
    plan = ig.solve(case, method, confidence=0.99, time_limit=5.0).plan
    assert ig.verify(plan).ok
    plain = ig.verify(plan.model_copy(update={"solver": plan.solver.model_copy(update={"confidence": None})}))
    for gpu_of_plan in plan.gpus:
        for placement in gpu_of_plan.placements:
            own = model_margin(card, placement.model, plan.solver.margin, 0.99)
            key = (placement.workload, placement.replica)
            seen = ig.verify(plan, {key: own})
            checks = [
                next(c for c in found.placements if (c.workload, c.replica) == key)
                for found in (seen, ig.verify(plan), plain)
            ]
            assert checks[0].slack_ms == pytest.approx(checks[1].slack_ms, rel=1e-9)
            assert (checks[2].slack_ms < checks[1].slack_ms) == (card.spread_of(placement.model) < 1.0)

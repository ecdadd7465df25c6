import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from igniter_opt import InputError, Profile, predict, read_profile
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.physics.interference import is_monotone, placement_terms, predict_many
from igniter_opt.physics.partial_batches import batch_service_times
from igniter_opt.slo.rules import RULES
from tests.support.scalar_model import active_time, predict_scalar
from tests.support.synthetic import random_profile

V100 = read_profile("v100")
COEFFICIENTS = fit_coefficients(V100)
MODELS = sorted(COEFFICIENTS.models)

placements = st.lists(
    st.tuples(st.sampled_from(MODELS), st.integers(1, 32), st.integers(1, 10).map(lambda level: 2.5 * level)),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize(
    ("shares", "vgg19", "ssd"),
    [((20, 80), 28.04963, 13.64733), ((40, 60), 14.61151, 16.75948), ((60, 40), 10.16797, 23.08123)],
)
def test_figure_11(v100: Profile, shares: tuple[float, float], vgg19: float, ssd: float) -> None:
    """The predictions printed in Figure 11 of Xu et al. 2023, to all their decimals."""
    prediction = predict(v100, [("vgg19", 3, shares[0]), ("ssd", 3, shares[1])])
    assert np.round(prediction.latency_ms, 5).tolist() == [vgg19, ssd]


@given(placements)
def test_agrees_with_the_scalar_model(case: list[tuple[str, int, float]]) -> None:
    prediction = predict(V100, case)
    expected = predict_scalar(COEFFICIENTS, case)
    assert prediction.latency_ms == pytest.approx([entry.latency for entry in expected], rel=1e-12)
    assert prediction.throughput_rps == pytest.approx([entry.throughput for entry in expected], rel=1e-12)


@given(placements, st.sampled_from([0.0, 0.07]))
def test_service_times_of_partial_batches(case: list[tuple[str, int, float]], margin: float) -> None:
    """Each entry, from the formulas: the batch formed, beside neighbours whose batches are full."""
    index = [COEFFICIENTS.index(model) for model, _, _ in case]
    times = batch_service_times(COEFFICIENTS, index, [b for _, b, _ in case], [r for _, _, r in case], margin)
    full = predict_scalar(COEFFICIENTS, case, margin)
    for k, (name, batch, share) in enumerate(case):
        assert len(times.gpu_ms[k]) == len(times.load_ms[k]) == len(times.feedback_ms[k]) == batch
        others = COEFFICIENTS.hardware.idle_power_w, 0.0
        for j, (other, b, r) in enumerate(case):
            if j != k:
                c = COEFFICIENTS.models[other]
                rate = 1000.0 * b / active_time(COEFFICIENTS, other, b, r)
                others = (
                    others[0] + c.power_slope * rate + c.power_intercept,
                    others[1] + c.cache_slope * rate + c.cache_intercept,
                )
        c, hardware = COEFFICIENTS.models[name], COEFFICIENTS.hardware
        for formed in range(1, batch + 1):
            active = active_time(COEFFICIENTS, name, formed, share)
            power = others[0] + c.power_slope * 1000.0 * formed / active + c.power_intercept
            slope = hardware.frequency_slope / hardware.max_frequency_mhz
            clock = min(1.0, 1.0 + slope * (power - hardware.max_power_w))
            delta = hardware.delay_slope * len(case) + hardware.delay_intercept if len(case) > 1 else 0.0
            gpu = c.scheduling_delay_ms + delta * c.kernels + active * (1.0 + c.cache_sensitivity * others[1])
            assert times.gpu_ms[k][formed - 1] == pytest.approx(gpu / clock * (1 + margin), rel=1e-12)
            assert times.load_ms[k][formed - 1] == pytest.approx(formed * c.input_bytes / hardware.pcie_bytes_per_ms)
        latency = times.gpu_ms[k][-1] + times.load_ms[k][-1] + times.feedback_ms[k][-1]
        assert latency == pytest.approx(full[k].latency, rel=1e-12)


@given(placements, st.integers(0, 3), st.integers(1, 30))
def test_growing_a_neighbours_share_never_lowers_a_latency(
    case: list[tuple[str, int, float]], which: int, more: int
) -> None:
    which %= len(case)
    room = 100 - sum(share for _, _, share in case)
    grown = [
        (model, batch, share + min(2.5 * more, room) * (k == which)) for k, (model, batch, share) in enumerate(case)
    ]
    before, after = predict(V100, case), predict(V100, grown)
    for k in range(len(case)):
        if k != which:
            assert after.latency_ms[k] >= before.latency_ms[k] * (1 - 1e-12)


@given(placements, st.integers(0, 3))
def test_removing_a_neighbour_never_raises_a_latency(case: list[tuple[str, int, float]], which: int) -> None:
    which %= len(case)
    if len(case) > 1:
        fewer = [entry for k, entry in enumerate(case) if k != which]
        before = np.delete(predict(V100, case).latency_ms, which)
        assert np.all(predict(V100, fewer).latency_ms <= before * (1 + 1e-12))


@given(st.integers(0, 10_000))
def test_monotone_profiles_are_recognised_truthfully(seed: int) -> None:
    """Where `is_monotone` says yes, random removals and share reductions never raise a latency."""
    rng = random.Random(seed)
    profile = random_profile(rng, models=2, max_batch=4)
    coefficients = fit_coefficients(profile)
    if not is_monotone(coefficients):
        return
    case = [(rng.choice(["m0", "m1"]), rng.randint(1, 4), 10.0 * rng.randint(1, 3)) for _ in range(3)]
    less = [(m, b, 10.0 * rng.randint(1, int(s // 10))) if k else (m, b, s) for k, (m, b, s) in enumerate(case)]
    first = predict(profile, case).latency_ms[0] * (1 + 1e-12)
    assert predict(profile, less).latency_ms[0] <= first
    assert predict(profile, less[:2]).latency_ms[0] <= first


def test_shares_below_the_pole_are_refused() -> None:
    """The faithful formula gives transformers on the H100 negative times below a share of 5.4 %."""
    profile = read_profile("h100", coefficients="igniter")
    with pytest.raises(InputError, match=r"vit_b_16, batch 4, share 4.5 %: the igniter coefficients .* pole at"):
        predict(profile, [("vit_b_16", 4, 4.5)])
    coefficients = fit_coefficients(profile)
    many = predict_many(coefficients, np.array([[coefficients.index("vit_b_16")]]), [[4]], [[4.5]])
    assert np.isinf(many.latency_ms[0, 0])
    assert many.throughput_rps[0, 0] == 0
    assert predict(profile.model_copy(update={"coefficients": "refined"}), [("vit_b_16", 4, 4.5)]).latency_ms[0] > 0


def test_positive_times_below_the_pole_are_nonsense_too() -> None:
    """With a large k5 the formula is positive on both sides of its pole."""
    fitted = fit_coefficients(read_profile("h100", coefficients="igniter"))
    vit = fitted.models["vit_b_16"]
    lifted = replace(fitted, models={"vit_b_16": replace(vit, active=(*vit.active[:4], 1000.0))})
    shares = np.array([1.5, 3.0, 4.5, 6.0, 50.0])
    terms = placement_terms(lifted, 0, 4, shares)
    assert np.isinf(terms.active_ms).tolist() == [True, True, True, False, False]
    assert np.all(terms.cache_ms[:3] == 0)
    assert terms.cache_ms[3:] == pytest.approx(terms.active_ms[3:] * vit.cache_sensitivity)
    assert terms.power_w[:3] == pytest.approx(vit.power_intercept)
    many = predict_many(lifted, np.zeros((5, 1), dtype=int), [[4]] * 5, shares[:, None])
    assert np.isinf(many.latency_ms[:, 0]).tolist() == [True, True, True, False, False]


def test_padding_changes_nothing() -> None:
    model = np.array([[0, 1, -1, -1], [2, 3, 1, 0]])
    batch, share = np.full((2, 4), 3.0), np.full((2, 4), 20.0)
    padded = predict_many(COEFFICIENTS, model, batch, share)
    plain = predict_many(COEFFICIENTS, model[:1, :2], batch[:1, :2], share[:1, :2])
    assert padded.latency_ms[0, :2] == pytest.approx(plain.latency_ms[0], rel=1e-15)


def test_no_clock_left_means_infinite_latency() -> None:
    """Four hungry neighbours on a card whose cap they exceed by far."""
    hardware = V100.hardware.model_copy(update={"max_power_w": 1.0, "max_frequency_mhz": 100.0})
    run = hardware.coexecution.model_copy(update={"frequency_mhz": (60.0, 20.0, 9.0, 3.0, 1.0)})
    grids = {}
    for name, model in V100.models.items():
        clock = tuple(tuple(100.0 for _ in row) for row in model.solo_grid.frequency_mhz)
        grids[name] = model.model_copy(
            update={"solo_grid": model.solo_grid.model_copy(update={"frequency_mhz": clock})}
        )
    profile = V100.model_copy(update={"hardware": hardware.model_copy(update={"coexecution": run}), "models": grids})
    prediction = predict(profile, [("vgg19", 32, 25.0)] * 4)
    assert prediction.frequency_mhz == 0.0
    assert np.all(np.isinf(prediction.latency_ms))
    assert np.all(prediction.throughput_rps == 0)


@given(
    st.sampled_from(["half", "deadline"]),
    placements,
    st.floats(5, 200),
    st.floats(1, 2000),
    st.sampled_from([0.0, 0.05, 0.3]),
)
def test_the_gpu_latency_limit_is_both_requirements_in_one(
    rule: str, case: list[tuple[str, int, float]], slo: float, rate: float, margin: float
) -> None:
    model, batch, _ = case[0]
    index = np.array([[COEFFICIENTS.index(entry) for entry, _, _ in case]])
    batches, shares = (np.array([[entry[k] for entry in case]], dtype=float) for k in (1, 2))
    plain = predict_many(COEFFICIENTS, index, batches, shares)
    inflated = predict_many(COEFFICIENTS, index, batches, shares, margin)
    per_byte = batch / COEFFICIENTS.hardware.pcie_bytes_per_ms
    load = per_byte * COEFFICIENTS.models[model].input_bytes
    feedback = per_byte * COEFFICIENTS.models[model].output_bytes
    limit = RULES[rule].gpu_latency_limit_ms(slo, rate, batch, load, feedback, margin)
    gap = abs(float(plain.gpu_latency_ms[0, 0] / limit) - 1) if limit > 0 else 1.0
    if gap > 1e-9:
        both = inflated.latency_ms[0, 0] <= RULES[rule].latency_limit_ms(slo, rate, batch)
        both &= inflated.throughput_rps[0, 0] >= rate
        assert bool(plain.gpu_latency_ms[0, 0] <= limit) == bool(both)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ([], "at least one"),
        ([("alexnet", 0, 10.0)], "batch"),
        ([("alexnet", 1, 0.0)], "share"),
        ([("alexnet", 1, 101.0)], "share"),
        ([("alexnet", 1, float("nan"))], "share"),
        ([("alexnet", 1, 60.0), ("ssd", 1, 50.0)], "add up to 110"),
        ([("alexnte", 1, 60.0)], "did you mean 'alexnet'"),
    ],
)
def test_bad_arguments(v100: Profile, case: list[tuple[str, int, float]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        predict(v100, case)

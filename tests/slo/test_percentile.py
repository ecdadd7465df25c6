"""Rule p99: the envelope of partial batches, the limits D_c, and what `verify` says to both."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igniter_opt import Instance, Plan, Workload, read_instance, read_profile, solve, verify
from igniter_opt.base.errors import UnsuitableError
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.physics.interference import clock_line, clock_ratio, is_monotone, placement_terms
from igniter_opt.physics.parameters import Coefficients
from igniter_opt.physics.partial_batches import batch_service_times, partial_batch_bound_ms, slowed_at_most
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import Draft, DraftGpu, make_plan
from igniter_opt.slo.percentile import LIMIT_TOLERANCE, largest_rate, percentile_limits, queues, times_alone
from igniter_opt.slo.queueing import BatchQueue
from tests.support.synthetic import helped_by_company, random_instance, random_profile

V100 = fit_coefficients(read_profile("v100"))
TABLE3 = read_instance("igniter-table3").with_options("p99")


def random_gpu(rng: random.Random) -> tuple[Coefficients, list[int], list[int], list[float]]:
    """A monotone card, V100 or made up, often with a low power cap, and what runs on it."""
    if rng.random() < 0.4:
        coefficients = V100
    else:
        while True:
            profile = random_profile(
                rng, max_batch=rng.choice([3, 8]), interference=4.0, power_cap=rng.choice([90.0, 150.0, 300.0])
            )
            coefficients = fit_coefficients(profile)
            if is_monotone(coefficients):
                break
    models = list(coefficients.models.values())
    chosen = [rng.randrange(len(models)) for _ in range(rng.randint(1, 4))]
    return (
        coefficients,
        chosen,
        [rng.randint(1, models[k].max_batch) for k in chosen],
        [coefficients.hardware.share_unit_percent * rng.randint(1, 2) for _ in chosen],
    )


def bound(coefficients: Coefficients, model: int, batch: int, share: float, limit: float) -> np.ndarray:
    """The envelope e_1 .. e_b of a limit."""
    terms = placement_terms(coefficients, model, np.arange(1, batch + 1), share)
    slowed = np.stack(np.broadcast_arrays(terms.cache_ms, terms.traffic_ms), axis=-1)
    hardware = coefficients.hardware
    return np.array(
        [
            partial_batch_bound_ms(
                limit, float(terms.delay_ms), float(terms.active_ms[k]), float(terms.active_ms[-1]),
                slowed_at_most(slowed[k], slowed[-1]),
                float(terms.power_w[k]), float(terms.power_w[-1]), hardware.idle_power_w, *clock_line(hardware),
            )
            for k in range(batch)
        ]
    )  # fmt: skip


def alone(coefficients: Coefficients, model: int, batch: int, share: float) -> np.ndarray:
    return batch_service_times(coefficients, [model], [batch], [share]).gpu_ms[0]


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 10**9), st.sampled_from([1.0, 1.01, 1.5]))
def test_no_partial_batch_exceeds_its_bound(seed: int, slack: float) -> None:
    """Whatever runs beside it, if the full batch meets a limit then all smaller ones meet theirs."""
    coefficients, models, batches, shares = random_gpu(random.Random(seed))
    times = batch_service_times(coefficients, models, batches, shares).gpu_ms
    for k, (model, batch, share) in enumerate(zip(models, batches, shares, strict=True)):
        if np.isfinite(times[k]).all():
            limits = bound(coefficients, model, batch, share, float(times[k][-1]) * slack)
            assert np.all(times[k] <= limits * (1 + 1e-12))
            assert limits[-1] == pytest.approx(float(times[k][-1]) * slack, rel=1e-12)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 10**9), st.floats(1.0, 3.0), st.floats(1.0, 1.5))
def test_bounds_grow_with_the_limit_and_begin_at_the_times_alone(seed: int, factor: float, more: float) -> None:
    coefficients, models, batches, shares = random_gpu(random.Random(seed))
    model, batch, share = models[0], batches[0], shares[0]
    solo = alone(coefficients, model, batch, share)
    if not np.isfinite(solo).all():
        return
    at_least = bound(coefficients, model, batch, share, float(solo[-1]))
    assert np.all(at_least >= solo * (1 - 1e-12))
    first = bound(coefficients, model, batch, share, float(solo[-1]) * factor)
    assert np.all(first >= at_least * (1 - 1e-12))
    assert np.all(bound(coefficients, model, batch, share, float(solo[-1]) * factor * more) >= first * (1 - 1e-12))


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 10**9), st.floats(0.0, 2.0), st.floats(0.0, 2.0), st.floats(0.0, 2.0), st.floats(0.0, 400.0))
def test_no_neighbours_at_all_exceed_the_bound(seed: int, x: float, c: float, d: float, z: float) -> None:
    """Any delay x, contention c and d and power z, not only those of models in a profile; odd curves included."""
    rng = random.Random(seed)
    s, idle = rng.uniform(0.0, 1.0), 50.0
    active = np.array([rng.uniform(0.5, 9.0) for _ in range(4)])
    power = np.array([rng.uniform(1.0, 200.0) for _ in range(4)])
    slowed = np.array([[rng.choice([0.0, rng.uniform(0.5, 9.0)]) for _ in range(2)] for _ in range(4)])
    slope = -rng.uniform(0.0, 0.003)
    line = (1.0 - slope * rng.uniform(60.0, 300.0), slope)

    def ratio(k: int) -> float:
        return float(min(1.0, line[0] + line[1] * (idle + power[k] + z)))

    if min(ratio(k) for k in range(4)) <= 0:
        return
    times = [(s + x + active[k] + slowed[k] @ (c, d)) / ratio(k) for k in range(4)]
    for k in range(4):
        longer = slowed_at_most(slowed[k], slowed[3])
        found = partial_batch_bound_ms(times[3], s, active[k], active[3], longer, power[k], power[3], idle, *line)
        assert times[k] <= found * (1 + 1e-9)


def test_the_bound_is_attained_by_added_delay() -> None:
    """No smaller bound holds: a neighbour of no power and cache use adds the same delay to every batch."""
    solo = alone(V100, 2, 8, 40.0)
    assert bound(V100, 2, 8, 40.0, float(solo[-1]) + 3.0) == pytest.approx(solo + 3.0, rel=1e-12)


def percentile_at(model: int, batch: int, share: float, rate: float, q: float, margin: float, limit: float) -> float:
    terms = placement_terms(V100, model, np.arange(1, batch + 1), share)
    busy = bound(V100, model, batch, share, limit) * (1 + margin) + terms.feedback_ms
    return BatchQueue(rate, busy, busy + terms.load_ms).percentile_ms(q)


@pytest.mark.parametrize("seed", [pytest.param(k, marks=[pytest.mark.slow] if k >= 20 else []) for k in range(300)])
def test_limits_are_the_largest_admissible(seed: int) -> None:
    """Within the stated tolerance of what bisection on the percentile itself finds, and never above."""
    rng = random.Random(seed)
    names = list(V100.models)
    name, rate = rng.choice(names), 10 ** rng.uniform(1.3, 3.0)
    slo = {"alexnet": 20.0, "resnet50": 40.0, "vgg19": 60.0, "ssd": 90.0}[name] * rng.uniform(0.5, 2.0)
    q, margin = rng.choice([0.6, 0.9, 0.99, 0.99, 0.999]), rng.choice([0.0, 0.1])
    model = names.index(name)
    limits = percentile_limits(V100.models[name], V100.hardware, slo, rate, q, margin)
    for _ in range(12):
        batch, level = rng.randint(1, 32), rng.randint(1, 40)
        case = (model, batch, 2.5 * level, rate, q, margin)
        least, found = float(alone(V100, model, batch, 2.5 * level)[-1]), float(limits[batch - 1, level - 1])
        if found == 0.0:
            assert percentile_at(*case, least * (1 + LIMIT_TOLERANCE)) > slo
            continue
        assert percentile_at(*case, found) <= slo * (1 + 1e-9)
        assert percentile_at(*case, found * (1 + LIMIT_TOLERANCE)) > slo


def test_orientation() -> None:
    """What one V100 holds at P99, with 8 % for neighbours; the figures are known from an independent simulation."""

    def least_share(name: str, slo: float, rate: float, spare: float = 1.08) -> float | None:
        limits = percentile_limits(V100.models[name], V100.hardware, slo, rate, 0.99)
        terms = placement_terms(V100, V100.index(name), np.arange(1, 33)[:, None], V100.hardware.shares()[None, :])
        ratio = clock_ratio(V100.hardware, V100.hardware.idle_power_w + terms.power_w)
        holds = ((terms.delay_ms + terms.active_ms) / ratio * spare <= limits).any(axis=0)
        return 2.5 * (int(holds.argmax()) + 1) if holds.any() else None

    assert least_share("vgg19", 30, 400) is None
    assert least_share("ssd", 25, 150) is None
    assert least_share("ssd", 55, 300) is None
    assert least_share("vgg19", 20, 300) == pytest.approx(100, abs=10)
    assert least_share("resnet50", 20, 400) == pytest.approx(50, abs=7.5)
    assert least_share("alexnet", 10, 1200) == pytest.approx(25, abs=7.5)


def judged(instance: Instance, margin: float, placements: list[Draft]) -> Plan:
    return make_plan(Problem(instance, margin), [DraftGpu(0, placements)], method="test", status="heuristic")


@pytest.mark.parametrize("seed", range(40))
def test_what_the_rows_admit_verify_admits(seed: int) -> None:
    """Random placements whose rows just hold: the percentile at the actual interference is within the SLO."""
    rng = random.Random(seed)
    margin = rng.choice([0.0, 0.05])
    if seed % 2:
        instance = read_instance(rng.choice(["uniform-24-1", "loose-24-1", "igniter-table3"]))
    else:
        while True:
            profile = random_profile(rng, unit=5.0, max_batch=6, interference=4.0, power_cap=rng.choice([120.0, 300.0]))
            if is_monotone(fit_coefficients(profile)):
                break
        instance = random_instance(rng, [profile], 8)
    problem = Problem(instance.with_options("p99", percentile=rng.choice([0.9, 0.99, 0.999])), margin)
    hardware = problem.coefficients[0].hardware
    intercept, slope = clock_line(hardware)
    admitted = 0
    for _ in range(60):
        members = rng.sample(range(len(problem.workloads)), rng.randint(1, 4))
        found = [problem.configurations(k, 0) for k in members]
        if any(entry is None for entry in found):
            continue
        at = [rng.randrange(len(entry)) for entry in found if entry is not None]
        power = hardware.idle_power_w + sum(float(e.power_w[c]) for e, c in zip(found, at, strict=True) if e)
        cache = sum(float(e.cache[c]) for e, c in zip(found, at, strict=True) if e)
        delay = hardware.delay_slope * len(at) + hardware.delay_intercept if len(at) > 1 else 0.0
        ratio = min(1.0, intercept + slope * power)
        # The rows, whatever the shares add up to.
        rows = [
            float(e.base_ms[c] + e.kernels * delay + e.cache_ms[c] * (cache - e.cache[c]) - e.limit_ms[c] * ratio)
            for e, c in zip(found, at, strict=True)
            if e is not None
        ]
        drafts = [
            Draft(k, 1, int(e.batch[c]), int(e.level[c]), problem.workloads[k].rate_rps)
            for k, e, c in zip(members, found, at, strict=True)
            if e is not None
        ]
        verification = verify(judged(problem.instance, margin, drafts))
        for row, check in zip(rows, verification.placements, strict=True):
            if row <= 0:
                admitted += 1
                assert check.ok, check
    assert admitted > 10


@pytest.mark.parametrize("slo", [10.0, 25.0, 60.0])
def test_the_largest_rate_is_admitted_and_little_more(slo: float) -> None:
    model = V100.models["vgg19"]
    busy, latency = times_alone(model, V100.hardware, 100.0, 0.0)
    for batch in (1, 4, 9):
        most = largest_rate(busy[:batch], latency[:batch], slo, 0.99)
        if most == 0.0:
            assert latency[0] > slo
            continue
        assert percentile_limits(model, V100.hardware, slo, most, 0.99)[batch - 1, -1] > 0.0
        assert percentile_limits(model, V100.hardware, slo, most * 1.002, 0.99)[batch - 1, -1] == 0.0


def test_verify_judges_by_the_queue() -> None:
    """A placement alone on a GPU: latency is the percentile of its queue, the limit is the SLO."""
    plan = judged(TABLE3, 0.0, [Draft(6, 1, 8, 40, 300.0)])
    found = verify(plan)
    (check,) = found.placements
    (queue,) = queues(V100, [2], [8], [100.0], [300.0])
    assert check.latency_ms == queue.percentile_ms(0.99)
    assert (check.limit_ms, check.ok) == (20.0, check.latency_ms <= 20.0)
    assert check.slack_ms == 20.0 - check.latency_ms
    assert plan.gpus[0].placements[0].predicted_latency_ms == pytest.approx(float(queue.latency_ms[-1]), rel=1e-12)
    assert plan.gpus[0].placements[0].queue_delay_us == 0
    inflated = verify(judged(TABLE3, 0.05, [Draft(6, 1, 8, 40, 300.0)])).placements[0]
    assert inflated.latency_ms == check.latency_ms
    assert inflated.slack_ms < check.slack_ms


def test_verify_without_a_stationary_state() -> None:
    found = verify(judged(TABLE3, 0.0, [Draft(6, 1, 1, 8, 300.0)]))
    assert [entry.kind for entry in found.violations if entry.where == "V100-1/W7#1"] == ["latency", "throughput"]
    messages = [entry.message for entry in found.violations if entry.where == "V100-1/W7#1"]
    assert "P99 latency without bound is over its limit 20.0000 ms" in messages
    assert found.placements[0].latency_ms == np.inf
    assert found.to_dict()["placements"][0]["latency_ms"] is None


def test_a_rate_just_within_the_throughput_is_too_much() -> None:
    (queue,) = queues(V100, [2], [8], [100.0], [1.0])
    rate = 0.9995 * 8 / float(queue.busy_ms[-1]) * 1000.0
    workload = Workload(name="V", model="vgg19", slo_ms=1e6, rate_rps=rate)
    instance = TABLE3.model_copy(update={"workloads": (workload,)})
    found = verify(judged(instance, 0.0, [Draft(0, 1, 8, 40, rate)])).violations
    assert [entry.kind for entry in found] == ["latency", "throughput"]
    assert "utilisation 0.9995" in found[1].message


def test_smaller_percentiles_admit_more() -> None:
    totals = [solve(TABLE3, "ffd++", max_replicas=3, percentile=q).total_share_percent for q in (0.8, 0.95, 0.99)]
    assert totals == sorted(totals)
    assert totals[0] < totals[2]


def test_other_profiles_are_refused() -> None:
    """Neighbours that help: nothing bounds the times of partial batches."""
    gpu = TABLE3.gpu_types[0]
    odd = gpu.model_copy(update={"profile": helped_by_company(gpu.profile)})
    for method in ("auto", "igniter", "assignment", "patterns"):
        with pytest.raises(UnsuitableError, match="rule p99: the profile of GPU type V100"):
            solve(TABLE3.model_copy(update={"gpu_types": (odd,)}), method)

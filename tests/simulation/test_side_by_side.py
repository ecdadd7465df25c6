"""Placements served together, against a plain event loop that asks the predictor about whoever runs."""

import math
import random
from itertools import pairwise

import numpy as np
import pytest

import igniter_opt as ig
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.physics.batcher import serve
from igniter_opt.physics.interference import placement_terms, predict_many
from igniter_opt.physics.parameters import Coefficients
from igniter_opt.physics.partial_batches import batch_service_times, running_times_ms, shared_gpu
from igniter_opt.simulation.side_by_side import BUSY, COMPLETED, LONGEST, WAITED, serve_side_by_side
from tests.support.reference_simulation import Instance, serve_together_plainly
from tests.support.refined_profiles import refined_profile

MS = 1e6


class Gpu:
    """Placements on one GPU with their requests."""

    def __init__(self, coefficients: Coefficients, placements: list[tuple[str, int, float, float]]) -> None:
        """Take models, batches, shares in percent and queue delays in ms."""
        self.coefficients = coefficients
        self.model = np.array([coefficients.index(name) for name, _, _, _ in placements])
        self.batch = np.array([batch for _, batch, _, _ in placements])
        self.share = np.array([share for _, _, share, _ in placements])
        self.delay = np.array([delay * MS for _, _, _, delay in placements])

    def serve(
        self,
        arrivals: list[np.ndarray],
        noise: list[np.ndarray] | None = None,
        first: list[int] | None = None,
        inflation: float = 1.0,
    ) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """Return latencies, batches and totals; the time counted is that of the requests counted."""
        offset = np.concatenate([[0], np.cumsum([len(own) for own in arrivals])]).astype(np.int64)
        ahead = np.array(first or [0] * len(arrivals), dtype=np.int64)
        latency, totals = np.empty(offset[-1]), np.zeros((len(arrivals), 4))
        batches = np.zeros((len(arrivals), int(self.batch.max())), dtype=np.int64)
        serve_side_by_side(
            np.concatenate(arrivals),
            offset,
            ahead,
            np.array([(own[k], own[-1]) for own, k in zip(arrivals, ahead, strict=True)]),
            self.delay,
            self.batch,
            shared_gpu(self.coefficients, self.model, self.batch, self.share),
            inflation,
            np.empty(0) if noise is None else np.concatenate(noise),
            latency,
            batches,
            totals,
        )
        return [latency[a:b] for a, b in pairwise(offset)], batches, totals

    def times_ns(self, running: dict[int, int]) -> dict[int, float]:
        """Ask the predictor how long these batches take if nobody else is there."""
        who = list(running)
        found = predict_many(
            self.coefficients, self.model[None, who], [[running[i] for i in who]], self.share[None, who]
        )
        return {i: float(found.gpu_latency_ms[0, k]) * MS for k, i in enumerate(who)}

    def instances(self, arrivals: list[np.ndarray], noise: list[np.ndarray] | None) -> list[Instance]:
        made = []
        for i, own in enumerate(arrivals):
            sizes = np.arange(1, self.batch[i] + 1)
            terms = placement_terms(self.coefficients, self.model[i], sizes, self.share[i])
            factors = () if noise is None else noise[i].tolist()
            load, feedback = (terms.load_ms * MS).tolist(), (terms.feedback_ms * MS).tolist()
            made.append(Instance(own.tolist(), float(self.delay[i]), int(self.batch[i]), load, feedback, factors))
        return made


def random_gpu(rng: random.Random) -> Gpu:
    coefficients = fit_coefficients(refined_profile(rng)) if rng.random() < 0.5 else V100
    count = rng.choice([1, 2, 3, 5])
    names = list(coefficients.models)
    largest = min(coefficients.models[name].max_batch for name in names)
    return Gpu(
        coefficients,
        [
            (rng.choice(names), rng.randint(1, largest), rng.choice([10.0, 20.0]), rng.choice([0.0, 0.0, 1.0, 5.0]))
            for _ in range(count)
        ],
    )


V100 = fit_coefficients(ig.read_profile("v100"))


def poisson(gpu: Gpu, rng: np.random.Generator, load: float, requests: int) -> list[np.ndarray]:
    """Requests for some part of what each placement could serve with all others at full batches."""
    found = predict_many(gpu.coefficients, gpu.model[None], gpu.batch[None], gpu.share[None])
    rates = load * found.throughput_rps[0]
    return [np.floor(np.cumsum(rng.exponential(1e9 / rate, requests)) + 0.5) for rate in rates]


@pytest.mark.parametrize("seed", range(24))
def test_against_a_plain_event_loop(seed: int) -> None:
    gpu = random_gpu(random.Random(seed))
    rng = np.random.default_rng(seed)
    arrivals = poisson(gpu, rng, rng.choice([0.2, 0.7, 1.3]), 150)
    noise = [rng.lognormal(0.0, 0.2, 150) for _ in arrivals] if seed % 3 == 0 else None
    latency, batches, totals = gpu.serve(arrivals, noise)
    plain = gpu.instances(arrivals, noise)
    serve_together_plainly(plain, gpu.times_ns)
    for i, own in enumerate(plain):
        np.testing.assert_allclose(latency[i], own.answered, rtol=1e-7, atol=1.0)
        assert batches[i].tolist() == [own.sizes.count(k + 1) for k in range(batches.shape[1])]
        assert totals[i, LONGEST] >= max(own.sizes)


def test_what_is_counted() -> None:
    """Totals are those of the window, and requests served ahead are in no batch that is counted."""
    gpu = Gpu(V100, [("resnet50", 4, 50.0, 2.0)])
    (arrivals,) = poisson(gpu, np.random.default_rng(3), 0.8, 400)
    (latency,), batches, totals = gpu.serve([arrivals], first=[100])
    (own,) = gpu.instances([arrivals], None)
    serve_together_plainly([own], gpu.times_ns)
    np.testing.assert_allclose(latency, own.answered, atol=1.0)
    begin, end = arrivals[100], arrivals[-1]
    first = np.cumsum([0, *own.sizes])
    counted = [size for size, start in zip(own.sizes, first, strict=False) if start + size > 100]
    assert batches[0].tolist() == [counted.count(k) for k in (1, 2, 3, 4)]
    answered = arrivals + latency
    assert totals[0, COMPLETED] == np.count_nonzero((begin < answered) & (answered <= end))
    load = placement_terms(V100, gpu.model[0], np.array(own.sizes), 50.0).load_ms * MS
    busy = 0.0
    for size, start, loading in zip(own.sizes, first, load, strict=False):
        stop = answered[start] - loading
        (time,) = gpu.times_ns({0: size}).values()
        start_ns = stop - time - placement_terms(V100, gpu.model[0], size, 50.0).feedback_ms * MS
        busy += max(0.0, min(stop, end) - max(start_ns, begin))
    assert totals[0, BUSY] == pytest.approx(busy, rel=1e-9)
    assert totals[0, WAITED] > 0


@pytest.mark.parametrize("seed", range(6))
def test_alone_it_is_the_other_engine(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gpu = Gpu(V100, [("vgg19", int(rng.integers(1, 9)), 40.0, float(rng.choice([0.0, 3.0])))])
    (arrivals,) = poisson(gpu, rng, 0.9, 2000)
    (latency,), batches, totals = gpu.serve([arrivals])
    times = batch_service_times(V100, gpu.model, gpu.batch, gpu.share)
    parts = [part[0] * MS for part in times]
    expected, formed = np.empty(2000), np.zeros(int(gpu.batch[0]), dtype=np.int64)
    said = serve(arrivals, 0, arrivals[0], arrivals[-1], float(gpu.delay[0]), *parts, np.empty(0), expected, formed)
    np.testing.assert_allclose(latency, expected, atol=1.0)
    assert batches[0].tolist() == formed.tolist()
    assert totals[0].tolist() == pytest.approx(said, rel=1e-9)


def test_neighbours_that_never_rest_slow_as_the_plan_says() -> None:
    """A neighbour with an endless queue runs full batches all the time; only its copies back give others relief."""
    gpu = Gpu(V100, [("resnet50", 4, 50.0, 0.0), ("vgg19", 8, 40.0, 0.0)])
    rng = np.random.default_rng(0)
    own, _ = poisson(gpu, rng, 0.3, 300)
    (latency, _), _, _ = gpu.serve([own, np.zeros(40_000)])
    times = batch_service_times(V100, gpu.model, gpu.batch, gpu.share)
    parts = [np.asarray(part[0]) * MS for part in (times.gpu_ms, times.load_ms, times.feedback_ms)]
    expected = np.empty(300)
    serve(own, 0, 0.0, own[-1], 0.0, *parts, np.empty(0), expected, np.zeros(4, dtype=np.int64))
    (alone, _), _, _ = gpu.serve([own, np.array([own[-1] + 1e12])])
    assert latency.mean() < expected.mean()
    assert latency.mean() == pytest.approx(expected.mean(), rel=0.01)
    assert alone.mean() < 0.97 * latency.mean()


def test_running_times_are_those_of_the_predictor() -> None:
    gpu = Gpu(V100, [("alexnet", 8, 20.0, 0.0), ("resnet50", 4, 30.0, 0.0), ("vgg19", 6, 40.0, 0.0)])
    shared = shared_gpu(V100, gpu.model, gpu.batch, gpu.share)
    found = np.empty(3)
    for running in ({0: 8, 1: 4, 2: 6}, {0: 3, 2: 1}, {1: 2}, {}):
        running_times_ms(shared, np.array([running.get(i, 0) for i in range(3)]), found)
        expected = gpu.times_ns(running) if running else {}
        assert found.tolist() == pytest.approx([expected.get(i, math.inf) / MS for i in range(3)])


def test_without_a_clock_nothing_is_answered() -> None:
    """Together these would draw more power than leaves a clock: whoever is alone is served, the rest never."""
    greedy = V100.hardware
    gpu = Gpu(V100, [("vgg19", 8, 50.0, 0.0), ("vgg19", 8, 50.0, 0.0)])
    power = placement_terms(V100, gpu.model[0], 1, 50.0).power_w
    shared = shared_gpu(V100, gpu.model, gpu.batch, gpu.share)
    # The line reaches zero between one placement's power and two.
    line = shared._replace(
        clock_intercept=1.0 + greedy.idle_power_w + power, clock_slope=-1.0 / 1.0, idle_power_w=greedy.idle_power_w
    )
    time = np.empty(2)
    running_times_ms(line, np.array([1, 0]), time)
    assert np.isfinite(time[0])
    running_times_ms(line, np.array([1, 1]), time)
    assert np.isinf(time).all()


@pytest.mark.parametrize("inflation", [1.0, 1.5])
def test_a_margin_inflates_gpu_times(inflation: float) -> None:
    gpu = Gpu(V100, [("alexnet", 1, 40.0, 0.0)])
    spaced = np.arange(5) * 1e9
    (latency,), _, _ = gpu.serve([spaced], inflation=inflation)
    terms = placement_terms(V100, gpu.model[0], 1, 40.0)
    (alone,) = gpu.times_ns({0: 1}).values()
    assert latency == pytest.approx(inflation * alone + float(terms.load_ms + terms.feedback_ms) * MS, abs=1.0)

"""Several processes behind one queue: one is the server of `batches`, and more are never worse than one."""

import numpy as np
import pytest

from igniter_opt.physics.batcher import serve_many
from igniter_opt.physics.batches import serve_plainly


def served(times: np.ndarray, delay: float, processes: int, gpu: np.ndarray, load: np.ndarray):
    latency, batches = np.empty(len(times)), np.zeros(len(gpu), dtype=np.int64)
    end = float(times[-1])
    totals = serve_many(times, 0, 0.0, end, delay, processes, gpu, load, np.empty(0), latency, batches)
    return totals, latency, batches


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("delay", [0.0, 40.0])
def test_one_process_is_the_single_server(seed: int, delay: float) -> None:
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(20.0, 400)).round()
    gpu, load = np.array([30.0, 40.0, 55.0]), np.array([1.0, 2.0, 3.0])
    latency, batches = np.empty(400), np.zeros(3, dtype=np.int64)
    expected = serve_plainly(
        times, 0, 0.0, float(times[-1]), delay, gpu, load, np.zeros(3), np.empty(0), latency, batches
    )
    totals, found, sizes = served(times, delay, 1, gpu, load)
    assert totals == pytest.approx(expected)
    assert np.array_equal(found, latency)
    assert np.array_equal(sizes, batches)


def test_batches_go_to_whoever_is_free() -> None:
    times = np.array([0.0, 1.0, 2.0, 3.0])
    _, latency, batches = served(times, 0.0, 2, np.array([10.0]), np.zeros(1))
    # The third waits for the first process until 10, the fourth for the second until 11.
    assert latency.tolist() == [10.0, 10.0, 18.0, 18.0]
    assert batches.tolist() == [4]

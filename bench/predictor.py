"""Speed of the vectorised predictor beside a plain Python loop, on one core, in the same run.

Run: python -m bench.predictor
"""

import statistics
import time

import numpy as np

from bench.provenance import header, write
from igniter_opt.data.profile import read_profile
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.physics.interference import predict_many
from tests.support.scalar_model import predict_scalar

PLACEMENTS = 4
GPUS = 8192  # arrays of this many GPUs stay in the processor's cache
REPEATS = 128
LOOP_GPUS = 2000
ROUNDS = 5


def main() -> None:
    """Time both and write the table."""
    coefficients = fit_coefficients(read_profile("v100"))
    names = list(coefficients.models)
    rng = np.random.default_rng(0)
    model = rng.integers(0, len(names), (GPUS, PLACEMENTS))
    batch = rng.integers(1, 33, (GPUS, PLACEMENTS)).astype(float)
    share = 2.5 * rng.integers(1, 11, (GPUS, PLACEMENTS))
    cases = [
        [(names[m], int(b), float(r)) for m, b, r in zip(*row, strict=True)]
        for row in zip(model[:LOOP_GPUS].tolist(), batch.tolist(), share.tolist(), strict=False)
    ]
    vectorised, loop = [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(REPEATS):
            found = predict_many(coefficients, model, batch, share)
        vectorised.append(REPEATS * GPUS / (time.perf_counter() - began))
        began = time.perf_counter()
        expected = [[entry.latency for entry in predict_scalar(coefficients, case)] for case in cases]
        loop.append(LOOP_GPUS / (time.perf_counter() - began))
    worst = float(np.max(np.abs(found.latency_ms[:LOOP_GPUS] / np.array(expected) - 1)))
    fast, slow = statistics.median(vectorised), statistics.median(loop)
    write(
        "predictor",
        header("Predictor: GPUs evaluated per second, 4 placements each")
        + f"\n| | median of {ROUNDS} rounds | least | most |\n| --- | --- | --- | --- |\n"
        + f"| `predict_many` | {fast:,.0f} | {min(vectorised):,.0f} | {max(vectorised):,.0f} |\n"
        + f"| plain Python loop | {slow:,.0f} | {min(loop):,.0f} | {max(loop):,.0f} |\n"
        + f"\nRatio of the medians: {fast / slow:.0f}. Largest relative difference of a latency: {worst:.1e}.\n",
    )


if __name__ == "__main__":
    main()

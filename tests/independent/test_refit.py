"""The weights that the refined coefficients fit to measurements side by side, fitted once more by `refit`."""

import json
import random

import numpy as np
import pytest

from tests.independent.cases import MODELS, profile
from tests.independent.judge import Place, gpu_latency, neighbours
from tests.independent.refit import refit
from tests.independent.same import card


@pytest.mark.parametrize(
    ("name", "typical", "worst"),
    [
        ("h100", 1e-6, 1e-4),
        # The valley is flatter: solvers stop where another step changes the sum of squares by no more than 1e-7.
        pytest.param("h200", 1e-5, 1e-3, marks=pytest.mark.slow),
        # Without DRAM counters what neighbours cause is fitted, too, and more weights do the same.
        pytest.param("v100", 1e-3, 1e-2, marks=pytest.mark.slow),
    ],
)
def test_another_solver_finds_the_same_latencies(name: str, typical: float, worst: float) -> None:
    """Relative differences of GPU latencies beside up to three neighbours: their median, and the largest of 1,000."""
    data = profile(name, "fitted", "few", 1)
    cards = (refit(data), card(json.dumps(data)))
    rng = random.Random(0)
    apart = []
    for _ in range(1000):
        count = rng.randint(1, 4)
        chosen = [
            (rng.choice(MODELS), rng.randint(1, 4), rng.choice([12.0, 24.0, 100.0 / count])) for _ in range(count)
        ]
        places = [[Place(own.models[model], batch, share) for model, batch, share in chosen] for own in cards]
        mine, theirs = (gpu_latency(own, p[0], neighbours(p, 0)) for own, p in zip(cards, places, strict=True))
        apart.append(abs(mine / theirs - 1.0))
    assert np.median(apart) < typical
    assert max(apart) < worst

"""Gamma gaps as mixtures of exponentials."""

import math

import numpy as np
import pytest

from igniter_opt.slo.streams.gamma import PHASES, exponentials, phases_more
from igniter_opt.slo.streams.sampled import PLANNED


@pytest.mark.parametrize("burstiness", [1.001, 1.5, 4.0, 25.0, 1000.0])
@pytest.mark.parametrize("phases", [1, 2, 4, 6])
def test_moments(burstiness: float, phases: int) -> None:
    """The first 2m - 1 moments of the gaps are those of the gamma distribution."""
    means, weights = exponentials(burstiness, phases)
    assert weights.sum() == pytest.approx(1.0)
    assert (means > 0).all()
    alpha = 1.0 / burstiness
    expected = 1.0
    for n in range(1, 2 * phases):
        expected *= (alpha + n - 1.0) * burstiness
        assert math.factorial(n) * (weights * means**n).sum() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("burstiness", [1.5, 4.0, 9.0])
def test_transforms_come_near(burstiness: float) -> None:
    """The Laplace transform at the time of a small batch and beyond; errors fall with the number of phases."""
    s = np.geomspace(0.05, 4.0, 30)
    exact = (1.0 + burstiness * s) ** (-1.0 / burstiness)
    errors = []
    more = phases_more(burstiness, PLANNED)
    for phases in (2, 3, min(PHASES) + more, max(PHASES) + more):
        means, weights = exponentials(burstiness, phases)
        errors.append(np.abs((weights / (1.0 + s[:, None] * means)).sum(axis=1) - exact).max())
    assert errors == sorted(errors, reverse=True)
    assert errors[-2] < 0.03
    assert errors[-1] < 0.01

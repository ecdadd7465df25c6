"""Where a model is measured next: each choice leaves the least uncertainty, by formulas without updates."""

import numpy as np
import pytest

from igniter_opt.fitting.design import most_telling
from igniter_opt.fitting.surface import SCALES, covariance, likelihoods

NOISE = 0.01
BATCH, SHARE = (axis.ravel() for axis in np.meshgrid([1.0, 4.0, 16.0], [10.0, 30.0, 100.0], indexing="ij"))
CANDIDATES = [(2, 10.0), (2, 20.0), (8, 20.0), (8, 55.0), (12, 30.0), (16, 45.0)]
REGION = [(batch, share) for batch in range(1, 17) for share in (10.0, 15.0, 25.0, 40.0, 50.0)]


def times(step: float) -> np.ndarray:
    """A model whose library changes kernels above batch 4."""
    return (2.0 + 3.0 * BATCH) / SHARE * np.where(BATCH > 4, 1.0 + step, 1.0) + 0.1


def left(active: np.ndarray, chosen: list[int]) -> float:
    """Variance that is left over the region with these candidates measured, too: by one solve of the whole."""
    known = np.stack(
        [np.append(BATCH, [CANDIDATES[k][0] for k in chosen]), np.append(SHARE, [CANDIDATES[k][1] for k in chosen])]
    )
    wanted, total = np.array(REGION, dtype=float).T, 0.0
    weights = likelihoods(BATCH, SHARE, active, np.full(len(BATCH), NOISE))
    for weight, scales in zip(weights, SCALES, strict=True):
        inner = covariance(known, known, scales) + NOISE**2 * np.eye(known.shape[1])
        across = covariance(wanted, known, scales)
        spread = covariance(wanted, wanted, scales) - across @ np.linalg.solve(inner, across.T)
        total += weight * float(np.trace(spread))
    return total


@pytest.mark.parametrize("step", [0.0, 0.3])
def test_every_choice_leaves_the_least_uncertainty(step: float) -> None:
    active = times(step)
    chosen = most_telling(BATCH, SHARE, active, NOISE, CANDIDATES, REGION, 4)
    assert len(set(chosen)) == 4
    for number, taken in enumerate(chosen):
        before = chosen[:number]
        others = [k for k in range(len(CANDIDATES)) if k not in before]
        least = min(left(active, [*before, k]) for k in others)
        assert left(active, [*before, taken]) == pytest.approx(least, rel=1e-6)


def test_no_more_are_chosen_than_there_are() -> None:
    chosen = most_telling(BATCH, SHARE, times(0.0), NOISE, CANDIDATES, REGION, 50)
    assert sorted(chosen) == list(range(len(CANDIDATES)))
    assert most_telling(BATCH, SHARE, times(0.0), NOISE, CANDIDATES, REGION, 0) == []


def test_likelihoods_prefer_what_the_measurements_say() -> None:
    """Where nothing deviates from the trend small deviations are likely; with jumps between batches large ones."""
    quiet, jumping = (likelihoods(BATCH, SHARE, times(step), np.full(len(BATCH), NOISE)) for step in (0.0, 0.6))
    assert quiet.sum() == pytest.approx(1.0) and jumping.sum() == pytest.approx(1.0)
    size = np.array([scales[0] for scales in SCALES])
    assert quiet @ size < jumping @ size

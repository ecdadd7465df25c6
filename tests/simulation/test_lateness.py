"""The test with a stated risk: what it says of samples made up, and when it takes a larger one."""

import numpy as np
import pytest

from igniter_opt.data.instance_files import read_instance
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.simulation.gpu_sample import GpuSample, Late, Tenant
from igniter_opt.simulation.lateness import RUNS, STAGES, bounds_of, judge_gpu, smallest_sample

INSTANCE = read_instance("igniter-table3").with_options("p99", 3)
V100 = fit_coefficients(INSTANCE.gpu_types[0].profile)
ONE = [Tenant(0, 0, (1200.0,), 8, 22.5)]


def made_up(shares: list[list[float]], requests: int = 1000) -> Late:
    array = np.array(shares)
    return Late(np.full(array.shape, requests), array, np.zeros(array.shape))


def test_bounds_solve_their_equation() -> None:
    """Four runs, one-sided 95 %: t is 2.3534 (any table of t with three degrees of freedom)."""
    parts = [0.1, 0.2, 0.3, 0.4]
    bounds = bounds_of(made_up([[part] for part in parts]), 0.05)
    assert bounds.mean == pytest.approx(0.25)
    spread = 2.3534**2 * np.var(parts, ddof=1) / 0.25 / 4
    for bound in (bounds.low[0], bounds.high[0]):
        assert (bound - 0.25) ** 2 == pytest.approx(spread * bound, rel=1e-3)
    assert bounds.low < 0.25 < bounds.high


def test_a_sample_without_late_requests_leaves_some_open() -> None:
    """With none late in n requests, (1 - p)^n = risk at the bound."""
    bounds = bounds_of(made_up([[0.0], [0.0]], requests=500), 0.01)
    assert bounds.low == 0.0
    assert (1.0 - bounds.high[0]) ** 1000 == pytest.approx(0.01, rel=0.05)


class Planned(GpuSample):
    """Says what it is told, and notes how much it was asked for."""

    def __init__(self, shares: list[list[float]]) -> None:
        super().__init__(INSTANCE, 0, 0)
        self.shares, self.asked = shares, list[int]()

    def late(self, coefficients, tenants, requests, runs, margin):  # type: ignore[no-untyped-def]
        self.asked.append(requests)
        low, high = self.shares[len(self.asked) - 1]
        return made_up([[low], [high]] * (RUNS // 2), requests)


@pytest.mark.parametrize(
    ("shares", "holds", "looks"),
    [
        ([[0.001, 0.002]], True, 1),
        ([[0.03, 0.04]], False, 1),
        ([[0.005, 0.014], [0.004, 0.005]], True, 2),
        ([[0.005, 0.014], [0.008, 0.012], [0.0099, 0.01]], True, 3),
        # As many late as may be, and never certain.
        ([[0.005, 0.015]] * 3, False, 3),
    ],
)
def test_samples_grow_until_they_decide(shares: list[list[float]], holds: bool, looks: int) -> None:
    sample = Planned(shares)
    verdict = judge_gpu(sample, V100, ONE, allowed=0.01, risk=0.01, margin=0.0)
    assert verdict.holds == (holds,)
    assert sample.asked == [stage * smallest_sample(0.01) for stage in STAGES[:looks]]


def test_every_look_has_its_part_of_the_risk() -> None:
    """0.9 to 1.08 % in turn: certain enough for one look at the whole risk, not for one of three."""
    late = made_up([[0.0090], [0.0108]] * (RUNS // 2))
    allowed = bounds_of(late, 0.04).high[0]
    assert bounds_of(late, 0.06).high[0] < allowed < bounds_of(late, 0.02).high[0]
    sample = Planned([[0.0090, 0.0108]] * 3)
    assert judge_gpu(sample, V100, ONE, allowed=allowed, risk=0.06, margin=0.0).holds == (False,)


def test_what_cannot_be_sampled_does_not_hold() -> None:
    slow = [*ONE, Tenant(1, 0, (1e-4,), 8, 20.0)]
    verdict = judge_gpu(GpuSample(INSTANCE, 0, 0), V100, slow, allowed=0.01, risk=0.01, margin=0.0)
    assert verdict.holds == (False, False)
    assert verdict.requests == 0

"""Contention by counters: what probes say of a model's sensitivity, against figures worked out by hand."""

import numpy as np
import pytest

from igniter_opt.data.profile import InterferenceProbe
from igniter_opt.fitting.utilisation import WHOLE_PART, sensitivities
from igniter_opt.physics.curves import ActiveSurface, Utilisation

# A batch of 4 takes 10 ms on the whole card and 16 ms on half of it.
SURFACE = ActiveSurface((4.0, 8.0), (50.0, 100.0), ((16.0, 10.0), (32.0, 20.0)))


def probe(paired_ms: float, clock_mhz: float = 1000.0) -> InterferenceProbe:
    return InterferenceProbe(
        batch=4,
        share_percent=50.0,
        active_time_alone_ms=16.0,
        active_time_paired_ms=paired_ms,
        frequency_paired_mhz=clock_mhz,
        l2_utilisation_percent=40.0,
    )


def found(*probes: InterferenceProbe, percent: float = 80.0, whole_part: float = WHOLE_PART) -> list[float]:
    used = [Utilisation((4.0,), (percent,))] * len(probes)
    return sensitivities(list(probes), [SURFACE] * len(probes), used, 1000.0, whole_part).tolist()


def test_sensitivity_is_the_slow_down_per_contention_and_delay() -> None:
    """80 % on the whole card are 50 % at half of it; of the delay, 1/4 is of 16 ms and 3/4 of 10 ms, in parts of 16."""
    assert found(probe(20.0)) == pytest.approx([0.25 / (50.0 * (0.25 + 0.75 * 10 / 16))])
    assert found(probe(20.0), whole_part=0.0) == pytest.approx([0.25 / 50.0])
    assert found(probe(20.0), whole_part=1.0) == pytest.approx([0.25 / (50.0 * 10 / 16)])


def test_a_model_s_sensitivity_is_taken_halfway_to_the_mean_of_all() -> None:
    slow_downs = np.array([0.0, 0.25, 0.5])
    own = slow_downs / 50.0
    halfway = (own + own.mean()) / 2
    assert found(probe(16.0), probe(20.0), probe(24.0), whole_part=0.0) == pytest.approx(halfway)
    assert sum(halfway) == pytest.approx(sum(own))


def test_a_lower_clock_is_no_contention_and_helping_neighbours_are_none() -> None:
    assert found(probe(20.0, clock_mhz=800.0)) == pytest.approx([0.0], abs=1e-12)
    assert found(probe(20.0, clock_mhz=1200.0)) == found(probe(20.0))
    assert found(probe(12.0)) == [0.0]
    assert found(probe(20.0), percent=0.0) == [0.0]

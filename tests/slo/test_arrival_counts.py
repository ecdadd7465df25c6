"""Tabulated counts against closed forms and transforms."""

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.stats import poisson

from igniter_opt.slo.arrival_counts import count_chances, count_table, is_small

POISSON = (((-1.0,),), ((1.0,),))
SWITCHED = (((-1.7, 0.1), (0.1, -0.5)), ((1.6, 0.0), (0.0, 0.4)))
STIFF = (((-20.0, 0.0), (0.0, -0.4)), ((12.0, 8.0), (0.24, 0.16)))


@pytest.mark.parametrize("time", [0.0, 1e-3, 0.7, 1.0, 3.3, 17.1, 63.9])
def test_poisson_counts(time: float) -> None:
    table = count_table(POISSON, 64.0, 64.0)
    out = np.zeros((1, 160))
    top = count_chances(table.values, table.first, time, out, 160)
    expected = poisson.pmf(np.arange(160), time)
    known = table.values.shape[3]
    assert np.abs(out[0, :known] - expected[:known]).max() < 1e-8
    assert expected[top:].sum() < 1e-8


@pytest.mark.parametrize("process", [SWITCHED, STIFF])
@pytest.mark.parametrize("time", [0.01, 0.4, 2.9, 15.3])
def test_transforms(process: tuple, time: float) -> None:
    """Σ z^n P_n(t) is the exponential of (D0 + z D1) t."""
    table = count_table(process, 32.0, 16.0)
    phases, size = 2, table.values.shape[3] // 2
    out = np.zeros((phases, size * phases))
    count_chances(table.values, table.first, time, out, size)
    counts = out.reshape(phases, size, phases).transpose(1, 0, 2)
    d0, d1 = (np.array(part) for part in process)
    for z in (1.0, 0.6, -0.5):
        found = np.tensordot(z ** np.arange(size), counts, 1)
        assert found == pytest.approx(expm((d0 + z * d1) * time), abs=2e-8)


def test_tables_that_would_be_too_large_are_not_made() -> None:
    assert is_small(POISSON, 64.0, 32.0)
    assert not is_small(POISSON, 64.0, 5000.0)
    assert not is_small(POISSON, 1e15, 32.0)

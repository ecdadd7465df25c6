"""Billing, counted anew minute by minute, and bounds of what leases cost."""

import math

from hypothesis import given
from hypothesis import strategies as st

from igniter_opt.data.migration import DisruptionWeights
from igniter_opt.scheduling.account import Account
from igniter_opt.scheduling.billing import Billing, leases


@given(
    st.lists(st.sets(st.sampled_from(["a", "b", "c"])), min_size=1, max_size=8),
    st.integers(1, 6),
    st.integers(0, 9),
    st.integers(0, 7),
)
def test_leases_are_billed_as_a_meter_would(steps: list[set[str]], step: int, startup: int, unit: int) -> None:
    billing = Billing(60.0 * step, 60.0 * startup, 60.0 * unit)
    found = leases([[(name, name.upper()) for name in here] for here in steps])
    # A meter per GPU: it runs in every minute of its steps and of the start-up before, and stops when it is given back.
    billed = 0
    for name in "abc":
        meter = 0
        for here in [*steps, set()]:
            if name in here:
                meter += step + (startup if meter == 0 else 0)
            elif meter:
                billed += meter if unit == 0 else unit * math.ceil(meter / unit)
                meter = 0
    assert round(sum(billing.billed_s(lease.steps) for lease in found) / 60.0) == billed
    assert sum(lease.steps for lease in found) == sum(map(len, steps))
    assert all(lease.type == lease.gpu.upper() for lease in found)
    for lease in found:
        assert billing.billed_s(lease.steps) >= lease.steps * billing.step_s + billing.least_start_s - 1e-9


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.integers(0, 9), st.integers(0, 7))
def test_the_bound_is_below_what_is_billed(gpus: list[int], startup: int, unit: int) -> None:
    """For any numbers of GPUs, with the fewest starts that these need."""
    billing = Billing(300.0, 60.0 * startup, 60.0 * unit)
    account = Account(billing, {"G": 6.0}, 0.0, DisruptionWeights())
    found = leases([[(f"g{k}", "G") for k in range(number)] for number in gpus])
    cost = sum(6.0 * billing.billed_s(lease.steps) / 3600.0 for lease in found)
    assert account.bound([6.0 * number for number in gpus]) <= cost + 1e-9

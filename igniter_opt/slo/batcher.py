"""What a server is told about a placement: the batcher settings that its SLO rule assumes."""

import math
from typing import NamedTuple

from igniter_opt.data.instance import SloRule
from igniter_opt.data.plan import Placement, Plan

# Relative guard of the roundings to whole microseconds below.
_GUARD = 1e-9


class BatcherSettings(NamedTuple):
    """Settings of a dynamic batcher (Triton's ``dynamic_batching``) for one placement.

    Attributes
    ----------
    max_batch, preferred_batch
        Largest batch that may be formed, and the one that is dispatched without waiting for more; both are the
        placement's batch.
    queue_delay_us
        How long the oldest request may wait for the batch to fill, in microseconds.
    """

    max_batch: int
    preferred_batch: int
    queue_delay_us: int


def batcher_settings(slo_rule: SloRule, slo_ms: float, rate_rps: float, batch: int) -> BatcherSettings:
    """Return the settings under which a rule's promise holds.

    ``half``: half the SLO is for waiting (rounded down to microseconds). ``deadline``: the time (b - 1) / R that a
    batch takes to fill at a constant rate, rounded up, for a delay that ends before the last request arrives would
    dispatch without it. ``p99``: no delay; whatever waits is dispatched as soon as the instance is free.

    Parameters
    ----------
    slo_ms, rate_rps, batch
        SLO of the workload; rate and batch of the placement (one replica).
    """
    if slo_rule == "half":
        delay = math.floor(slo_ms * 500.0 * (1.0 + _GUARD))
    elif slo_rule == "deadline":
        delay = math.ceil((batch - 1) * 1e6 / rate_rps * (1.0 - _GUARD))
    else:
        delay = 0
    return BatcherSettings(max_batch=batch, preferred_batch=batch, queue_delay_us=delay)


def queue_delay_us(plan: Plan, placement: Placement) -> int:
    """Return a placement's queue delay in microseconds: the plan's own, or for older plans what its rule assumes."""
    if placement.queue_delay_us is not None:
        return placement.queue_delay_us
    slo_ms = next(workload.slo_ms for workload in plan.instance.workloads if workload.name == placement.workload)
    return batcher_settings(plan.instance.slo_rule, slo_ms, placement.rate_rps, placement.batch).queue_delay_us

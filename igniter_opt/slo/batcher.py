"""How long the batcher of a placement's server waits."""

from igniter_opt.data.plan import Placement, Plan
from igniter_opt.slo.rules import rule_of


def queue_delay_us(plan: Plan, placement: Placement) -> int:
    """Return a placement's queue delay in microseconds: the plan's own, or for older plans what its rule assumes."""
    if placement.queue_delay_us is not None:
        return placement.queue_delay_us
    slo_ms = next(workload.slo_ms for workload in plan.instance.workloads if workload.name == placement.workload)
    return rule_of(plan.instance).queue_delay_us(slo_ms, placement.rate_rps, placement.batch)

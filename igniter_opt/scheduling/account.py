"""What a sequence of plans costs in all: GPUs as they are billed, and what goes from one plan to the next.

Everything is counted anew from the plans themselves, whoever made them: which GPUs there are in which step by their
names, and what becomes of servers by `replanning.disruption`, as `replan` and `deploy` count it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from igniter_opt.data.migration import Disruption, DisruptionWeights
from igniter_opt.data.plan import Plan
from igniter_opt.replanning.disruption import disruption
from igniter_opt.scheduling.billing import Billing, Lease, leases


class Totals(NamedTuple):
    """What a sequence of plans comes to (costs in the instance's currency).

    Attributes
    ----------
    cost
        GPUs and changes.
    gpu_cost, gpu_hours, gpu_starts
        Of GPUs as billed, with their start-up.
    change_cost, moves, restarts, resizes
        Of servers that go to another GPU, or stay with another batch or share, between two steps.
    most_gpus
        In one step.
    violations
        Workloads that some step's plan does not keep at that step's real rates, summed over steps.
    """

    cost: float
    gpu_cost: float
    change_cost: float
    gpu_hours: float
    gpu_starts: int
    most_gpus: int
    moves: int
    restarts: int
    resizes: int
    violations: int = 0


@dataclass(frozen=True)
class Account:
    """Counts what a sequence of plans comes to.

    Attributes
    ----------
    prices
        Price per hour of a GPU by type.
    move_price
        What a disruption of weight 1 costs, in currency.
    """

    billing: Billing
    prices: dict[str, float]
    move_price: float
    weights: DisruptionWeights

    def leases(self, plans: Sequence[Plan]) -> list[Lease]:
        """Return which GPUs are rented from when to when."""
        return leases([[(gpu.name, gpu.type) for gpu in plan.gpus] for plan in plans])

    def disruptions(self, plans: Sequence[Plan]) -> list[Disruption]:
        """Return what every step does to the servers of the one before; the first does nothing."""
        before = [*plans[:1], *plans[:-1]]
        return [disruption(old, new, self.weights) for old, new in zip(before, plans, strict=True)]

    def totals(self, plans: Sequence[Plan], violations: int = 0) -> Totals:
        """Return what plans, one a step, come to."""
        rented, done = self.leases(plans), self.disruptions(plans)
        billed = [(self.prices[lease.type], self.billing.billed_s(lease.steps) / 3600.0) for lease in rented]
        gpus = sum(price * hours for price, hours in billed)
        changes = self.move_price * sum(entry.weighted for entry in done)
        return Totals(
            cost=gpus + changes,
            gpu_cost=gpus,
            change_cost=changes,
            gpu_hours=sum(hours for _, hours in billed),
            gpu_starts=len(rented),
            most_gpus=max(len(plan.gpus) for plan in plans),
            moves=sum(entry.moves for entry in done),
            restarts=sum(entry.restarts for entry in done),
            resizes=sum(entry.resizes for entry in done),
            violations=violations,
        )

    def bound(self, per_hour: Sequence[float]) -> float:
        """Return what any schedule costs at least, given proven bounds of its steps' plans (per hour).

        Whatever changes between them, step s is served by GPUs that cost LB_s per hour at least; every lease is billed
        for its steps (`Billing.billed_s` is no less), and moves cost nothing at least. So it is the sum of the steps'
        bounds. Besides, each GPU of any one step has been started once, and every lease has `Billing.least_start_s`
        beyond its steps, so that the starts cost LB_s times that for whichever step, say the one where LB_s is largest.
        """
        step_h, start_h = self.billing.step_s / 3600.0, self.billing.least_start_s / 3600.0
        return sum(bound * step_h for bound in per_hour) + max(per_hour) * start_h


def gpus_by_type(plan: Plan) -> dict[str, int]:
    """Return how many GPUs of each type a plan has."""
    return dict(Counter(gpu.type for gpu in plan.gpus))

"""What scheduling returns: a plan for every step, what all comes to, and what is proven of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.frames import frame
from igniter_opt.data.demand import Demand
from igniter_opt.data.instance import Instance
from igniter_opt.data.migration import Disruption
from igniter_opt.data.plan import Plan
from igniter_opt.scheduling.account import Totals, gpus_by_type
from igniter_opt.scheduling.billing import Lease
from igniter_opt.scheduling.terms import ScheduleTerms

if TYPE_CHECKING:
    import pandas as pd

SCHEDULE_SCHEMA = "igniter-opt/schedule@1"


@dataclass(frozen=True)
class Scheduled:
    """Plans over time.

    Attributes
    ----------
    demand, first
        The demand in the schedule's steps, and the step of it that is the first one planned for.
    plans
        One per step, at its planned rates; GPUs of one name in consecutive steps are the same.
    over
        By step, the workloads that its plan does not keep at its real rates; empty where demand is known.
    lower_bounds
        Proven bound on the cost per hour of any plan of a step, at its planned rates.
    bound
        Proven bound on what any schedule for the planned rates costs in all (`account.Account.bound`).
    totals
        Of this schedule, and of what it is compared with: ``peak`` (one plan for the highest rates), ``afresh`` (every
        step's own cheapest plan) and ``greedy`` (iGniter's, step by step), as far as there are such.
    source
        Which of them its plans are: the schedule that was built, unless another one costs less.
    solved
        By step, where its bound comes from: ``exact``, ``heuristic`` or ``inherited`` (`afresh`).
    proven
        In how many steps the cheapest plan is known.
    planned, real
        Rates planned for, and those that come; shape (steps, workloads).
    leases, disruptions
        Which GPUs are rented when; what every step does to the servers of the one before.
    """

    instance: Instance
    demand: Demand
    first: int
    terms: ScheduleTerms
    plans: list[Plan]
    over: list[list[str]]
    lower_bounds: list[float]
    bound: float
    totals: Mapping[str, Totals]
    source: str
    solved: list[str]
    proven: int
    planned: FloatArray
    real: FloatArray
    leases: list[Lease]
    disruptions: list[Disruption]
    runtime_s: float
    interrupted: bool = False

    @property
    def cost(self) -> float:
        """What GPUs and changes cost in all."""
        return self.totals["schedule"].cost

    @property
    def gap(self) -> float:
        """How far the cost is above the bound at most, relative to the cost."""
        return (self.cost - self.bound) / self.cost

    @property
    def steps(self) -> int:
        """How many steps are planned for."""
        return len(self.plans)

    @property
    def hours(self) -> float:
        """How long that is."""
        return self.steps * self.demand.step_s / 3600.0

    def rows(self) -> Iterator[dict[str, Any]]:
        """Return what is to be said of every step."""
        types = [gpu.name for gpu in self.instance.gpu_types]
        for step, (plan, done) in enumerate(zip(self.plans, self.disruptions, strict=True)):
            gpus = gpus_by_type(plan)
            yield {
                "time_s": self.demand.time_s(self.first + step),
                "cost_per_hour": plan.solver.cost_per_hour,
                "lower_bound_per_hour": self.lower_bounds[step],
                **{f"gpus_{name}": gpus.get(name, 0) for name in types},
                "moves": done.moves,
                "restarts": done.restarts,
                "resizes": done.resizes,
                "starts": done.starts,
                "stops": done.stops,
                "rate_rps": float(self.real[step].sum()),
                "planned_rps": float(self.planned[step].sum()),
                "bound_from": self.solved[step],
                "over": " ".join(self.over[step]),
            }

    def to_frame(self) -> "pd.DataFrame":
        """Return the steps as a table."""
        return frame(self.rows())

    def to_dict(self) -> dict[str, Any]:
        """Return all but the plans, as JSON has it."""
        terms = self.terms
        return {
            "schema": SCHEDULE_SCHEMA,
            "instance": self.instance.name,
            "currency": self.instance.currency,
            "steps": self.steps,
            "step_s": self.demand.step_s,
            "start_s": self.demand.time_s(self.first),
            "move_cost": terms.move_cost,
            "weights": [terms.weights.move, terms.weights.restart, terms.weights.resize],
            "startup_s": terms.startup_s,
            "billing_s": terms.billing_s,
            "forecast": terms.forecast,
            "quantile": None if terms.forecast is None else terms.quantile,
            "cost": self.cost,
            "lower_bound": self.bound,
            "gap": self.gap,
            "source": self.source,
            "steps_proven": self.proven,
            "totals": {name: entry._asdict() for name, entry in self.totals.items()},
            "leases": [
                {"gpu": lease.gpu, "type": lease.type, "first": lease.first, "steps": lease.steps}
                for lease in self.leases
            ],
            "runtime_s": round(self.runtime_s, 3),
            "interrupted": self.interrupted,
        }

"""One point of a sweep: what carries over to it, and a solve for what that leaves open; run wherever workers are."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from threadpoolctl import threadpool_limits

from igniter_opt.base.errors import (
    Caution,
    InfeasibleError,
    InputError,
    SolveInterruptedError,
    VerificationError,
)
from igniter_opt.data.instance import Instance
from igniter_opt.data.plan import Plan, Status
from igniter_opt.options import SolveOptions
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import DraftGpu, draft_cost, drafts_from_plan, make_plan
from igniter_opt.problem.start_plans import adapted, draft_of_start, within_limits
from igniter_opt.result import StopWhenSettled
from igniter_opt.sweeps.carry import Source, carried_bound
from igniter_opt.sweeps.settled import OrElsewhere, solve_from
from igniter_opt.verify import verify

# Costs are sums of prices with at most six decimals.
_SAME = 1e-7


@dataclass(frozen=True)
class PointTask:
    """What a worker is given.

    Attributes
    ----------
    plans
        Plans of other points, those first that are likely to be cheapest here.
    bounds
        Where bounds may come from, likewise (`carry`).
    known
        This point's own plan and bound, if it was solved before.
    solve
        Whether to solve what is left open.
    """

    instance: Instance
    options: SolveOptions
    plans: tuple[Plan, ...] = ()
    bounds: tuple[Source, ...] = ()
    known: "PointOutcome | None" = None
    solve: bool = True


@dataclass(frozen=True)
class PointOutcome:
    """What is known of a point.

    Attributes
    ----------
    plan
        The cheapest verified plan, with the bound; None if there is none.
    lower_bound
        Proven bound in cost per hour, infinite where no plan exists; None without one.
    solved
        Whether it was solved, rather than settled by what carries over.
    bound_source, plan_source
        Positions in the task's `bounds` and `plans` of what its bound and plan come from; None: from the solve.
    carries
        Whether its bound may be carried on.
    message
        Why there is no plan, or no proof.
    interrupted
        Whether a stop ended its solve.
    version
        Of what computed it.
    """

    plan: Plan | None
    lower_bound: float | None
    solved: bool
    bound_source: int | None = None
    plan_source: int | None = None
    carries: bool = True
    message: str | None = None
    interrupted: bool = False
    version: str = ""

    @property
    def cost(self) -> float | None:
        """Cost per hour of the plan."""
        return None if self.plan is None else self.plan.solver.cost_per_hour

    @property
    def proven(self) -> bool:
        """Whether the least cost is proven, or that there is no plan."""
        bound, cost = self.lower_bound, self.cost
        return bound is not None and (bound == math.inf or (cost is not None and bound >= cost - _SAME))


def run_task(task: PointTask, stopped: Callable[[], bool] = lambda: False) -> PointOutcome:
    """Find out about a point; numerical libraries use one thread, so that results are the same everywhere.

    Parameters
    ----------
    stopped
        Whether to end with what there is so far.
    """
    with threadpool_limits(1), warnings.catch_warnings():
        # What a user should know is said once, where the sweep was asked for.
        warnings.simplefilter("ignore", Caution)
        return _Point(task, stopped).outcome()


class _Point:
    def __init__(self, task: PointTask, stopped: Callable[[], bool]) -> None:
        self.task, self.stopped = task, stopped
        margin = task.options.margin_for(task.instance)
        task.options.check(margin)
        self.problem = Problem(task.instance, margin, task.options.confidence)
        self.carries = True

    def outcome(self) -> PointOutcome:
        if self.task.instance.cut_types:
            # Of cards under MIG nothing is carried: the argument of `carry` is not about slices.
            self.carries = False
            return self.task.known or self._solved(None, 0.0, None)
        known = self.task.known
        held = self._cheapest_held()
        # Only plans within the limits are what bounds are about.
        within = None if held is None or not within_limits(self.problem, held[1]) else held
        most = math.inf if within is None else float(draft_cost(self.problem, within[1]))
        bound, origin = carried_bound(self.problem, self.task.bounds, most)
        if known is not None and known.lower_bound is not None and known.lower_bound >= bound:
            bound, origin, self.carries = known.lower_bound, None, known.carries
        if bound == math.inf:
            if held is None and (known is None or known.plan is None):
                return self._result(None, math.inf, solved=False, bound_source=origin, message="no plan exists")
            bound, origin = 0.0, None  # no plan within the limits, which says nothing about plans beyond them
        if within is not None and bound >= most - _SAME:
            return self._carried(within, bound, origin)
        if not self.task.solve:
            better = within is not None and (known is None or known.cost is None or most < known.cost - _SAME)
            if better or known is None or known.plan is None:
                return self._carried(within, bound, origin)
            if not within_limits(self.problem, drafts_from_plan(self.problem, known.plan)):
                return known  # bounds of others say nothing about a plan beyond the limits
            return self._result(self._with_bound(known.plan, bound), bound, solved=known.solved, bound_source=origin)
        return self._solved(held, bound, origin)

    def _cheapest_held(self) -> tuple[int, list[DraftGpu]] | None:
        """Return the cheapest plan that holds here, with its position; of equal ones the first."""
        best: tuple[int, list[DraftGpu]] | None = None
        for number, plan in enumerate(self.task.plans):
            try:
                draft = draft_of_start(self.problem, adapted(plan, self.task.instance))
            except InputError:
                continue
            if best is None or draft_cost(self.problem, draft) < draft_cost(self.problem, best[1]):
                best = number, draft
        return best

    def _solved(self, held: tuple[int, list[DraftGpu]] | None, bound: float, origin: int | None) -> PointOutcome:
        settled = StopWhenSettled(-math.inf, bound, unchanged=True)
        settled.request = OrElsewhere(self.stopped)
        first = None if held is None else self.task.plans[held[0]]
        try:
            result = solve_from(self.task.instance, first, self.task.options, settled)
        except InfeasibleError as error:
            said = str(error).splitlines()[0]
            if error.proven:
                return self._result(None, math.inf, solved=True, message=said)
            return self._result(None, bound or None, solved=True, bound_source=origin, message=said)
        except SolveInterruptedError:
            return self._result(None, bound or None, solved=True, bound_source=origin, interrupted=True)
        plan, own = result.plan, result.lower_bound
        self.carries = self.carries and not result.limits_lowered
        cut = bool(self.task.instance.cut_types)
        if not cut and not within_limits(self.problem, drafts_from_plan(self.problem, plan)):
            # Its bound says nothing about plans beyond the limits.
            bound, origin = own or 0.0, None
        elif own is not None and own >= bound:
            bound, origin = own, None
        if bound > result.cost + _SAME:
            raise VerificationError(
                f"a bound of {bound:g} that was carried over is above a plan that costs {result.cost:g}; please report"
                " this"
            )
        interrupted = result.interrupted and not settled.ours
        message = f"ended: {result.ended}" if bound < result.cost - _SAME and result.ended else None
        return self._result(
            self._with_bound(plan, bound), bound or None, solved=True, bound_source=origin, message=message,
            interrupted=interrupted,
        )  # fmt: skip

    def _carried(self, held: tuple[int, list[DraftGpu]] | None, bound: float, origin: int | None) -> PointOutcome:
        """Make the plan that was found elsewhere one of this point."""
        if held is None:
            return self._result(None, bound or None, solved=False, bound_source=origin)
        number, draft = held
        method = self.task.plans[number].solver.method
        plan = make_plan(self.problem, draft, method=method, status="heuristic", seed=self.task.options.seed)
        plan = self._with_bound(plan, bound)
        return self._result(plan, bound or None, solved=False, bound_source=origin, plan_source=number)

    def _with_bound(self, plan: Plan, bound: float) -> Plan:
        """Return a plan that says what is proven of its cost, once more verified."""
        solver = plan.solver
        if bound:
            bound = min(bound, solver.cost_per_hour)
            status: Status = "optimal" if bound == solver.cost_per_hour else "feasible"
            gap = (solver.cost_per_hour - bound) / solver.cost_per_hour
            solver = solver.model_copy(update={"lower_bound_per_hour": bound, "status": status, "gap": gap})
        plan = plan.model_copy(update={"solver": solver})
        for entry in verify(plan).violations[:1]:
            raise VerificationError(
                f"a plan of a sweep does not hold ({entry.where}: {entry.message}); please report this"
            )
        return plan

    def _result(
        self,
        plan: Plan | None,
        bound: float | None,
        *,
        solved: bool,
        bound_source: int | None = None,
        plan_source: int | None = None,
        message: str | None = None,
        interrupted: bool = False,
    ) -> PointOutcome:
        return PointOutcome(
            plan, bound, solved, bound_source, plan_source, self.carries, message, interrupted, version("igniter-opt")
        )

"""Sequences of plans, one a step: the schedule that was built, and what it is compared with.

Each is judged step by step: by `DraftJudge` at the planned rates, and at the real ones where these are others. Plans of
the schedule are judged by `verify` besides, which is the last word on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import VerificationError
from igniter_opt.data.plan import Plan, Status
from igniter_opt.problem.bounds import one_gpu_units, price_grid
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import DraftGpu, draft_cost, make_plan
from igniter_opt.problem.judge import DraftJudge
from igniter_opt.problem.start_plans import at_rates
from igniter_opt.replanning.disruption import matched
from igniter_opt.scheduling.account import Account, Totals
from igniter_opt.scheduling.afresh import Afresh
from igniter_opt.scheduling.build import Built, drafts_at, slot_names
from igniter_opt.scheduling.steps import StepProblem
from igniter_opt.verify import verify

SCHEDULE, PEAK, AFRESH, GREEDY = "schedule", "peak", "afresh", "greedy"


@dataclass
class Sequenced:
    """A plan for every step.

    Attributes
    ----------
    over
        Workloads that a step's plan does not keep at the step's real rates.
    complete
        Whether there is a plan that holds at the planned rates for every step.
    """

    name: str
    plans: list[Plan] = field(default_factory=list)
    over: list[list[str]] = field(default_factory=list)
    complete: bool = True

    def totals(self, account: Account) -> Totals:
        """Return what it comes to."""
        return account.totals(self.plans, sum(map(len, self.over)))


class Candidates:
    """Makes sequences of plans.

    Parameters
    ----------
    planned, real
        Rates that are planned for, and those that come; shape (steps, workloads).
    forecast
        Whether these differ.
    """

    def __init__(
        self,
        common: StepProblem,
        account: Account,
        planned: FloatArray,
        real: FloatArray,
        afresh: Afresh,
        *,
        forecast: bool,
    ) -> None:
        self.common, self.account, self.planned, self.afresh = common, account, planned, afresh
        self.real = real if forecast else None
        # What comes is judged as it is: headroom is for plans.
        self.plain = StepProblem(common.instance.with_options(headroom=0.0), common.options, common.margin)

    def sequenced(self, built: Built | None, peak: list[DraftGpu] | None) -> list[Sequenced]:
        """Return the sequences for which there is a plan in every step, the schedule's first."""
        found = [Sequenced(name) for name in (SCHEDULE, PEAK, AFRESH, GREEDY)]
        names = [] if built is None else slot_names(built.course, [gpu.name for gpu in self.common.instance.gpu_types])
        for step, rates in enumerate(self.planned.tolist()):
            problem = self.common.problem(rates)
            real = None if self.real is None else self.plain.problem(self.real[step].tolist())
            own = self.afresh.at(step)
            for entry in found:
                if not entry.complete:
                    continue
                draft: list[DraftGpu] | None
                gpus: list[str] | None = None
                if entry.name == SCHEDULE and built is not None:
                    planned = [workload.rate_rps for workload in problem.workloads]
                    placed = drafts_at(built.course, built.settings[step], step, planned)
                    draft, gpus = [gpu for _, gpu in placed], [names[slot] for slot, _ in placed]
                    if not DraftJudge(problem, draft).holds:
                        draft, gpus = own.gpus, None
                else:
                    draft = {PEAK: peak, AFRESH: own.gpus, GREEDY: own.greedy}.get(entry.name)
                self._add(entry, problem, real, draft, gpus, own.lower_units)
        return [entry for entry in found if entry.complete]

    def _add(
        self,
        entry: Sequenced,
        problem: Problem,
        real: Problem | None,
        draft: list[DraftGpu] | None,
        gpus: Sequence[str] | None,
        lower_units: int,
    ) -> None:
        """Add the plan of the next step, of GPUs with these names or those of the plan before that they are."""
        if draft is not None:
            draft = at_rates(problem, draft)
        if draft is None or not DraftJudge(problem, draft).holds:
            entry.complete = False
            return
        plan = self._plan(problem, draft, lower_units)
        if gpus is not None:
            named = zip(plan.gpus, gpus, strict=True)
            plan = plan.model_copy(update={"gpus": tuple(gpu.model_copy(update={"name": name}) for gpu, name in named)})
        elif entry.plans:
            plan = matched(entry.plans[-1], plan, self.account.weights)
        entry.plans.append(plan)
        entry.over.append([] if real is None else _over(real, draft))

    def _plan(self, problem: Problem, draft: list[DraftGpu], lower_units: int) -> Plan:
        cost = draft_cost(problem, draft)
        # A plan beyond limits that are not exact may be below the bound, which is not about it: then the bound is the
        # price of a GPU.
        grid = price_grid(problem)
        bound = grid.cost(lower_units) if lower_units else Decimal(0)
        if bound > cost and not problem.rule.exact_limits:
            bound = grid.cost(one_gpu_units(problem, grid))
        status: Status = "optimal" if bound >= cost else "feasible"
        return make_plan(problem, draft, method="schedule", status=status, lower_bound=bound)


def checked(plans: Sequence[Plan], when: Sequence[str]) -> None:
    """Have `verify` judge every plan.

    Raises
    ------
    VerificationError
        One does not hold: a bug.
    """
    for plan, step in zip(plans, when, strict=True):
        judged = verify(plan)
        if not judged.ok:
            found = "; ".join(f"{entry.where}: {entry.message}" for entry in judged.violations[:3])
            raise VerificationError(
                f"schedule made a plan for {step} that the predictor rejects ({found}); please report this"
            )


def _over(real: Problem, draft: list[DraftGpu]) -> list[str]:
    """Return the workloads that a draft does not keep at the real rates."""
    judge = DraftJudge(real, at_rates(real, draft))
    return judge.over_slo([])

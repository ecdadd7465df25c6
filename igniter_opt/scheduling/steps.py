"""What one step is asked for and answers, by itself: a plan, a bound, the greedy's plan.

The answers of equal questions are equal, in whatever process.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from igniter_opt.base.errors import Caution, InfeasibleError, SolveInterruptedError, UnsuitableError
from igniter_opt.base.stop import StopRequest
from igniter_opt.data.instance import Instance
from igniter_opt.methods import METHODS, REFERENCE_METHOD, Heuristic
from igniter_opt.options import PatternsTuning, SolveOptions
from igniter_opt.problem.bounds import price_grid, share_bound_units
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.costs import NO_PLAN
from igniter_opt.problem.draft import DraftGpu, draft_cost, drafts_from_plan, make_plan
from igniter_opt.problem.judge import DraftJudge
from igniter_opt.problem.start_plans import at_rates
from igniter_opt.solve import solve_as


@dataclass(frozen=True)
class StepProblem:
    """What all steps have in common: the instance but for rates, and how steps are solved."""

    instance: Instance
    options: SolveOptions
    margin: float

    def at(self, rates: Sequence[float]) -> Instance:
        """Return the instance at some rates (req/s), one per workload."""
        return self.instance.model_copy(
            update={
                "workloads": tuple(
                    workload.model_copy(update={"rate_rps": float(rate)})
                    for workload, rate in zip(self.instance.workloads, rates, strict=True)
                )
            }
        )

    def problem(self, rates: Sequence[float]) -> Problem:
        """Return the compiled instance at some rates."""
        return Problem(self.at(rates), self.margin, self.options.confidence)


class Question(NamedTuple):
    """What is asked of a step at some rates: ``fit`` (heuristics, a quick bound), ``window`` (a plan), ``exact``.

    An exact solve begins with `start`, a plan that holds at these rates, where there is one.
    """

    kind: str
    rates: tuple[float, ...]
    time_limit: float = 0.0
    start: tuple[DraftGpu, ...] = ()


class Answer(NamedTuple):
    """Plans as drafts, None where there is none; costs and bound in steps of the price grid.

    `why` says why there is no plan, where that is proven.
    """

    gpus: list[DraftGpu] | None
    lower_units: int
    greedy: list[DraftGpu] | None = None
    why: str = ""


def answered(step: StepProblem, question: Question, stop: StopRequest | None = None) -> Answer:
    """Answer a question."""
    if question.kind == "exact":
        return _exact(step, question, stop or StopRequest())
    problem = step.problem(question.rates)
    try:
        problem.require_feasible_workloads()
    except InfeasibleError as error:
        return Answer(None, 0, None, str(error))
    try:
        gpus: list[DraftGpu] | None = heuristic("bestfit").run(problem, SolveOptions(seed=step.options.seed))
    except InfeasibleError:
        gpus = None
    if question.kind == "window":
        return Answer(gpus, 0)
    grid = price_grid(problem)
    known = NO_PLAN if gpus is None else grid_units(problem, gpus)
    return Answer(gpus, grid.round_up(share_bound_units(problem, grid), known), _greedy(problem))


def grid_units(problem: Problem, gpus: Sequence[DraftGpu]) -> int:
    """Return what GPUs cost, in steps of the price grid."""
    return int(draft_cost(problem, gpus) / price_grid(problem).step)


def heuristic(name: str) -> Heuristic:
    """Return a heuristic by its name."""
    row = METHODS[name]
    assert isinstance(row, Heuristic)  # noqa: S101 (of names above only)
    return row


def _greedy(problem: Problem) -> list[DraftGpu] | None:
    try:
        gpus = heuristic(REFERENCE_METHOD).run(problem)
    except (InfeasibleError, UnsuitableError):
        return None
    return gpus if DraftJudge(problem, gpus).holds else None


def _exact(step: StepProblem, question: Question, stop: StopRequest) -> Answer:
    """Solve for the least cost alone: the total share of a plan does not matter here."""
    options = replace(step.options, time_limit=question.time_limit, tuning=PatternsTuning(share_part=0.0))
    problem = step.problem(question.rates)
    if question.start:
        draft = at_rates(problem, list(question.start))
        if DraftJudge(problem, draft).holds:
            plan = make_plan(problem, draft, method="bestfit", status="heuristic")
            options = replace(options, start=plan, warm_start=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Caution)
        try:
            result = solve_as(step.at(question.rates), "patterns", options, None, stop)
        except InfeasibleError as error:
            return Answer(None, 0, None, str(error) if error.proven else "")
        except SolveInterruptedError:
            return Answer(None, 0)
    grid, bound = price_grid(problem), result.plan.solver.lower_bound_per_hour
    lower = 0 if bound is None else round(bound / float(grid.step))
    return Answer(drafts_from_plan(problem, result.plan), lower)

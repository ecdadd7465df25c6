"""Plans over time: one for every step of a demand curve, with few moves between them and a bound on the total."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.clock import Clock
from igniter_opt.base.errors import (
    Caution,
    InfeasibleError,
    InputError,
    SolveInterruptedError,
    UnsuitableError,
    VerificationError,
)
from igniter_opt.base.files import StrPath
from igniter_opt.base.stop import StopRequest, returns_early
from igniter_opt.data.demand import Demand, as_demand
from igniter_opt.data.instance import Instance
from igniter_opt.data.instance_files import as_instance
from igniter_opt.data.plan import Plan
from igniter_opt.options import SolveOptions
from igniter_opt.problem.bounds import price_grid
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import DraftGpu
from igniter_opt.scheduling.account import Account
from igniter_opt.scheduling.afresh import Afresh, Solving, require_some
from igniter_opt.scheduling.billing import Billing
from igniter_opt.scheduling.build import Builder, Built, layout_of, window_rates, windows
from igniter_opt.scheduling.candidates import SCHEDULE, Candidates, Sequenced, checked
from igniter_opt.scheduling.course import StepPrices
from igniter_opt.scheduling.forecast import blocks_of, forecast
from igniter_opt.scheduling.outcome import Scheduled
from igniter_opt.scheduling.steps import Question, StepProblem
from igniter_opt.scheduling.terms import ScheduleTerms
from igniter_opt.scheduling.universe import Layout, Universe
from igniter_opt.scheduling.worker import Workers
from igniter_opt.slo.rules import rule_of

DEFAULT_TIME_LIMIT_S = 300.0
# Parts of the time limit after which steps and windows are not solved any more, and seconds of an exact solve at most.
_STEPS_PART, _WINDOWS_PART, _EXACT_S = 0.6, 0.75, 10.0


@dataclass(frozen=True)
class ScheduleProgress:
    """A moment of scheduling: seconds since it began, and what is done, in words."""

    elapsed_s: float
    doing: str

    def __str__(self) -> str:
        return f" {self.elapsed_s:7.1f}s  {self.doing}"


def schedule(
    instance: Instance | StrPath,
    demand: Demand | StrPath,
    terms: ScheduleTerms | None = None,
    options: SolveOptions | None = None,
    *,
    workers: int | None = None,
    on_progress: Callable[[ScheduleProgress], object] | None = None,
    stop: StopRequest | None = None,
) -> Scheduled:
    """Find a plan for every step of a demand, so that GPUs and moves cost little in all.

    Parameters
    ----------
    instance
        An instance, or the name or path of one; the demand's rates take the place of its own.
    demand
        Rates of all workloads over time, or the path of such a file.
    terms
        Step, price of a move, how GPUs are billed, whether and how demand is forecast.
    options
        Of `solve`; `time_limit` is for all (300 s by default). `start`, `tuning`, `scale` and `neighbours` are none.
    workers
        How many processes solve steps; None for one per processor. The result does not depend on it, unless time is
        up.
    on_progress
        Called with every `ScheduleProgress`.
    stop
        Set it to end early with the best schedule so far; Ctrl-C does so.

    Raises
    ------
    InputError
        An argument is out of range, or demand and instance do not go together.
    InfeasibleError
        A step has no plan, or none is found.
    SolveInterruptedError
        Stopped before there was any schedule.
    """
    terms, options = terms or ScheduleTerms(), options or SolveOptions(time_limit=DEFAULT_TIME_LIMIT_S)
    stop = stop or StopRequest()
    run = Scheduling(as_instance(instance), as_demand(demand), terms, options, workers, on_progress, stop)
    with stop.on_interrupt():
        run.solve()
        found = run.build()
    if stop.by_signal:
        returns_early("this is the best schedule so far")
    return found


class _Solved(NamedTuple):
    """Steps by themselves, a pool of layouts for every block, and a plan for the peak."""

    afresh: Afresh
    pools: list[list[Layout]]
    peak: list[DraftGpu] | None


class Scheduling:
    """One run of `schedule`: `solve` once, `build` for any price of moves."""

    def __init__(
        self,
        instance: Instance,
        demand: Demand,
        terms: ScheduleTerms,
        options: SolveOptions,
        workers: int | None,
        on_progress: Callable[[ScheduleProgress], object] | None,
        stop: StopRequest,
    ) -> None:
        _refuse_options(options)
        self.terms, self.options, self.stop = terms, options, stop
        self.instance = options.applied(instance)
        if self.instance.cut_types:
            raise InputError("schedule: cards under MIG are not planned over time yet; leave them out")
        margin = options.margin_for(self.instance)
        options.check(margin)
        if workers is not None and not (isinstance(workers, int) and 1 <= workers <= 1024):
            raise InputError(f"the number of workers must be 1 to 1024; found {workers!r}")
        self.number = workers
        _refuse_recorded(self.instance)
        for text in self.instance.cautions():
            warnings.warn(text, Caution, stacklevel=4)
        self.demand = demand if terms.step_s is None else demand.in_steps_of(terms.step_s)
        self.clock = Clock(options.time_limit, stop)
        self.report = on_progress or (lambda _: None)
        self.common = StepProblem(self.instance, replace(options, time_limit=_EXACT_S), margin)
        rates = self.demand.of(self.instance)
        history = self._whole("the history", terms.history_s) if terms.history_s else 0
        if history >= len(rates):
            raise InputError(f"the history of {history} steps leaves none of the {len(rates)} steps to plan for")
        if terms.forecast is None:
            self.first, self.blocks = history, [0]
            self.planned = rates[history:]
        else:
            self.first, self.blocks, self.planned = self._forecast(rates, history)
        self.real = rates[self.first :]

    def _whole(self, what: str, seconds: float) -> int:
        steps = round(seconds / self.demand.step_s)
        if steps < 1 or abs(steps * self.demand.step_s - seconds) > 1e-6 * seconds:
            raise InputError(f"{what} of {seconds:g} s must be whole steps of {self.demand.step_s:g} s")
        return steps

    def _forecast(self, rates: FloatArray, history: int) -> tuple[int, list[int], FloatArray]:
        terms = self.terms
        season, span = self._whole("the season", terms.season_s), self._whole("the span", terms.replan_s)
        first = history or 2 * season
        if first >= len(rates):
            raise InputError(
                f"a forecast needs a past: the demand has {len(rates)} steps, and {first} are past (--history)"
            )
        blocks = blocks_of(len(rates), first, span)
        kind = terms.forecast or ""
        ahead = [
            forecast(kind, rates[:begin], min(span, len(rates) - begin), season, terms.quantile) for begin in blocks
        ]
        floor = self.demand.of(self.instance).min()
        return first, [begin - first for begin in blocks], np.maximum(np.concatenate(ahead), floor)

    # ---- the course of a run ------------------------------------------------------------------------

    def solve(self) -> None:
        """Solve all steps by themselves, and windows of them; none of that depends on what moves cost."""
        any_problem = self.common.problem(tuple(self.planned.max(axis=0)))
        for gpu, monotone in zip(any_problem.gpu_types, any_problem.monotone, strict=True):
            if not monotone:
                raise UnsuitableError(
                    f"schedule: the profile of GPU type {gpu.name} has negative interference coefficients, power or"
                    " cache use, so that nothing holds for windows of steps; mend the measurements"
                )
        with Workers(self.common, self.stop, self.number) as workers:
            self.solved = self._solved(workers)
        require_some(self.solved.afresh)

    def build(self) -> Scheduled:
        """Return the schedule out of what was solved."""
        afresh, pools, peak = self.solved
        account = self._account()
        forecast = self.terms.forecast is not None
        candidates = Candidates(self.common, account, self.planned, self.real, afresh, forecast=forecast)
        built = self._built(pools) if not self.stop.is_set() else None
        self._say("checking every step")
        found = candidates.sequenced(built, peak)
        if not found and self.stop.is_set():
            raise SolveInterruptedError("stopped before there was a plan for every step")
        if not found:
            raise InfeasibleError("no plan for every step was found in time; none is proven not to exist")
        return self._schedule(account, afresh, found)

    def _solved(self, workers: Workers) -> "_Solved":
        """Return the steps by themselves, a pool of layouts for every block, and a plan for the peak."""
        peak = workers.answers([self._window((0, len(self.planned)))], lambda _: None, self.stop.is_set)[0]
        self.clock.allow(_STEPS_PART)
        name = lambda step: self.demand.when(self.first + step)  # noqa: E731
        solving = Solving(self.common, self.planned, workers, name, self._say, self.clock.is_up, _EXACT_S)
        afresh = solving.run()
        self.clock.allow(_WINDOWS_PART)
        ends = [*self.blocks[1:], len(self.planned)]
        spans = [windows(begin, end) for begin, end in zip(self.blocks, ends, strict=True)]
        questions = list(dict.fromkeys(self._window(span) for block in spans for span in block))
        said = lambda done: self._say(f"plans for windows of steps ({done} of {len(questions)})")  # noqa: E731
        answers = dict(zip(questions, workers.answers(questions, said, self.clock.is_up), strict=True))
        pools = []
        for begin, end, block in zip(self.blocks, ends, spans, strict=True):
            own = [afresh.at(step).gpus for step in range(begin, end)]
            own += [answer.gpus for span in block if (answer := answers[self._window(span)]) is not None]
            pools.append(list(dict.fromkeys(layout_of(gpus) for gpus in own if gpus is not None)))
        return _Solved(afresh, pools, None if peak is None else peak.gpus)

    def _window(self, span: tuple[int, int]) -> Question:
        return Question("window", window_rates(self.planned, span))

    def _built(self, pools: list[list[Layout]]) -> Built | None:
        self.clock.allow(1.0)
        self._say("all servers at all rates")
        universe = Universe(self.instance, self.planned, self.common.margin, self.options.confidence)
        step_h = self.demand.step_s / 3600.0
        billing = self._billing()
        price = [gpu.price_per_hour for gpu in self.instance.gpu_types]
        prices = StepPrices(
            tuple(entry * step_h for entry in price),
            tuple(entry * billing.start_s / 3600.0 for entry in price),
            self.terms.move_cost * self.terms.weights.move,
        )
        return Builder(universe, self.blocks, pools, prices, self._say, self.clock.is_up).run()

    def _billing(self) -> Billing:
        return Billing(self.demand.step_s, self.terms.startup_s, self.terms.billing_s)

    def _account(self) -> Account:
        prices = {gpu.name: gpu.price_per_hour for gpu in self.instance.gpu_types}
        return Account(self._billing(), prices, self.terms.move_cost, self.terms.weights)

    def _schedule(self, account: Account, afresh: Afresh, found: list[Sequenced]) -> Scheduled:
        totals = {entry.name: entry.totals(account) for entry in found}
        best = min(found, key=lambda entry: totals[entry.name].cost)
        plans = best.plans
        when = [self.demand.when(self.first + step) for step in range(len(plans))]
        checked(plans, when)
        grid = price_grid(self._any())
        bounds = [float(grid.cost(afresh.at(step).lower_units)) for step in range(len(plans))]
        bounds = self._checked(plans, bounds)
        return Scheduled(
            instance=self.instance,
            demand=self.demand,
            first=self.first,
            terms=self.terms,
            plans=plans,
            over=best.over,
            lower_bounds=bounds,
            bound=account.bound(bounds),
            totals={SCHEDULE: totals[best.name], **{k: v for k, v in totals.items() if k != SCHEDULE}},
            source=best.name,
            proven=sum(afresh.at(step).proven for step in range(len(plans))),
            solved=[afresh.at(step).how for step in range(len(plans))],
            planned=self.planned,
            real=self.real,
            leases=account.leases(plans),
            disruptions=account.disruptions(plans),
            runtime_s=self.clock.elapsed(),
            interrupted=self.stop.is_set(),
        )

    def _checked(self, plans: list[Plan], bounds: list[float]) -> list[float]:
        """Return the bounds, as far as they are about plans such as these.

        Where limits are not exact, bounds are of plans within them (`start_plans.within_limits`); a cheaper plan beyond
        them takes its step's bound down with it.
        """
        exact = rule_of(self.instance).exact_limits
        found = []
        for step, (plan, bound) in enumerate(zip(plans, bounds, strict=True)):
            cost = plan.solver.cost_per_hour
            if bound > cost * (1 + 1e-9) and exact:
                raise VerificationError(
                    f"{self.demand.when(self.first + step)}: a plan of {cost:g} per hour is below the bound of"
                    f" {bound:g}; please report this"
                )
            found.append(min(bound, cost))
        return found

    def _any(self) -> Problem:
        return self.common.problem(tuple(self.planned[0]))

    def _say(self, doing: str) -> None:
        self.report(ScheduleProgress(self.clock.elapsed(), doing))


def _refuse_options(options: SolveOptions) -> None:
    if options.start is not None or options.tuning is not None or options.scale is not None:
        raise InputError("schedule: start, tuning and scale are options of single solves; leave them out")
    if options.neighbours != "full":
        raise InputError("schedule: neighbours count as busy all the time; leave `neighbours` out")


def _refuse_recorded(instance: Instance) -> None:
    for workload in instance.workloads:
        if instance.arrivals_of(workload).recorded is not None:
            raise InputError(
                f"schedule: the requests of {workload.name} are recorded ones, which have a rate of their own; take"
                " arrivals of kind gamma or mmpp for it"
            )

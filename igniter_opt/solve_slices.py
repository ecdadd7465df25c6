"""`solve` for instances with cards under MIG, alone or beside cards that are shared by MPS."""

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from igniter_opt.base.compilation import Stopwatch
from igniter_opt.base.errors import InfeasibleError, InputError, SolveInterruptedError, VerificationError
from igniter_opt.base.stop import StopRequest
from igniter_opt.data.instance import Instance
from igniter_opt.data.plan import PlanGpu, Status
from igniter_opt.heuristics import parvagpu
from igniter_opt.methods import METHODS, ExactMethod, Method, SliceHeuristic, require_shares
from igniter_opt.options import SolveOptions
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.costs import PriceGrid
from igniter_opt.problem.draft import finished_plan, predicted_gpus
from igniter_opt.problem.slices import CutGpu, SliceProblem
from igniter_opt.result import Progress, Result, with_log
from igniter_opt.verify import verify

# What `auto` takes.
_EXACT = "patterns"


def solve_slices(
    instance: Instance,
    row: Method,
    options: SolveOptions,
    margin: float,
    stop: StopRequest,
    report: Callable[[Progress], object],
) -> Result:
    """Solve an instance that has GPU types which MIG cuts.

    Raises
    ------
    InputError
        The method does not plan such cards, or an option does not go with them.
    InfeasibleError
        No plan exists, or none is found.
    """
    began = Stopwatch()
    _check(row, options)
    row = METHODS[_EXACT] if row.name == "auto" else row
    problem = SliceProblem(instance, margin)
    if isinstance(row, SliceHeuristic):
        cards = row.place(problem)
        return _finished(problem, row, options, began, problem.plan_gpus(cards))
    return _exact(problem, row, options, began, stop, report)


def _check(row: Method, options: SolveOptions) -> None:
    plans_slices = isinstance(row, SliceHeuristic) or (isinstance(row, ExactMethod) and row.slices)
    if not plans_slices and row.name != "auto":
        require_shares(row.name, "cards under MIG")
    if options.start is not None:
        raise InputError("a start plan does not go with cards under MIG yet; leave it out")
    if options.neighbours == "actual":
        raise InputError("neighbours as they are: slices under MIG have none; leave the option out")
    if options.mip_solver != SolveOptions.mip_solver or options.keep_model:
        raise InputError("cards under MIG: neither another MIP solver nor the model as a file; leave these options out")


def _exact(
    problem: SliceProblem,
    row: Method,
    options: SolveOptions,
    began: Stopwatch,
    stop: StopRequest,
    report: Callable[[Progress], object],
) -> Result:
    history: list[Progress] = []

    def noted(progress: Progress) -> None:
        history.append(progress)
        report(progress)

    with stop.on_interrupt():
        shared = _shared(problem)
        start = _start(problem) if options.warm_start else None
        run = _Run(options, began, stop, noted)
        found = _by_slices(problem, start, run) if shared is None else _mixed(shared, problem, start, run)
    if found.gpus is None:
        if found.interrupted:
            raise SolveInterruptedError("interrupted before a plan was found")
        raise InfeasibleError(
            f"no plan was found within the time limit of {options.time_limit:g} s; none is proven not to exist"
        )
    bound = found.grid, found.lower_units
    result = _finished(problem, row, options, began, found.gpus, bound=bound, share_bound=found.share_bound)
    ended = "an interruption" if found.interrupted else found.ended
    return with_log(Result(result.plan, result.verification, history, found.log, found.interrupted, ended))


class _Run(NamedTuple):
    """What an exact solve is asked to do, and its company."""

    options: SolveOptions
    began: Stopwatch
    stop: StopRequest
    report: Callable[[Progress], object]

    @property
    def time_left(self) -> float:
        return max(0.0, self.options.time_limit - self.began.elapsed())


class _Found(NamedTuple):
    """What an exact solve found: cards (None: no plan), and what is proven."""

    gpus: tuple[PlanGpu, ...] | None
    grid: PriceGrid
    lower_units: int
    share_bound: float
    log: list[str]
    interrupted: bool
    ended: str


def _shared(cut: SliceProblem) -> Problem | None:
    """Return the workloads that cards shared by MPS can serve, on these cards; None where there are none.

    Raises
    ------
    InfeasibleError
        Some workload can be served on neither kind of card.
    """
    instance, workloads = cut.instance, range(len(cut.workloads))
    by_slices = {workload for workload in workloads if cut.servable(workload)}
    whole = Problem(instance, cut.margin) if instance.shared_types else None
    by_shares = [] if whole is None else [workload for workload in workloads if whole.replica_counts(workload)]
    hopeless = [workload for workload in workloads if workload not in by_slices and workload not in set(by_shares)]
    if hopeless and whole is not None:
        known = [k for k in hopeless if any(whole.knows(k, g) for g in range(len(whole.gpu_types)))]
        if known:
            raise InfeasibleError(f"{cut.why_not(known[0])}\n{whole.explain_infeasible(known[0])}", proven=True)
    cut.refuse(hopeless)
    if whole is None or not by_shares:
        return None
    if len(by_shares) == len(cut.workloads):
        return whole
    return Problem(
        instance.model_copy(update={"workloads": tuple(instance.workloads[k] for k in by_shares)}), cut.margin
    )


def _by_slices(problem: SliceProblem, start: list[CutGpu] | None, run: _Run) -> _Found:
    # HiGHS takes a moment to import.
    from igniter_opt.formulations.slices import SlicesSolver

    solver = SlicesSolver(
        problem,
        start,
        time_limit=run.time_left,
        gap=run.options.gap,
        seed=run.options.seed,
        stop=run.stop,
        on_progress=run.report,
    )
    outcome = solver.run()
    gpus = None if outcome.cards is None else problem.plan_gpus(outcome.cards)
    return _Found(
        gpus,
        solver.grid,
        outcome.lower_units,
        outcome.share_bound,
        outcome.log,
        outcome.interrupted,
        outcome.ended,
    )


def _mixed(shared: Problem, cut: SliceProblem, start: list[CutGpu] | None, run: _Run) -> _Found:
    from igniter_opt.formulations.mixed import MixedSolver

    solver = MixedSolver(
        shared,
        cut,
        start,
        time_limit=run.time_left,
        gap=run.options.gap,
        seed=run.options.seed,
        stop=run.stop,
        on_progress=run.report,
    )
    solver.run()
    gpus = None
    if solver.best is not None:
        gpus = (*predicted_gpus(shared, solver.drafts()), *cut.plan_gpus(solver.best.cards))
    ended = solver.why_it_ended()
    return _Found(gpus, solver.grid, solver.lower_units, solver.share_bound, [], run.stop.is_set(), ended)


def _start(problem: SliceProblem) -> list[CutGpu] | None:
    with suppress(InfeasibleError):
        return parvagpu.place(problem)
    return None


def _finished(
    problem: SliceProblem,
    row: Method,
    options: SolveOptions,
    began: Stopwatch,
    gpus: tuple[PlanGpu, ...],
    *,
    bound: tuple[PriceGrid, int] | None = None,
    share_bound: float | None = None,
) -> Result:
    """Make the plan and have it judged; a violation is a bug."""
    lower = None if bound is None else bound[0].cost(bound[1])
    plan = finished_plan(
        problem.instance,
        gpus,
        method=row.name,
        status="heuristic",
        lower_bound=lower,
        share_lower_bound_percent=share_bound,
        runtime_s=began.elapsed(),
        margin=problem.margin,
        seed=options.seed,
    )
    status: Status = "heuristic"
    if lower is not None:
        status = "optimal" if plan.solver.gap == 0.0 else "feasible"
    plan = plan.model_copy(update={"solver": plan.solver.model_copy(update={"status": status})})
    verification = verify(plan)
    if not verification.ok:
        found = "; ".join(f"{entry.where}: {entry.message}" for entry in verification.violations[:3])
        raise VerificationError(f"method {row.name} made a plan that does not hold ({found}); please report this")
    return Result(plan, verification, [], [])

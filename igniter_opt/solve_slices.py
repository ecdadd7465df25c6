"""`solve` for instances with cards under MIG, alone or beside cards that are shared by MPS."""

from collections.abc import Callable
from contextlib import suppress

from igniter_opt.base.compilation import Stopwatch
from igniter_opt.base.errors import InfeasibleError, InputError, SolveInterruptedError, VerificationError
from igniter_opt.base.stop import StopRequest
from igniter_opt.data.instance import Instance
from igniter_opt.data.plan import PlanGpu, Status
from igniter_opt.heuristics import parvagpu
from igniter_opt.methods import METHODS, ExactMethod, Method, SliceHeuristic, require_shares
from igniter_opt.options import SolveOptions
from igniter_opt.problem.costs import PriceGrid
from igniter_opt.problem.draft import finished_plan
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


def _exact(
    problem: SliceProblem,
    row: Method,
    options: SolveOptions,
    began: Stopwatch,
    stop: StopRequest,
    report: Callable[[Progress], object],
) -> Result:
    # HiGHS takes a moment to import.
    from igniter_opt.formulations.slices import SlicesSolver

    history: list[Progress] = []

    def noted(progress: Progress) -> None:
        history.append(progress)
        report(progress)

    with stop.on_interrupt():
        problem.refuse([k for k in range(len(problem.workloads)) if not problem.servable(k)])
        solver = SlicesSolver(
            problem,
            _start(problem) if options.warm_start else None,
            time_limit=max(0.0, options.time_limit - began.elapsed()),
            gap=options.gap,
            seed=options.seed,
            stop=stop,
            on_progress=noted,
        )
        outcome = solver.run()
    if outcome.cards is None:
        if outcome.interrupted:
            raise SolveInterruptedError("interrupted before a plan was found")
        raise InfeasibleError(
            f"no plan was found within the time limit of {options.time_limit:g} s; none is proven not to exist"
        )
    result = _finished(
        problem,
        row,
        options,
        began,
        problem.plan_gpus(outcome.cards),
        bound=(solver.grid, outcome.lower_units),
        share_bound=outcome.share_bound,
    )
    ended = "an interruption" if outcome.interrupted else outcome.ended
    return with_log(Result(result.plan, result.verification, history, outcome.log, outcome.interrupted, ended))


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

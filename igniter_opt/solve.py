"""The front door: pick a method, warm-start it, verify what comes out."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

from igniter_opt.base.compilation import Stopwatch, ended_by
from igniter_opt.base.errors import (
    Caution,
    InfeasibleError,
    InputError,
    SolveInterruptedError,
    UnboundedError,
    UnsuitableError,
    VerificationError,
)
from igniter_opt.base.files import StrPath
from igniter_opt.base.schema import describe, one_of
from igniter_opt.base.stop import StopRequest, returns_early
from igniter_opt.data.arrivals import ArrivalKind, Arrivals, as_arrivals
from igniter_opt.data.instance import Instance, SloRule
from igniter_opt.data.instance_files import as_instance
from igniter_opt.data.neighbours import Neighbours
from igniter_opt.data.plan import Plan, Status, as_plan
from igniter_opt.data.split import Split
from igniter_opt.fitting.coefficients import fit_coefficients, takes_a_while
from igniter_opt.methods import (
    METHODS,
    ExactMethod,
    Heuristic,
    Method,
    SliceHeuristic,
    exact_method,
    heuristics,
    is_shipped,
    warm_starts,
)
from igniter_opt.options import DEFAULT_TIME_LIMIT_S, SolveOptions, Tuning
from igniter_opt.problem.bounds import one_gpu_units, price_grid, require_enough_gpus, share_bound_units
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import DraftGpu, draft_cost, draft_share_percent, make_plan
from igniter_opt.problem.exact_outcome import Outcome
from igniter_opt.problem.judge import DraftJudge
from igniter_opt.problem.start_plans import draft_of_start, replicas_are_equal, within_limits
from igniter_opt.problem.tighten import MOST_ROUNDS, PlanRefusedError, tighten
from igniter_opt.result import Progress, Result, with_log
from igniter_opt.verify import verify

# Seconds between reports while a solve is set up.
_REPORT_EVERY_S = 1.0
# The part of the time limit after which no further heuristic is tried: a slow one may take many times that.
_WARM_START_PART = 0.1


def solve(
    instance: Instance | StrPath,
    method: str = "auto",
    *,
    time_limit: float = DEFAULT_TIME_LIMIT_S,
    gap: float = 0.0,
    margin: float | None = None,
    confidence: float | None = None,
    coefficients: str | None = None,
    slo_rule: SloRule | None = None,
    max_replicas: int | None = None,
    percentile: float | None = None,
    scale: float | None = None,
    arrivals: ArrivalKind | Arrivals | None = None,
    headroom: float | None = None,
    split: Split | None = None,
    neighbours: Neighbours = "full",
    warm_start: bool = True,
    start: Plan | StrPath | None = None,
    seed: int = 0,
    tuning: Tuning | None = None,
    mip_solver: str = "highs",
    keep_model: bool = False,
    on_progress: Callable[[Progress], object] | None = None,
    stop: StopRequest | None = None,
) -> Result:
    """Find a plan for an instance.

    Parameters
    ----------
    instance
        An instance, or the name or path of one.
    method
        One of `methods.METHODS`. ``auto`` is ``patterns``, which begins with a ``bestfit`` plan and stops when it is
        proven optimal; where a profile is not monotone (see `interference.is_monotone`), ``assignment`` for small
        instances and the cheapest heuristic plan for others.
    time_limit
        Seconds for exact methods (heuristics take about a second at a thousand workloads).
    gap
        Relative gap between cost and lower bound at which exact methods may stop.
    margin
        Inflates every predicted GPU latency by ``1 + margin``; 0 by default.
    confidence
        Take the margin that the GPU types' profiles are calibrated to have at this confidence, the largest of them.
    coefficients
        Use this coefficient set of every profile instead of the instance's (`data.profile.COEFFICIENT_SETS`). A warning
        (`Caution`) says where the profile's calibration shows another set to be far better.
    slo_rule, max_replicas, percentile
        Override the instance's (`percentile` with rule p99 only).
    scale
        Multiplies all rates; the plan's instance has the rates that it was made for.
    arrivals
        Override how requests arrive, of all workloads: a kind, or `Arrivals` with its parameters (and, for a trace, its
        file, whose times are scaled to each workload's rate). Rule p99 plans for them.
    headroom
        Plan for rates that are higher by this (0.2: by 20 %); the rates in the plan's instance stay as they are.
    split
        How replicas share a workload's requests, which rule p99 plans for: ``random``, or ``round-robin``.
    neighbours
        ``full``: neighbours run full batches all the time, as SLO rules assume. ``actual``: after that solve, look for
        a cheaper plan that holds beside neighbours as they are, by simulation, and prove a bound for such plans
        (`beside.solve_beside`); with exact methods and a rule on a percentile, once more within the time limit.
    warm_start
        Whether exact methods start from a heuristic plan.
    start
        A plan, or the path of one, for exact methods to begin with; never made worse. It must hold for this instance,
        its replicas sharing the instance's rates as they share its own. Under rule p99 it may lie beyond the limits on
        the safe side that exact methods keep to; where none of theirs is better, it is returned with no other bound
        than the price of a GPU.
    tuning
        Constants of the method, to be studied: `options.BestFitTuning`, `options.AssignmentTuning` or
        `options.PatternsTuning`.
    mip_solver
        What solves the integer programs of method ``assignment``: ``highs``, ``scip``, ``cbc``, or ``cp-sat``, which
        has a model of its own and leaves the second objective alone. They are in the extras ``solvers`` and ``cbc``.
    keep_model
        Whether the result of an exact method has the integer program that it ended with (`Result.model`), and that of
        ``patterns`` the duals of its linear relaxation (`Result.duals`), which takes a moment longer.
    on_progress
        Called with every `Progress`.
    stop
        Set it (from another thread, say) to end the solve early with the best plan so far; Ctrl-C does so, says so on
        stderr, and within the next seconds raises KeyboardInterrupt.

    Raises
    ------
    InputError
        An argument is out of range, a profile has no margin for the confidence, or it predicts latencies that nothing
        can have.
    InfeasibleError
        No plan exists, or the method finds none; the message says why and what would help. `UnboundedError` where
        the method does not check what it packs together, and nothing bounds a latency there.
    SolveInterruptedError
        Stopped before there was any plan: a KeyboardInterrupt, which no handler of errors takes for one.
    """
    options = SolveOptions(
        time_limit=time_limit,
        gap=gap,
        margin=margin,
        confidence=confidence,
        coefficients=coefficients,
        slo_rule=slo_rule,
        max_replicas=max_replicas,
        percentile=percentile,
        scale=scale,
        arrivals=None if arrivals is None else as_arrivals(arrivals),
        headroom=headroom,
        split=split,
        neighbours=neighbours,
        warm_start=warm_start,
        start=start,
        seed=seed,
        tuning=tuning,
        mip_solver=mip_solver,
        keep_model=keep_model,
    )
    stop = stop or StopRequest()
    result = solve_as(options.applied(as_instance(instance)), method, options, on_progress, stop)
    if result.interrupted and stop.by_signal:
        returns_early("this is the best plan so far")
    return result


def solve_as(
    instance: Instance,
    method: str,
    options: SolveOptions,
    on_progress: Callable[[Progress], object] | None = None,
    stop: StopRequest | None = None,
) -> Result:
    """Do what `solve` does, for an instance to which the options were applied (`SolveOptions.applied`)."""
    if on_progress is not None and not callable(on_progress):
        raise InputError(f"on_progress must be a function, such as print; found {describe(on_progress)}")
    for text in instance.cautions():
        warnings.warn(text, Caution, stacklevel=3)
    margin = options.margin_for(instance)
    row = METHODS[one_of(method, METHODS, "unknown method", "methods")]
    options.check(margin)
    if options.neighbours == "actual":
        # Few solves come here, and simulation is slow to import.
        from igniter_opt.beside.solve_beside import check_suitable

        check_suitable(instance, method)
    if options.start is not None and isinstance(row, Heuristic):
        raise InputError(f"method {method} begins with no plan; leave the start plan out, or take an exact method")
    began = Stopwatch()
    report = on_progress or (lambda _: None)
    if instance.cut_types:
        # Few instances have any.
        from igniter_opt.solve_slices import solve_slices

        return solve_slices(instance, row, options, margin, stop or StopRequest(), report)
    if isinstance(row, SliceHeuristic):
        raise InputError(f"method {method} plans cards under MIG, and the instance has none; take another method")
    for profile in [gpu.mps_profile for gpu in instance.shared_types]:
        if takes_a_while(profile):
            report(_before(began, f"fitting coefficients of {profile.name}"))
            fit_coefficients(profile)
    problem = Problem(instance, margin, options.confidence)
    if isinstance(row, Heuristic):
        row.check(options)
        report(_before(began, f"method {method}"))
        try:
            plan = row.run(problem, options)
            for _ in range(MOST_ROUNDS):
                if not row.verified or not tighten(problem, plan):
                    break
                plan = row.run(problem, options)
        except InfeasibleError:
            problem.require_feasible_workloads()  # where they apply, the better explanations
            require_enough_gpus(problem)
            raise
        return finished(problem, row, plan, began, seed=options.seed)
    first = None if options.start is None else draft_of_start(problem, as_plan(options.start))
    if not isinstance(row, ExactMethod):
        row = METHODS[exact_method(problem)]
    row.check(options)
    if isinstance(row, ExactMethod):
        run = _Run(options, stop or StopRequest(), report)
        result = _solve_exact(problem, row, first, began, run)
        if options.neighbours == "actual":
            from igniter_opt.beside.solve_beside import solve_beside

            return solve_beside(problem, result, options, run.stop, report)
        return result
    problem.require_feasible_workloads()
    return _best_heuristic(problem, began, options.seed)


class _Run(NamedTuple):
    """What an exact solve is asked to do, and its company."""

    options: SolveOptions
    stop: StopRequest
    report: Callable[[Progress], object]


def _solve_exact(
    problem: Problem, method: ExactMethod, start: list[DraftGpu] | None, began: Stopwatch, run: _Run
) -> Result:
    """Solve, with Ctrl-C as a stop request from the beginning."""
    history: list[Progress] = []

    def report(progress: Progress) -> None:
        history.append(progress)
        run.report(progress)

    with run.stop.on_interrupt():
        try:
            set_up(problem, began, run.stop, run.report)
            outcome = _exact_outcome(problem, method, start, run._replace(report=report))
        except KeyboardInterrupt:
            # Asked to stop amid what comes before the search.
            if not run.stop.is_set():
                raise
            outcome = Outcome(None, 0, 0.0) if start is None else _beyond_limits(problem, start)
            outcome.interrupted = True
        except InfeasibleError:
            # What the limits of rule p99 do not admit may hold all the same.
            if start is None or within_limits(problem, start):
                raise
            outcome = _beyond_limits(problem, start)
        if outcome.gpus is None:
            if outcome.interrupted:
                raise SolveInterruptedError("interrupted before a plan was found")
            raise InfeasibleError(
                f"no plan was found within the time limit of {run.options.time_limit:g} s; none is proven not to exist"
            )
        result = finished(
            problem,
            method,
            outcome.gpus,
            began,
            lower_units=outcome.lower_units,
            share_bound=outcome.share_bound,
            seed=run.options.seed,
            history=history,
            log=outcome.log,
            interrupted=outcome.interrupted,
            ended="an interruption" if outcome.interrupted else outcome.ended,
        )
        return replace(result, model=outcome.model, duals=outcome.duals)


def _before(began: Stopwatch, doing: str) -> Progress:
    """What is done before a search."""
    return Progress(began.elapsed(), "start", None, None, None, doing=doing)


def set_up(problem: Problem, began: Stopwatch, stop: StopRequest, report: Callable[[Progress], object]) -> None:
    """Work out what every search needs, and refuse what has no plan.

    Raises
    ------
    KeyboardInterrupt
        A stop was asked for.
    """
    reported = began.elapsed()
    with ended_by(stop):
        # Where limits are dear, `problem` keeps them.
        if problem.rule.dear_limits:
            for done in problem.limits_at_once():
                if stop.is_set():
                    raise KeyboardInterrupt
                if began.elapsed() >= reported + _REPORT_EVERY_S:
                    reported = began.elapsed()
                    doing = f"limits of rule {problem.rule.name}: {done} of {len(problem.workloads)} workloads"
                    report(_before(began, doing))
        problem.require_feasible_workloads()
        require_enough_gpus(problem)


def _exact_outcome(problem: Problem, method: ExactMethod, start: list[DraftGpu] | None, run: _Run) -> Outcome:
    """Solve from the best plan within the formulations' limits; a better one beyond them stands, with its own bound."""
    began = Stopwatch()
    starts = [] if start is None else [start]
    if run.options.warm_start and not method.starts_itself:
        until = _WARM_START_PART * run.options.time_limit
        with ended_by(run.stop):
            found = _cheapest_heuristic(
                problem, warm_starts().values(), lambda: run.stop.is_set() or began.elapsed() > until
            )
        starts += [] if found is None else [found[1]]
    within = [plan for plan in starts if within_limits(problem, plan)]
    first = min(within, key=lambda plan: _rank(problem, plan), default=None)
    outcome = _searched(problem, method, first, began, run)
    beyond = min((plan for plan in starts if plan not in within), key=lambda plan: _rank(problem, plan), default=None)
    if beyond is None or (outcome.gpus is not None and _rank(problem, outcome.gpus) <= _rank(problem, beyond)):
        return outcome
    return replace(_beyond_limits(problem, beyond), interrupted=outcome.interrupted, log=outcome.log)


def _searched(
    problem: Problem, method: ExactMethod, first: list[DraftGpu] | None, began: Stopwatch, run: _Run
) -> Outcome:
    """Search in the time that is left; anew, with lower limits, where the judge refuses what they admit."""
    while True:
        left = replace(run.options, time_limit=max(0.0, run.options.time_limit - began.elapsed()))
        start = first if first is None or within_limits(problem, first) else None
        try:
            outcome = method.search(problem, start, left, run.stop, run.report)
        except PlanRefusedError as error:
            if not tighten(problem, error.gpus):
                raise
            continue
        except InfeasibleError as error:
            if not (error.proven and problem.limits_lowered):
                raise
            # Of lower limits than the rule's, which the judge's sample asked for.
            raise InfeasibleError(f"{error} (within limits that the judge has lowered)", proven=False) from None
        if outcome.gpus is None or not tighten(problem, outcome.gpus):
            return outcome


def _beyond_limits(problem: Problem, plan: list[DraftGpu]) -> Outcome:
    """Return a plan that holds beyond the formulations' limits, with the bound that needs none of them."""
    return Outcome(plan, one_gpu_units(problem, price_grid(problem)), 0.0)


def _best_heuristic(problem: Problem, began: Stopwatch, seed: int) -> Result:
    """Take the cheapest verified heuristic plan, with the share bound."""
    found = _cheapest_heuristic(problem, heuristics().values())
    if found is None:
        raise InfeasibleError("no heuristic finds a plan (none is proven not to exist); `compare` shows why")
    method, plan = found
    grid = price_grid(problem)
    known = sum(grid.units[gpu.gpu_type] for gpu in plan)
    if within_limits(problem, plan):
        lower = grid.round_up(share_bound_units(problem, grid), known)
    else:
        lower = one_gpu_units(problem, grid)
    return finished(problem, method, plan, began, lower_units=lower, seed=seed)


def _cheapest_heuristic(
    problem: Problem, rows: Iterable[Heuristic], hurry: Callable[[], bool] = lambda: False
) -> tuple[Heuristic, list[DraftGpu]] | None:
    """Return the best heuristic plan that holds and keeps to the exact methods' replica rule, if any.

    Asks `hurry` between the heuristics, and once it says so, ends with the first plan there is.
    """
    best: tuple[Heuristic, list[DraftGpu]] | None = None
    for row in rows:
        if best is not None and hurry():
            break
        try:
            plan = row.run(problem)
        except (InfeasibleError, UnsuitableError):
            continue
        except KeyboardInterrupt:  # amid compilation
            if best is None:
                raise
            break
        if not replicas_are_equal(problem, plan) or not DraftJudge(problem, plan).holds:
            continue
        if best is None or _rank(problem, plan) < _rank(problem, best[1]):
            best = row, plan
    return best


def _rank(problem: Problem, plan: list[DraftGpu]) -> tuple[float, float]:
    return float(draft_cost(problem, plan)), draft_share_percent(problem, plan)


def _rejected(method: str, why: str) -> str:
    said = f"method {method} made a plan that the predictor rejects ({why})"
    if is_shipped(method):
        return f"{said}; please report this"
    return f"{said}; mend the method, or register it with verified=False, so that its plans say what they miss"


def _refuse_unbounded(judge: DraftJudge, method: Method) -> None:
    """Raise an error where some placements have no finite latency: UnboundedError, or that it is a bug."""
    unbounded = judge.unbounded()
    if not unbounded:
        return
    if method.verified:
        raise VerificationError(_rejected(method.name, unbounded[0].why))
    lost = dict.fromkeys(name for entry in unbounded for name in entry.workloads)
    over = list(dict.fromkeys([*lost, *judge.over_slo(without=[entry.gpu for entry in unbounded])]))
    shown = ", ".join(list(lost)[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
    raise UnboundedError(
        f"method {method.name}, which does not check what it packs together, makes no plan that can be predicted:"
        f" {unbounded[0].why}. The latency of {shown} would be without bound; use --method igniter or auto",
        len(judge.gpus),
        float(draft_cost(judge.problem, judge.gpus)),
        draft_share_percent(judge.problem, judge.gpus),
        over,
    )


def finished(
    problem: Problem,
    method: Method,
    gpus: list[DraftGpu],
    began: Stopwatch,
    *,
    lower_units: int | None = None,
    share_bound: float | None = None,
    seed: int = 0,
    history: list[Progress] | None = None,
    log: list[str] | None = None,
    interrupted: bool = False,
    ended: str = "",
) -> Result:
    """Make the plan and have it judged; a violation by a method that promises none is a bug."""
    judge = DraftJudge(problem, gpus)
    _refuse_unbounded(judge, method)
    judge.refuse_impossible()
    bound = None if lower_units is None else price_grid(problem).cost(lower_units)
    status: Status = "heuristic"
    if bound is not None:
        status = "optimal" if bound >= draft_cost(problem, gpus) else "feasible"
    plan = make_plan(
        problem,
        gpus,
        method=method.name,
        status=status,
        lower_bound=bound,
        share_lower_bound_percent=share_bound,
        runtime_s=began.elapsed(),
        seed=seed,
        predictions=judge.predictions,
    )
    verification = verify(plan)
    if not verification.ok:
        if method.verified:
            found = "; ".join(f"{entry.where}: {entry.message}" for entry in verification.violations[:3])
            raise VerificationError(_rejected(method.name, found))
        plan = plan.model_copy(update={"solver": plan.solver.model_copy(update={"status": "violates"})})
    lowered = problem.limits_lowered
    return with_log(Result(plan, verification, history or [], log or [], interrupted, ended, limits_lowered=lowered))

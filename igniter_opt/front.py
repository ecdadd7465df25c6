"""The front of cost against total share: what more money buys in room on the cards, as plans with proofs."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from igniter_opt.base.compilation import Stopwatch, counted_apart
from igniter_opt.base.errors import InfeasibleError, InputError, SolveInterruptedError
from igniter_opt.base.files import StrPath, as_path
from igniter_opt.base.frames import frame
from igniter_opt.base.kinds import FRONT, PLAN, check_output, write_output
from igniter_opt.base.schema import checked_number, summary
from igniter_opt.base.stop import StopRequest, returns_early
from igniter_opt.base.text import rounded
from igniter_opt.data.gpu_type import PRICE_DECIMALS
from igniter_opt.data.instance import Instance
from igniter_opt.data.instance_files import as_instance
from igniter_opt.data.plan import as_plan, write_plan
from igniter_opt.methods import METHODS
from igniter_opt.options import PatternsTuning, SolveOptions
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.start_plans import draft_of_start, within_limits
from igniter_opt.problem.tighten import PlanRefusedError, tighten
from igniter_opt.result import Progress, Result
from igniter_opt.solve import finished, set_up

if TYPE_CHECKING:
    import pandas as pd

    from igniter_opt.formulations.front import FrontDraft

# Budgets up to this many times the least cost are looked at.
DEFAULT_MOST = 1.5
_LARGEST_MOST = 100.0
# Of the time limit, what the least cost may take.
_COST_PART = 0.5
# Shares are the same up to this (percent).
SAME_SHARE_PERCENT = 1e-3


@dataclass(frozen=True)
class Front:
    """Plans of which none costs less *and* takes less of the cards than another, in ascending order of cost.

    Attributes
    ----------
    points
        Each a verified plan with its judgement. `Result.total_share_percent` is what it takes, and no plan that costs
        no more takes less than ``plan.solver.total_share_lower_bound_percent``.
    most_cost
        The largest budget that was looked at, in currency per hour.
    open_percent
        The most total share that another plan of no more than a budget could save over the points within it, at any
        budget from the first point's cost up to that one; 0: between these no point is missing.
    interrupted
        Whether Ctrl-C (or a stop request) ended it early: these are the points so far.
    """

    points: tuple[Result, ...]
    most_cost: float
    open_percent: float
    interrupted: bool = False

    @property
    def complete(self) -> bool:
        """Whether this is proven to be the front up to the largest budget, and nothing to cost less than its first."""
        return self.points[0].status == "optimal" and self.open_percent <= SAME_SHARE_PERCENT

    def __repr__(self) -> str:
        return summary(
            "Front",
            instance=self.points[0].plan.instance.name,
            points=len(self.points),
            cost_per_hour=[point.cost for point in self.points],
            total_share_percent=[round(point.total_share_percent, 6) for point in self.points],
            interrupted=self.interrupted or None,
        )

    @property
    def lower_bound(self) -> float | None:
        """Proven lower bound on the cost per hour of any plan."""
        return self.points[0].lower_bound

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the points as rows: what the command prints as JSON."""
        rows = []
        for point in self.points:
            share, bound = point.total_share_percent, point.plan.solver.total_share_lower_bound_percent or 0.0
            rows.append(
                {
                    "cost_per_hour": point.cost,
                    "cost_lower_bound_per_hour": point.lower_bound,
                    "gpus": len(point.plan.gpus),
                    "total_share_percent": share,
                    "total_share_lower_bound_percent": bound,
                    "free_share_percent": 100.0 * len(point.plan.gpus) - share,
                    "proven": share <= bound + SAME_SHARE_PERCENT,
                }
            )
        return rows

    def to_frame(self) -> "pd.DataFrame":
        """Return the points as a table."""
        return frame(self.to_dicts())

    def write_plans(self, folder: StrPath) -> list[Path]:
        """Write every plan, as ``plan-COST.json``, and ``front.json`` into a folder; return the plans' paths.

        The folder is made where there is none.

        Raises
        ------
        InputError
            Something else is at one of these paths, or nothing can be written there.
        """
        folder = as_path(folder)
        check_folder(folder)
        folder.mkdir(exist_ok=True)
        paths = [folder / f"plan-{rounded(point.cost, PRICE_DECIMALS)}.json" for point in self.points]
        for path in paths:
            check_output(path, PLAN)
        write_output(folder / "front.json", self.to_json().encode(), FRONT)
        for path, point in zip(paths, self.points, strict=True):
            write_plan(point.plan, path)
        return paths

    def to_json(self) -> str:
        """Return the points without their plans as JSON: what the command prints."""
        instance = self.points[0].plan.instance
        data = {
            "schema": "igniter-opt/front@1",
            "instance": instance.name,
            "currency": instance.currency,
            "most_cost_per_hour": self.most_cost,
            "open_percent": self.open_percent,
            "interrupted": self.interrupted,
            "points": self.to_dicts(),
        }
        return json.dumps(data, indent=1, allow_nan=False) + "\n"


def check_folder(folder: Path) -> None:
    """Raise InputError where a path is something else than a folder, or its own folder does not exist."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: exists and is no folder, where the plans of a front go; choose another path")
    if not folder.parent.is_dir():
        raise InputError(f"{folder}: the folder {folder.parent} does not exist; create it first")


def front(
    instance: Instance | StrPath,
    *,
    most: float = DEFAULT_MOST,
    options: SolveOptions | None = None,
    on_progress: Callable[[Progress], object] | None = None,
    stop: StopRequest | None = None,
) -> Front:
    """Find the front of cost against total share.

    Parameters
    ----------
    instance
        An instance, or the name or path of one.
    most
        The largest budget, as a multiple of the least cost.
    options
        Of `solve`, for method ``patterns``; half of the time limit is for the least cost at most.
    on_progress
        Called with every `Progress`; in phase ``share`` its cost is the budget at hand.
    stop
        Set it to end early with the points so far; Ctrl-C does so.

    Raises
    ------
    InputError
        An argument is out of range, or asks for what a front does not have.
    InfeasibleError
        No plan exists, or none is found in time.
    UnsuitableError
        A profile is not monotone, which ``patterns`` needs.
    SolveInterruptedError
        Stopped before there was any plan.
    """
    options, stop, began = options or SolveOptions(), stop or StopRequest(), Stopwatch()
    if not 1.0 <= checked_number("most", most) <= _LARGEST_MOST:
        raise InputError(f"most must be from 1 (the least cost alone) to {_LARGEST_MOST:g}; found {most!r}")
    if options.neighbours != "full" or options.keep_model:
        raise InputError("a front is of plans beside neighbours that are busy all the time, and keeps no model")
    wanted = options.applied(as_instance(instance))
    if wanted.cut_types:
        raise InputError("a front is of cards that are shared by MPS; there is none yet for cards under MIG")
    margin = options.margin_for(wanted)
    options.check(margin)
    METHODS["patterns"].check(options)
    report = on_progress or (lambda _: None)
    problem = Problem(wanted, margin, options.confidence)
    start = None if options.start is None else draft_of_start(problem, as_plan(options.start))
    with stop.on_interrupt():
        try:
            set_up(problem, began, stop, report)
        except KeyboardInterrupt:
            raise SolveInterruptedError("interrupted before a plan was found") from None
        while True:
            left = replace(options, time_limit=max(0.0, options.time_limit - began.elapsed()))
            first = start if start is None or within_limits(problem, start) else None
            try:
                drafts, bound, most_cost, left_open = _search(problem, first, left, most, stop, report)
            except PlanRefusedError as error:
                if not tighten(problem, error.gpus):
                    raise
                continue
            lowered = [tighten(problem, draft.gpus) for draft in drafts]
            if not any(lowered):
                break
        points = tuple(
            finished(
                problem,
                METHODS["patterns"],
                draft.gpus,
                began,
                lower_units=bound,
                share_bound=draft.share_bound,
                seed=options.seed,
                interrupted=stop.is_set(),
            )
            for draft in drafts
        )
    if stop.by_signal:
        returns_early("these are the points so far")
    return Front(points, most_cost, left_open, stop.is_set())


def _search(
    problem: Problem,
    start: "list[Any] | None",
    options: SolveOptions,
    most: float,
    stop: StopRequest,
    report: Callable[[Progress], object],
) -> "tuple[list[FrontDraft], int, float, float]":
    """Find least cost and front; return points, the bound on the cost, the largest budget and what is open."""
    with counted_apart():
        from igniter_opt.formulations.front import FrontSearch
        from igniter_opt.formulations.patterns import PatternsSolver
    solver = PatternsSolver(
        problem,
        start,
        warm_start=options.warm_start,
        time_limit=_COST_PART * options.time_limit,
        gap=options.gap,
        seed=options.seed,
        stop=stop,
        on_progress=report,
        tuning=options.tuning if isinstance(options.tuning, PatternsTuning) else PatternsTuning(),
    )
    solver.run()
    if solver.phase == "start" or solver.best is None:
        if stop.is_set():
            raise SolveInterruptedError("interrupted before a plan was found")
        raise InfeasibleError(
            f"no plan was found in half of the time limit of {options.time_limit:.3g} s; none is proven not to exist"
        )
    left = options.time_limit - solver.clock.elapsed()
    search = FrontSearch(solver, most=most, time_limit=max(0.0, left), stop=stop, on_progress=report)
    drafts = search.run()
    return drafts, solver.lower_units, float(solver.grid.cost(search.budgets[-1])), search.open_percent()

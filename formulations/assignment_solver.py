"""Solve the `assignment` formulation: cost first, then total share at that cost, from a heuristic's plan."""

import math
import time
from collections.abc import Callable, Sequence

import numpy as np

from igniter_opt.bounds import least_total_share_percent, price_grid, share_bound_units
from igniter_opt.configurations import Problem
from igniter_opt.costs import PriceGrid, share_step
from igniter_opt.draft import DraftGpu, draft_share_percent, make_plan, unbounded_gpus
from igniter_opt.errors import InfeasibleError, InputError, SolverError
from igniter_opt.formulations.assignment import Assignment
from igniter_opt.formulations.assignment_data import Slot
from igniter_opt.highs import MipEvent, MipResult, solve_mip
from igniter_opt.outcome import Outcome
from igniter_opt.result import Progress
from igniter_opt.stop import StopRequest
from igniter_opt.verify import verify

# Part of the time limit that the second objective may take, and that the first leaves to it.
_SHARE_PHASE = 0.2
# Larger models than this many (item, slot) pairs are refused: building alone would take minutes.
_MOST_PLACES = 10_000
# Stands for the cost of a plan while none is known, in steps of the price grid.
_UNKNOWN = 2**62
# A bound on total share is rounded up to whole share units after giving back this much (percent).
_SHARE_GUARD = 1e-4


class _OutOfTimeError(Exception):
    """The time limit or a stop request came while the model was being built."""


class AssignmentSolver:
    """One run of the formulation.

    Parameters
    ----------
    problem
        The compiled instance; every workload must be servable.
    start
        A feasible plan to begin with, or None.
    time_limit, gap
        Seconds in all; relative cost gap at which to stop.
    on_progress
        Called with `Progress`, from the solver's thread.
    counts
        Only plans that use exactly these numbers of GPUs of each type are looked for, and the cost is theirs.
    cost_only
        Whether to leave out the second objective.
    """

    def __init__(
        self,
        problem: Problem,
        start: list[DraftGpu] | None,
        *,
        time_limit: float,
        gap: float,
        seed: int,
        stop: StopRequest,
        on_progress: Callable[[Progress], None],
        counts: Sequence[int] | None = None,
        cost_only: bool = False,
    ) -> None:
        self.problem, self.counts, self.cost_only = problem, counts, cost_only
        self.grid: PriceGrid = price_grid(problem)
        self.deadline = time.perf_counter() + time_limit
        self.time_limit, self.gap, self.seed, self.stop = time_limit, gap, seed, stop
        self.began = time.perf_counter()
        self.on_progress = on_progress
        self.best = start
        if counts is None:
            first = self.grid.round_up(share_bound_units(problem, self.grid), _units(self.grid, start) or _UNKNOWN)
        else:
            first = sum(unit * count for unit, count in zip(self.grid.units, counts, strict=True))
        self.outcome = Outcome(start, first, least_total_share_percent(problem))

    def run(self) -> Outcome:
        """Solve; the outcome's plan is None only if no plan was found in time.

        Raises
        ------
        InfeasibleError
            Proven: no plan exists.
        """
        with self.stop.on_interrupt():
            self._run()
        self.outcome.interrupted = self.stop.is_set()
        self.outcome.gpus = self.best
        return self.outcome

    def _run(self) -> None:
        self._report("start", improved=self.best is not None)
        try:
            model = Assignment(self.problem, self._slots(), self._check)
        except _OutOfTimeError:
            return
        known = _units(self.grid, self.best)
        model.minimise_cost(self.grid.units, self.outcome.lower_units, known)
        if known is None or not self._good_enough(known):
            kept = 0.0 if self.cost_only else _SHARE_PHASE * self.time_limit
            self._phase(model, "cost", self.deadline - kept)
        known = _units(self.grid, self.best)
        if known is None or self.stop.is_set() or self.cost_only or self._share_proven():
            return
        model.minimise_share(known)
        until = time.perf_counter() + _SHARE_PHASE * self.time_limit
        self._phase(model, "share", self.deadline if self.counts is not None else min(self.deadline, until))

    def _check(self) -> None:
        """Give up building when time is up or a stop is asked for."""
        if self.stop.is_set() or time.perf_counter() >= self.deadline:
            raise _OutOfTimeError

    def _slots(self) -> list[int]:
        """GPUs per type that some plan no dearer than the known one can use."""
        if self.counts is not None:
            return list(self.counts)
        counts = [self.problem.replica_counts(workload) for workload in range(len(self.problem.workloads))]
        replicas, items = sum(map(max, counts)), sum(map(sum, counts))
        known = _units(self.grid, self.best)
        slots = []
        for units, count in zip(self.grid.units, self.grid.counts, strict=True):
            most = replicas if known is None else min(replicas, known // units)
            slots.append(most if count is None else min(most, count))
        if sum(slots) * items > _MOST_PLACES:
            raise InputError(
                f"method assignment: {items} items on up to {sum(slots)} GPUs is too large for this formulation;"
                " use --method auto or a heuristic"
            )
        return slots

    def _good_enough(self, units: int) -> bool:
        return units - self.outcome.lower_units <= self.gap * units

    def _share_proven(self) -> bool:
        return self.best is not None and (
            draft_share_percent(self.problem, self.best) <= self.outcome.share_bound + _SHARE_GUARD
        )

    def _phase(self, model: Assignment, phase: str, until: float) -> None:
        """Solve for one objective, repeating while HiGHS's tolerance lets an unverifiable plan through."""
        while True:
            start = model.start_from(self.best) if self.best is not None else None
            result = solve_mip(
                model.model,
                start,
                time_limit=max(0.1, until - time.perf_counter()),
                gap=self.gap if phase == "cost" else 0.0,
                seed=self.seed,
                stop=self.stop,
                on_event=lambda event: self._event(phase, event, model.cost_scale),
            )
            self.outcome.log += result.log
            if result.status == "infeasible":
                if self.best is not None:
                    raise SolverError("HiGHS finds no plan where one is known; please report this")
                raise InfeasibleError("no plan exists: proven by the assignment formulation on HiGHS", proven=True)
            self._take_bound(model, phase, result)
            if result.values is None or self._take_plan(model, model.chosen(result.values)):
                break
            if self.stop.is_set() or time.perf_counter() >= until:
                break
        self._report(phase)

    def _take_bound(self, model: Assignment, phase: str, result: MipResult) -> None:
        """Keep the dual bound, rounded up to the next attainable value.

        Valid because the MIP holds every plan that is no dearer than the known one (its rows are the exact
        requirements, up to HiGHS's feasibility tolerance, which only ever admits more), and the known one.
        """
        if not math.isfinite(result.bound):
            return
        if phase == "cost":
            known = _units(self.grid, self.best)
            if result.values is not None:
                objective = round(result.objective * model.cost_scale)
                known = objective if known is None else min(known, objective)
            bound = result.bound * model.cost_scale
            self.outcome.lower_units = max(self.outcome.lower_units, self.grid.round_up(bound, known or _UNKNOWN))
        else:
            step = share_step([entry.hardware.share_unit_percent for entry in self.problem.coefficients])
            bound = math.ceil((result.bound - _SHARE_GUARD) / step) * step
            self.outcome.share_bound = max(self.outcome.share_bound, bound)

    def _take_plan(self, model: Assignment, chosen: list[tuple[Slot, list[tuple[int, int]]]]) -> bool:
        """Keep a plan if it is better; exclude its GPUs that the predictor rejects, and say so by False."""
        gpus = model.drafts(chosen)
        unbounded = unbounded_gpus(self.problem, gpus)
        for entry in unbounded:
            slot, pairs = chosen[entry.gpu]
            model.forbid(slot.gpu_type, pairs)
        if unbounded:
            return False
        plan = make_plan(self.problem, gpus, method="assignment", status="heuristic")
        failed = {check.gpu for check in verify(plan).placements if not check.ok}
        if failed:
            for gpu, (slot, pairs) in zip(plan.gpus, chosen, strict=True):
                if gpu.name in failed:
                    model.forbid(slot.gpu_type, pairs)
            return False
        if self.best is None or self._rank(gpus) < self._rank(self.best):
            self.best = gpus
        return True

    def _rank(self, gpus: Sequence[DraftGpu]) -> tuple[int, float]:
        return _units(self.grid, gpus) or 0, draft_share_percent(self.problem, list(gpus))

    # ---- progress -----------------------------------------------------------------------------------

    def _event(self, phase: str, event: MipEvent, scale: int) -> None:
        cost = _units(self.grid, self.best)
        lower, share = self.outcome.lower_units, None
        if phase == "cost":
            if math.isfinite(event.objective):
                objective = round(event.objective * scale)
                cost = objective if cost is None else min(cost, objective)
            if math.isfinite(event.bound) and cost is not None:
                lower = max(lower, self.grid.round_up(event.bound * scale, cost))
        elif np.isfinite(event.objective):
            share = round(event.objective, 6)
        self._report(phase, cost, lower, event.nodes, event.improved, share)

    def _report(
        self,
        phase: str,
        cost: int | None = None,
        lower: int | None = None,
        nodes: int = 0,
        improved: bool = False,
        share: float | None = None,
    ) -> None:
        cost = _units(self.grid, self.best) if cost is None else cost
        lower = self.outcome.lower_units if lower is None else lower
        self.on_progress(
            Progress(
                elapsed_s=time.perf_counter() - self.began,
                phase=phase,
                cost=None if cost is None else float(self.grid.cost(cost)),
                lower_bound=float(self.grid.cost(lower)),
                gap=None if cost is None else (cost - lower) / cost,
                nodes=nodes,
                improved=improved,
                total_share_percent=share,
            )
        )


def _units(grid: PriceGrid, gpus: Sequence[DraftGpu] | None) -> int | None:
    return None if gpus is None else sum(grid.units[gpu.gpu_type] for gpu in gpus)

"""Solve the `assignment` formulation: cost first, then total share at that cost, from a heuristic's plan."""

import math
import time
from collections.abc import Callable, Sequence

from igniter_opt.base.errors import InfeasibleError, InputError, SolverError
from igniter_opt.base.stop import StopRequest
from igniter_opt.formulations.assignment import Assignment
from igniter_opt.formulations.assignment_data import Slot
from igniter_opt.formulations.highs import MipEvent, MipResult, solve_mip
from igniter_opt.formulations.solvers.table import MIP_SOLVERS, MipSolver
from igniter_opt.formulations.written import pyomo_program
from igniter_opt.options import AssignmentTuning
from igniter_opt.problem.bounds import least_total_share_percent, price_grid, share_bound_units
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.costs import NO_PLAN, PriceGrid, share_step
from igniter_opt.problem.draft import DraftGpu, draft_share_percent
from igniter_opt.problem.exact_outcome import Outcome
from igniter_opt.problem.judge import DraftJudge
from igniter_opt.result import Progress

_USUAL = AssignmentTuning()
_HIGHS = MIP_SOLVERS["highs"]
# A bound on the scaled cost may be too high by this much: HiGHS's absolute gap, and its tolerances on rows.
_COST_TOLERANCE = 1e-6
# ... and its bound on the position of a cost among some.
_RANK_TOLERANCE = 1e-3
# Vectors of GPU counts whose costs are told apart exactly, at most: the tolerance above is for so few positions.
_MOST_VECTORS = 200
# A bound on total share is rounded up to whole share units after giving back this much (percent).
_SHARE_GUARD = 1e-4
# What the solver is asked for, above its log.
_AIMS = {
    "cost": "least cost (in units of the dearest GPU)",
    "rank": "least of the costs that lie too near together, by its position among them",
    "share": "least total share (percent) at that cost",
}


# Above its rows and columns where they are written.
_NOTES = (
    "The program of igniter_opt.formulations.assignment, least cost; its docstring derives all rows by these names.",
    "x_t_c_j: item t has configuration c on GPU slot j; u_t_j: it is there; y_j: the slot is used; w_j: by several.",
)


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
    solver
        The solver of integer programs, a row of `solvers.table` that takes programs.
    keep_model
        Whether the outcome has the program of the first objective.
    tuning
        Constants that trade time for quality.
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
        on_progress: Callable[[Progress], object],
        counts: Sequence[int] | None = None,
        cost_only: bool = False,
        solver: MipSolver = _HIGHS,
        keep_model: bool = False,
        tuning: AssignmentTuning = _USUAL,
    ) -> None:
        self.tuning, self.solver, self.keep_model = tuning, solver, keep_model
        self.problem, self.counts, self.cost_only = problem, counts, cost_only
        self.grid: PriceGrid = price_grid(problem)
        self.deadline = time.perf_counter() + time_limit
        self.time_limit, self.gap, self.seed, self.stop = time_limit, gap, seed, stop
        self.began = time.perf_counter()
        self.on_progress = on_progress
        self.best = start
        if counts is None:
            first = self.grid.round_up(share_bound_units(problem, self.grid), _units(self.grid, start) or NO_PLAN)
        else:
            first = sum(unit * count for unit, count in zip(self.grid.units, counts, strict=True))
        self.outcome = Outcome(start, first, least_total_share_percent(problem))
        self._first, self._ranks, self._handing_over = first, list[int](), 0.0

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
        self.outcome.ended = self._why_it_ended()
        return self.outcome

    def _why_it_ended(self) -> str:
        known = _units(self.grid, self.best)
        if known is None or not self._good_enough(known):
            limit, kept = f"the time limit of {self.time_limit:.3g} s", self.tuning.share_part * self.time_limit
            if not self._handing_over:
                return f"{limit}, while the model was being built"
            return (
                f"{limit}, {kept:.2g} s of which are for the total share of a proven plan"
                f" and {self._handing_over:.2g} s for handing the model to {self.solver.words}"
            )
        if known > self.outcome.lower_units:
            return f"the gap is within the {100 * self.gap:g} % asked for"
        if self._share_proven():
            return "cost and total share are proven"
        return f"the cost is proven; the total share had its {100 * self.tuning.share_part:g} % of the time limit"

    def _run(self) -> None:
        self._report("start", improved=self.best is not None)
        began = time.perf_counter()
        try:
            model = Assignment(self.problem, self._slots(), self._check)
        except _OutOfTimeError:
            return
        self._handing_over = self.tuning.handing_over * (time.perf_counter() - began)
        known = _units(self.grid, self.best)
        model.minimise_cost(self.grid.units, self.outcome.lower_units, known)
        if self.keep_model:
            price = float(self.grid.cost(model.cost_scale))
            self.outcome.model = pyomo_program(model.model, "assignment", _NOTES, price)
        if known is None or not self._good_enough(known):
            kept = 0.0 if self.cost_only else self.tuning.share_part * self.time_limit
            settled = self._phase(model, "cost", self.deadline - kept)
            if settled and self.counts is None:
                self._tell_near_costs_apart(model, self.deadline - kept)
        known = _units(self.grid, self.best)
        if known is None or self.stop.is_set() or self.cost_only or self._share_proven():
            return
        model.minimise_share(known, self._ranks.index(known) if self._ranks else None)
        until = time.perf_counter() + self.tuning.share_part * self.time_limit
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
        if sum(slots) * items > self.tuning.most_places:
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

    def _tell_near_costs_apart(self, model: Assignment, until: float) -> None:
        """Settle which is the least of the costs that the solver's tolerances leave open (see `assignment`)."""
        known = _units(self.grid, self.best)
        if known is None or self._good_enough(known) or self.stop.is_set():
            return
        vectors = self.grid.vectors(self.outcome.lower_units, known + 1, _MOST_VECTORS)
        if vectors is not None:
            self._ranks = model.minimise_rank(vectors)
            self._phase(model, "rank", until)

    def _phase(self, model: Assignment, phase: str, until: float) -> bool:
        """Solve for one objective, repeating while the solver's tolerance lets an unverifiable plan through.

        Returns whether the solver came to an end.
        """
        taken, result = False, MipResult("stopped", None, math.inf, -math.inf)
        while until - time.perf_counter() > self._handing_over:
            start = model.start_from(self.best) if self.best is not None else None
            result = solve_mip(
                model.model,
                start,
                self.solver.run,
                time_limit=until - time.perf_counter() - self._handing_over,
                gap=self.gap if phase == "cost" else 0.0,
                seed=self.seed,
                stop=self.stop,
                on_event=lambda event: self._event(phase, event, model.cost_scale),
            )
            self.outcome.log += [f"assignment, {_AIMS[phase]}:", *result.log]
            if result.status == "infeasible":
                if self.best is not None:
                    raise SolverError(f"{self.solver.words} finds no plan where one is known; please report this")
                raise InfeasibleError(
                    f"no plan exists: proven by the assignment formulation on {self.solver.words}", proven=True
                )
            taken = result.values is None or self._take_plan(model, model.chosen(result.values))
            self._take_bound(model, phase, result)
            if taken or self.stop.is_set():
                break
        self._report("share" if phase == "share" else "cost")
        return taken and result.status == "optimal"

    def _take_bound(self, model: Assignment, phase: str, result: MipResult) -> None:
        """Keep the dual bound, rounded up to the next attainable value.

        Valid because the MIP holds every plan that is no dearer than the known one (its rows are the exact
        requirements, up to the solver's feasibility tolerance, which only ever admits more), and the known one; what
        its tolerances may add to the bound on the cost is taken off first (`solvers.table`).
        """
        if not math.isfinite(result.bound):
            return
        if phase == "cost":
            if self.counts is None:
                lower = self._cost_bound(result.bound * model.cost_scale, model.cost_scale)
                self.outcome.lower_units = max(self.outcome.lower_units, lower)
        elif phase == "rank":
            rank = max(0, math.ceil(result.bound - _RANK_TOLERANCE))
            known = _units(self.grid, self.best) or NO_PLAN
            self.outcome.lower_units = max(self.outcome.lower_units, min(known, self._ranks[rank]))
        else:
            step = share_step([entry.hardware.share_unit_percent for entry in self.problem.coefficients])
            bound = math.ceil((result.bound - _SHARE_GUARD) / step) * step
            self.outcome.share_bound = max(self.outcome.share_bound, bound)

    def _take_plan(self, model: Assignment, chosen: list[tuple[Slot, list[tuple[int, int]]]]) -> bool:
        """Keep a plan if it is better; exclude its GPUs that the predictor rejects, and say so by False."""
        gpus = model.drafts(chosen)
        judge = DraftJudge(self.problem, gpus)
        good = judge.gpus_keep() if judge.bounded.all() else judge.bounded
        good = good | self.problem.proposes
        for (slot, pairs), keeps in zip(chosen, good.tolist(), strict=True):
            if not keeps:
                model.forbid(slot.gpu_type, pairs)
        if not good.all():
            return False
        if self.best is None or self._rank(gpus) < self._rank(self.best):
            self.best = gpus
            if self.counts is None and self._rank(gpus)[0] < self.outcome.lower_units:
                # A plan outweighs what floating point says of a bound: only the one that needs no solver is left.
                self.outcome.lower_units = self._first
        return True

    def _cost_bound(self, units: float, scale: int, known: int | None = None) -> int:
        """Round a solver's bound (in steps) up, less its tolerances; a known plan's cost is the best one's."""
        known = known or _units(self.grid, self.best) or NO_PLAN
        return self.grid.round_up(max(0.0, units - _COST_TOLERANCE * scale), known)

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
                lower = max(lower, self._cost_bound(event.bound * scale, scale, cost))
        elif phase == "share" and math.isfinite(event.objective):
            share = round(event.objective, 6)
        self._report("share" if phase == "share" else "cost", cost, lower, event.nodes, event.improved, share)

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

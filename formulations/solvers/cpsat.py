"""OR-Tools CP-SAT on the planning problem, by a model of its own. Objective: cost only.

The model, its derivation and its rounding stand in `cpsat_model`. Bounds are valid as they are, because
rounding only relaxes; every plan is judged by `igniter_opt.verify`, and GPUs that fail are forbidden with their
configurations (and so are their supersets: the performance model is monotone) before the search goes on.

Search
------
Given a plan, the model asks for one that costs at least a step less: items may be left out, and CP-SAT minimises
the share left out, starting from the known plan without its emptiest GPUs (a complete hint). Nothing left out is
a better plan, and the next, lower target follows; a positive bound proves the known plan optimal. Without a plan,
cost is minimised until there is one. Compared with minimising cost throughout, where all plans of one size look
alike, this gives large-neighbourhood search something to improve.

Measurements
------------
OR-Tools 9.15, two workers, 60 s, one run each on a machine with two cores and some other load, from the better
greedy plan (6, 7, 7, 13 GPUs): GPUs of the best plan and seconds until it was found, without model building (1 to
5 s) except in the last row. At igniter-table3 the seconds are those of the proof. The greedy plan of 6 is optimal
there; 6 is the share bound at the next two, and at uniform-50-1 no variant proves more than its 11::

    variant                                            igniter-table3  uniform-24-1  tight-24-1   uniform-50-1
    1. cost objective, one enforced row (x → row) per  6 in 0.3        6 in 54       6 in 57      13 (the hint)
       configuration, conflicts and pairs as clauses
    2. cost objective, rows as in `cpsat_model`        6 in 0.1        6 in 5        6 in 47      12 in 34
    3. as 5, but x[t,c] common to all slots            6 in 0.4        6 in 4        6 in 14      13 (the hint)
    4. as 5, but thresholds as clauses: x, Y → C ≤ T   6 in 0.3        6 in 2        6 in 2       12 in 24
    5. this module, with model building                6 in 0.9        6 in 2        6 in 3       12 in 14

Earlier versions of variant 5, with coarser rounding: without the ordering of slots 1.2 to 2.6 times slower at the
last three instances, and 6 to 10 s instead of 0.6 s for the proof at igniter-table3; with CP-SAT's default probing,
which variant 1 has too, about 7 s more presolve at uniform-50-1. Not added: an aggregated linear program over
numbers of neighbours and intervals of cache use; it bounds uniform-50-1 by 10.9 GPUs, no more than 11 either.
"""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from ortools.sat.python import cp_model

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InfeasibleError, InputError, SolverError
from igniter_opt.base.stop import StopRequest, in_a_thread
from igniter_opt.formulations.assignment_data import Item, sorted_items, type_data
from igniter_opt.formulations.solvers.cpsat_model import CpSatModel, Pairs, TypeRows
from igniter_opt.options import SolveOptions
from igniter_opt.physics.interference import added_delay, clock_ratio
from igniter_opt.problem.bounds import least_total_share_percent, price_grid, share_bound_units
from igniter_opt.problem.configurations import Configurations, Problem
from igniter_opt.problem.costs import NO_PLAN
from igniter_opt.problem.draft import Draft, DraftGpu, make_plan
from igniter_opt.problem.exact_outcome import Outcome
from igniter_opt.problem.tighten import PlanRefusedError
from igniter_opt.result import Progress
from igniter_opt.verify import Verification, verify

# CP-SAT's searches beside each other; with one of them alone it is a fraction of itself.
_WORKERS = 2
# A report at least this often.
_REPORT_EVERY_S = 1.0
# Part of the remaining time for minimising cost when there is no plan to repair.
_FIRST_PHASE = 0.5
# In units of share left out: a bound above it proves that no plan leaves nothing out.
_SOMETHING_LEFT = 0.5
# Replicas of one workload have equal rates, up to this relative difference.
_SAME_RATE = 1e-9

Chosen = list[tuple[int, Pairs]]


@dataclass
class CpSatOutcome:
    """What CP-SAT found.

    Attributes
    ----------
    gpus
        The cheapest verified plan, the hint included; None if there is none.
    lower_units
        Proven lower bound on the cost, in steps of the price grid.
    first_plan_s, best_plan_s
        Seconds until CP-SAT reported its first and its best verified plan, model building included. After a hint
        CP-SAT only looks for cheaper plans, so both are None when the hint was not improved.
    proof_s
        Seconds until the plan was proven optimal, or infeasibility was proven.
    runtime_s
        Seconds in all.
    status
        ``optimal``, ``near`` (within the gap asked for), ``feasible``, ``infeasible`` or ``unknown``.
    rejected
        Number of plans that the predictor rejected, because of the rounding.
    """

    gpus: list[DraftGpu] | None
    lower_units: int
    first_plan_s: float | None = None
    best_plan_s: float | None = None
    proof_s: float | None = None
    runtime_s: float = 0.0
    status: str = "unknown"
    rejected: int = 0


def solve_cpsat(
    problem: Problem,
    hint: list[DraftGpu] | None,
    *,
    time_limit: float,
    workers: int = _WORKERS,
    seed: int = 0,
    gap: float = 0.0,
    stop: StopRequest | None = None,
    on_progress: Callable[[Progress], object] = lambda _: None,
) -> CpSatOutcome:
    """Solve a problem with CP-SAT for least cost.

    Parameters
    ----------
    hint
        A feasible plan to start from, or None.
    time_limit, gap
        Seconds in all, model building included; relative gap at which to stop.
    stop
        Looked at several times a second.
    on_progress
        Called with `Progress`.

    Raises
    ------
    InputError
        A GPU type's performance model is not monotone, or the hint is not a plan.
    InfeasibleError
        Some workload cannot be served at all.
    """
    if not all(problem.monotone):
        names = [entry.name for entry, good in zip(problem.gpu_types, problem.monotone, strict=True) if not good]
        raise InputError(f"the CP-SAT model needs monotone performance models; not so: {', '.join(names)}")
    problem.require_feasible_workloads()
    if hint is not None and not _judge(problem, hint).ok:
        raise InputError("the hint is not a plan: the predictor rejects it")
    stop = stop or StopRequest()
    with stop.on_interrupt():
        return _Search(problem, hint, time_limit, workers, seed, gap, stop, on_progress).run()


def search(
    problem: Problem,
    start: list[DraftGpu] | None,
    options: SolveOptions,
    stop: StopRequest,
    on_progress: Callable[[Progress], object],
) -> Outcome:
    """Search for the cheapest plan as a `methods.ExactMethod` does; of the total share no more is bounded than before.

    Raises
    ------
    InputError
        A GPU type's performance model is not monotone.
    InfeasibleError
        Proven: no plan exists.
    """
    found = solve_cpsat(
        problem,
        start,
        time_limit=options.time_limit,
        seed=options.seed,
        gap=options.gap,
        stop=stop,
        on_progress=on_progress,
    )
    if found.status == "infeasible":
        raise InfeasibleError("no plan exists: proven by OR-Tools CP-SAT", proven=True)
    reasons = {
        "optimal": "the cost is proven; CP-SAT leaves the total share alone",
        "near": f"the gap is within the {100 * options.gap:g} % asked for",
    }
    ended = reasons.get(found.status, f"the time limit of {options.time_limit:.3g} s")
    return Outcome(
        found.gpus, found.lower_units, least_total_share_percent(problem), interrupted=stop.is_set(), ended=ended
    )


def _judge(problem: Problem, gpus: list[DraftGpu]) -> Verification:
    return verify(make_plan(problem, gpus, method="cpsat", status="heuristic"))


class _OutOfTimeError(Exception):
    """The time limit came while the model was being built."""


class _Solutions(cp_model.CpSolverSolutionCallback):
    """Collects the complete plans that CP-SAT reports, with the time."""

    def __init__(self, model: CpSatModel, began: float, *, elastic: bool) -> None:
        super().__init__()
        self.model, self.began, self.elastic = model, began, elastic
        self.found: list[tuple[float, Chosen]] = []

    def on_solution_callback(self) -> None:
        if not self.elastic or self.objective_value < _SOMETHING_LEFT:
            self.found.append((time.perf_counter() - self.began, self.model.chosen(self.boolean_value)))


class _Search:
    """One run: a model per target cost, until there is a proof or time is up."""

    def __init__(
        self,
        problem: Problem,
        hint: list[DraftGpu] | None,
        time_limit: float,
        workers: int,
        seed: int,
        gap: float,
        stop: StopRequest,
        on_progress: Callable[[Progress], object],
    ) -> None:
        self.began = time.perf_counter()
        self.problem, self.time_limit, self.gap = problem, time_limit, gap
        self.workers, self.seed, self.stop, self.on_progress = workers, seed, stop, on_progress
        self.grid = price_grid(problem)
        self.outcome = CpSatOutcome(hint, 0)
        self.items: list[Item] = sorted_items(problem)
        self.types: list[TypeRows] = []
        self.forbidden: Chosen = []
        # GPUs to begin with, and every workload's number of replicas in the plan that they come from.
        self.start: Chosen = []
        self.replicas: dict[int, int] = {}
        self.phases = 0

    def run(self) -> CpSatOutcome:
        outcome = self.outcome
        self._raise_bound(share_bound_units(self.problem, self.grid))
        self._report(improved=outcome.gpus is not None)
        with suppress(_OutOfTimeError):
            if not self._settled():
                self._compile()
            while not self._settled():
                self._phase()
        if outcome.proof_s is not None:
            outcome.status = "infeasible" if outcome.gpus is None else "optimal"
        elif outcome.gpus is not None:
            outcome.status = "near" if self._settled() else "feasible"
        outcome.runtime_s = self._elapsed()
        return outcome

    def _elapsed(self) -> float:
        return time.perf_counter() - self.began

    def _check(self) -> None:
        if self.stop.is_set() or self._elapsed() >= self.time_limit:
            raise _OutOfTimeError

    def _settled(self) -> bool:
        """Whether it is proven that there is no plan, or none that is cheaper by more than the gap."""
        known = self._units()
        near = known is not None and self.gap > 0 and known - self.outcome.lower_units <= self.gap * known
        return near or self.outcome.proof_s is not None

    def _report(self, *, improved: bool = False) -> None:
        known, lower = self._units(), self.outcome.lower_units
        self.on_progress(
            Progress(
                elapsed_s=self._elapsed(),
                phase="cost",
                cost=None if known is None else float(self.grid.cost(known)),
                lower_bound=float(self.grid.cost(lower)),
                gap=None if known is None else (known - lower) / known,
                improved=improved,
            )
        )

    def _units(self) -> int | None:
        """Cost of the best plan in steps of the price grid."""
        gpus = self.outcome.gpus
        return None if gpus is None else sum(self.grid.units[gpu.gpu_type] for gpu in gpus)

    def _raise_bound(self, units: float) -> None:
        known = self._units()
        bound = self.grid.round_up(units, NO_PLAN if known is None else known)
        self.outcome.lower_units = max(self.outcome.lower_units, bound)
        if self.outcome.lower_units == known:
            self.outcome.proof_s = self._elapsed()

    def _compile(self) -> None:
        for g, (coefficients, gpu) in enumerate(zip(self.problem.coefficients, self.problem.gpu_types, strict=True)):
            data = type_data(self.problem, self.items, g, self._check)
            self.types.append(TypeRows(coefficients.hardware, data, gpu.memory_limit_mib))
        gpus = self.outcome.gpus or []
        self.replicas = dict(Counter(draft.workload for gpu in gpus for draft in gpu.placements))
        found = [self._pairs(gpu) for gpu in gpus]
        self.start = [(gpu.gpu_type, pairs) for gpu, pairs in zip(gpus, found, strict=True) if pairs]

    # ---- phases -------------------------------------------------------------------------------------

    def _phase(self) -> None:
        """Look for a plan below the known one, or for the cheapest if none is known."""
        self._check()
        known = self._units()
        most = None if known is None else known - 1
        slots = self._slots(most)
        model = CpSatModel(
            self.problem, self.items, self.types, slots, self.grid.units, most, self.forbidden, self._check
        )
        model.hint(self._affordable(most), self.replicas)
        solver = cp_model.CpSolver()
        left = self.time_limit - self._elapsed()
        solver.parameters.max_time_in_seconds = max(
            0.0, left * (_FIRST_PHASE if known is None and not self.phases else 1)
        )
        solver.parameters.num_workers = self.workers
        solver.parameters.random_seed = self.seed
        # Probing every literal takes most of the time on larger instances and finds next to nothing.
        solver.parameters.cp_model_probing_level = 0
        if known is not None:
            solver.best_bound_callback = lambda bound: solver.stop_search() if bound > _SOMETHING_LEFT else None
        self.phases += 1
        solutions = _Solutions(model, self.began, elastic=known is not None)
        status = self._solve(solver, model, solutions)
        if status == cp_model.MODEL_INVALID:
            raise SolverError(f"CP-SAT calls the model invalid: {model.model.validate()[:200]}")
        for seconds, chosen in solutions.found:
            self._take_plan(seconds, chosen)
        self._take_bound(known, status, solver.best_objective_bound)
        self._report()

    def _solve(self, solver: cp_model.CpSolver, model: CpSatModel, solutions: _Solutions) -> object:
        """Run CP-SAT in a thread of its own; the waiting one passes a stop request on and reports."""
        status: list[object] = []
        reported = self._elapsed()

        def look() -> None:
            nonlocal reported
            if self.stop.is_set():
                solver.stop_search()
            if self._elapsed() >= reported + _REPORT_EVERY_S:
                reported = self._elapsed()
                self._report()

        in_a_thread(lambda: status.append(solver.solve(model.model, solutions)), "cp-sat", look)
        return status[0]

    def _slots(self, most: int | None) -> list[int]:
        """GPUs per type that a plan of at most this cost can use."""
        counts = [self.problem.replica_counts(workload) for workload in range(len(self.problem.workloads))]
        replicas = sum(map(max, counts))
        slots = []
        for units, count in zip(self.grid.units, self.grid.counts, strict=True):
            number = replicas if most is None else min(replicas, most // units)
            slots.append(number if count is None else min(number, count))
        return slots

    def _affordable(self, most: int | None) -> Chosen:
        """Return the GPUs to begin with, less those with the least share for their price beyond a cost."""

        def worth(gpu: tuple[int, Pairs]) -> float:
            levels = [self._configurations(gpu[0], t).level[c] for t, c in gpu[1]]
            hardware = self.problem.coefficients[gpu[0]].hardware
            return float(sum(levels)) * hardware.share_unit_percent / self.grid.units[gpu[0]]

        kept = sorted(self.start, key=worth, reverse=True)
        while most is not None and sum(self.grid.units[gpu_type] for gpu_type, _ in kept) > most:
            kept.pop()
        return kept

    def _take_bound(self, known: int | None, status: object, bound: float) -> None:
        """Conclude from a phase that began with a known plan's cost: rounding only relaxes, so bounds hold."""
        if known is not None:
            if status == cp_model.INFEASIBLE or bound > _SOMETHING_LEFT:
                self._raise_bound(known)
        elif status == cp_model.INFEASIBLE:
            self.outcome.proof_s = self._elapsed()
        elif np.isfinite(bound):
            self._raise_bound(bound)

    def _take_plan(self, seconds: float, chosen: Chosen) -> None:
        """Judge a plan; keep it if it holds and is cheaper, else forbid the GPUs that fail and repair the rest."""
        gpus = self._drafts(chosen)
        judged = _judge(self.problem, gpus)
        self.replicas = {self.items[t].workload: self.items[t].replicas for _, pairs in chosen for t, _ in pairs}
        if judged.ok:
            self.start = chosen
            best = self._units()
            self.outcome.first_plan_s = self.outcome.first_plan_s or seconds
            if best is None or sum(self.grid.units[gpu.gpu_type] for gpu in gpus) < best:
                self.outcome.gpus, self.outcome.best_plan_s = gpus, seconds
                self._report(improved=True)
            return
        failed = {check.gpu for check in judged.placements if not check.ok}
        failed |= {entry.where for entry in judged.violations if entry.kind == "memory"}
        names = [gpu.name for gpu in make_plan(self.problem, gpus, method="cpsat", status="heuristic").gpus]
        if not failed:
            raise SolverError(f"the CP-SAT model's plan is wrong: {judged.violations[0].message}")
        if not self.problem.rule.exact_limits:
            # Configurations were left out as no better than this one: the limits are lowered, and all is begun anew.
            raise PlanRefusedError("a plan of CP-SAT is rejected by the predictor", gpus)
        self.outcome.rejected += 1
        self.forbidden += [gpu for name, gpu in zip(names, chosen, strict=True) if name in failed]
        self.start = [gpu for name, gpu in zip(names, chosen, strict=True) if name not in failed]

    # ---- plans to configurations and back -----------------------------------------------------------

    def _configurations(self, gpu_type: int, item: int) -> Configurations:
        found = self.types[gpu_type].data.configurations[item]
        assert found is not None  # noqa: S101 (asked only for items that the type serves)
        return found

    def _drafts(self, chosen: Chosen) -> list[DraftGpu]:
        gpus = []
        for gpu_type, pairs in chosen:
            placements = []
            for t, c in pairs:
                item, found = self.items[t], self._configurations(gpu_type, t)
                rate = self.problem.workloads[item.workload].rate_rps / item.replicas
                placements.append(Draft(item.workload, item.number, int(found.batch[c]), int(found.level[c]), rate))
            gpus.append(DraftGpu(gpu_type, placements))
        return gpus

    def _pairs(self, gpu: DraftGpu) -> Pairs | None:
        """Find a plan's configurations, or kept ones that are no worse for the neighbours; None if there are none."""
        hardware = self.problem.coefficients[gpu.gpu_type].hardware
        delay = float(added_delay(hardware, len(gpu.placements)))
        pairs: Pairs = []
        used = []
        for draft in gpu.placements:
            item = Item(draft.workload, self.replicas[draft.workload], draft.replica)
            rate = self.problem.workloads[draft.workload].rate_rps / item.replicas
            if item not in self.items or abs(draft.rate_rps - rate) > _SAME_RATE * rate:
                return None
            every = self.problem.every_configuration(draft.workload, gpu.gpu_type, item.replicas)
            used.append(_resources(every)[(every.batch == draft.batch) & (every.level == draft.level)][0])
            pairs.append((self.items.index(item), 0))
        current = np.array(used)
        for k, (t, _) in enumerate(pairs):
            found = self.types[gpu.gpu_type].data.configurations[t]
            if found is None:
                return None
            _, power, cache, _ = current.sum(axis=0) - current[k]
            ratio = clock_ratio(hardware, hardware.idle_power_w + power + found.power_w)
            holds = found.needed_ms(delay, cache, 0.0) <= found.limit_ms * ratio
            suits = np.flatnonzero(holds & np.all(_resources(found) <= current[k], axis=1))
            if suits.size == 0:
                return None
            best = int(suits[np.argmin(found.level[suits])])
            current[k] = _resources(found)[best]
            pairs[k] = t, best
        return pairs


def _resources(entry: Configurations) -> FloatArray:
    return np.column_stack([entry.level, entry.power_w, entry.cache, entry.memory_mib]).astype(float)

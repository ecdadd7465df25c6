"""After a solve with neighbours that are busy all the time: a bound, and maybe a cheaper plan, with them as they are.

1. *Bound*: the problem without interference (`damped`), by the exact method `patterns`. Where it equals the plan's cost
   the plan is proven for neighbours as they are, too, and nothing is searched.
2. *Proposals*: exact solves with interference scaled down, mended until every set of placements holds in a sample on
   common random numbers (`settle`, `local_moves`); and moves from the best plan so far.
3. *Acceptance*: what the search has found is simulated anew, with requests that the search has not seen, and has to
   leave `SAFETY` of the late requests that are allowed, with the judge's confidence. Where a placement is too late it
   gets more share, or its set is forgotten and the plan mended, for a few rounds, each on new requests.
4. `verify` judges what comes out by a sample of its own. A plan that it rejects is dropped, for the one that needs no
   simulation.

A plan that is not cheaper is not changed: it keeps the shares with which it holds beside ever busy neighbours.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.clock import Clock, EnoughError
from igniter_opt.base.compilation import Stopwatch
from igniter_opt.base.errors import InputError, VerificationError
from igniter_opt.base.stop import StopRequest
from igniter_opt.beside.damped import DampedProblem, undisturbed
from igniter_opt.beside.local_moves import LocalMoves
from igniter_opt.beside.settle import Settler
from igniter_opt.data.instance import Instance
from igniter_opt.data.neighbours import ActualNeighbours
from igniter_opt.data.plan import Plan, Status
from igniter_opt.heuristics.bestfit import require_monotone
from igniter_opt.methods import METHODS, ExactMethod
from igniter_opt.options import PatternsTuning, SolveOptions
from igniter_opt.packing.items import Catalogue, catalogue
from igniter_opt.packing.plans import Pattern
from igniter_opt.problem.bounds import least_total_share_percent, one_gpu_units, price_grid
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import Draft, DraftGpu, draft_cost, drafts_from_plan, make_plan
from igniter_opt.problem.exact_outcome import Outcome
from igniter_opt.result import Progress, Result
from igniter_opt.simulation.gpu_sample import GpuSample
from igniter_opt.simulation.lateness import RUNS, GpuVerdict
from igniter_opt.simulation.second_judge import (
    ACCEPTING,
    CONFIDENCE,
    SEARCHING,
    SecondJudgement,
    doubtful_gpus,
    judge_gpus,
    unsuitable,
)
from igniter_opt.verify import verify, verify_busy

# The part of the allowed late requests that accepted plans leave over, and that the search aims to leave over.
SAFETY, _AIM = 0.1, 0.15
# Of how much interference proposals are made, from those on that are likely to hold; after so many in vain no more are.
_PARTS, _IN_VAIN = (0.9, 0.75, 0.6, 0.45, 0.3, 0.15), 2
# The part of the time for each, and for the bound.
_PART_TIME, _BOUND_TIME = 0.1, 0.3
# The search ends after this part, for the acceptance may have to look for other places.
_SEARCH_TIME = 0.8
_ROUNDS = 5


def check_suitable(instance: Instance, method: str) -> None:
    """Raise InputError where neighbours cannot be taken as they are."""
    why = unsuitable(instance)
    if why is not None:
        raise InputError(f"--neighbours actual: {why}")
    if method != "auto" and not isinstance(METHODS.get(method), ExactMethod):
        raise InputError(f"--neighbours actual: method {method} proves no bound; take an exact one, such as patterns")


def solve_beside(
    problem: Problem,
    result: Result,
    options: SolveOptions,
    stop: StopRequest,
    report: Callable[[Progress], object],
) -> Result:
    """Return a result whose plan is judged beside neighbours as they are.

    Parameters
    ----------
    result
        Of a solve with neighbours that are busy all the time.
    options
        Their time limit holds for this search, too, once more.
    """
    return _Search(problem, result, options, stop, report).run()


@dataclass(frozen=True)
class _Found:
    """A plan for which its acceptance sample spoke."""

    plan: Plan
    judgement: SecondJudgement


class _Search:
    def __init__(
        self,
        problem: Problem,
        result: Result,
        options: SolveOptions,
        stop: StopRequest,
        report: Callable[[Progress], object],
    ) -> None:
        require_monotone(problem, "patterns")
        self.problem, self.result, self.options, self.stop, self.report = problem, result, options, stop, report
        self.clock, self.grid, self.watch = Clock(options.time_limit, stop), price_grid(problem), Stopwatch()
        self.busy = drafts_from_plan(problem, result.plan)
        self.lower_units, self.least_share = one_gpu_units(problem, self.grid), 0.0

    def run(self) -> Result:
        with self.stop.on_interrupt():
            self._bound()
            found = None
            if self.lower_units < self._units(self.busy) and not self.stop.is_set():
                found = self._search()
        if found is not None:
            plan = self._finished(found.plan, found.judgement)
            verification = verify(plan)
            if verification.ok:
                return replace(self.result, plan=plan, verification=verification, interrupted=self.stop.is_set())
            self._say("the judge does not confirm the cheaper plan, which is dropped")
        plan = self._finished(self.result.plan, SecondJudgement({}))
        return replace(self.result, plan=plan, verification=verify(plan), interrupted=self.stop.is_set())

    # ---- bound and proposals --------------------------------------------------------------------------

    def _bound(self) -> None:
        """Prove a bound on every plan that holds beside neighbours as they are."""
        self._say("bound without interference")
        free = undisturbed(self.problem.instance, self.problem.margin, self.problem.confidence)
        for _ in free.limits_at_once():
            if self.stop.is_set():
                return
        # As in other solves, what is worked out before a search is not in its time.
        self.clock = Clock(self.options.time_limit, self.stop)
        outcome = self._solved(free, self.busy, _BOUND_TIME)
        self.lower_units = max(self.lower_units, outcome.lower_units)
        self.least_share = least_total_share_percent(free)

    def _solved(self, damped: DampedProblem, start: list[DraftGpu] | None, part: float) -> Outcome:
        """Solve a problem with less interference within a part of the time."""
        row = METHODS["patterns"]
        assert isinstance(row, ExactMethod)  # noqa: S101 (the table says so)
        own = SolveOptions(
            time_limit=min(self.clock.left(), part * self.options.time_limit),
            seed=self.options.seed,
            tuning=PatternsTuning(share_part=0.0),
        )
        return row.search(damped, start, own, self.stop, lambda _: None)

    def _search(self) -> _Found | None:
        known = catalogue(self.problem)
        sample = GpuSample(self.problem.instance, self.options.seed, SEARCHING)
        allowed = 1.0 - self.problem.instance.required_percentile
        settler = Settler(known, sample, allowed * (1.0 - _AIM), self.clock.check)
        moves = LocalMoves(settler, self.grid.units, self.grid.counts, self.options.seed)
        start = patterns_from(known, self.busy)
        if start is None:
            return None
        # Each cheaper than the one before: where the cheapest does not pass its test, the next may.
        found = [start]
        self.clock.allow(_SEARCH_TIME)
        with suppress(EnoughError):
            for plan in self._cheaper_ones(known, moves, start):
                found.append(plan)
        self.clock.allow(1.0)
        for plan in found[:0:-1]:
            accepted = self._accepted(settler, moves, plan)
            if accepted is not None:
                return accepted
        return None

    def _cheaper_ones(self, known: Catalogue, moves: LocalMoves, best: list[Pattern]) -> Iterable[list[Pattern]]:
        """Make plans that hold in the sample, each cheaper than the one before, down to the bound."""
        vain = 0
        for proposal in self._proposals(known):
            if moves.cost(proposal) < moves.cost(best):
                self._say(f"mending a plan of {self._price(moves.cost(proposal))}")
                mended = moves.mended(proposal)
                vain = vain + 1 if mended is None else 0
                if mended is not None:
                    best = mended
                    yield best
            if moves.cost(best) <= self.lower_units or vain == _IN_VAIN:
                break
        while moves.cost(best) > self.lower_units:
            self._say(f"looking for less than {self._price(moves.cost(best))}")
            better = moves.cheaper(best)
            if better is None:
                return
            best = better
            yield best

    def _proposals(self, known: Catalogue) -> Iterable[list[Pattern]]:
        """Make plans for less and less interference."""
        for part in _PARTS:
            self.clock.check()
            self._say(f"proposals with {100 * part:g} % of the interference")
            damped = DampedProblem(self.problem.instance, self.problem.margin, part, self.problem.confidence)
            gpus = self._solved(damped, self.busy, _PART_TIME).gpus
            patterns = None if gpus is None else patterns_from(known, gpus)
            if patterns is not None:
                yield patterns

    # ---- acceptance -----------------------------------------------------------------------------------

    def _accepted(self, settler: Settler, moves: LocalMoves, plan: list[Pattern]) -> _Found | None:
        """Test a plan on requests that no search has seen; mend it where it fails, and test it on others."""
        limit, plan = moves.cost(plan), sorted(plan)
        for number in range(_ROUNDS):
            self._say(f"acceptance of {self._price(limit)}, round {number + 1}")
            made = self._plan_of(settler, plan)
            judgement = judge_gpus(
                made,
                doubtful_gpus(made, verify_busy(made)),
                GpuSample(self.problem.instance, self.options.seed, ACCEPTING + number),
                safety=SAFETY,
                risk=(1.0 - CONFIDENCE) / _ROUNDS,
            )
            if judgement.holds:
                return _Found(made, judgement)
            for gpu, pattern in zip(made.gpus, plan, strict=True):
                if gpu.name in judgement.gpus and not all(judgement.gpus[gpu.name].holds):
                    settler.firmer(pattern, _lateness(judgement.gpus[gpu.name]))
            mended = None
            with suppress(EnoughError):
                mended = moves.mended(plan)
            if mended is None:
                return None
            plan = sorted(mended)
        return None

    def _plan_of(self, settler: Settler, patterns: Sequence[Pattern]) -> Plan:
        """Make a plan of sets that hold, with the settled batches and shares; its GPUs in the order of the sets."""
        drafts = []
        names = _Names(settler.known)
        for pattern in patterns:
            own = settler.settle(pattern)
            assert own is not None  # noqa: S101 (every set of a plan is settled)
            placements = []
            for item, batch, level in zip(pattern[1], own.batches, own.levels, strict=True):
                workload, replica = names.take(item)
                rate = self.problem.workloads[workload].rate_rps / settler.known.items[item].replicas
                placements.append(Draft(workload, replica, batch, level, rate))
            drafts.append(DraftGpu(pattern[0], placements))
        return self._made(drafts)

    def _made(self, drafts: list[DraftGpu]) -> Plan:
        bound, cost = self.grid.cost(self.lower_units), draft_cost(self.problem, drafts)
        if cost < bound:
            raise VerificationError(f"a lower bound of {bound} is above a plan that costs {cost}; please report this")
        status: Status = "optimal" if bound >= cost else "feasible"
        solver = self.result.plan.solver
        return make_plan(
            self.problem,
            drafts,
            method=solver.method,
            status=status,
            lower_bound=bound,
            share_lower_bound_percent=self.least_share,
            runtime_s=solver.runtime_s + self.watch.elapsed(),
            seed=solver.seed,
        )

    def _finished(self, plan: Plan, judgement: SecondJudgement) -> Plan:
        """Say in a plan how it was judged, with the bound for neighbours as they are."""
        solver, busy = self._made(drafts_from_plan(self.problem, plan)).solver, self.result.plan.solver
        note = ActualNeighbours(
            simulated=tuple(judgement.gpus),
            confidence=CONFIDENCE,
            safety=SAFETY,
            requests=judgement.requests,
            runs=RUNS if judgement.gpus else 0,
            seed=self.options.seed,
            busy_cost_per_hour=busy.cost_per_hour,
            busy_lower_bound_per_hour=busy.lower_bound_per_hour,
        )
        return plan.model_copy(update={"solver": solver, "neighbours": note})

    # ---- in words -------------------------------------------------------------------------------------

    def _units(self, gpus: Sequence[DraftGpu]) -> int:
        return sum(self.grid.units[gpu.gpu_type] for gpu in gpus)

    def _price(self, units: int) -> str:
        return f"{self.grid.cost(units)} per hour"

    def _say(self, doing: str) -> None:
        self.report(Progress(self.watch.elapsed(), "start", None, None, None, doing=f"neighbours as they are: {doing}"))


def _lateness(verdict: GpuVerdict) -> FloatArray:
    """Return by how much placements did not hold: above 1 where one did not, else how much of the most it used."""
    if verdict.requests == 0:
        return np.full(len(verdict.holds), 1.5)
    used = verdict.late.high / verdict.late.high.max()
    return np.where(verdict.holds, np.minimum(used, 1.0), 1.5)


class _Names:
    """Names the copies of every item: workloads of its class, and their replicas."""

    def __init__(self, known: Catalogue) -> None:
        self._waiting = [list(entry.workloads)[::-1] for entry in known.classes]
        self._known, self._left = known, dict[int, list[tuple[int, int]]]()

    def take(self, item: int) -> tuple[int, int]:
        """Return a workload and the number of one of its replicas."""
        left = self._left.setdefault(item, [])
        if not left:
            entry = self._known.items[item]
            workload = self._waiting[entry.workload_class].pop()
            left += [(workload, replica) for replica in range(entry.replicas, 0, -1)]
        return left.pop()


def patterns_from(known: Catalogue, gpus: Sequence[DraftGpu]) -> list[Pattern] | None:
    """Return which items are on which GPU of a draft, or None where a workload is split in another way."""
    replicas: dict[int, int] = {}
    for gpu in gpus:
        for draft in gpu.placements:
            replicas[draft.workload] = replicas.get(draft.workload, 0) + 1
    class_of = {workload: k for k, entry in enumerate(known.classes) for workload in entry.workloads}
    index = {(item.workload_class, item.replicas): t for t, item in enumerate(known.items)}
    found = []
    for gpu in gpus:
        items = [index.get((class_of[draft.workload], replicas[draft.workload])) for draft in gpu.placements]
        if None in items:
            return None
        found.append((gpu.gpu_type, tuple(sorted(item for item in items if item is not None))))
    return sorted(found)

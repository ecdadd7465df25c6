"""Formulation `patterns`: choose whole GPUs (price-and-branch); scales to thousands of workloads, with proven bounds.

Derivation
----------
*Sets.* Workloads of equal model, SLO, rate, arrivals and replica limit are one class k with m_k members. An item t =
(k, κ) is one of κ equal replicas of a workload of class k. A *pattern* p is a GPU type g(p) and a multiset of items,
a[t,p] copies of t, that one GPU of the type can carry: some choice of configurations (batch, share) makes every
row ``A + K Δ(n) + E (C - c) ≤ D φ(P)`` hold, with shares within 100 percent and memory within the card's.

*Master.* λ[p] GPUs with pattern p, z[k,κ] workloads of class k with κ replicas::

    least    Σ price_g(p) λ[p]
    cover    Σ_p a[t,p] λ[p] ≥ κ z[k,κ]        for every item t = (k, κ)          (dual π_t ≥ 0)
    replicas Σ_κ z[k,κ] = m_k                  (classes with one replica count: z is m_k)
    count    Σ_{p on g} λ[p] ≤ count_g         where counted                      (dual σ_g ≥ 0)

Interference occurs inside patterns only, so the master is exact. Covering suffices: with a monotone model
(`interference.is_monotone`) removing an item lowers n, C and P and frees share, so subsets of feasible sets are
feasible, and a plan that covers too much is trimmed to one that covers exactly (`packing.plans.trimmed`).
Non-monotone profiles are refused. Identical workloads share one row: that only removes symmetry.

*Column generation.* The linear master is solved over some patterns; new ones come from ruin-and-recreate local search
on the dual values, which notes every feasible set worth more than its price (``Σ π > price + σ``), and from pricing
over interference cells (`packing.cells`): for every cell an upper bound on the worth of any set in it, by a knapsack
with Lagrangian multipliers, and where that exceeds the goal either a search of all sets in the cell
(`packing.cell_search`) or a split of the cell in two (`packing.partition`, `packing.pricing`). Whether a set is
feasible is decided exactly (`packing.sets`).

*Lower bound.* For any π ≥ 0, let V be the sum over workloads of min_κ κ π_{k,κ}, and B_g an upper bound on the worth
Σ π of any feasible set on type g, from pricing; since π κ z ≥ min_κ' (κ' π) z, the cover rows relaxed with multipliers
s π bound every plan's cost (`generation.lagrangian_bound`; with one type V price / B, Farley's bound). So the bound
rests neither on the linear program's optimality nor on exact duals; B_g is valid as long as the cells cover all
feasible sets, which splitting keeps true. It is rounded up to the next attainable cost after giving back a guard
(`costs.PriceGrid.round_up`).

Only what the next cost needs has to be proven: for a bound above a cost T it is enough that no set is worth more than
(price + σ) (1 + slack) with ``z_LP - V slack / (1 + slack) = T``. So pricing starts with a large slack, where its
search is cheap, and tightens it only as far as needed.

*Several types.* Vectors of GPU counts below the best plan's cost are excluded (`exclusion`), or yield a plan.

*Closing the gap.* All patterns whose reduced cost fits into the difference of bound and best plan are listed; the
integer master over them has a cheaper plan, or proves the best one optimal (`integer.patterns_within`).

*Plans* come from best fit (`heuristics.bestfit`), from local search guided by π at every iteration, from annealing on
cheaper numbers of GPUs, overloaded at first (`cheaper`), from a mixed-integer program over the known patterns where
that is small, and from diving: fix the patterns that the linear master uses most, generate columns for the rest, repeat
(`integer`).

*Second objective.* Least total share among plans of the proven cost, by the same master (`share`).
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.clock import Clock, EnoughError
from igniter_opt.base.compilation import ended_by
from igniter_opt.base.errors import InfeasibleError
from igniter_opt.base.stop import StopRequest
from igniter_opt.formulations.columns.cheaper import CheaperCounts
from igniter_opt.formulations.columns.counts import Compact
from igniter_opt.formulations.columns.exclusion import Exclusion
from igniter_opt.formulations.columns.generation import ColumnGeneration
from igniter_opt.formulations.columns.incumbent import Incumbent
from igniter_opt.formulations.columns.integer import (
    Dive,
    IntegerPrograms,
    polished,
    promising_counts,
)
from igniter_opt.formulations.columns.moment import COVERED, moment
from igniter_opt.formulations.columns.share import ShareBound
from igniter_opt.formulations.columns.vectors import CountVectors
from igniter_opt.heuristics.bestfit import best_fit, local_search, require_monotone
from igniter_opt.options import PatternsTuning
from igniter_opt.packing.items import catalogue
from igniter_opt.packing.plans import Pattern, Placer, drafts_of, patterns_of
from igniter_opt.packing.pricing import Pricer
from igniter_opt.packing.warm_up import compile_kernels
from igniter_opt.problem.bounds import least_total_share_percent, price_grid, share_bound_units
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import DraftGpu, draft_cost, draft_share_percent
from igniter_opt.problem.exact_outcome import Outcome
from igniter_opt.result import Progress

_SHARE_GUARD = 2e-4  # percent: bounds give away half of it
_USUAL = PatternsTuning()
_NO_PLAN = "no plan exists: proven by the patterns formulation (GPU counts)"
# A report at least this often, wherever the search is (but in one linear program).
_REPORT_EVERY_S = 1.0


class PatternsSolver:
    """One run of the formulation.

    Parameters
    ----------
    problem
        The compiled instance; every workload must be servable.
    start
        A plan to begin with, or None; taken where it lies within the model.
    warm_start
        Whether to begin with a `bestfit` plan.
    time_limit, gap
        Seconds in all; relative cost gap at which to stop.
    on_progress
        Called with `Progress`.
    tuning
        Constants that trade time for quality.

    Raises
    ------
    UnsuitableError
        A profile is not monotone.
    """

    def __init__(
        self,
        problem: Problem,
        start: list[DraftGpu] | None,
        *,
        warm_start: bool,
        time_limit: float,
        gap: float,
        seed: int,
        stop: StopRequest,
        on_progress: Callable[[Progress], object],
        tuning: PatternsTuning = _USUAL,
    ) -> None:
        require_monotone(problem, "patterns")
        with ended_by(stop):
            compile_kernels(problem)
        self.problem, self.start, self.warm_start = problem, start, warm_start
        self.clock = Clock(time_limit, stop)
        self.gap, self.seed, self.stop, self.tuning = gap, seed, stop, tuning
        self.on_progress = on_progress
        self.grid = price_grid(problem)
        self.scale = max(self.grid.units)
        self.lower_units, self.raw_units, self.reported_s = 0, 0.0, 0.0
        self.phase = "start"
        self.root: ColumnGeneration | None = None
        self.share: ShareBound | None = None
        self.on_one_type: list[list[Pattern]] = []
        self.share_bound = least_total_share_percent(problem)

    def run(self) -> Outcome:
        """Solve; the outcome's plan is None only if no plan was found in time.

        Raises
        ------
        InfeasibleError
            Proven: no plan exists.
        """
        with self.stop.on_interrupt():
            gpus = self._run()
        return Outcome(
            gpus, self.lower_units, self.share_bound, interrupted=self.stop.is_set(), ended=self._why_it_ended()
        )

    def _why_it_ended(self) -> str:
        # Until the first phase there may be no incumbent.
        if self.phase == "start" or self.best is None or not self._good_enough():
            part = 50 * self.tuning.share_part
            kept = "" if self.gap > 0 else f", whose last {part:g} % are for the total share of a proven plan"
            return f"the time limit of {self.clock.time_limit:.3g} s{kept}"
        if self.incumbent.cost > self.lower_units:
            return f"the gap is within the {100 * self.gap:g} % asked for"
        if self.share_bound >= self.incumbent.share_percent(self.best) - _SHARE_GUARD:
            return "cost and total share are proven"
        return f"the cost is proven; the total share had its {100 * self.tuning.share_part:g} % of the time limit"

    def _run(self) -> list[DraftGpu] | None:
        try:
            self.known = catalogue(self.problem, self.clock.check)
        except EnoughError:
            return self.start
        self.placer, self.search = Placer(self.known), local_search(self.known)
        self.incumbent = Incumbent(self.known, self.placer, self.grid)
        self.cheaper = CheaperCounts(
            self.search, self.placer, seed=self.seed, is_up=self.clock.is_up, report=self._report
        )
        self.vectors = CountVectors(self.grid, self.incumbent, self.tuning.most_vectors)
        self.programs = IntegerPrograms(
            self.tuning, self.clock, seed=self.seed, check=self._check, on_plan=partial(self._offer, source="integer")
        )
        self.compact = Compact(
            self.known, self.placer, time_left=self.clock.left, seed=self.seed, stop=self.stop, on_progress=self._report
        )
        compact = partial(self._offer, source="compact")
        self.exclusion = Exclusion(self.vectors, self.programs, self.compact, columns=self._within, on_plan=compact)
        if self.start is not None and (patterns := patterns_of(self.known, self.placer, self.start)) is not None:
            self.incumbent.patterns = sorted(patterns)
            self._report(source="start")
        if self.warm_start:
            self._offer(best_fit(self.known, self.search, self.seed, self._is_up, self.tuning.best_fit), "best fit")
        self._raise_bound(share_bound_units(self.problem, self.grid))
        self._report()
        with suppress(EnoughError):
            self._cost_phase()
        if self.best is None:
            return None
        self.clock.allow(1.0)
        if self.incumbent.cost <= self.lower_units and not self.stop.is_set():
            self._share_phase()
        gpus = drafts_of(self.known, self.placer, self.best)
        plans = [gpus] if self.start is None else [self.start, gpus]
        return min(plans, key=lambda plan: (draft_cost(self.problem, plan), draft_share_percent(self.problem, plan)))

    def _cost_phase(self) -> None:
        self.phase = "cost"
        if self._good_enough():
            return
        self.root = root = self._columns(Pricer(self.known, self._check), self._iteration)
        root.construct(self.tuning.starts)
        if len(self.grid.units) > 1:
            types = range(len(self.grid.units))
            self.on_one_type = [plan for gpu in types if (plan := self.search.on_one_type(gpu, self.seed))]
            self._decide_counts()
        else:
            self._raise_bound_and_plan()
        self._plans(one_dive=False)

    def _raise_bound_and_plan(self) -> None:
        """Raise the bound, with a dive for plans now and then, until it is as good as it gets."""
        many = len(self.known.items) > self.tuning.early_dive_from
        early = (self.tuning.early_bound_part,) if many else ()
        for part in (*early, *self.tuning.bound_parts):
            finished = self._bound(part)
            if not finished and part not in early and self._bound_is_all_that_lacks():
                finished = self._bound(1.0)
            if finished and self.best is not None:
                return
            self._plans(one_dive=True)
            if finished or self._good_enough():
                return

    def _decide_counts(self) -> None:
        """Raise the bound until few vectors of GPU counts are left, then exclude them one by one, or find plans.

        Once they exclude more than the linear master could, it need not be brought any further.
        """
        assert self.root is not None  # noqa: S101 (made by _cost_phase)
        finished = False
        for number, part in enumerate(self.tuning.bound_parts_several):
            solution = self.root.solution
            if not finished and (solution is None or solution.objective * self.scale > self.lower_units):
                finished = self._bound(part)
                if not finished and number and self._bound_is_all_that_lacks():
                    finished = self._bound(1.0)
            if self.best is None:
                self._plans(one_dive=True)
            self.clock.allow(1.0 - self.tuning.share_part / 2)
            self._repack(self.tuning.repack_parts[-1 if number else 0])
            self._exclude_counts(self.tuning.vector_part * 2**number, until=self.tuning.counts_until[number])
            if self._good_enough():
                return
        self._exclude_counts(self.tuning.mip_part, until=self.tuning.counts_until[-1], thorough=True)

    def _bound(self, part: float) -> bool:
        """Generate columns until the bound is as good as it gets, or this part of the time is over."""
        assert self.root is not None  # noqa: S101 (made by _cost_phase)
        self.phase = "cost"
        self.clock.allow(part)
        try:
            self.root.run(self._starts(), lambda lp_value: self.incumbent.worth_proving(lp_value, self.gap))
        except EnoughError:
            if self.stop.is_set() or self._good_enough():
                raise
            return False
        finally:
            self._report()
        # A bound above the cost of all GPUs that exist excludes every plan as an infinite one does.
        if self.root.bound.cost * self.scale >= self.grid.excluding(self.grid.all_units):
            raise InfeasibleError(_NO_PLAN, proven=True)
        return True

    def _exclude_counts(self, part: float, *, until: float, thorough: bool = False) -> None:
        """Exclude vectors of GPU counts, each for a part of the time at most, and all until a part of it is over."""
        assert self.root is not None  # noqa: S101 (made by _cost_phase)
        self.clock.allow(until)
        with self.clock.within(1.0):
            self.exclusion.run(
                self.root,
                self._starts(),
                self.lower_units,
                part,
                thorough=thorough,
                enough=lambda cost: self._good_enough() or self._within_gap(cost),
                on_bound=self._raise_to,
            )

    def _plans(self, *, one_dive: bool) -> None:
        """Look for cheaper plans until one is as cheap as the bound, or time is up."""
        assert self.root is not None  # noqa: S101 (made by _cost_phase)
        self.phase = "plans"
        # What is kept is for the total share of a plan proven late, which a gap does without.
        self.clock.allow(1.0 if self.gap > 0 else 1.0 - self.tuning.share_part / 2)
        turn = 0
        tried: int | None = -1
        while not self._good_enough():
            self._check()
            self.root.solution = self.root.master.solve()
            if turn == 0 or len(self.grid.units) > 1:
                self._repack(self.tuning.repack_parts[-1 if turn else 0])
            if self._good_enough():
                return
            cost = None if self.best is None else self.incumbent.cost
            if turn and cost != tried and len(self.known.items) <= self.tuning.mip_items:
                tried = cost
                self._integer_program()
                continue
            dive = Dive(
                self._within_counts(turn) or self.root,
                noise=self.tuning.dive_noise if turn else 0.0,
                seed=self.seed + turn,
                check=self._check,
                on_plan=partial(self._offer, source="dive"),
                good_enough=self._good_enough,
            )
            dive.run()
            self.root.master.add(dive.master.patterns)
            if self.best is not None and not self._good_enough():
                values = self.root.bound.values if self.root.bound.values.size else self.search.share_cost
                self._offer(polished(self.search, self.best, values, self.seed + turn, self._is_up), "local search")
            turn += 1
            if one_dive:
                return
            if turn == 1:
                self._converge()

    def _repack(self, part: float) -> None:
        """Put the best plan's items on cheaper numbers of GPUs, for a part of the time at most."""
        assert self.root is not None  # noqa: S101 (made by _cost_phase)
        with self.clock.within(part):
            promising = promising_counts(self.root, self.vectors.left(self.lower_units))
            for _ in range(self.tuning.repackings):
                if self.best is None or self._good_enough():
                    return
                found = self.cheaper.look(self.best, self.incumbent.cost, promising, self.root)
                self._offer(found, "repacking")
                self._check()

    def _converge(self) -> None:
        """Bring the linear master near its optimum, which a proven bound does not need, but dives do."""
        assert self.root is not None  # noqa: S101 (made by _cost_phase)
        if self._good_enough():
            return
        with self.clock.within(self.tuning.converge_part):
            self.root.run(self._starts(), lambda lp_value: lp_value)

    def _within_counts(self, turn: int) -> ColumnGeneration | None:
        """Columns within GPU counts that a dive would rarely end at by itself, others each turn; None for one type."""
        assert self.root is not None  # noqa: S101 (made by _cost_phase)
        vectors = self.vectors.left(self.lower_units) if len(self.grid.units) > 1 else []
        promising = [entry.counts for entry in promising_counts(self.root, vectors) if entry.covered]
        if not promising:
            return None
        columns = self._columns(self.root.pricer, lambda _: self._report(), promising[turn % len(promising)])
        columns.solution = columns.master.solve()
        return columns

    def _starts(self) -> list[list[Pattern]]:
        """Plans for local search to begin with: the best one, and some on GPUs of one type, which it may be without."""
        return [self.best or [], *self.on_one_type]

    def _within(self, counts: Sequence[int]) -> ColumnGeneration:
        """Column generation within other GPU counts, for a proof; it shares cells and patterns with the root's."""
        assert self.root is not None  # noqa: S101 (made by _cost_phase)
        solution = self.root.solution or self.root.master.solve()
        return self._columns(self.root.pricer, lambda _: self._report(), counts, solution.item_values)

    def _columns(
        self,
        pricer: Pricer,
        on_iteration: Callable[[ColumnGeneration], None],
        counts: Sequence[int] | None = None,
        values: FloatArray | None = None,
    ) -> ColumnGeneration:
        """Column generation, within other GPU counts if given, with all patterns known so far."""
        columns = ColumnGeneration(
            self.known,
            self.grid,
            self.search,
            pricer,
            seed=self.seed,
            check=self._check,
            on_plan=partial(self._offer, source="local search"),
            on_iteration=on_iteration,
            on_priced=self.vectors.cut,
            counts=counts,
            values=values,
        )
        known = [] if self.root is None else self.root.master.patterns
        columns.master.add(known if counts is None else [pattern for pattern in known if counts[pattern[0]]])
        return columns

    def _integer_program(self) -> None:
        """Solve the integer master over all patterns that a cheaper plan (without one: any) can use, or known ones."""
        assert self.root is not None  # noqa: S101 (made by _cost_phase)
        cost = self.grid.all_units if self.best is None else self.grid.below(self.incumbent.cost)
        target = cost / self.scale
        listed = self.programs.listed(self.root, target, self.tuning.list_part)
        if self.programs.no_plan_among(self.root, listed, target):
            if self.best is None:
                raise InfeasibleError(_NO_PLAN, proven=True)
            self.lower_units = self.incumbent.cost
            self._report()

    def _share_phase(self) -> None:
        """Least total share at the proven cost."""
        assert self.best is not None  # noqa: S101 (the caller has a plan)
        self.phase = "share"
        self.clock.shorten(self.tuning.share_part)
        self.share = share = ShareBound(
            self.known,
            self.grid,
            self.placer,
            self.incumbent.cost,
            patterns=self.root.master.patterns if self.root is not None else [],
            seed=self.seed,
            check=self._check,
            on_plan=partial(self._offer, source="integer"),
            on_iteration=self._share_iteration,
        )
        with suppress(EnoughError):
            share.run(self.best, least=self.share_bound, time_left=self.clock.left, stop=self.stop)
        self.share_bound = max(self.share_bound, share.bound)
        cost, unproven = self.incumbent.cost, self.share_bound < self.incumbent.share_percent(self.best) - _SHARE_GUARD
        if unproven and self.compact.suits(len(self.best)) and self.grid.vectors(cost, cost + 1, 1) is not None:
            with suppress(EnoughError):
                patterns, bound = self.compact.least_share(self.best)
                self.share_bound = max(self.share_bound, bound)
                self._offer(patterns, "compact")
        self._report()

    @property
    def best(self) -> list[Pattern] | None:
        """The best plan so far."""
        return self.incumbent.patterns

    def _offer(self, found: list[Pattern] | None, source: str) -> None:
        """Keep a plan if it is cheaper; in the second phase, if it takes less share."""
        if found is not None and self.incumbent.offer(found, by_share=self.phase == "share"):
            self._report(source=source)

    def _raise_bound(self, units: float) -> None:
        self.raw_units = max(self.raw_units, units)
        self.lower_units = max(self.lower_units, self.grid.round_up(units, self.incumbent.cost))

    def _raise_to(self, units: int) -> None:
        self.lower_units = max(self.lower_units, units)
        self._report()

    def _good_enough(self) -> bool:
        return self.best is not None and self._within_gap(self.lower_units)

    def _within_gap(self, units: int) -> bool:
        return self.incumbent.cost - units <= self.gap * self.incumbent.cost

    def _bound_is_all_that_lacks(self) -> bool:
        """Whether a gap is asked for that the best plan would have if the bound came up to the linear master."""
        solution = None if self.root is None else self.root.solution
        if not self.gap or self.best is None or solution is None or solution.uncovered > COVERED:
            return False
        most = self.incumbent.cost
        return self._within_gap(self.grid.round_up(min(solution.objective * self.scale, most), most))

    def _iteration(self, root: ColumnGeneration) -> None:
        if math.isfinite(root.bound.cost):
            self._raise_bound(root.bound.cost * self.scale)
        self._report()
        if self._good_enough():
            raise EnoughError

    def _share_iteration(self, share: ShareBound) -> None:
        self.share_bound = max(self.share_bound, share.bound)
        self._report()

    def _check(self) -> None:
        """Give up where this part of the work shall end; else report now and then."""
        self.clock.check()
        if self.clock.elapsed() >= self.reported_s + _REPORT_EVERY_S:
            self._report()

    def _is_up(self) -> bool:
        with suppress(EnoughError):
            self._check()
            return False
        return True

    def _report(self, *, source: str | None = None) -> None:
        self.reported_s = self.clock.elapsed()
        bounds = self.lower_units, self.raw_units
        self.on_progress(
            moment(self.reported_s, self.phase, self.incumbent, bounds, self.root, self.share, self.share_bound, source)
        )

"""Formulation for cards under MIG beside cards that are shared by MPS: one master, one proof.

Derivation
----------
A workload is served either by κ equal replicas on shared cards, as in `patterns`, or by slices, as in `slice_program`.
With classes k of m_k equal workloads, patterns p of shared cards, geometries γ and bundles β of slices the master is::

    least    Σ_p price_g(p) λ[p] + Σ_γ price_g(γ) y[γ]
    cover    Σ_p a[t,p] λ[p] ≥ κ z[k,κ]                   for every item t = (k, κ)      (dual π_t ≥ 0)
    supply   Σ_k Σ_β β[s] λ[k,β] ≤ Σ_γ n[s,γ] y[γ]        for every kind s of slice      (dual μ_s ≥ 0)
    classes  Σ_κ z[k,κ] + Σ_β λ[k,β] = m_k                for every class k
    counts   of cards of every type

Slices disturb nobody, so that nothing else couples the two sides. Patterns come from pricing over interference cells as
in `patterns`; geometries and bundles are all there from the start.

*Lower bound.* For any π, μ ≥ 0 and s ≥ 0 relax the cover rows with s π and the supply rows with μ. Let v_k be the least
κ π_{k,κ}, c_k the least Σ_s μ_s β[s] over the bundles of k (a lower bound on it where slices are counted one by one:
R_k min_s μ_s / T[k,s]), B_g the most that a feasible set on shared type g is worth, W_g the most that a geometry of
type g is worth at μ. Then every plan costs at least::

    Σ_k m_k min(s v_k, c_k) - Σ_{shared g} count_g max(0, s B_g - price_g) - Σ_{cut g} count_g max(0, W_g - price_g)

where types without a count must have s B_g ≤ price_g and W_g ≤ price_g (the latter by lowering μ): each card
contributes its price less the worth of what it holds, and each workload is served by one side or the other, at s v_k or
c_k at least. So the bound rests neither on the linear program's optimality nor on exact duals. It is rounded up to the
next cost that some set of cards has.

*Closing the gap.* With the same values a pattern of a plan has a reduced cost price + σ - Σ π ≥ 0, and a plan costs at
least the bound plus those of its patterns, whatever it does with slices; so all patterns that a cheaper plan can use
are listed (`columns.integer.patterns_within`), and the whole-number master over them and over all slices either has a
cheaper plan or proves that there is none.
"""

import math
from collections.abc import Callable, Hashable
from contextlib import suppress

from igniter_opt.base.clock import Clock, EnoughError
from igniter_opt.base.compilation import ended_by
from igniter_opt.base.errors import InfeasibleError
from igniter_opt.base.stop import StopRequest
from igniter_opt.formulations.columns.generation import ColumnGeneration
from igniter_opt.formulations.columns.integer import patterns_within
from igniter_opt.formulations.columns.mixed import MixedChoice, MixedColumns
from igniter_opt.formulations.slice_program import SliceProgram
from igniter_opt.formulations.slices import COST_TOLERANCE
from igniter_opt.heuristics.bestfit import best_fit, require_monotone
from igniter_opt.options import PatternsTuning
from igniter_opt.packing.items import catalogue
from igniter_opt.packing.local_search import LocalSearch
from igniter_opt.packing.plans import Pattern, Placer, drafts_of, trimmed
from igniter_opt.packing.pricing import Pricer
from igniter_opt.packing.warm_up import compile_kernels
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.costs import NO_PLAN, PriceGrid
from igniter_opt.problem.draft import DraftGpu
from igniter_opt.problem.slices import CutGpu, SliceProblem
from igniter_opt.result import Progress

_USUAL = PatternsTuning()
# Of the time limit: for the bound, and for the first whole-number master over the patterns known by then.
_BOUND_PART, _PLAN_PART = 0.5, 0.7


class MixedSolver:
    """One run.

    Parameters
    ----------
    shared
        The workloads that cards shared by MPS can serve, on these cards alone.
    cut
        All workloads, on cards under MIG; each must be servable on one side.
    start
        Cards under MIG that serve all, or None.

    Attributes
    ----------
    grid
        Prices of all types: those that are shared, then those that MIG cuts.
    """

    def __init__(
        self,
        shared: Problem,
        cut: SliceProblem,
        start: list[CutGpu] | None,
        *,
        time_limit: float,
        gap: float,
        seed: int,
        stop: StopRequest,
        on_progress: Callable[[Progress], object],
    ) -> None:
        require_monotone(shared, "patterns")
        with ended_by(stop):
            compile_kernels(shared)
        self.shared, self.cut, self.gap, self.seed, self.stop = shared, cut, gap, seed, stop
        self.on_progress, self.clock = on_progress, Clock(time_limit, stop)
        types = [*shared.gpu_types, *cut.gpu_types]
        self.grid = PriceGrid.of([gpu.price_per_hour for gpu in types], [gpu.count for gpu in types])
        own = len(shared.gpu_types)
        self.shared_grid = PriceGrid(self.grid.step, self.grid.units[:own], self.grid.counts[:own])
        self.cut_units = self.grid.units[own:]
        self.scale = max(self.grid.units)
        self.lower_units = min(self.grid.units)
        self.best: MixedChoice | None = None if start is None else MixedChoice([], [], start)
        self.root: MixedColumns | None = None

    # ---- the course of a run ------------------------------------------------------------------------

    def run(self) -> None:
        """Solve; `best` is None only if no plan was found in time.

        Raises
        ------
        InfeasibleError
            Proven: no plan exists.
        """
        with self.stop.on_interrupt(), suppress(EnoughError):
            self.known = catalogue(self.shared, self.clock.check)
            self.placer = Placer(self.known)
            self._run()

    def _run(self) -> None:
        program = SliceProgram(self.cut, [units / self.scale for units in self.cut_units], partial=True)
        number_of: dict[Hashable, int] = {
            self.cut.instance.demand_of(self.cut.workloads[members[0]]): k for k, members in enumerate(program.classes)
        }
        rows_of = [
            number_of[self.shared.instance.demand_of(self.shared.workloads[entry.workloads[0]])]
            for entry in self.known.classes
        ]
        search = LocalSearch(
            self.known, [units / self.scale for units in self.shared_grid.units], self.shared_grid.counts
        )
        self.root = root = MixedColumns(
            self.known,
            self.shared_grid,
            self.scale,
            program,
            rows_of,
            search,
            Pricer(self.known, self.clock.check),
            seed=self.seed,
            check=self.clock.check,
            on_plan=self._offer_shared,
            on_iteration=self._iteration,
        )
        first = best_fit(self.known, search, self.seed, self.clock.is_up, _USUAL.best_fit)
        if first is not None:
            self._offer_shared(first)
        self.clock.allow(_BOUND_PART)
        with suppress(EnoughError):
            root.run([first or []], self._goal)
        if not self._good_enough():
            self.clock.allow(_PLAN_PART)
            self._whole(exact=False)
        self.clock.allow(1.0)
        while not self._good_enough() and self._whole(exact=True):
            self.clock.check()
        self._least_share()

    def _goal(self, lp_value: float) -> float:
        """Cost that the bound must exceed to matter, in prices of the dearest card."""
        target = float(self.grid.excluded(lp_value * self.scale))
        if self.best is not None:
            target = min(target, self.grid.below(self.cost))
        return self.grid.excluding(max(0.0, target)) / self.scale

    def _whole(self, *, exact: bool) -> bool:
        """Solve the master in whole numbers for a cheaper plan than the best; whether another try may find more.

        Exactly: over all patterns that a cheaper plan can use, and so with a proof.
        """
        root = self.root
        assert root is not None  # noqa: S101 (made before)
        target = self.grid.all_units if self.best is None else self.grid.below(self.cost)
        complete = False
        if exact:
            listed = patterns_within(root, target / self.scale, self.clock.check, _USUAL.mip_patterns)
            root.master.add(listed.patterns)
            complete = listed.complete
        found, status, bound = root.master.whole(
            target / self.scale,
            root.prices,
            time_limit=self.clock.left(),
            node_limit=_USUAL.mip_nodes_complete,
            seed=self.seed,
            stop=self.stop,
        )
        better = found is not None and self._take(found)
        if complete and status == "infeasible":
            if self.best is None:
                raise InfeasibleError("no plan exists: proven by the mixed formulation (counts of cards)", proven=True)
            self.lower_units = self.cost
        elif complete and found is not None:
            units = max(0.0, (bound - COST_TOLERANCE) * self.scale)
            self.lower_units = max(self.lower_units, self.grid.round_up(units, self.cost))
        self._report(improved=better)
        return better

    def _least_share(self) -> None:
        """Look for less total share at the best cost, over the patterns that are known."""
        root = self.root
        if root is None or self.best is None or self.cost > self.lower_units or self.stop.is_set():
            return
        self.clock.shorten(_USUAL.share_part)
        units = [entry.hardware.share_unit_percent for entry in self.shared.coefficients]
        with suppress(EnoughError):
            found, _, _ = root.master.whole(
                self.cost / self.scale,
                root.prices,
                by_share=lambda pattern: units[pattern[0]] * self.placer.levels(pattern),
                time_limit=self.clock.left(),
                node_limit=_USUAL.mip_nodes,
                seed=self.seed,
                stop=self.stop,
            )
            if found is not None:
                self._take(found, by_share=True)

    @property
    def share_bound(self) -> float:
        """A quick lower bound on the total share: every workload where it takes least, alone or in slices."""
        names = {workload.name: number for number, workload in enumerate(self.shared.workloads)}
        least, total = self.shared.least_share_percent.min(axis=1), 0.0
        kinds = [kind.slice.share_percent for kind in self.cut.kinds]
        for number, workload in enumerate(self.cut.workloads):
            able = [
                share * max(1.0, workload.rate_rps / capacity)
                for share, capacity in zip(kinds, self.cut.capacity[number].tolist(), strict=True)
                if capacity > 0.0
            ]
            alone = float(least[names[workload.name]]) if workload.name in names else math.inf
            total += min([alone, *able])
        return total * (1.0 - 1e-9)

    # ---- incumbent ----------------------------------------------------------------------------------

    @property
    def cost(self) -> int:
        """Of the best plan, in steps of the price grid; more than any has while there is none."""
        return NO_PLAN if self.best is None else self._units(self.best)

    def _units(self, choice: MixedChoice) -> int:
        return sum(self.grid.units[gpu] for gpu, _ in choice.patterns) + sum(
            self.cut_units[card.gpu_type] for card in choice.cards
        )

    def share_percent(self, choice: MixedChoice) -> float:
        """Total share of a plan's placements and slices."""
        units = [entry.hardware.share_unit_percent for entry in self.shared.coefficients]
        kinds = self.cut.kinds
        return sum(units[pattern[0]] * self.placer.levels(pattern) for pattern in choice.patterns) + sum(
            kinds[use.kind].slice.share_percent for card in choice.cards for use in card.uses
        )

    def _offer_shared(self, patterns: list[Pattern]) -> None:
        """Take a plan that needs no slices, where these workloads are all."""
        if len(self.shared.workloads) == len(self.cut.workloads):
            self._take(MixedChoice(patterns, self.known.demand, []))

    def _take(self, found: MixedChoice, *, by_share: bool = False) -> bool:
        patterns = trimmed(self.known, found.patterns, found.served)
        if patterns is None or any(self.placer.least_share(pattern) is None for pattern in patterns):
            return False
        choice = found._replace(patterns=patterns)
        better = self._units(choice) < self.cost
        if by_share and self.best is not None and self._units(choice) == self.cost:
            better = self.share_percent(choice) < self.share_percent(self.best) - 1e-9
        if better:
            self.best = choice
        return better

    def drafts(self) -> list[DraftGpu]:
        """Return the best plan's cards that are shared by MPS, of the workloads in `shared`."""
        return [] if self.best is None else drafts_of(self.known, self.placer, self.best.patterns)

    def _good_enough(self) -> bool:
        return self.best is not None and self.cost - self.lower_units <= self.gap * self.cost

    # ---- progress -----------------------------------------------------------------------------------

    def _iteration(self, root: ColumnGeneration) -> None:
        units = max(0.0, root.bound.cost * self.scale)
        self.lower_units = max(self.lower_units, self.grid.round_up(units, self.cost))
        self._report()
        if self._good_enough():
            raise EnoughError

    def _report(self, *, improved: bool = False) -> None:
        known = self.best is not None
        self.on_progress(
            Progress(
                elapsed_s=self.clock.elapsed(),
                phase="cost",
                cost=float(self.grid.cost(self.cost)) if known else None,
                lower_bound=float(self.grid.cost(self.lower_units)),
                gap=(self.cost - self.lower_units) / self.cost if known else None,
                nodes=0 if self.root is None else self.root.pricer.nodes,
                improved=improved,
                columns=None if self.root is None else len(self.root.master.patterns),
            )
        )

    def why_it_ended(self) -> str:
        """Say why the search ended."""
        if not self._good_enough():
            return f"the time limit of {self.clock.time_limit:.3g} s"
        if self.cost > self.lower_units:
            return f"the gap is within the {100 * self.gap:g} % asked for"
        return "the cost is proven; of the total share nothing is proven in mixed fleets"

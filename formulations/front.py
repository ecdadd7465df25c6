"""The front of cost against total share, by `patterns`: the least total share that each budget allows, with bounds.

Total share is what placements take of the cards, in percent of one; what they leave is room for more. For a budget b
let S(b) be the least total share of any plan that costs at most b. S falls as b grows, in steps. Each point has a plan
(S from above) and the bound of `share.ShareBound` (S from below), which is linear in the same columns as the cost: that
is why the front is in total share. The largest least slack would ask for other columns at every value of the slack: a
margin or a headroom does that, with a proof of its own.

*Which budgets.* Costs of whole GPUs from the least cost found to a multiple of it. The ends come first. Between two
budgets b < c nothing can be gained where the plan at b takes no more than the bound at c, for S(b) ≥ S(x) ≥ S(c) for x
between; otherwise the budget in the middle of the widest such interval is next. Bounds are passed on: that of a larger
budget holds for every smaller one, and a plan of a smaller one serves every larger.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

from igniter_opt.base.clock import Clock, EnoughError
from igniter_opt.base.stop import StopRequest
from igniter_opt.formulations.columns.share import ShareBound
from igniter_opt.formulations.patterns import PatternsSolver
from igniter_opt.packing.plans import Pattern, drafts_of
from igniter_opt.problem.bounds import least_total_share_percent
from igniter_opt.problem.draft import DraftGpu
from igniter_opt.result import Progress

# Shares are the same up to this (percent); bounds give away half of it.
_SAME_SHARE = 2e-4
# Budgets looked at, at most: more differ by less than anybody asks.
MOST_BUDGETS = 64
# Of the time for one budget, what the bound may take before a plan is looked for.
_PROVING_PART = 0.6
# One budget has the time that is left divided by the budgets that may follow, but by no more than this.
_SOON = 6


@dataclass(frozen=True)
class FrontDraft:
    """A point: its cost in steps of the price grid, its GPUs, and the bound on the total share at that cost."""

    units: int
    gpus: list[DraftGpu]
    share_percent: float
    share_bound: float


class FrontSearch:
    """A search of the front, after a run of `patterns` that found a plan.

    Parameters
    ----------
    solver
        After its run: what it knows is used further.
    most
        The largest budget is this many times the cost of the solver's plan.
    time_limit
        Seconds from now.
    on_progress
        Called with `Progress` of phase ``share``.
    """

    def __init__(
        self,
        solver: PatternsSolver,
        *,
        most: float,
        time_limit: float,
        stop: StopRequest,
        on_progress: Callable[[Progress], object],
    ) -> None:
        self.solver, self.incumbent, self.grid = solver, solver.incumbent, solver.grid
        self.known, self.placer = solver.known, solver.placer
        self.clock, self.stop, self.on_progress = Clock(time_limit, stop), stop, on_progress
        assert solver.best is not None  # noqa: S101 (the caller has seen a plan)
        self.best: dict[int, list[Pattern]] = {self.incumbent.cost: list(solver.best)}
        self.patterns: dict[Pattern, None] = dict.fromkeys(solver.best)
        for columns in (solver.root, solver.share):
            self.patterns |= dict.fromkeys([] if columns is None else columns.master.patterns)
        self.budgets = self._budgets(most)
        # Proven at a budget: for every plan within it.
        self.bound = {self.budgets[0]: solver.share_bound} if solver.phase == "share" else {}
        self.floor = least_total_share_percent(solver.problem)

    def _budgets(self, most: float) -> list[int]:
        least, largest = self.incumbent.cost, int(min(most * self.incumbent.cost, self.grid.all_units))
        aims = {least + (largest - least) * number // MOST_BUDGETS for number in range(MOST_BUDGETS + 1)}
        return sorted({self.grid.below(aim + 1) for aim in aims})

    def run(self) -> list[FrontDraft]:
        """Search until nothing can be gained any more, time is up or a stop is asked for; return the points."""
        with suppress(EnoughError), self.stop.on_interrupt():
            while (budget := self._next()) is not None:
                self.clock.check()
                self._settle(budget)
        return self._points()

    def open_percent(self) -> float:
        """The most total share that a plan of any budget up to the largest could save over the points (percent).

        At a budget that is what the plan takes less the bound. Costs between two budgets have the plan of the one and
        the bound of the other.
        """
        saved = [self._share(budget) - self._least(budget) for budget in self.budgets]
        for low, high in pairwise(self.budgets):
            if self.grid.below(high) > low:
                saved.append(self._share(low) - self._least(high))
        return max(0.0, *saved)

    def _share(self, budget: int) -> float:
        """Least total share of the plans known within a budget."""
        return min(self.incumbent.share_percent(plan) for units, plan in self.best.items() if units <= budget)

    def _least(self, budget: int) -> float:
        """The bound on the total share within a budget: the largest of those for it and for larger ones."""
        return max([self.floor, *(bound for units, bound in self.bound.items() if units >= budget)])

    def _next(self) -> int | None:
        """The budget to look at next, or None."""
        ends = [self.budgets[0], self.budgets[-1]]
        open_ends = [end for end in ends if end not in self.bound and self._share(end) > self._least(end) + _SAME_SHARE]
        if open_ends:
            return open_ends[0]
        settled = sorted({*ends, *self.bound})
        widest, found = 0.0, None
        for low, high in pairwise(settled):
            between = [budget for budget in self.budgets if low < budget < high]
            # What a plan between could gain over the one at its lower end.
            gain = self._share(low) - self._least(high)
            if between and gain > max(widest, _SAME_SHARE):
                widest, found = gain, between[len(between) // 2]
        return found

    def _settle(self, budget: int) -> None:
        """Find a bound and a plan within a budget."""
        units = max((units for units in self.best if units <= budget), key=lambda units: (-self._share(units), -units))
        start = self.best[units]
        left = self.clock.left() / max(1, min(_SOON, sum(entry not in self.bound for entry in self.budgets)))
        share = ShareBound(
            self.known,
            self.grid,
            self.placer,
            budget,
            patterns=list(self.patterns),
            seed=self.solver.seed,
            check=self.clock.check,
            on_plan=lambda found: self._offer(found, budget),
            on_iteration=lambda found: self._report(budget, found),
        )
        share.bound = share.raw_bound = self._least(budget)
        part = left / max(self.clock.time_limit, 1e-9)
        with self.clock.within(part * _PROVING_PART):
            share.prove(start, self._least(budget))
        self.bound[budget] = max(share.bound, self._least(budget))
        self.patterns |= dict.fromkeys(share.master.patterns)
        if self._share(budget) > self.bound[budget] + _SAME_SHARE and not self.clock.is_up():
            with self.clock.within(part * (1.0 - _PROVING_PART)):
                share.improve(start, self.clock.left, self.stop)
        self._report(budget, share)

    def _offer(self, found: list[Pattern], budget: int) -> None:
        """Keep a plan that takes less than all that cost no more."""
        patterns = self.incumbent.placeable(found)
        if patterns is None or (units := self.incumbent.units(patterns)) > budget:
            return
        cheaper = [plan for cost, plan in self.best.items() if cost <= units]
        if all(
            self.incumbent.share_percent(patterns) < self.incumbent.share_percent(plan) - _SAME_SHARE
            for plan in cheaper
        ):
            self.incumbent.refuse_wrong(patterns)
            self.best[units] = patterns

    def _points(self) -> list[FrontDraft]:
        points: list[FrontDraft] = []
        for units, plan in sorted(self.best.items()):
            share = self.incumbent.share_percent(plan)
            if not points or share < points[-1].share_percent - _SAME_SHARE:
                gpus = drafts_of(self.known, self.placer, plan)
                points.append(FrontDraft(units, gpus, share, self._least(units)))
        return points

    def _report(self, budget: int, share: ShareBound) -> None:
        cost, lower = float(self.grid.cost(budget)), float(self.grid.cost(self.solver.lower_units))
        self.on_progress(
            Progress(
                elapsed_s=self.solver.clock.elapsed(),
                phase="share",
                cost=cost,
                lower_bound=lower,
                gap=(cost - lower) / cost,
                columns=len(share.master.patterns),
                lp_value=share.lp_value,
                cells=share.cells,
                total_share_percent=self._share(budget),
                share_lower_bound_percent=max(share.bound, self._least(budget)),
                raw_bound=share.raw_bound,
            )
        )

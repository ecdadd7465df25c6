"""Formulation for cards under MIG alone: the integer program of `slice_program`, solved by HiGHS.

The bound on the cost is HiGHS's dual bound less its tolerances, rounded up to the next cost that some set of cards has;
valid for the program holds every plan (`slice_program`). Among plans of the least cost the one with least total share
is looked for, in what is left of the time; for that the program is solved again within the cost.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from igniter_opt.base.clock import Clock
from igniter_opt.base.errors import InfeasibleError
from igniter_opt.base.stop import StopRequest
from igniter_opt.formulations.highs import MipEvent, MipResult, run_mip
from igniter_opt.formulations.slice_program import SliceProgram
from igniter_opt.problem.costs import NO_PLAN, PriceGrid, share_step
from igniter_opt.problem.slices import CutGpu, SliceProblem
from igniter_opt.result import Progress

# What HiGHS's tolerances may add to a bound, in prices of the dearest card.
COST_TOLERANCE = 1e-6
_SHARE_GUARD = 1e-4
# The second objective gets so much of the time limit at most.
_SHARE_PART = 0.25


@dataclass
class CutOutcome:
    """Plan and bounds for cards under MIG; as `exact_outcome.Outcome`, which is of cards shared by MPS."""

    cards: list[CutGpu] | None
    lower_units: int
    share_bound: float
    interrupted: bool = False
    log: list[str] = field(default_factory=list)
    ended: str = ""


class SlicesSolver:
    """One run.

    Parameters
    ----------
    problem
        Every workload must be servable (`SliceProblem.servable`).
    start
        A plan that holds, or None; what is returned is no worse.
    """

    def __init__(
        self,
        problem: SliceProblem,
        start: list[CutGpu] | None,
        *,
        time_limit: float,
        gap: float,
        seed: int,
        stop: StopRequest,
        on_progress: Callable[[Progress], object],
    ) -> None:
        self.problem, self.gap, self.seed, self.stop, self.on_progress = problem, gap, seed, stop, on_progress
        self.clock = Clock(time_limit, stop)
        types = problem.gpu_types
        self.grid = PriceGrid.of([gpu.price_per_hour for gpu in types], [gpu.count for gpu in types])
        self.scale = max(self.grid.units)
        self.outcome = CutOutcome(start, min(self.grid.units), 0.0)

    def run(self) -> CutOutcome:
        """Solve; the plan is None only if none was found in time.

        Raises
        ------
        InfeasibleError
            Proven: no plan exists.
        """
        outcome = self.outcome
        program = SliceProgram(self.problem, [units / self.scale for units in self.grid.units])
        result = self._solve(program, "cost")
        if result.status == "infeasible":
            raise InfeasibleError("no plan exists: proven by the slices formulation (counts of cards)", proven=True)
        if outcome.cards is not None and self.cost <= outcome.lower_units and not self.stop.is_set():
            self.clock.shorten(_SHARE_PART)
            self._solve(program, "share")
        outcome.interrupted = self.stop.is_set()
        outcome.ended = self._why_it_ended()
        return outcome

    @property
    def cost(self) -> int:
        """Of the best plan, in steps of the price grid; more than any has while there is none."""
        return self._units(self.outcome.cards)

    def _units(self, cards: Sequence[CutGpu] | None) -> int:
        return NO_PLAN if cards is None else sum(self.grid.units[card.gpu_type] for card in cards)

    def share_percent(self, cards: Sequence[CutGpu]) -> float:
        """Total share of all slices."""
        return sum(self.problem.kinds[use.kind].slice.share_percent for card in cards for use in card.uses)

    def _solve(self, program: SliceProgram, phase: str) -> MipResult:
        by_share = phase == "share"
        result = run_mip(
            program.program(by_share=by_share, budget=self.cost / self.scale if by_share else None),
            time_limit=self.clock.left(),
            gap=0.0 if by_share else self.gap,
            seed=self.seed,
            stop=self.stop,
            on_event=lambda event: self._event(phase, event),
        )
        self.outcome.log += [f"slices, least {'total share' if by_share else 'cost'}:", *result.log]
        if result.values is not None:
            self._take_plan(program.cards([round(value) for value in result.values.values()]))
        if math.isfinite(result.bound):
            self._take_bound(result.bound, by_share=by_share)
        self._report(phase, improved=result.values is not None)
        return result

    def _take_plan(self, cards: list[CutGpu]) -> None:
        best = self.outcome.cards
        if best is None or (self._units(cards), self.share_percent(cards)) < (self.cost, self.share_percent(best)):
            self.outcome.cards = cards

    def _take_bound(self, bound: float, *, by_share: bool) -> None:
        outcome = self.outcome
        if by_share:
            step = share_step([kind.slice.share_percent for kind in self.problem.kinds])
            found = math.ceil((bound - _SHARE_GUARD) / step) * step
            most = math.inf if outcome.cards is None else self.share_percent(outcome.cards)
            outcome.share_bound = max(outcome.share_bound, min(found, most))
        else:
            outcome.lower_units = max(outcome.lower_units, self._rounded(bound, self.cost))

    def _rounded(self, bound: float, known: int) -> int:
        return self.grid.round_up(max(0.0, (bound - COST_TOLERANCE) * self.scale), known)

    def _why_it_ended(self) -> str:
        outcome = self.outcome
        if outcome.cards is None or self.cost > outcome.lower_units:
            within = outcome.cards is not None and self.cost - outcome.lower_units <= self.gap * self.cost
            return (
                f"the gap is within the {100 * self.gap:g} % asked for"
                if within
                else f"the time limit of {self.clock.time_limit:.3g} s"
            )
        if outcome.share_bound >= self.share_percent(outcome.cards) - 2 * _SHARE_GUARD:
            return "cost and total share are proven"
        return f"the cost is proven; the total share had its {100 * _SHARE_PART:g} % of the time limit"

    # ---- progress -----------------------------------------------------------------------------------

    def _event(self, phase: str, event: MipEvent) -> None:
        cost, lower, share = self.cost, self.outcome.lower_units, None
        if phase == "cost":
            if math.isfinite(event.objective):
                cost = min(cost, round(event.objective * self.scale))
            if math.isfinite(event.bound) and cost < NO_PLAN:
                lower = max(lower, self._rounded(min(event.bound, cost / self.scale), cost))
        elif math.isfinite(event.objective):
            share = round(event.objective, 6)
        self._report(phase, cost, lower, event.nodes, improved=event.improved, share=share)

    def _report(
        self,
        phase: str,
        cost: int | None = None,
        lower: int | None = None,
        nodes: int = 0,
        *,
        improved: bool = False,
        share: float | None = None,
    ) -> None:
        cost = self.cost if cost is None else cost
        lower = self.outcome.lower_units if lower is None else lower
        known = cost < NO_PLAN
        self.on_progress(
            Progress(
                elapsed_s=self.clock.elapsed(),
                phase=phase,
                cost=float(self.grid.cost(cost)) if known else None,
                lower_bound=float(self.grid.cost(lower)),
                gap=(cost - lower) / cost if known else None,
                nodes=nodes,
                improved=improved,
                total_share_percent=share,
            )
        )

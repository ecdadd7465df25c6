"""The best plan that `patterns` knows; none gets here that the predictor has not judged, but for proposals."""

import math
from collections.abc import Sequence

from igniter_opt.packing.items import Catalogue
from igniter_opt.packing.plans import Pattern, Placer, drafts_of, trimmed
from igniter_opt.problem.costs import NO_PLAN, PriceGrid
from igniter_opt.problem.draft import make_plan
from igniter_opt.problem.judge import DraftJudge
from igniter_opt.problem.tighten import PlanRefusedError
from igniter_opt.verify import verify


class Incumbent:
    """The best plan so far.

    Attributes
    ----------
    patterns
        Its patterns, in order; None while there is no plan.
    """

    def __init__(self, known: Catalogue, placer: Placer, grid: PriceGrid) -> None:
        self.known, self.placer, self.grid = known, placer, grid
        self.patterns: list[Pattern] | None = None

    @property
    def cost(self) -> int:
        """Its cost in steps of the price grid; more than any plan costs while there is none."""
        return NO_PLAN if self.patterns is None else self.units(self.patterns)

    def units(self, patterns: Sequence[Pattern]) -> int:
        """Cost of patterns in steps of the price grid."""
        return sum(self.grid.units[gpu] for gpu, _ in patterns)

    def share_percent(self, patterns: Sequence[Pattern]) -> float:
        """Least total share that is found for patterns."""
        unit = [entry.hardware.share_unit_percent for entry in self.known.problem.coefficients]
        return float(sum(unit[pattern[0]] * self.placer.levels(pattern) for pattern in patterns))

    def worth_proving(self, lp_value: float, gap: float) -> float:
        """Return the cost that a bound must exceed to matter, for a linear master of this value.

        Both in units of the dearest GPU; a relative gap of `gap` is good enough.
        """
        scale = max(self.grid.units)
        target = float(self.grid.excluded(lp_value * scale))
        if self.patterns is not None:
            target = min(target, self.grid.below(self.cost), (1.0 - gap) * self.cost - 1 if gap > 0 else math.inf)
        return self.grid.excluding(max(0.0, target)) / scale

    def offer(self, found: list[Pattern], *, by_share: bool) -> bool:
        """Keep a plan if it is cheaper, or (`by_share`) as cheap with less total share; say whether it was kept.

        Raises
        ------
        PlanRefusedError
            The predictor rejects it.
        """
        if not by_share and self.units(found) > self.cost:
            return False
        patterns = self.placeable(found)
        if patterns is None:
            return False
        mine, theirs = self.cost, self.units(patterns)
        if theirs > mine or (theirs == mine and not by_share):
            return False
        if self.patterns is not None and theirs == mine:
            gained = self.share_percent(self.patterns) - self.share_percent(patterns)
            if gained <= 1e-9:
                return False
        self.refuse_wrong(patterns)
        self.patterns = patterns
        return True

    def placeable(self, found: list[Pattern]) -> list[Pattern] | None:
        """Return patterns that serve everything exactly once, or None where these do not, or are not placed again."""
        patterns = trimmed(self.known, found, self.known.demand)
        if patterns is None or any(self.placer.least_share(pattern) is None for pattern in patterns):
            return None
        return patterns

    def refuse_wrong(self, patterns: list[Pattern]) -> None:
        """Raise PlanRefusedError where the predictor rejects a plan."""
        drafts = drafts_of(self.known, self.placer, patterns)
        if not self.known.problem.proposes and not DraftJudge(self.known.problem, drafts).holds:
            wrong = verify(make_plan(self.known.problem, drafts, method="patterns", status="heuristic")).violations
            where = "; ".join(f"{entry.where}: {entry.message}" for entry in wrong[:3])
            raise PlanRefusedError(f"a pattern plan is rejected by the predictor ({where}); please report this", drafts)

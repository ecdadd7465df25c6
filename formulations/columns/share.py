"""The second objective of `patterns`: least total share among plans of a given cost.

The master of `patterns` with the least total share of a pattern (percent) as its cost and a budget row
``Σ price λ ≤ cost`` (dual μ ≥ 0). Pricing then maximises ``Σ π - θ_g Σ level`` with θ_g the percent of one level, and
the bound is ``V - μ cost - Σ_g N_g max(0, B_g - μ price_g)`` with N_g the most GPUs of the type that the cost pays for.
Shares are whole levels, so the bound is rounded up to the next multiple.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.stop import StopRequest
from igniter_opt.formulations.columns.integer import restricted_master
from igniter_opt.formulations.columns.master import Master, MasterSolution
from igniter_opt.packing.items import Catalogue
from igniter_opt.packing.plans import Pattern, Placer
from igniter_opt.packing.pricing import Pricer
from igniter_opt.problem.costs import PriceGrid, share_step

# A bound on total share is rounded up to whole share units after giving back this much (percent).
_GUARD = 1e-4
# Slack of the first pricing, in percent of share per GPU; halved whenever few patterns come.
_FIRST_SLACK = 20.0
_NODES = 5_000
_MOST_PATTERNS = 8_000
_FIRST_BUDGET = 200


class ShareBound:
    """Column generation for least total share.

    Parameters
    ----------
    budget_units
        Cost of the plan, in steps of the price grid.
    patterns
        Patterns known already.

    Attributes
    ----------
    bound
        Proven lower bound on the total share (percent) of any plan within the budget.
    raw_bound
        The same before it is rounded up to whole share units.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        grid: PriceGrid,
        placer: Placer,
        budget_units: int,
        *,
        patterns: Sequence[Pattern],
        seed: int,
        check: Callable[[], None],
        on_plan: Callable[[list[Pattern]], None],
        on_iteration: Callable[["ShareBound"], None],
    ) -> None:
        self.catalogue, self.placer, self.seed = catalogue, placer, seed
        self.check, self.on_plan, self.on_iteration = check, on_plan, on_iteration
        hardware = [entry.hardware for entry in catalogue.problem.coefficients]
        self.unit = np.array([entry.share_unit_percent for entry in hardware])
        self.step = share_step([entry.share_unit_percent for entry in hardware])
        self.scale = max(grid.units)
        self.prices = [units / self.scale for units in grid.units]
        self.budget = budget_units / self.scale
        self.counts = [
            budget_units // units if count is None else min(count, budget_units // units)
            for units, count in zip(grid.units, grid.counts, strict=True)
        ]
        self.grid_counts = grid.counts
        self.pricer = Pricer(catalogue, check)
        self.master = Master(
            catalogue,
            catalogue.demand,
            self.prices,
            grid.counts,
            artificial_cost=1_000.0,
            pattern_cost=self._cost,
            budget=self.budget,
        )
        self._first = patterns
        self.bound = self.raw_bound = 0.0
        self.lp_value: float | None = None

    @property
    def cells(self) -> int:
        """Interference cells in use."""
        return len(self.pricer.partition.alive_rows)

    def _placeable(self, patterns: Iterable[Pattern]) -> list[Pattern]:
        """Leave out sets that are not placed again; columns are never needed for the bound."""
        return [pattern for pattern in patterns if self.placer.least_share(pattern) is not None]

    def _cost(self, pattern: Pattern) -> float:
        return float(self.unit[pattern[0]]) * self.placer.levels(pattern)

    def run(self, best: Sequence[Pattern], *, least: float, time_left: Callable[[], float], stop: StopRequest) -> None:
        """Prove a bound, then look for a plan that attains it.

        Parameters
        ----------
        best
            A plan within the budget.
        least
            A bound known already (percent).
        time_left
            Seconds that may still be used.
        """
        self.prove(best, least)
        self.improve(best, time_left, stop)

    def prove(self, best: Sequence[Pattern], least: float) -> None:
        """Prove a bound: the first part of `run`, which `check` may end."""
        self.bound = self.raw_bound = least
        self.master.add(best)
        self.master.add(self._placeable(self._first[:_MOST_PATTERNS]))
        self._generate(sum(self._cost(pattern) for pattern in best))

    def improve(self, best: Sequence[Pattern], time_left: Callable[[], float], stop: StopRequest) -> None:
        """Look for a plan of less share among the patterns known: the second part of `run`."""
        found, _ = restricted_master(
            self.catalogue,
            self.master.patterns,
            [self._cost(pattern) for pattern in self.master.patterns],
            self.prices,
            self.grid_counts,
            budget=self.budget,
            start=list(best),
            time_limit=max(0.1, time_left()),
            node_limit=_NODES,
            seed=self.seed,
            stop=stop,
        )
        if found:
            self.on_plan(found)

    def _generate(self, incumbent: float) -> None:
        slack, budget = _FIRST_SLACK, _FIRST_BUDGET
        few = max(3, len(self.catalogue.items) // 20)
        most = max(1, sum(self.counts))
        while True:
            self.check()
            solution = self.master.solve()
            self.lp_value = solution.objective if solution.uncovered < 1e-6 else None
            # Nothing below this matters: the bound is rounded up to whole units.
            goal = math.ceil((solution.objective - _GUARD) / self.step) * self.step - self.step
            needed = max(1e-6, (solution.objective - goal - 2 * _GUARD) / most)
            used = max(slack, needed)
            goals = solution.budget_price * np.array(self.prices) + solution.type_prices + used
            priced = self.pricer.price(
                solution.item_values, self.unit, goals, enough=max(100, len(self.catalogue.items)), budget=budget
            )
            self._take_bound(solution, priced.worst)
            added = self.master.add(self._placeable(priced.patterns))
            self.on_iteration(self)
            if self.bound >= incumbent - _GUARD or self.bound >= goal + self.step - _GUARD:
                return
            if added > few:
                continue
            if priced.finished:
                if added == 0 and used <= needed:
                    return
                slack /= 2
            else:
                slack *= 1.5
                budget *= 2

    def _take_bound(self, solution: MasterSolution, worst: FloatArray) -> None:
        """``V - μ cost - Σ_g N_g max(0, B_g - μ price_g)``, rounded up to whole share units."""
        values = solution.item_values
        total = self.catalogue.total_value(values)
        total -= solution.budget_price * self.budget
        for gpu, count in enumerate(self.counts):
            total -= count * max(0.0, float(worst[gpu]) - solution.budget_price * self.prices[gpu])
        self.raw_bound = max(self.raw_bound, total)
        self.bound = max(self.bound, math.ceil((total - _GUARD) / self.step) * self.step)

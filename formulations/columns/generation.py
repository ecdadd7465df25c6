"""Column generation for `patterns`, and the lower bound on the cost (see the derivation in `patterns`)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.threads import threads
from igniter_opt.formulations.columns.master import Master, MasterSolution
from igniter_opt.packing.items import Catalogue
from igniter_opt.packing.local_search import Improved, LocalSearch
from igniter_opt.packing.plans import Pattern
from igniter_opt.packing.pricing import Priced, Pricer
from igniter_opt.problem.costs import PriceGrid

# Pricing asks for sets worth more than (1 + slack) times their price; the slack starts here and is halved whenever
# few new patterns come, down to what the next cost needs, or to LEAST_SLACK.
_FIRST_SLACK = 0.1
LEAST_SLACK = 1e-5
# Local search walks over whole plans up to this many placements, beyond over this many copies of every item.
_LONG_WALK, _COPIES = 3_000, 4
# The master forgets patterns beyond this many; fewer where all that is asked of it is a proof, for programs and dives
# make plans of them.
_MOST_PATTERNS, _MOST_FOR_A_PROOF, _PATTERNS_PER_ITEM = 4_000, 1_500, 8
# Exploring: cells split per call, and how often all cells are bounded.
_SPLITS = 150
_FULL_SWEEP = 3
# While exploring still brings patterns, a full pricing for the bound comes only every so many iterations.
_PRICE_EVERY = 8
# Below this many items the search of cells is cheap enough to go without exploring.
_EXPLORE_FROM = 150
# Work of the first call of pricing (`Pricer.price`).
_FIRST_BUDGET = 400
# A proof leaves this much (relative) to rounding.
_PROOF_MARGIN = 1e-6
# In a bound, sets are taken to be worth this part of their GPU's price at least.
_LEAST_WORTH = 1e-3
# Cost of an item that is left uncovered: in prices of the dearest GPU, or in the item's own value (no less than this
# part of the mean).
_ARTIFICIAL, _LEAST_VALUE = 10.0, 0.1
# Ruin-and-recreate rounds of each walk; walks at once, as many on every machine.
_ROUNDS, _AT_ONCE = 500, 2
_TEMPERATURE = 0.003


class LagrangianBound(NamedTuple):
    """A lower bound on the cost, and the scale s of the item values that gives it (infinite: no plan exists)."""

    cost: float
    scale: float


def lagrangian_bound(
    value: float, worst: FloatArray, prices: Sequence[float], counts: Sequence[int | None]
) -> LagrangianBound:
    """Lower bound on the cost of any plan from item values and bounds on the worth of a GPU.

    Parameters
    ----------
    value
        ``V``: total value of all demand, for values π ≥ 0.
    worst
        ``B_g``: no feasible set on type g is worth more.
    prices, counts
        Price of a GPU of each type, and how many exist (None: unlimited).

    Notes
    -----
    For any scale s ≥ 0 the values s π are multipliers of the covering rows, so every plan costs at least
    ``s V + Σ_GPUs (price_g - s worth) ≥ s V - Σ_g N_g max(0, s B_g - price_g)``, where types without a count must
    have ``s B_g ≤ price_g``. That is concave and piecewise linear in s: its maximum is at a breakpoint
    ``price_g / B_g``, or it grows without limit, and then no plan exists.
    """
    # Dividing by next to nothing would make rounding visible; a bound may be raised.
    worst = np.where(worst > 0, np.maximum(worst, _LEAST_WORTH * np.array(prices)), worst)
    usable = [entry for entry in zip(prices, worst.tolist(), counts, strict=True) if entry[2] != 0]
    ratios = [price / bound if bound > 0 else math.inf for price, bound, _ in usable]
    cap = min([ratio for ratio, entry in zip(ratios, usable, strict=True) if entry[2] is None], default=math.inf)
    capacity = sum(count * max(0.0, bound) for _, bound, count in usable if count is not None)
    if math.isinf(cap) and value > capacity * (1 + _PROOF_MARGIN) + 1e-9:
        return LagrangianBound(math.inf, math.inf)
    best = LagrangianBound(0.0, 0.0)
    for scale in {ratio for ratio in [*ratios, cap] if ratio <= cap and math.isfinite(ratio)}:
        loss = sum(count * max(0.0, scale * bound - price) for price, bound, count in usable if count is not None)
        best = max(best, LagrangianBound(scale * value - loss, scale))
    return best


@dataclass
class Bound:
    """The best lower bound so far, in units of the dearest GPU's price, and the values and scale that prove it."""

    cost: float = 0.0
    values: FloatArray = field(default_factory=lambda: np.zeros(0))
    scale: float = 0.0


class ColumnGeneration:
    """Generates patterns for the master until a cost target is proven or refuted.

    Parameters
    ----------
    check
        Called every now and then; may raise to give up.
    on_plan
        Called with every plan that local search finds on the way.
    on_iteration
        Called after every iteration.
    on_priced
        Called with the value of all demand and bounds on the worth of any set on every type (see `lagrangian_bound`).
    counts
        GPUs of each type, where other than the grid's.
    values
        What the items are worth, if no plan but a proof is expected: the master may then leave items uncovered at many
        times their worth, so that its duals are in proportion where counts leave no other way, and it is kept small.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        grid: PriceGrid,
        search: LocalSearch,
        pricer: Pricer,
        *,
        seed: int,
        check: Callable[[], None],
        on_plan: Callable[[list[Pattern]], None],
        on_iteration: Callable[["ColumnGeneration"], None],
        on_priced: Callable[[float, FloatArray], object] = lambda value, worst: None,
        counts: Sequence[int | None] | None = None,
        values: FloatArray | None = None,
    ) -> None:
        self.catalogue, self.grid, self.search, self.pricer = catalogue, grid, search, pricer
        self.seed, self.check, self.on_plan, self.on_iteration = seed, check, on_plan, on_iteration
        self.on_priced, self.values = on_priced, values
        self.counts = list(grid.counts if counts is None else counts)
        self._usable = np.array([count != 0 for count in self.counts])
        self.scale = max(grid.units)
        self.prices = [unit / self.scale for unit in grid.units]
        self.demand = catalogue.demand
        artificial = _ARTIFICIAL if values is None else _ARTIFICIAL * np.maximum(values, _LEAST_VALUE * values.mean())
        self.master = Master(catalogue, self.demand, self.prices, self.counts, artificial)
        self.bound = Bound()
        self.solution: MasterSolution | None = None
        self.iterations = 0
        self._walks: list[Sequence[Pattern]] = []
        self._mean: FloatArray | None = None
        # Where the last run was.
        self._slack = _FIRST_SLACK
        self._level_price = np.zeros(len(grid.units))

    def construct(self, number: int) -> None:
        """Add the patterns of so many noisy best-fit plans."""
        for k in range(number):
            items = self.search.items_of_a_plan(fewest=k % 2 == 0)
            self.master.add(self.search.construct(items, 0.25, self.seed + 100 + k) or [])

    def run(self, starts: Sequence[Sequence[Pattern]], goal_cost: Callable[[float], float]) -> None:
        """Generate patterns until the bound reaches the goal, or pricing is exhausted at the least slack.

        Parameters
        ----------
        starts
            Plans for local search to begin with, by turns; those on one type of GPUs stay there.
        goal_cost
            From the master's optimum to the bound that is worth proving, both in units of the dearest GPU.
        """
        walks = [walk for start in starts if (walk := self._first_walk(start))]
        # Two at least, so that two processors have something to do.
        self._walks = walks if len(walks) != 1 else _AT_ONCE * walks
        for start in starts:
            self.master.add(start)
        slack, budget = self._slack, _FIRST_BUDGET
        number = len(self.catalogue.items)
        few = max(3, number // 20)
        explores = number > _EXPLORE_FROM
        most = _MOST_PATTERNS if self.values is None else _MOST_FOR_A_PROOF
        while True:
            self.check()
            self.iterations += 1
            solution = self.solution = self.master.solve()
            self.master.purge(solution, most + _PATTERNS_PER_ITEM * number)
            added = self._harvest(solution)
            if added <= 2 * few and explores:
                added += self._explore(solution)
            target = goal_cost(solution.objective)
            if self.bound.cost >= target:
                self.on_iteration(self)
                return
            flowing = added > (2 * few if explores else few)
            if flowing and not (explores and self.iterations % _PRICE_EVERY == 0):
                self.on_iteration(self)
                continue
            needed = self._needed_slack(solution, target)
            if 0 < self.bound.cost < solution.objective:
                # Half of what the bound still lacks.
                slack = min(slack, 0.5 * (solution.objective / self.bound.cost - 1.0))
            self._slack, used = slack, max(slack, needed)
            priced = self._price(solution, used, budget)
            added = self.master.add(priced.patterns)
            self.on_iteration(self)
            if self.bound.cost >= target:
                return
            if added > few:
                continue
            if priced.finished:
                if added == 0 and used <= needed:
                    return
                slack /= 2
            else:
                # Too much work for too little: ask for less, and allow more.
                slack *= 1.5
                budget *= 2

    def _first_walk(self, start: Sequence[Pattern]) -> Sequence[Pattern] | None:
        """Plan for local search to walk from: of many copies of an item only a few are needed to meet good sets."""
        if sum(len(members) for _, members in start) <= _LONG_WALK:
            return list(start)
        items = [item for item, entry in enumerate(self.catalogue.items) for _ in range(min(entry.copies, _COPIES))]
        return self.search.construct(items, 0.0, self.seed)

    def _needed_slack(self, solution: MasterSolution, target: float) -> float:
        """Largest slack with which pricing that finds nothing proves the target.

        If no set is worth more than ``(price + σ)(1 + slack)``, the scale 1 / (1 + slack) makes the bound at least
        ``V / (1 + slack) - Σ count σ = z_LP - V slack / (1 + slack)``. What is left to rounding is a part of V: where
        counts exclude all plans, σ and V are far above the target.
        """
        value = self.total_value(solution.item_values)
        part = (solution.objective - target) / value - 2 * _PROOF_MARGIN if value > 0 else 1.0
        return max(LEAST_SLACK, part / (1.0 - part)) if part < 0.5 else 1.0

    def _explore(self, solution: MasterSolution) -> int:
        """Patterns from the cells' own sets, for the LP's values and for a running mean of them."""
        self._mean = 0.5 * (solution.item_values if self._mean is None else self._mean) + 0.5 * solution.item_values
        added = 0
        for values in (self._mean, solution.item_values):
            everywhere = self.iterations % _FULL_SWEEP == 0
            goals = self._goals(solution, 1e-6)
            priced = self.pricer.explore(values, self._level_price, goals, splits=_SPLITS, everywhere=everywhere)
            self._take_bound(values, priced)
            added += self.master.add(priced.patterns)
        return added

    def _take_bound(self, values: FloatArray, priced: Priced) -> None:
        if np.any(np.isposinf(priced.worst[self._usable])):
            return
        value = self.catalogue.total_value(values)
        self.on_priced(value, priced.worst)
        found = lagrangian_bound(value, priced.worst, self.prices, self.counts)
        if found.cost > self.bound.cost:
            self.bound = Bound(found.cost, values.copy(), found.scale)

    def full_prices(self, solution: MasterSolution) -> FloatArray:
        """Return ``price + σ`` of every type; infinite where there are no GPUs, so that nothing is worth them."""
        full: FloatArray = np.array(self.prices) + solution.type_prices
        full[~self._usable] = np.inf
        return full

    def total_value(self, values: FloatArray) -> float:
        """``V``: the total value of all demand, for item values π ≥ 0."""
        return self.catalogue.total_value(values)

    def bound_of(self, solution: MasterSolution, values: FloatArray) -> float:
        """Return the bound that item values give of which no set is worth more than its price: ``V - Σ count σ``."""
        known = zip(self.counts, solution.type_prices.tolist(), strict=True)
        counted = [(count, price) for count, price in known if count is not None]
        return float(self.total_value(values) - sum(count * price for count, price in counted))

    def _goals(self, solution: MasterSolution, slack: float) -> FloatArray:
        return self.full_prices(solution) * (1.0 + slack)

    def _harvest(self, solution: MasterSolution) -> int:
        """Let local search run on the dual values; add the sets it meets that are worth more than their price."""
        turns = [(self.iterations * _AT_ONCE + k) % len(self._walks) for k in range(min(_AT_ONCE, len(self._walks)))]

        def walk(turn: int) -> Improved:
            types = {gpu for gpu, _ in self._walks[turn]}
            return self.search.improve(
                self._walks[turn],
                solution.item_values,
                self._goals(solution, 1e-4),
                rounds=_ROUNDS,
                temperature=_TEMPERATURE,
                seed=self.seed + _AT_ONCE * self.iterations + turn,
                taken=self.search.without(types) if len(types) == 1 and len(self._walks) > _AT_ONCE else None,
            )

        added = 0
        with threads() as workers:
            for turn, improved in zip(turns, list(workers.map(walk, turns)), strict=True):
                self._walks[turn] = improved.last
                self.on_plan(improved.best)
                added += self.master.add(improved.noted)
        return added

    def _price(self, solution: MasterSolution, slack: float, budget: int) -> Priced:
        enough = max(100, len(self.catalogue.items))
        goals = self._goals(solution, slack)
        priced = self.pricer.price(solution.item_values, self._level_price, goals, enough=enough, budget=budget)
        self._take_bound(solution.item_values, priced)
        return priced

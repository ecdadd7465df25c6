"""Integer plans for `patterns`: diving with column generation, and mixed-integer programs over known patterns."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.clock import Clock
from igniter_opt.base.stop import StopRequest
from igniter_opt.formulations.columns.generation import LEAST_SLACK, ColumnGeneration
from igniter_opt.formulations.columns.master import Master, MasterSolution
from igniter_opt.options import PatternsTuning
from igniter_opt.packing.items import Catalogue
from igniter_opt.packing.local_search import LocalSearch
from igniter_opt.packing.plans import Pattern

# Diving fixes patterns used at least this often at once, and in each step this part of what is left.
_NEARLY_ONE = 0.9
_STEP = 0.08
# Cells split at most to list patterns.
_BUDGET_LISTED = 2_000
_MOST_PROMISING = 6_000
# Where all patterns within the room (see `patterns_within`) are too many: those within these parts of it.
_PARTS_OF_ROOM = (1.0, 0.5, 0.25, 0.125)
# With items of this many copies, LP solutions at vertices have many whole numbers to fix at once.
_MANY_COPIES = 6
# Rounds of local search per LP, and LPs per step.
_ROUNDS, _REPEATS = 2_000, 3
_TEMPERATURE = 0.002
# Local search from a whole plan.
_POLISH_ROUNDS = 20_000
# Vectors of GPU counts that the linear master is solved within, and by which part of their cost it is less where plans
# are found easily.
_LIKELY, _EASY = 10, 0.015
# Columns with few uses left in the LP are worth a fix only if their items are still needed.
_STILL_NEEDED = 0.97


class Dive:
    """One dive from the root: fix patterns that the LP likes, generate new ones for the rest, repeat.

    Parameters
    ----------
    root
        Column generation to begin with; its counts hold.
    noise
        Relative noise on the LP's values, for another dive than the last.
    on_plan
        Called with every complete plan.
    good_enough
        Whether the search may end.
    """

    def __init__(
        self,
        root: ColumnGeneration,
        *,
        noise: float,
        seed: int,
        check: Callable[[], None],
        on_plan: Callable[[list[Pattern]], None],
        good_enough: Callable[[], bool],
    ) -> None:
        self.root, self.noise, self.check, self.on_plan, self.good_enough = root, noise, check, on_plan, good_enough
        self.rng = np.random.default_rng(seed)
        self.catalogue, self.search = root.catalogue, root.search
        self.fixed: list[Pattern] = []
        self.residual = self._item_demand()
        self.master = Master(
            self.catalogue, root.demand, root.prices, root.counts, artificial_cost=10.0, item_demand=self.residual
        )
        self.master.add(root.master.patterns)
        if max(self.residual, default=0) >= _MANY_COPIES:
            self.master.prefer_vertices()

    def _item_demand(self) -> list[int]:
        """Round the LP's replica choices: every workload gets the count that the LP covers most."""
        demand = [0] * len(self.catalogue.items)
        solution = self.root.solution
        covered = np.zeros(len(self.catalogue.items))
        if solution is not None:
            for (_, members), value in zip(self.root.master.patterns, solution.values, strict=False):
                for item in members:
                    covered[item] += value
        for number, items in enumerate(self.catalogue.class_items):
            left = self.root.demand[number]
            order = sorted(items, key=lambda item: -covered[item] / self.catalogue.items[item].replicas)
            for position, item in enumerate(order):
                replicas = self.catalogue.items[item].replicas
                take = left if position == len(order) - 1 else min(left, round(covered[item] / replicas))
                demand[item] = take * replicas
                left -= take
        return demand

    def run(self) -> None:
        """Dive until everything is placed, or the plans on the way are good enough."""
        turn = 0
        while sum(self.residual) > 0 and not self.good_enough():
            turn += 1
            solution = self._generate(turn)
            if solution is None:
                return
            self._fix(solution)
        if sum(self.residual) == 0:
            self.on_plan(sorted(self.fixed))

    def _generate(self, turn: int) -> MasterSolution | None:
        """Solve the LP of what is left, with patterns from local search; None if local search finds no plan."""
        taken = Counter(gpu for gpu, _ in self.fixed)
        items = [item for item, count in enumerate(self.residual) for _ in range(count)]
        walk = self.search.construct(items, 0.0, turn, taken)
        few = max(3, len(items) // 25)
        for repeat in range(_REPEATS + 1):
            self.check()
            solution = self.master.solve()
            if repeat == _REPEATS:
                break
            if walk is None:
                return solution if solution.uncovered < 1e-6 else None
            goal = (np.array(self.root.prices) + solution.type_prices) * (1.0 + 1e-4)
            improved = self.search.improve(
                walk,
                solution.item_values,
                goal,
                rounds=_ROUNDS,
                temperature=_TEMPERATURE,
                seed=turn,
                taken=taken,
            )
            walk = improved.last
            self.on_plan(sorted([*self.fixed, *improved.best]))
            if self.good_enough() or self.master.add(improved.noted) <= few:
                break
        return solution

    def _fix(self, solution: MasterSolution) -> None:
        values: FloatArray = solution.values * (1.0 + self.noise * self.rng.random(len(solution.values)))
        order = np.argsort(-values, kind="stable")
        quota = max(1, int(_STEP * sum(self.residual)))
        fixed_items, fixed_any = 0, False
        used = Counter(gpu for gpu, _ in self.fixed)
        for position in order.tolist():
            value = float(solution.values[position])
            if fixed_any and (fixed_items >= quota and value < _NEARLY_ONE):
                break
            gpu, members = self.master.patterns[position]
            count = self.root.counts[gpu]
            for _ in range(max(1, int(value + 1e-6))):
                if count is not None and used[gpu] >= count:
                    break
                needed = _needed(members, self.residual)
                worth = float(solution.item_values[list(needed)].sum()) if needed else 0.0
                whole = float(solution.item_values[list(members)].sum())
                if not needed or (fixed_any and worth < _STILL_NEEDED * whole):
                    break
                for item in needed:
                    self.residual[item] -= 1
                self.fixed.append((gpu, needed))
                used[gpu] += 1
                fixed_items += len(needed)
                fixed_any = True
        self.master.need(self.residual)
        for gpu, count in enumerate(self.root.counts):
            if count is not None:
                self.master.limit(gpu, count - used[gpu])


def polished(
    search: LocalSearch, plan: Sequence[Pattern], values: FloatArray, seed: int, hurry: Callable[[], bool]
) -> list[Pattern]:
    """Improve a plan by local search guided by the items' values, until `hurry` says so."""
    return search.improve(
        plan, values, search.prices * 10.0, rounds=_POLISH_ROUNDS, temperature=_TEMPERATURE, seed=seed, hurry=hurry
    ).best


class Promising(NamedTuple):
    """A vector of GPU counts, its cost in steps of the price grid, and whether the known patterns cover everything."""

    counts: tuple[int, ...]
    cost: int
    covered: bool


def promising_counts(root: ColumnGeneration, vectors: Sequence[tuple[int, tuple[int, ...]]]) -> list[Promising]:
    """Order vectors of GPU counts by how likely there is a plan within them.

    That is likelier the more they cost above what the linear master needs within them, up to a point, beyond which the
    cheapest come first. Those within which the known patterns do not cover everything come last. Only those whose GPUs
    could carry most are looked at, by the root's item values and the best known pattern of each type.
    """
    if not vectors:
        return []
    values = root.master.solve().item_values
    carried = np.zeros(len(root.prices))
    for gpu, members in root.master.patterns:
        carried[gpu] = max(carried[gpu], values[list(members)].sum())
    likely = sorted(vectors, key=lambda entry: -float(carried @ np.array(entry[1])))[:_LIKELY]
    master = Master(root.catalogue, root.demand, root.prices, likely[0][1], artificial_cost=10.0)
    master.add(root.master.patterns)
    found = []
    for cost, counts in likely:
        for gpu, count in enumerate(counts):
            master.limit(gpu, count)
        solution = master.solve()
        part = 1.0 - solution.objective * root.scale / cost
        found.append((-min(part, _EASY), Promising(counts, cost, solution.uncovered < 1e-6)))
    return [entry for _, entry in sorted(found, key=lambda pair: (pair[0], pair[1].cost))]


def _needed(members: Sequence[int], residual: Sequence[int]) -> tuple[int, ...]:
    """Members of a pattern that are still needed."""
    left = Counter[int]()
    needed = []
    for item in members:
        if left[item] < residual[item]:
            left[item] += 1
            needed.append(item)
    return tuple(needed)


def restricted_master(
    catalogue: Catalogue,
    patterns: Sequence[Pattern],
    cost: Sequence[float],
    price: Sequence[float],
    counts: Sequence[int | None],
    *,
    budget: float,
    start: Sequence[Pattern],
    time_limit: float,
    node_limit: int,
    seed: int,
    stop: StopRequest,
) -> tuple[list[Pattern] | None, bool]:
    """Solve the integer master over known patterns by HiGHS.

    Returns a plan, or None if none was found, and whether it is proven that these patterns allow none.

    Parameters
    ----------
    cost
        Objective coefficient of each pattern.
    price, budget
        Price of each GPU type; limit on the total price.
    start
        A plan within the budget made of known patterns, or nothing.
    """
    if not patterns:
        return None, True
    cost_of = dict(zip(patterns, cost, strict=True))
    master = Master(
        catalogue,
        catalogue.demand,
        price,
        counts,
        artificial_cost=0.0,
        pattern_cost=cost_of.__getitem__,
        budget=budget * (1 + 1e-9),
    )
    master.add(patterns)
    return master.integer_plan(start, time_limit=time_limit, node_limit=node_limit, seed=seed, stop=stop)


class Listed(NamedTuple):
    """Patterns for the integer master, and whether they are all that a plan within the target can use."""

    patterns: list[Pattern]
    complete: bool


def patterns_within(root: ColumnGeneration, target: float, check: Callable[[], None], most: int) -> Listed:
    """List the patterns that a plan of cost `target` (in units of the dearest GPU) or less can use.

    Brings the linear master to its optimum first. Of more than about `most` those of least reduced cost.

    Notes
    -----
    With values π of which no set is worth more than ``price + σ``, every pattern has a reduced cost
    ``price + σ - Σ π ≥ 0``, and a plan that covers exactly costs at least ``V - Σ count σ`` plus the sum of its
    patterns' reduced costs. So none of them can exceed ``target - V + Σ count σ``.
    """
    types = len(root.prices)
    while True:
        check()
        solution = root.master.solve()
        full = root.full_prices(solution)
        goal = full * (1 + LEAST_SLACK)
        priced = root.pricer.price(solution.item_values, np.zeros(types), goal, budget=_BUDGET_LISTED)
        if root.master.add(priced.patterns) == 0:
            break
    matters = np.isfinite(full) & (priced.worst > 0)
    scale = float(np.min(full[matters] / priced.worst[matters], initial=1.0))
    values = solution.item_values * scale
    room = target * (1 + 1e-6) - root.bound_of(solution, values) + 1e-6
    for part in _PARTS_OF_ROOM:
        listed = root.pricer.enumerate(values, full - part * room, most)
        if listed is not None:
            return Listed(maximal(listed), complete=part == 1.0)
    return Listed(promising_patterns(root, target), complete=False)


def plan_of(
    columns: ColumnGeneration,
    listed: Listed,
    target: float,
    *,
    nodes: int,
    time_limit: float,
    seed: int,
    stop: StopRequest,
) -> tuple[list[Pattern] | None, bool]:
    """Look for a plan made of listed patterns, of cost `target` or less, within the counts of `columns`.

    Returns a plan, or None if none was found, and whether it is proven that there is no plan of that cost.
    """
    found, impossible = restricted_master(
        columns.catalogue,
        listed.patterns,
        [columns.prices[gpu] for gpu, _ in listed.patterns],
        columns.prices,
        columns.counts,
        budget=target,
        start=[],
        time_limit=time_limit,
        node_limit=nodes,
        seed=seed,
        stop=stop,
    )
    return found, impossible and listed.complete


def maximal(patterns: Sequence[Pattern]) -> list[Pattern]:
    """Drop patterns that another one of the same type contains with one item more.

    What covers with the smaller one covers with the larger one, for the same price, so of all sets worth more than
    some goal (item values are not negative, so with a set its feasible supersets are among them) only the maximal
    ones matter to the integer master.
    """
    smaller = {(gpu, members[:k] + members[k + 1 :]) for gpu, members in patterns for k in range(len(members))}
    return [pattern for pattern in patterns if pattern not in smaller]


def promising_patterns(root: ColumnGeneration, best_cost: float) -> list[Pattern]:
    """Return known patterns of least reduced cost, none above what lies between the linear master and `best_cost`."""
    solution = root.master.solve()
    values, room = solution.item_values, best_cost - solution.objective
    reduced = sorted(
        (root.prices[gpu] + solution.type_prices[gpu] - float(values[list(members)].sum()), (gpu, members))
        for gpu, members in root.master.patterns
    )
    return [pattern for cost, pattern in reduced if cost <= room][:_MOST_PROMISING]


class IntegerPrograms:
    """Integer masters over listed patterns, each within its part of the time.

    Parameters
    ----------
    on_plan
        Called with the plan that a program finds, or with None.
    """

    def __init__(
        self,
        tuning: PatternsTuning,
        clock: Clock,
        *,
        seed: int,
        check: Callable[[], None],
        on_plan: Callable[[list[Pattern] | None], None],
    ) -> None:
        self.tuning, self.clock, self.seed, self.check, self.on_plan = tuning, clock, seed, check, on_plan

    def listed(self, columns: ColumnGeneration, target: float, part: float) -> Listed:
        """List patterns (`patterns_within`) within a part of the time; beyond it the promising ones among the known."""
        found = None
        with self.clock.within(part):
            found = patterns_within(columns, target, self.check, self.tuning.mip_patterns)
        return found or Listed(promising_patterns(columns, target), complete=False)

    def no_plan_among(self, columns: ColumnGeneration, listed: Listed, target: float) -> bool:
        """Solve the integer master within a cost, and the counts of `columns`; whether that proves that no plan exists.

        The proof needs all patterns that such a plan could use; where there are too many, the most promising known
        ones may still give a plan. The cost is in units of the dearest GPU.
        """
        part = self.tuning.mip_part if listed.complete else self.tuning.list_part
        found, impossible = plan_of(
            columns,
            listed,
            target,
            nodes=self.tuning.mip_nodes_complete if listed.complete else self.tuning.mip_nodes,
            time_limit=min(part * self.clock.time_limit, self.clock.left()),
            seed=self.seed,
            stop=self.clock.stop,
        )
        self.on_plan(found)
        return impossible

"""Formulation of re-planning: of the plans of least cost, one that disrupts what runs the least.

Derivation
----------
*Columns.* As in `patterns`, a plan is a multiset of patterns: sets of items that one GPU carries. Here a column also
says which running GPU j it takes the place of, or that its GPU is fresh. What that disrupts is known column by column
(`packing.running`): d[j,p] is the least total weight of what changes on GPU j if it is to carry pattern p (servers that
are resized or restarted there, and members that arrive), and d[0,p] is that of all members arriving. GPUs of one type
are interchangeable, so the disruption of a plan is that of the best matching of its GPUs to the running ones; the
matching is part of the choice of columns.

*Program.* x[j,p] says that GPU j carries p, y[p] counts fresh GPUs with p (or running ones that keep nothing), z[k,κ]
workloads of class k with κ replicas::

    least    Σ d[j,p] x[j,p] + Σ d[0,p] y[p] - w Σ_k growth_k(z)        (w: the weight of a move)
    cover    Σ a[t,p] (x[j,p] + y[p]) ≥ κ z[k,κ]                        for every item t = (k, κ)
    replicas Σ_κ z[k,κ] = m_k
    gpu      Σ_p x[j,p] ≤ 1                                             for every running GPU j
    count    Σ_{p on g} (x[j,p] + y[p]) ≤ count_g                       where counted
    budget   Σ price (x[j,p] + y[p]) ≤ least cost
    moves    Σ arrivals (x + y) - Σ_k growth_k(z) ≤ N                   where limited
    keep     Σ_{(j,p) in which w's server on j stays there} x[j,p] ≥ 1  for every server of a workload to keep

Covering suffices, as in `patterns`: a subset of a feasible set is feasible, and disrupts no more on the same GPU, so a
plan that covers too much is trimmed. A workload that gets more servers than it had must have some that arrive, which
are no moves: growth_k is their number. With a price of a move, price and disruption are one objective, and there is no
budget. Where `keep` or `moves` is asked for, the least cost is found by the same program first.

*Lower bounds.* On the cost, that of `solve` stays valid: every row beside it only forbids plans. On the disruption:

1. If the columns are all that there are (every feasible set of every type, for every running GPU that shares a class
   with it; a GPU that shares none is as good as fresh) with the least disruption of each proven, the program is exact,
   and so is HiGHS's dual bound on it. Within a class of several workloads growth_k is taken as large as it can be,
   which only lowers the objective.
2. In any case: let L_j be the least weight, over subsets of GPU j's servers that stay on it, of what changes for them
   and of moves of the others, and M_j the weight of moving all. Every plan either keeps GPU j as one of its own, and
   then disrupts at least L_j of j's servers (a larger set on j only disrupts more: the model is monotone), or does
   not, and moves all of them. Servers are of one GPU each, so the sum over the GPUs is a bound; those kept must be
   within budget and counts. A workload that may end with fewer servers than it had may drop some without a move: as
   many moves are given back. The least sum is a knapsack, `_standing_bound`.

Both hold for plans within the limits of `patterns`, as its bound on the cost does.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.clock import Clock
from igniter_opt.base.stop import StopRequest
from igniter_opt.data.migration import DisruptionWeights
from igniter_opt.formulations.columns.standing import Column, StandingColumns
from igniter_opt.formulations.highs import Columns, integer_program, run_mip
from igniter_opt.packing.items import Catalogue
from igniter_opt.packing.plans import Pattern
from igniter_opt.packing.running import RunningGpu, Takeover, Takeovers
from igniter_opt.packing.sets import INFEASIBLE
from igniter_opt.problem.bounds import price_grid
from igniter_opt.problem.costs import common_step
from igniter_opt.problem.draft import DraftGpu

# Ways in which servers of a GPU may stay; with more nothing is proven of it.
_MOST_SUBSETS = 4_096
# By which a bound from HiGHS may exceed the true one: its tolerances, relative and absolute.
_GUARD = 1e-6


@dataclass(frozen=True)
class ReplanLimits:
    """What a new plan must keep to, beside the problem.

    Attributes
    ----------
    keep
        Workloads none of whose servers may leave its GPU.
    most_moves
        How many servers may move at most; None for any number.
    move_price
        What a disruption of weight 1 may cost per hour; None where cost comes first.
    """

    keep: frozenset[int] = frozenset()
    most_moves: int | None = None
    move_price: float | None = None


class LeastDisruption:
    """One run of the formulation.

    Parameters
    ----------
    known
        The items of the problem; all models must be monotone.
    running
        What runs, GPU by GPU, of types that the problem has.
    before
        How many servers every workload has, on GPUs of whatever type.
    plans
        Plans whose patterns are to be among the columns.
    clock
        Ends the search.
    """

    def __init__(
        self,
        known: Catalogue,
        running: Sequence[RunningGpu],
        before: Mapping[int, int],
        weights: DisruptionWeights,
        limits: ReplanLimits,
        plans: Sequence[Sequence[DraftGpu]],
        *,
        clock: Clock,
        seed: int,
        stop: StopRequest,
    ) -> None:
        self.known, self.running, self.before, self.weights, self.limits = known, running, before, weights, limits
        self.clock, self.seed, self.stop = clock, seed, stop
        self.grid = price_grid(known.problem)
        self.takeovers = Takeovers(known, running, weights, limits.keep)
        generated = StandingColumns(self.takeovers, before, plans, clock)
        self.columns, self.complete = generated.columns, generated.complete

    # ---- the program ----------------------------------------------------------------------------------

    def least_cost(self) -> int | None:
        """Return the least cost, in steps of the price grid, of a plan within the limits; None if none is found."""
        found, _ = self._solved(
            [float(self._units(entry)) for entry in self.columns], 0.0, None, self.limits.most_moves
        )
        return None if found is None else sum(map(self._units, found))

    def run(self, budget: int | None, most_moves: int | None = None) -> tuple[list[Column] | None, float]:
        """Return the least disruptive plan within a budget (steps of the price grid), and a bound on the disruption.

        With a price of a move the budget is not looked at, and nothing is proven of the disruption alone.

        Parameters
        ----------
        most_moves
            A further limit on the moves.
        """
        price = self.limits.move_price
        most = self.limits.most_moves if most_moves is None else most_moves
        weights = [entry.takeover.disruption for entry in self.columns]
        if price is not None:
            step = float(self.grid.step)
            costs = [step * self._units(entry) for entry in self.columns]
            both = [cost + price * weight for cost, weight in zip(costs, weights, strict=True)]
            return self._solved(both, price * self.weights.move, None, most)[0], 0.0
        found, bound = self._solved(weights, self.weights.move, budget, most)
        standing = self._standing_bound(budget)
        if not self.complete:
            return found, standing
        # What is not proven to be the least of a column's is given back for every GPU.
        slack = [0.0] * len(self.running)
        for entry in self.columns:
            if entry.gpu is not None:
                slack[entry.gpu] = max(slack[entry.gpu], entry.takeover.disruption - entry.takeover.least)
        return found, max(standing, self._rounded(bound - sum(slack)))

    def _units(self, column: Column) -> int:
        return self.grid.units[column.pattern[0]]

    def _rounded(self, bound: float) -> float:
        """Return a bound after giving back what rounding may have added, raised to the next sum of weights."""
        if not np.isfinite(bound):
            return 0.0
        given = max(0.0, bound - _GUARD * max(1.0, abs(bound)))
        if not any(self._each_weight):
            return given
        step = float(common_step([weight for weight in self._each_weight if weight]))
        return max(given, round(math.ceil(given / step - 1e-9) * step, 9))

    @property
    def _each_weight(self) -> tuple[float, float, float]:
        return self.weights.move, self.weights.restart, self.weights.resize

    def _solved(
        self, cost: list[float], growth: float, budget: int | None, most_moves: int | None
    ) -> tuple[list[Column] | None, float]:
        """Solve the program; `growth` is the weight of one more server that is no move."""
        columns, number = self.columns, len(self.columns)
        choices = [(k, item) for k, items in enumerate(self.known.class_items) for item in items]
        place = {item: position for position, (_, item) in enumerate(choices, number)}
        rows = _Rows(number + len(choices))
        fixed, grown = self._growth(choices)
        cover = [rows.new(0.0, np.inf) for _ in self.known.items]
        for position, column in enumerate(columns):
            for item, times in Counter(column.pattern[1]).items():
                rows.put(cover[item], position, float(times))
        for item, entry in enumerate(self.known.items):
            rows.put(cover[item], place[item], -float(entry.replicas))
        for k, wanted in enumerate(self.known.demand):
            rows.sum_of([place[item] for other, item in choices if other == k], float(wanted), float(wanted))
        for gpu in range(len(self.running)):
            rows.sum_of([c for c, column in enumerate(columns) if column.gpu == gpu], -np.inf, 1.0)
        self._count_rows(rows, [column.pattern[0] for column in columns])
        if budget is not None:
            row = rows.new(-np.inf, float(budget))
            for position, column in enumerate(columns):
                rows.put(row, position, float(self._units(column)))
        if most_moves is not None:
            row = rows.new(-np.inf, float(most_moves + fixed))
            for position, column in enumerate(columns):
                rows.put(row, position, float(column.takeover.arrivals))
            for position, more in enumerate(grown, number):
                rows.put(row, position, -float(more))
        for gpu, server in self._kept():
            rows.sum_of([c for c, e in enumerate(columns) if e.gpu == gpu and server in e.takeover.taken], 1.0, np.inf)
        objective = np.array([*cost, *(-growth * more for more in grown)])
        lp = integer_program(objective, *rows.program())
        result = run_mip(lp, time_limit=self.clock.left(), seed=self.seed, stop=self.stop, probing=False)
        bound = result.bound - growth * fixed if np.isfinite(result.bound) else -np.inf
        if result.values is None:
            return None, bound
        used = [round(result.values[position]) for position in range(number)]
        taken = [column for column, times in zip(columns, used, strict=True) for _ in range(times)]
        needed = Counter(
            {item: round(result.values[place[item]]) * self.known.items[item].replicas for _, item in choices}
        )
        return self._trimmed(taken, needed), bound

    def _trimmed(self, columns: Sequence[Column], needed: Counter[int]) -> list[Column] | None:
        """Drop what is more than needed, of that first what arrives; None where a set is not found feasible then."""
        much = Counter(item for column in columns for item in column.pattern[1]) - needed
        for stays in (False, True):
            trimmed = []
            for column in columns:
                members = []
                for item, server in zip(column.pattern[1], column.takeover.taken, strict=True):
                    if much[item] > 0 and (server >= 0) == stays:
                        much[item] -= 1
                    else:
                        members.append(item)
                pattern = column.pattern[0], tuple(members)
                whole = column if pattern == column.pattern else self._column(column.gpu, pattern)
                if whole is None:
                    return None
                trimmed.append(whole)
            columns = [column for column in trimmed if column.pattern[1]]
        return [
            column._replace(takeover=self.takeovers.with_least_share(column.pattern, column.takeover))
            if column.gpu is None
            else column
            for column in columns
        ]

    def _column(self, gpu: int | None, pattern: Pattern) -> Column | None:
        """Return the column of a set, an empty one too."""
        if not pattern[1]:
            return Column(gpu, pattern, Takeover(0.0, 0.0, 0, (), ()))
        takeover = self.takeovers.fresh(pattern) if gpu is None else self.takeovers.on(gpu, pattern)
        return None if takeover is None else Column(gpu, pattern, takeover)

    def _count_rows(self, rows: "_Rows", types: Sequence[int]) -> None:
        for gpu_type, count in enumerate(self.grid.counts):
            if count is not None:
                rows.sum_of([c for c, own in enumerate(types) if own == gpu_type], -np.inf, float(count))

    def _growth(self, choices: Sequence[tuple[int, int]]) -> tuple[int, list[int]]:
        """Return how many servers more there will be, in all and for every choice of a replica count."""
        fixed, grown = 0, []
        for number, item in choices:
            entry, replicas = self.known.classes[number], self.known.items[item].replicas
            have = [self.before.get(workload, 0) for workload in entry.workloads]
            if len(entry.replica_counts) == 1:
                fixed += sum(max(0, replicas - count) for count in have)
                grown.append(0)
            else:
                grown.append(max(0, replicas - min(have)))
        return fixed, grown

    def _kept(self) -> Iterator[tuple[int, int]]:
        for number, gpu in enumerate(self.running):
            for position, server in enumerate(gpu.servers):
                if server.workload in self.limits.keep:
                    yield number, position

    # ---- the bound from what stands --------------------------------------------------------------------

    def _standing_bound(self, budget: int | None) -> float:
        """Return a bound on the disruption from what can stay on every running GPU (see the derivation, 2)."""
        if not self.running:
            return 0.0
        move = self.weights.move
        stays = np.array([self._least_staying(number) for number in range(len(self.running))])
        leaves = np.array([move * len(gpu.servers) for gpu in self.running])
        rows = _Rows(len(self.running))
        for number in range(len(self.running)):
            rows.sum_of([number], -np.inf, 1.0)
        self._count_rows(rows, [gpu.gpu_type for gpu in self.running])
        if budget is not None:
            row = rows.new(-np.inf, float(budget))
            for number, gpu in enumerate(self.running):
                rows.put(row, number, float(self.grid.units[gpu.gpu_type]))
        lp = integer_program(stays - leaves, *rows.program())
        result = run_mip(lp, time_limit=max(1.0, self.clock.left()), stop=self.stop)
        if not np.isfinite(result.bound):
            return 0.0
        fewest = {w: min(entry.replica_counts, default=1) for entry in self.known.classes for w in entry.workloads}
        fewer = sum(max(0, have - fewest[workload]) for workload, have in self.before.items() if workload in fewest)
        return self._rounded(float(leaves.sum()) + result.bound - move * fewer)

    def _least_staying(self, number: int) -> float:
        """Return the least weight of what changes and what leaves on a GPU that is kept; 0 where there is too much."""
        gpu, move = self.running[number], self.weights.move
        options = [(-1, *self.known.class_items[self.takeovers.class_of[s.workload]]) for s in gpu.servers]
        if np.prod([float(len(entry)) for entry in options]) > _MOST_SUBSETS:
            return 0.0
        best = move * len(gpu.servers)
        seen = set()
        for choice in product(*options):
            members = tuple(sorted(item for item in choice if item >= 0))
            if not members or members in seen:
                continue
            seen.add(members)
            found = self.takeovers.on(number, (gpu.gpu_type, members))
            leaving = move * (len(gpu.servers) - len(members))
            if found is not None:
                best = min(best, found.least + leaving)
            elif self.takeovers.answer(gpu.gpu_type, members)[0] != INFEASIBLE:
                best = min(best, leaving)
        return best


class _Rows:
    """Rows of an integer program as they come."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lower: list[float] = []
        self.upper: list[float] = []
        self.entries: list[tuple[int, int, float]] = []

    def new(self, lower: float, upper: float) -> int:
        self.lower.append(lower)
        self.upper.append(upper)
        return len(self.lower) - 1

    def put(self, row: int, column: int, value: float) -> None:
        if value:
            self.entries.append((row, column, value))

    def sum_of(self, columns: Collection[int], lower: float, upper: float) -> None:
        row = self.new(lower, upper)
        for column in columns:
            self.put(row, column, 1.0)

    def program(self) -> tuple[Columns, FloatArray, FloatArray]:
        entries = sorted(self.entries, key=lambda entry: (entry[1], entry[0]))
        rows, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
        sizes = np.bincount(np.array(columns, dtype=np.int64), minlength=self.columns)
        start = np.concatenate([[0], np.cumsum(sizes)])
        matrix = Columns(len(self.lower), start, np.array(rows, dtype=np.int64), np.array(values, dtype=np.float64))
        return matrix, np.array(self.lower), np.array(self.upper)

"""Pricing: find feasible sets worth more than a goal, or prove that there are none."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.threads import threads
from igniter_opt.packing.cell_search import close_cell
from igniter_opt.packing.cells import NOTHING
from igniter_opt.packing.items import Catalogue
from igniter_opt.packing.partition import Partition
from igniter_opt.packing.plans import TRIALS, Pattern, Placer
from igniter_opt.packing.sets import new_members

# Partial sets that the search of one cell looks at before the cell is split instead: after some splits twice as many
# with every further one, since cells then no longer say more about large sets, and only the search does. As many as
# there are where the cell is too small to split and there is no budget.
_NODES, _FIRST_DOUBLED, _MOST_DOUBLINGS = 3_000, 6, 8
_NODES_LAST = 1_000_000
# Subgradient steps before a cell is searched.
_STEPS_SEARCHED = 20
_NO_BUDGET = 1 << 40
# Partial sets looked at per cell when all sets are listed.
_NODES_ENUMERATED = 2_000_000
# A cell is near the goal if its last bound reached this part of it.
_NEAR = 0.98
# Cells are split down to these fractions of the largest cache use and power.
_LEAST_SIDE = 1.0 / 1024
# Sets that the search of one cell returns at most.
_SETS_PER_CELL = 8
# Cells that are searched at once, on as many threads as there are: the same ones on every machine.
_AT_ONCE = 4
# Memory for the cells' tables in bytes, and bytes per item and cell.
_TABLE_BYTES, _BYTES_PER_ITEM = 1_200_000_000, 32


@dataclass
class Priced:
    """What pricing found.

    Attributes
    ----------
    patterns
        Feasible sets worth more than their type's goal.
    worst
        A valid upper bound on the worth of any feasible set, per GPU type.
    finished
        Whether every cell was searched, or split until it could be (else sets may be missing, and `worst` is
        higher than need be).
    """

    patterns: dict[Pattern, float] = field(default_factory=dict)
    worst: FloatArray = field(default_factory=lambda: np.zeros(0))
    finished: bool = True


class _Searched(NamedTuple):
    """What the search of a cell found: sets with their worth; a bound for the cell; partial sets looked at."""

    patterns: dict[Pattern, float]
    bound: float
    complete: bool
    last: bool
    nodes: int


class Pricer:
    """Pricing over interference cells that stay refined from one call to the next.

    Parameters
    ----------
    check
        Called every now and then; may raise to give up.
    """

    def __init__(self, catalogue: Catalogue, check: Callable[[], None] = lambda: None) -> None:
        self.catalogue, self.packed, self.check = catalogue, catalogue.packed, check
        self.partition = Partition(catalogue)
        self.most_cells = max(2_000, _TABLE_BYTES // (_BYTES_PER_ITEM * max(1, len(catalogue.items))))
        most = int(self.packed.cards["most"].max()) + 1
        self._most = most
        self._work = [
            (new_members(most), np.zeros((_SETS_PER_CELL, most), dtype=np.int64), np.zeros(_SETS_PER_CELL))
            for _ in range(_AT_ONCE)
        ]
        self.placer = Placer(catalogue)
        self.nodes = 0

    def price(
        self,
        value: FloatArray,
        level_price: FloatArray,
        goal: FloatArray,
        *,
        enough: int = 1 << 60,
        budget: int = _NO_BUDGET,
    ) -> Priced:
        """Search for sets worth more than `goal`.

        Parameters
        ----------
        value
            Value of every item, at least 0.
        level_price
            Price of a share level on each GPU type.
        goal
            Worth to exceed on each GPU type.
        enough
            Stop after about this many sets.
        budget
            Cells to split at most; less the longer they are searched.
        """
        partition, priced = self.partition, Priced()
        partition.sweep(value, level_price, goal)
        rows = partition.alive
        found, goals = partition.bounds(rows), partition.goals(rows, goal)
        bounds = dict(zip(rows.tolist(), np.where(found > goals, found, goals).tolist(), strict=True))
        excess, incomplete = found / goals, False
        open_rows = rows[np.argsort(excess)][np.sort(excess) > 1.0].tolist()
        search = partial(self._search, value, level_price, goal, budgeted=budget < _NO_BUDGET)
        with threads() as workers:
            while open_rows and priced.finished:
                if len(priced.patterns) >= enough:
                    priced.finished = False
                    break
                self.check()
                now = [open_rows.pop() for _ in range(min(_AT_ONCE, len(open_rows)))]
                for row, searched in zip(now, list(workers.map(search, now, range(len(now)))), strict=True):
                    self.nodes += searched.nodes
                    priced.patterns |= searched.patterns
                    bounds[row] = min(bounds[row], searched.bound)
                    if searched.complete:
                        continue
                    if searched.patterns or searched.last:
                        incomplete = True
                    elif budget <= 0:
                        priced.finished = False
                    else:
                        budget -= max(1, searched.nodes // _NODES)
                        open_rows += self._halves(row, value, level_price, goal, bounds)
        priced.finished = priced.finished and not incomplete
        priced.worst = np.full(len(goal), NOTHING)
        for row, bound in bounds.items():
            gpu = partition.cells[row].gpu
            priced.worst[gpu] = max(priced.worst[gpu], bound)
        return priced

    def enumerate(self, value: FloatArray, goal: FloatArray, most: int) -> list[Pattern] | None:
        """List every set worth more than `goal` that is not proven infeasible; None if there are more than `most`.

        A set is found in every cell that could hold it, at least in the one that does; those that `sets.place` says
        nothing about make the list incomplete, hence None.
        """
        partition, types = self.partition, len(goal)
        partition.sweep(value, np.zeros(types), goal)
        rows = partition.alive
        rows = rows[partition.bounds(rows) > partition.goals(rows, goal)]
        found = np.zeros((most + 1, self._most), dtype=np.int64)
        worth = np.zeros(most + 1)
        sets: set[Pattern] = set()
        for row in rows.tolist():
            self.check()
            cell = partition.cells[row]
            gpu, count = int(cell.gpu), int(cell.count)
            number, nodes, complete, open_worth = close_cell(
                self.packed,
                partition.cells,
                row,
                partition.least,
                value,
                0.0,
                goal[gpu],
                _NODES_ENUMERATED,
                False,
                TRIALS,
                self._work[0][0],
                found,
                worth,
            )
            self.nodes += nodes
            if not complete or open_worth > NOTHING:
                return None
            sets |= {(gpu, tuple(sorted(members))) for members in found[:number, :count].tolist()}
            if len(sets) > most:
                return None
        return sorted(sets)

    def explore(
        self, value: FloatArray, level_price: FloatArray, goal: FloatArray, *, splits: int, everywhere: bool
    ) -> Priced:
        """Try only the sets that attain the cells' bounds, and split cells whose set is infeasible.

        Parameters
        ----------
        splits
            Cells to split at most, those of highest bounds first.
        everywhere
            Whether all cells are bounded; else only those whose last bound was near the goal, and `Priced.worst`
            is infinite.
        """
        partition, priced = self.partition, Priced(finished=False)
        rows = partition.alive
        if not everywhere:
            rows = rows[partition.bounds(rows) > _NEAR * partition.goals(rows, goal)]
        partition.sweep(value, level_price, goal, rows=rows)
        priced.worst = partition.worst() if everywhere else np.full(len(goal), np.inf)
        rows = rows[partition.bounds(rows) > partition.goals(rows, goal)]
        tried: set[Pattern] = set()
        for row in rows[np.argsort(-partition.bounds(rows), kind="stable")].tolist():
            pattern = partition.set_of(row)
            gpu, members = pattern
            if pattern in priced.patterns:
                continue
            if pattern not in tried and self.placer.feasible(pattern):
                worth = float(value[list(members)].sum())
                if worth > goal[gpu]:
                    priced.patterns[pattern] = worth
                continue
            tried.add(pattern)
            if splits > 0 and len(partition.alive_rows) < self.most_cells:
                splits -= 1
                partition.split(row)
        return priced

    def _halves(
        self, row: int, value: FloatArray, level_price: FloatArray, goal: FloatArray, bounds: dict[int, float]
    ) -> list[int]:
        """Split a cell; take the halves' bounds in place of its own, and return those above the goal."""
        partition = self.partition
        children = partition.split(row)
        del bounds[row]
        fresh = np.array(children, dtype=np.int64)
        partition.sweep(value, level_price, goal, rows=fresh)
        limits = partition.goals(fresh, goal)
        found = partition.bounds(fresh)
        bounds.update(zip(children, np.maximum(limits, found).tolist(), strict=True))
        return [child for child, bound, limit in zip(children, found, limits, strict=True) if bound > limit]

    def _search(
        self, value: FloatArray, level_price: FloatArray, goal: FloatArray, row: int, place: int, *, budgeted: bool
    ) -> _Searched:
        """Search one cell, in a work space of one's own; where that is not complete, it is to be split."""
        partition = self.partition
        cell = partition.cells[row]
        gpu, count = int(cell.gpu), int(cell.count)
        card, least = self.packed.cards[gpu], float(goal[gpu])
        partition.sweep(value, level_price, goal, rows=np.array([row]), steps=_STEPS_SEARCHED)
        if cell.bound <= least:
            return _Searched({}, least, complete=True, last=False, nodes=0)
        small = (
            cell.cache_high - cell.cache_low <= _LEAST_SIDE * card.cache_limit
            and cell.power_high - cell.power_low <= _LEAST_SIDE * card.power_limit_w
            and cell.traffic_high - cell.traffic_low <= _LEAST_SIDE * card.traffic_limit + 2e-9
        )
        last = small or len(partition.alive_rows) >= self.most_cells
        nodes = _NODES << min(max(0, int(cell.depth) - _FIRST_DOUBLED), _MOST_DOUBLINGS)
        if last:
            nodes = _NODES_LAST if budgeted else 1 << 60
        members, found, worth = self._work[place]
        number, looked, complete, open_worth = close_cell(
            self.packed,
            partition.cells,
            row,
            partition.least,
            value,
            level_price[gpu],
            least,
            nodes,
            nodes > _NODES,
            TRIALS,
            members,
            found,
            worth,
        )
        patterns = {
            (gpu, tuple(sorted(own))): most
            for own, most in zip(found[:number, :count].tolist(), worth[:number].tolist(), strict=True)
        }
        bound = max([least, open_worth, *patterns.values()]) if complete else float(cell.bound)
        return _Searched(patterns, bound, complete=bool(complete), last=last, nodes=int(looked))

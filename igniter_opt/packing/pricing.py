"""Pricing: find feasible sets worth more than a goal, or prove that there are none."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.packing.cell_search import close_cell
from igniter_opt.packing.cells import NOTHING
from igniter_opt.packing.items import Catalogue
from igniter_opt.packing.partition import Partition
from igniter_opt.packing.plans import TRIALS, Pattern, Placer
from igniter_opt.packing.sets import new_members

# Partial sets that the search of one cell looks at before the cell is split instead: twice as many after every split,
# since beyond some splits cells no longer say more about large sets, and only the search does. As many as there are
# where the cell is too small to split and there is no budget.
_NODES, _MOST_DOUBLINGS = 3_000, 10
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
# Memory for the cells' tables in bytes, and bytes per item and cell.
_TABLE_BYTES, _BYTES_PER_ITEM = 1_200_000_000, 24


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
        self._found = np.zeros((_SETS_PER_CELL, most), dtype=np.int64)
        self._worth = np.zeros(_SETS_PER_CELL)
        self._members = new_members(most)
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
            Cells to split at most.
        """
        partition, priced = self.partition, Priced()
        partition.sweep(value, level_price, goal)
        rows = partition.alive
        found, goals = partition.bounds(rows), partition.goals(rows, goal)
        bounds = dict(zip(rows.tolist(), np.where(found > goals, found, goals).tolist(), strict=True))
        excess = found / goals
        open_rows = rows[np.argsort(excess)][np.sort(excess) > 1.0].tolist()
        while open_rows:
            if len(priced.patterns) >= enough:
                priced.finished = False
                break
            self.check()
            row = open_rows.pop()
            if self._search(row, value, level_price, goal, priced, bounds, budgeted=budget < _NO_BUDGET):
                continue
            if budget <= 0:
                priced.finished = False
                break
            budget -= 1
            children = partition.split(row)
            del bounds[row]
            if children:
                fresh = np.array(children, dtype=np.int64)
                partition.sweep(value, level_price, goal, rows=fresh)
                for child, bound in zip(children, partition.bounds(fresh).tolist(), strict=True):
                    limit = float(goal[partition.cells[child].gpu])
                    bounds[child] = max(limit, bound)
                    if bound > limit:
                        open_rows.append(child)
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
        found = np.zeros((most + 1, self._found.shape[1]), dtype=np.int64)
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
                self._members,
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

    def _search(
        self,
        row: int,
        value: FloatArray,
        level_price: FloatArray,
        goal: FloatArray,
        priced: Priced,
        bounds: dict[int, float],
        *,
        budgeted: bool,
    ) -> bool:
        """Search one cell; False if it should be split instead."""
        partition = self.partition
        cell = partition.cells[row]
        gpu, count = int(cell.gpu), int(cell.count)
        card = self.packed.cards[gpu]
        small = (
            cell.cache_high - cell.cache_low <= _LEAST_SIDE * card.cache_limit
            and cell.power_high - cell.power_low <= _LEAST_SIDE * card.power_limit_w
            and cell.traffic_high - cell.traffic_low <= _LEAST_SIDE * card.traffic_limit + 2e-9
        )
        last = small or len(partition.alive_rows) >= self.most_cells
        partition.sweep(value, level_price, goal, rows=np.array([row]), steps=_STEPS_SEARCHED)
        if cell.bound <= goal[gpu]:
            bounds[row] = float(goal[gpu])
            return True
        nodes = _NODES << min(max(0, int(cell.depth) - 6), _MOST_DOUBLINGS)
        bounds[row] = min(bounds[row], float(cell.bound))
        number, looked, complete, open_worth = close_cell(
            self.packed,
            partition.cells,
            row,
            partition.least,
            value,
            level_price[gpu],
            goal[gpu],
            (_NODES_LAST if budgeted else 1 << 60) if last else nodes,
            last or nodes > _NODES,
            TRIALS,
            self._members,
            self._found,
            self._worth,
        )
        self.nodes += looked
        for k in range(number):
            members = tuple(sorted(self._found[k, :count].tolist()))
            priced.patterns[gpu, members] = float(self._worth[k])
        if complete:
            reached = max([float(goal[gpu]), open_worth, *self._worth[:number].tolist()])
            bounds[row] = min(bounds[row], reached)
            return True
        if number or last:
            priced.finished = False
            return True
        return False

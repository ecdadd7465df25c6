"""The interference cells in use (`cells`): a partition of all feasible sets, refined where it matters."""

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray, RecordArray
from igniter_opt.base.threads import threads
from igniter_opt.packing.cells import AMOUNTS, BOX, CELL, NOTHING, bound_cells, fill_cell, split_axis
from igniter_opt.packing.items import Catalogue
from igniter_opt.physics.rows import power_at_clock

SUBGRADIENT_STEPS = 2
# From so many cells on they are bounded in parts, on as many threads as there are.
_SHARED_FROM, _PARTS = 64, 32


class Partition:
    """Cells that cover every feasible set on every GPU type.

    Attributes
    ----------
    alive
        Rows of the cells in use.
    cells
        ``CELL``, shape (rows,).
    least
        What each item takes at least in each cell (`fill_cell`).
    members
        The set that attains a cell's bound, shape (rows, most items); the first ``count`` entries count.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.packed = catalogue.packed
        self._most = int(self.packed.cards["most"].max())
        self._capacity = 0
        self._number = 0
        self._grow(256)
        self.alive_rows: list[int] = []
        for gpu, card in enumerate(self.packed.cards):
            for count in range(1, int(card.most) + 1):
                self._root(gpu, count)

    def _root(self, gpu: int, count: int) -> None:
        """Cover all sets of a size: one cell below the power at which the clock falls, one from there on."""
        card = self.packed.cards[gpu]
        idle, most = card.idle_power_w, card.power_limit_w
        cap = most
        if card.clock_slope < 0:
            cap = power_at_clock(card.clock_intercept, card.clock_slope, 1.0)
            cap = float(np.clip(cap, idle, most))
        cache = card.cache_limit * (1 + 1e-9) + 1e-9
        top = most * (1 + 1e-9) + 1e-9
        traffic = card.traffic_limit * (1 + 1e-9) + 1e-9
        if cap < most:
            self._new(gpu, count, (0.0, cache, cap, top, 0.0, traffic))
        self._new(gpu, count, (0.0, cache, 0.0, cap if cap < most else top, 0.0, traffic))

    def _grow(self, capacity: int) -> None:
        arrays = (
            np.zeros(capacity, dtype=CELL),
            np.zeros((capacity, len(self.catalogue.items), AMOUNTS)),
            np.zeros((capacity, self._most + 1), dtype=np.int64),
        )
        if self._capacity:
            for grown, array in zip(arrays, (self.cells, self.least, self.members), strict=True):
                grown[: self._capacity] = array
        self.cells, self.least, self.members = arrays
        self._free = list(range(capacity - 1, self._capacity - 1, -1))
        self._capacity = capacity

    cells: RecordArray
    least: FloatArray
    members: IntArray

    def _new(self, gpu: int, count: int, box: tuple[float, ...], parent: int = -1) -> None:
        if not self._free:
            self._grow(2 * self._capacity)
        row = self._free[-1]
        depth, prices = 0, (0.0, 0.0, 0.0)
        if parent >= 0:
            above = self.cells[parent]
            depth = int(above.depth) + 1
            prices = (above.cache_price, above.power_price, above.traffic_price)
        self.cells[row] = (gpu, count, depth, *box, *prices, np.inf)
        if not fill_cell(self.packed, self.cells, row, self.least):
            return
        self._free.pop()
        self.alive_rows.append(row)

    @property
    def alive(self) -> IntArray:
        """Rows of the cells in use."""
        return np.array(self.alive_rows, dtype=np.int64)

    def sweep(
        self,
        value: FloatArray,
        level_price: FloatArray,
        goal: FloatArray,
        rows: IntArray | None = None,
        steps: int = SUBGRADIENT_STEPS,
    ) -> None:
        """Bound cells (all by default) for item values, prices per share level and goals per GPU type."""
        rows = self.alive if rows is None else rows

        def bound(some: IntArray) -> None:
            bound_cells(self.packed, self.cells, some, self.least, self.members, value, level_price, goal, steps)

        if len(rows) < _SHARED_FROM:
            bound(rows)
            return
        # Every cell is bounded by itself.
        with threads() as workers:
            list(workers.map(bound, np.array_split(rows, _PARTS)))

    def bounds(self, rows: IntArray) -> FloatArray:
        """Bounds of some cells from the last `sweep`."""
        return np.asarray(self.cells["bound"][rows])

    def goals(self, rows: IntArray, goal: FloatArray) -> FloatArray:
        """Goal of each of some cells."""
        return np.asarray(goal[self.cells["gpu"][rows]])

    def worst(self) -> FloatArray:
        """Largest bound of each GPU type's cells (minus infinity without cells)."""
        rows = self.alive
        worst = np.full(len(self.packed.cards), -np.inf)
        np.maximum.at(worst, self.cells["gpu"][rows], self.bounds(rows))
        return np.where(worst <= NOTHING, -np.inf, worst)

    def set_of(self, row: int) -> tuple[int, tuple[int, ...]]:
        """GPU type and set that attain a cell's bound."""
        cell = self.cells[row]
        return int(cell.gpu), tuple(sorted(self.members[row, : cell.count].tolist()))

    def split(self, row: int) -> list[int]:
        """Replace a cell by its halves; return their rows."""
        cell = self.cells[row]
        gpu, count = int(cell.gpu), int(cell.count)
        box = [float(cell[name]) for name in BOX]
        before = len(self.alive_rows)
        low = 2 * split_axis(self.packed, self.cells, row, self.members)
        middle = (box[low] + box[low + 1]) / 2
        for side in (low + 1, low):
            half = box.copy()
            half[side] = middle
            self._new(gpu, count, tuple(half), parent=row)
        self.alive_rows.remove(row)
        self._free.append(row)
        return self.alive_rows[before - 1 :]

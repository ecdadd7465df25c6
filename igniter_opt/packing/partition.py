"""The interference cells in use (`cells`): a partition of all feasible sets, refined where it matters."""

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.packing.cells import NOTHING, fill_cell, split_axis, sweep
from igniter_opt.packing.items import Catalogue
from igniter_opt.physics.rows import power_at_clock

SUBGRADIENT_STEPS = 2


class Partition:
    """Cells that cover every feasible set on every GPU type.

    Attributes
    ----------
    alive
        Rows of the cells in use.
    bound
        Each cell's bound from the last `sweep`, shape (rows,).
    members
        The set that attains it, shape (rows, most items); the first ``count[row]`` entries count.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.packed = catalogue.packed
        self._most = int(self.packed.most.max())
        self._capacity = 0
        self._number = 0
        self._grow(256)
        self.alive_rows: list[int] = []
        for gpu in range(len(self.packed.units)):
            for count in range(1, int(self.packed.most[gpu]) + 1):
                self._root(gpu, count)

    def _root(self, gpu: int, count: int) -> None:
        """Cover all sets of a size: one cell below the power at which the clock falls, one from there on."""
        packed = self.packed
        idle, most = packed.idle_power_w[gpu], packed.power_limit_w[gpu]
        cap = most
        if packed.clock_slope[gpu] < 0:
            cap = power_at_clock(packed.clock_intercept[gpu], packed.clock_slope[gpu], 1.0)
            cap = float(np.clip(cap, idle, most))
        cache = packed.cache_limit[gpu] * (1 + 1e-9) + 1e-9
        top = most * (1 + 1e-9) + 1e-9
        traffic = packed.traffic_limit[gpu] * (1 + 1e-9) + 1e-9
        if cap < most:
            self._new(gpu, count, (0.0, cache, cap, top, 0.0, traffic))
        self._new(gpu, count, (0.0, cache, 0.0, cap if cap < most else top, 0.0, traffic))

    def _grow(self, capacity: int) -> None:
        items = len(self.catalogue.items)
        shapes = {
            "gpu": ((), np.int64),
            "count": ((), np.int64),
            "box": ((6,), np.float64),
            "weight": ((items,), np.int64),
            "cache": ((items,), np.float64),
            "power": ((items,), np.float64),
            "traffic": ((items,), np.float64),
            "multipliers": ((3,), np.float64),
            "members": ((self._most + 1,), np.int64),
            "bound": ((), np.float64),
        }
        for name, (shape, kind) in shapes.items():
            grown = np.zeros((capacity, *shape), dtype=kind)
            if self._capacity:
                grown[: self._capacity] = getattr(self, name)
            setattr(self, name, grown)
        self._free = list(range(capacity - 1, self._capacity - 1, -1))
        self._capacity = capacity

    gpu: IntArray
    count: IntArray
    box: FloatArray
    weight: IntArray
    cache: FloatArray
    power: FloatArray
    traffic: FloatArray
    multipliers: FloatArray
    members: IntArray
    bound: FloatArray

    def _new(self, gpu: int, count: int, box: tuple[float, ...], parent: int = -1) -> None:
        if not self._free:
            self._grow(2 * self._capacity)
        row = self._free[-1]
        self.gpu[row], self.count[row] = gpu, count
        self.box[row] = box
        least = (self.weight[row], self.cache[row], self.power[row], self.traffic[row])
        if not fill_cell(self.packed, gpu, count, self.box[row], *least):
            return
        self.multipliers[row] = self.multipliers[parent] if parent >= 0 else 0.0
        self.bound[row] = np.inf
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
        sweep(
            self.packed,
            self.gpu,
            self.count,
            self.box,
            self.weight,
            self.cache,
            self.power,
            self.traffic,
            self.alive if rows is None else rows,
            value,
            level_price,
            goal,
            steps,
            self.multipliers,
            self.members,
            self.bound,
        )

    def worst(self) -> FloatArray:
        """Largest bound of each GPU type's cells (minus infinity without cells)."""
        rows = self.alive
        worst = np.full(len(self.packed.units), -np.inf)
        np.maximum.at(worst, self.gpu[rows], self.bound[rows])
        return np.where(worst <= NOTHING, -np.inf, worst)

    def set_of(self, row: int) -> tuple[int, tuple[int, ...]]:
        """GPU type and set that attain a cell's bound."""
        return int(self.gpu[row]), tuple(sorted(self.members[row, : self.count[row]].tolist()))

    def split(self, row: int) -> list[int]:
        """Replace a cell by its halves; return their rows."""
        gpu, count = int(self.gpu[row]), int(self.count[row])
        box = self.box[row].tolist()
        before = len(self.alive_rows)
        low = 2 * split_axis(self.packed, gpu, count, self.box[row], self.members[row])
        middle = (box[low] + box[low + 1]) / 2
        for side in (low + 1, low):
            half = box.copy()
            half[side] = middle
            self._new(gpu, count, tuple(half), parent=row)
        self.alive_rows.remove(row)
        self._free.append(row)
        return self.alive_rows[before - 1 :]

"""The master of `patterns` with cards under MIG beside the others, and its lower bound (derivation in `mixed`)."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import highspy
import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.stop import StopRequest
from igniter_opt.formulations.columns.generation import Bound, ColumnGeneration
from igniter_opt.formulations.columns.master import Master, MasterSolution
from igniter_opt.formulations.highs import Columns, integer_program, run_mip
from igniter_opt.formulations.slice_program import SliceProgram
from igniter_opt.packing.items import Catalogue
from igniter_opt.packing.local_search import LocalSearch
from igniter_opt.packing.plans import Pattern
from igniter_opt.packing.pricing import Priced, Pricer
from igniter_opt.problem.costs import PriceGrid
from igniter_opt.problem.slices import CutGpu

# Cost of leaving one item uncovered, in prices of the dearest card.
_ARTIFICIAL = 10.0


class MixedChoice(NamedTuple):
    """A whole-number solution: patterns, workloads of every class of the catalogue served by them, cards under MIG."""

    patterns: list[Pattern]
    served: list[int]
    cards: list[CutGpu]


class MixedMaster(Master):
    """Rows of items, then those of `SliceProgram`, then counts of the types that are shared by MPS.

    Parameters
    ----------
    program
        The cards under MIG; its rows `cover` are of all classes.
    rows_of
        The class of the program of every class of the catalogue.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        prices: Sequence[float],
        counts: Sequence[int | None],
        program: SliceProgram,
        rows_of: Sequence[int],
    ) -> None:
        self.program, self.rows_of = program, rows_of
        self.slice_prices, self.cut_prices = np.zeros(len(program.supply)), np.zeros(0)
        super().__init__(catalogue, catalogue.demand, prices, counts, _ARTIFICIAL)

    def _rows(
        self,
        demand: Sequence[int],
        counts: Sequence[int | None],
        item_demand: Sequence[int] | None,
        budget: float | None,
    ) -> None:
        self.offset = len(self.catalogue.items)
        self.item_rows, self.budget_row, self.choices = np.arange(self.offset), -1, []
        lower = [0.0] * self.offset + self.program.lower
        upper = [highspy.kHighsInf] * self.offset + self.program.upper
        self.count_rows = {}
        for gpu_type, count in enumerate(counts):
            if count is not None:
                self.count_rows[gpu_type] = len(lower)
                lower.append(-highspy.kHighsInf)
                upper.append(float(count))
        empty = np.zeros(0, dtype=np.int32)
        self.solver.addRows(len(lower), np.array(lower), np.array(upper), 0, empty, empty, np.zeros(0))

    def _fixed_columns(self, artificial_cost: float | FloatArray) -> None:
        """Columns z of every item, artificial cover, and those of the program."""
        self.choice_items = list(range(len(self.catalogue.items)))
        for position, item in enumerate(self.catalogue.items):
            cover = self.offset + self.program.cover[self.rows_of[item.workload_class]]
            self._add(0.0, [position, cover], [-float(item.replicas), 1.0])
        self._add_artificial(artificial_cost)
        for column in self.program.columns:
            rows = sorted(column.entries)
            self._add(column.cost, [self.offset + row for row in rows], [column.entries[row] for row in rows])
        self.first_artificial = len(self.choice_items)
        self.first_slice = self.first_artificial + len(self.catalogue.items)
        self.first_pattern = self.first_slice + len(self.program.columns)

    def solve(self) -> MasterSolution:
        """Solve the linear program; keep the prices of slices, and of counted cards under MIG, too."""
        found = super().solve()
        duals = np.asarray(self.solver.getSolution().row_dual)
        self.slice_prices = np.maximum(0.0, duals[[self.offset + row for row in self.program.supply]])
        return found

    def whole(
        self,
        budget: float,
        price: Sequence[float],
        *,
        by_share: Callable[[Pattern], float] | None = None,
        time_limit: float,
        node_limit: int,
        seed: int,
        stop: StopRequest,
    ) -> tuple[MixedChoice | None, str, float]:
        """Solve in whole numbers within a budget: the choice, HiGHS's status, and its bound on the objective.

        Parameters
        ----------
        price
            Of a card of every shared type.
        by_share
            Total share of a pattern in percent; then the least total share is looked for, and not the least cost.
        """
        known = self.solver.getLp()
        items = len(self.catalogue.items)
        columns = np.array([*range(items), *range(self.first_slice, known.num_col_)])
        cost = np.array(known.col_cost_)[columns]
        matrix = Columns.of(known).select(columns)
        row = matrix.height
        starts, rows, values = [0], [], []
        for position in range(len(columns)):
            first, last = int(matrix.start[position]), int(matrix.start[position + 1])
            rows += matrix.row[first:last].tolist()
            values += matrix.value[first:last].tolist()
            if cost[position]:
                rows.append(row)
                values.append(float(cost[position]))
            starts.append(len(rows))
        if by_share is not None:
            shares = [column.share for column in self.program.columns]
            cost = np.array([*[0.0] * items, *shares, *(by_share(pattern) for pattern in self.patterns)])
        lp = integer_program(
            cost,
            Columns(row + 1, np.array(starts), np.array(rows), np.array(values, dtype=np.float64)),
            np.array([*known.row_lower_, -np.inf]),
            np.array([*known.row_upper_, budget * (1 + 1e-9)]),
        )
        result = run_mip(lp, time_limit=time_limit, node_limit=node_limit, seed=seed, stop=stop)
        if result.values is None:
            return None, result.status, result.bound
        used = [round(value) for value in result.values.values()]
        served = [0] * len(self.catalogue.classes)
        for item, times in zip(self.catalogue.items, used, strict=False):
            served[item.workload_class] += times
        slices = used[items : items + len(self.program.columns)]
        times_of = used[items + len(self.program.columns) :]
        patterns = [pattern for pattern, times in zip(self.patterns, times_of, strict=True) for _ in range(times)]
        return MixedChoice(patterns, served, self.program.cards(slices)), result.status, result.bound


class MixedColumns(ColumnGeneration):
    """Column generation for the shared types, in whose master slices compete for the workloads.

    Parameters
    ----------
    grid
        Prices of the shared types, in steps of the grid of all types.
    scale
        Price of the dearest card of all types, in steps.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        grid: PriceGrid,
        scale: int,
        program: SliceProgram,
        rows_of: Sequence[int],
        search: LocalSearch,
        pricer: Pricer,
        *,
        seed: int,
        check: Callable[[], None],
        on_plan: Callable[[list[Pattern]], None],
        on_iteration: Callable[[ColumnGeneration], None],
    ) -> None:
        super().__init__(
            catalogue, grid, search, pricer, seed=seed, check=check, on_plan=on_plan, on_iteration=on_iteration
        )
        self.scale = scale
        self.prices = [unit / scale for unit in grid.units]
        self.program, self.rows_of = program, rows_of
        self.master: MixedMaster = MixedMaster(catalogue, self.prices, self.counts, program, rows_of)
        geometries = [column for column in program.columns if column.meaning[0] == "geometry"]
        types = [program.problem.geometries[int(str(column.meaning[1]))][0] for column in geometries]
        supply = {row: kind for kind, row in enumerate(program.supply)}
        # Per geometry its type, its price, and how many slices of every kind it yields.
        self._types, self._costs = np.array(types), np.array([column.cost for column in geometries])
        self._yields = np.zeros((len(geometries), len(program.supply)))
        for number, column in enumerate(geometries):
            for row, value in column.entries.items():
                if row in supply:
                    self._yields[number, supply[row]] = value
        self._bundles = self._bundles_by_class(supply)

    def _bundles_by_class(self, supply: dict[int, int]) -> list[FloatArray | None]:
        """How many slices of every kind each bundle of a class takes; None where slices are counted one by one."""
        found: list[list[FloatArray]] = [[] for _ in self.program.classes]
        counted = set()
        number_of = {workload: k for k, members in enumerate(self.program.classes) for workload in members}
        for column in self.program.columns:
            if column.meaning[0] == "bundle":
                taken = np.zeros(len(self.program.supply))
                for row, value in column.entries.items():
                    if row in supply:
                        taken[supply[row]] = -value
                found[int(str(column.meaning[1]))].append(taken)
            elif column.meaning[0] == "served":
                counted.add(number_of[int(str(column.meaning[1]))])
        return [
            None if k in counted else np.array(own) if own else np.zeros((0, len(self.program.supply)))
            for k, own in enumerate(found)
        ]

    # ---- the bound ----------------------------------------------------------------------------------

    def _slice_side(self) -> tuple[FloatArray, float]:
        """Return the least cost of every class by slices, for prices of slices, and what counted cards may give back.

        Prices are the master's, lowered where a geometry of a type without a count is worth more than its card.
        """
        prices = self.master.slice_prices.copy()
        back = 0.0
        kinds = self.program.problem.kinds
        for gpu_type, gpu in enumerate(self.program.problem.gpu_types):
            own = self._types == gpu_type
            worth, price = float((self._yields[own] @ prices).max(initial=0.0)), float(self._costs[own][0])
            if gpu.count is not None:
                back += gpu.count * max(0.0, worth - price)
            elif worth > price:
                mine = np.array([kind.gpu_type == gpu_type for kind in kinds])
                prices[mine] *= price / worth
        return np.array([self._cheapest(k, prices) for k in range(len(self.program.classes))]), back

    def _cheapest(self, number: int, prices: FloatArray) -> float:
        """Lower bound on what slices cost that serve a workload of a class; infinite where none do."""
        known = self._bundles[number]
        if known is not None:
            return float((known @ prices).min(initial=math.inf))
        workload = self.program.classes[number][0]
        capacity = self.program.problem.capacity[workload]
        able = capacity > 0.0
        rate = self.program.problem.workloads[workload].rate_rps
        return float((prices[able] / capacity[able]).min(initial=math.inf)) * rate * (1 - 1e-6)

    def _worths(self, values: FloatArray) -> FloatArray:
        """Least of κ π over the replica counts of every class of the program; infinite where there are none."""
        found = np.full(len(self.program.classes), np.inf)
        for items, row in zip(self.catalogue.class_items, self.rows_of, strict=True):
            found[row] = min(self.catalogue.items[item].replicas * float(values[item]) for item in items)
        return found

    def _sizes(self) -> FloatArray:
        return np.array([len(members) for members in self.program.classes], dtype=np.float64)

    def total_value(self, values: FloatArray) -> float:
        """``V``: every workload at the less of its items' value and its slices' cost."""
        cheapest, _ = self._slice_side()
        return float(self._sizes() @ np.minimum(self._worths(values), cheapest))

    def bound_of(self, solution: MasterSolution, values: FloatArray) -> float:
        """Return the bound of `ColumnGeneration.bound_of` less what counted cards under MIG may give back."""
        return super().bound_of(solution, values) - self._slice_side()[1]

    def _take_bound(self, values: FloatArray, priced: Priced) -> None:
        if np.any(np.isposinf(priced.worst[self._usable])):
            return
        cheapest, back = self._slice_side()
        worths, sizes = self._worths(values), self._sizes()
        usable = [row for row in zip(self.prices, priced.worst.tolist(), self.counts, strict=True) if row[2] != 0]
        ratios = [price / worst if worst > 0 else math.inf for price, worst, _ in usable]
        cap = min([ratio for ratio, row in zip(ratios, usable, strict=True) if row[2] is None], default=math.inf)
        with np.errstate(divide="ignore", invalid="ignore"):
            turns = (cheapest / worths)[(worths > 0) & np.isfinite(worths) & np.isfinite(cheapest)].tolist()
        for scale in {ratio for ratio in [*ratios, cap, *turns, 1.0] if ratio <= cap and math.isfinite(ratio)}:
            scaled = np.where(np.isfinite(worths), scale * np.where(np.isfinite(worths), worths, 0.0), np.inf)
            loss = sum(n * max(0.0, scale * worst - price) for price, worst, n in usable if n is not None)
            cost = float(sizes @ np.minimum(scaled, cheapest)) - loss - back
            # An infinite one would say that a class fits nowhere, by rounded sums: the integer program says that.
            if math.isfinite(cost) and cost > self.bound.cost:
                self.bound = Bound(cost, values.copy(), scale)

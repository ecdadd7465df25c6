"""The master of `patterns` on HiGHS: a linear program over the patterns known so far, warm-started, or in integers."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import highspy
import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import SolverError
from igniter_opt.base.stop import StopRequest
from igniter_opt.formulations.highs import Columns, QuietHighs, integer_program, run_mip
from igniter_opt.packing.items import Catalogue
from igniter_opt.packing.plans import Pattern


class MasterSolution(NamedTuple):
    """Optimum of the master over its present patterns.

    Attributes
    ----------
    objective
        Least cost.
    values
        How often each pattern is used, in the order they were added.
    uncovered
        Sum of artificial cover still in use; 0 when the patterns suffice.
    item_values
        Dual value π ≥ 0 of every item.
    type_prices
        Dual price σ ≥ 0 of the count limit of every type.
    budget_price
        Dual price μ ≥ 0 of the budget.
    """

    objective: float
    values: FloatArray
    uncovered: float
    item_values: FloatArray
    type_prices: FloatArray
    budget_price: float


class Master:
    """LP over patterns.

    Parameters
    ----------
    demand
        Workloads of every class to be served.
    prices
        Price of a GPU of each type.
    counts
        GPUs of each type still available; None for unlimited.
    artificial_cost
        Cost of leaving one item uncovered, or of each item.
    item_demand
        Copies of every item to be covered, where replica counts are decided already (`demand` is not used then).
    pattern_cost
        Objective coefficient of a pattern; its GPU's price by default.
    budget
        Limit on the total price; none by default.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        demand: Sequence[int],
        prices: Sequence[float],
        counts: Sequence[int | None],
        artificial_cost: float | FloatArray,
        item_demand: Sequence[int] | None = None,
        pattern_cost: Callable[[Pattern], float] | None = None,
        budget: float | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.prices = list(prices)
        self.pattern_cost = pattern_cost or (lambda pattern: self.prices[pattern[0]])
        self.patterns: list[Pattern] = []
        self.known: set[Pattern] = set()
        self.solver = QuietHighs()
        self.solver.setOptionValue("output_flag", False)
        self.solver.setOptionValue("threads", 1)
        # Interior point without crossover: its duals lie amid the optimal face, which pricing likes, and a warm
        # simplex is no faster on these degenerate programs.
        self.solver.setOptionValue("solver", "ipm")
        self.solver.setOptionValue("run_crossover", "off")
        self._rows(demand, counts, item_demand, budget)
        self._fixed_columns(artificial_cost)

    def _rows(
        self,
        demand: Sequence[int],
        counts: Sequence[int | None],
        item_demand: Sequence[int] | None,
        budget: float | None,
    ) -> None:
        """Rows: cover (one per item), replicas (classes with a choice), count (limited types), budget."""
        catalogue, infinity = self.catalogue, highspy.kHighsInf
        self.choices: list[int] = []
        if item_demand is None:
            self.choices = [k for k, entry in enumerate(catalogue.class_items) if len(entry) > 1]
            item_demand = [demand[item.workload_class] * item.replicas for item in catalogue.items]
        self.item_rows = np.arange(len(catalogue.items))
        lower, upper = [], []
        chosen = set(self.choices)
        for item, needed in zip(catalogue.items, item_demand, strict=True):
            lower.append(0.0 if item.workload_class in chosen else float(needed))
            upper.append(infinity)
        self.choice_rows = {k: len(lower) + position for position, k in enumerate(self.choices)}
        for k in self.choices:
            lower.append(float(demand[k]))
            upper.append(float(demand[k]))
        self.count_rows: dict[int, int] = {}
        for gpu_type, count in enumerate(counts):
            if count is not None:
                self.count_rows[gpu_type] = len(lower)
                lower.append(-infinity)
                upper.append(float(count))
        self.budget_row = -1
        if budget is not None:
            self.budget_row = len(lower)
            lower.append(-infinity)
            upper.append(budget)
        empty = np.zeros(0, dtype=np.int32)
        self.solver.addRows(len(lower), np.array(lower), np.array(upper), 0, empty, empty, np.zeros(0))

    def _fixed_columns(self, artificial_cost: float | FloatArray) -> None:
        """Columns z (replica choice) and artificial cover."""
        self.choice_items: list[int] = []
        for position, item in enumerate(self.catalogue.items):
            if item.workload_class in self.choice_rows:
                rows = [position, self.choice_rows[item.workload_class]]
                self._add(0.0, rows, [-float(item.replicas), 1.0])
                self.choice_items.append(position)
        self._add_artificial(artificial_cost)
        self.first_artificial = len(self.choice_items)
        self.first_pattern = self.first_artificial + len(self.catalogue.items)

    def _add_artificial(self, artificial_cost: float | FloatArray) -> None:
        for position, cost in enumerate(np.broadcast_to(artificial_cost, len(self.catalogue.items)).tolist()):
            self._add(cost, [position], [1.0])

    def _add(self, cost: float, rows: Sequence[int], entries: Sequence[float]) -> None:
        indices = np.array(rows, dtype=np.int32)
        self.solver.addCol(cost, 0.0, highspy.kHighsInf, len(indices), indices, np.array(entries, dtype=np.float64))

    def add(self, patterns: Iterable[Pattern]) -> int:
        """Add patterns that are not there yet; return how many were new."""
        starts: list[int] = []
        rows: list[int] = []
        entries: list[float] = []
        costs: list[float] = []
        for pattern in patterns:
            if pattern in self.known:
                continue
            self.known.add(pattern)
            self.patterns.append(pattern)
            gpu_type, members = pattern
            starts.append(len(rows))
            costs.append(self.pattern_cost(pattern))
            for item in dict.fromkeys(members):
                rows.append(item)
                entries.append(float(members.count(item)))
            if gpu_type in self.count_rows:
                rows.append(self.count_rows[gpu_type])
                entries.append(1.0)
            if self.budget_row >= 0:
                rows.append(self.budget_row)
                entries.append(self.prices[gpu_type])
        if costs:
            number = len(costs)
            self.solver.addCols(
                number,
                np.array(costs),
                np.zeros(number),
                np.full(number, highspy.kHighsInf),
                len(rows),
                np.array(starts, dtype=np.int32),
                np.array(rows, dtype=np.int32),
                np.array(entries),
            )
        return len(costs)

    def purge(self, solution: MasterSolution, most: int) -> None:
        """Forget the patterns of largest reduced cost where there are more than `most`; keep half as many."""
        if len(self.patterns) <= most:
            return
        values = solution.item_values
        reduced = np.array(
            [
                self.pattern_cost(pattern) + solution.type_prices[pattern[0]] - values[list(pattern[1])].sum()
                for pattern in self.patterns
            ]
        )
        reduced[solution.values > 1e-6] = -np.inf
        order = np.argsort(reduced, kind="stable")
        gone = np.sort(order[max(most // 2, int(np.isinf(reduced).sum())) :])
        self.solver.deleteCols(len(gone), (gone + self.first_pattern).astype(np.int32))
        dropped = set(gone.tolist())
        self.known -= {self.patterns[position] for position in dropped}
        self.patterns = [pattern for position, pattern in enumerate(self.patterns) if position not in dropped]

    def prefer_vertices(self) -> None:
        """Let solutions be vertices: few patterns in use, many of them whole times."""
        self.solver.setOptionValue("run_crossover", "on")

    def need(self, item_demand: Sequence[int]) -> None:
        """Change how many copies of every item are to be covered."""
        for item, needed in enumerate(item_demand):
            self.solver.changeRowBounds(item, float(needed), highspy.kHighsInf)

    def limit(self, gpu_type: int, count: int) -> None:
        """Change how many GPUs of a limited type there are."""
        if gpu_type in self.count_rows:
            self.solver.changeRowBounds(self.count_rows[gpu_type], -highspy.kHighsInf, float(count))

    def solve(self) -> MasterSolution:
        """Solve the LP over the present patterns."""
        self.solver.run()
        status = self.solver.getModelStatus()
        if status != highspy.HighsModelStatus.kOptimal:
            # Interior point gives up on some degenerate programs; simplex does not.
            before = self.solver.getOptionValue("solver")[1]
            self.solver.setOptionValue("solver", "simplex")
            self.solver.clearSolver()
            self.solver.run()
            status = self.solver.getModelStatus()
            self.solver.setOptionValue("solver", before)
        if status != highspy.HighsModelStatus.kOptimal:
            raise SolverError(f"the master ended with {self.solver.modelStatusToString(status)!r}; please report this")
        solution = self.solver.getSolution()
        values = np.maximum(0.0, np.asarray(solution.col_value))
        duals = np.asarray(solution.row_dual)
        type_prices = np.zeros(len(self.prices))
        for gpu_type, row in self.count_rows.items():
            type_prices[gpu_type] = max(0.0, -float(duals[row]))
        return MasterSolution(
            objective=float(self.solver.getInfo().objective_function_value),
            values=values[self.first_pattern :],
            uncovered=float(values[self.first_artificial : self.first_artificial + len(self.catalogue.items)].sum()),
            item_values=np.maximum(0.0, duals[self.item_rows]),
            type_prices=type_prices,
            budget_price=max(0.0, -float(duals[self.budget_row])) if self.budget_row >= 0 else 0.0,
        )

    def integer_plan(
        self, start: Sequence[Pattern], *, time_limit: float, node_limit: int, seed: int, stop: StopRequest
    ) -> tuple[list[Pattern] | None, bool]:
        """Solve the same rows and columns in whole numbers, without artificial cover.

        Returns a plan, or None if none was found, and whether it is proven that these patterns allow none.

        Parameters
        ----------
        start
            A plan made of known patterns, or nothing.
        """
        known = self.solver.getLp()
        # Ties of HiGHS depend on order and signs: patterns come first, then replica choices. What no pattern covers is
        # not chosen, and rows that are empty then are left out.
        covered = {item for _, members in self.patterns for item in members}
        choices = [column for column, item in enumerate(self.choice_items) if item in covered]
        columns = np.array([*range(self.first_pattern, known.num_col_), *choices])
        matrix, filled = Columns.of(known).select(columns).without_empty_rows()
        lower, upper = np.array(known.row_lower_), np.array(known.row_upper_)
        if np.any(lower[~filled] > 0):
            return None, True
        # Covers of replica choices turned round, ``κ z - Σ a λ ≤ 0``.
        turned = np.isin(np.arange(len(lower)), self.choice_items)
        lower[turned], upper[turned] = -np.inf, 0.0
        signs = np.where(turned, -1.0, 1.0)[filled]
        matrix = matrix._replace(value=signs[matrix.row] * matrix.value)
        values = None if not start else self._whole_values(start)[columns]
        lp = integer_program(np.array(known.col_cost_)[columns], matrix, lower[filled], upper[filled])
        result = run_mip(lp, values, time_limit=time_limit, node_limit=node_limit, seed=seed, stop=stop)
        if result.values is None:
            return None, result.status == "infeasible"
        used = [round(result.values[position]) for position in range(len(self.patterns))]
        return [pattern for pattern, times in zip(self.patterns, used, strict=True) for _ in range(times)], False

    def _whole_values(self, plan: Sequence[Pattern]) -> FloatArray:
        """Value of every column of the LP for a plan made of known patterns."""
        used, have = Counter(plan), Counter(item for _, members in plan for item in members)
        chosen = [have[item] // self.catalogue.items[item].replicas for item in self.choice_items]
        return np.array(
            [*chosen, *[0] * len(self.item_rows), *(used[pattern] for pattern in self.patterns)], dtype=float
        )

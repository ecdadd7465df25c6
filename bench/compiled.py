"""Why numba is a core dependency: the exact set check and the cell bound, compiled, in plain Python, and in NumPy.

The pattern methods ask two questions very often and one at a time, each depending on the last answer: can one GPU
carry this set (`packing.sets.place`), and how much can any set in this interference cell be worth
(`packing.cells.bound_cells`)? Three forms of each, in one run, on the same inputs, with equal answers:

- compiled: as the package runs it, mostly called from other compiled code, sometimes from Python;
- plain Python: the very same functions without numba (their `py_func`, with those they call);
- NumPy: the least-fixed-point part of the set check as `conflicts.SetCheck` has it, one set at a time and, which the
  methods could not use, many sets of one size at once; and the cell bound with its knapsack in NumPy row operations.

Run: python -m bench.compiled
"""

import statistics
import sys
import time
from collections.abc import Callable
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from bench.provenance import PACKAGES, header, write
from igniter_opt.base.arrays import IntArray, RecordArray
from igniter_opt.base.compiled import compiled
from igniter_opt.data.instance_files import read_instance
from igniter_opt.heuristics.bestfit import local_search
from igniter_opt.packing import cells, sets
from igniter_opt.packing.items import Catalogue, PackedItems, catalogue
from igniter_opt.packing.partition import SUBGRADIENT_STEPS, Partition
from igniter_opt.packing.plans import TRIALS
from igniter_opt.problem.configurations import Configurations, Problem
from igniter_opt.problem.conflicts import SetCheck

INSTANCE = "uniform-100-1"
ROUNDS = 5
SET_SIZE = 4
# Sets whose least shares alone nearly fill a GPU: those that need the check.
FILL = (0.75, 1.0)
# Calls per round: plain Python gets the first few of the compiled form's inputs.
SETS, SETS_PLAIN = 20_000, 300
CELLS, CELLS_PLAIN = 400, 6
# The cells' partition is refined this often, as pricing does, so that cells are typical.
SPLITS = 400


FROM_COMPILED, FROM_PYTHON = "compiled, called from compiled code", "compiled, called from Python"


class Timing(NamedTuple):
    """One form of a question: calls per second in every round."""

    name: str
    rates: list[float]


def is_compiled(value: object) -> bool:
    """Whether a value is a function compiled by numba."""
    return hasattr(value, "py_func")


def plain(function: Any, replaced: dict[str, Any] | None = None) -> Any:
    """Return a compiled function as plain Python, with all compiled functions that it calls.

    Parameters
    ----------
    replaced
        Functions to use instead of those of these names.
    """
    made: dict[int, Any] = {}

    def convert(entry: Any) -> Any:
        if id(entry) not in made:
            code = entry.py_func
            names = dict(code.__globals__)
            made[id(entry)] = FunctionType(code.__code__, names, code.__name__, code.__defaults__)
            for name in code.__code__.co_names:
                if name in (replaced or {}):
                    names[name] = (replaced or {})[name]
                elif is_compiled(names.get(name)):
                    names[name] = convert(names[name])
        return made[id(entry)]

    return convert(function)


def numpy_knapsack(offers: RecordArray, units: int, count: int, members: IntArray) -> float:
    """`cells.knapsack` with NumPy operations over the table's rows instead of loops over its entries."""
    weight, copies, profit = offers["weight"], offers["copies"], offers["profit"]
    usable = np.flatnonzero(weight <= units)
    items = np.repeat(usable, np.minimum(copies[usable], count))
    # By weight; of equal weight the most profitable first.
    items = items[np.lexsort((items, -profit[items], weight[items]))]
    best = np.full(count, cells.NOTHING)
    candidates = []
    for item in items.tolist():
        value = profit[item]
        if value > best[-1]:
            best[-1] = value
            best[::-1].sort()
            candidates.append(item)
    table = np.full((count + 1, units + 1), cells.NOTHING)
    table[0] = 0.0
    taken = np.zeros((len(candidates), count + 1, units + 1), dtype=bool)
    for position, item in enumerate(candidates):
        w = weight[item]
        with_item = table[:-1, : units + 1 - w] + profit[item]
        better = with_item > table[1:, w:]
        taken[position, 1:, w:] = better
        table[1:, w:] = np.where(better, with_item, table[1:, w:])
    if table[count, units] < cells.NOTHING / 1e100:
        return cells.NOTHING
    k, space = count, units
    for position in range(len(candidates) - 1, -1, -1):
        if k > 0 and taken[position, k, space]:
            k -= 1
            members[k] = candidates[position]
            space -= weight[candidates[position]]
    return float(table[count, units])


@compiled
def place_many(packed: PackedItems, members: IntArray, trials: int, work: RecordArray, answers: IntArray) -> None:
    """Ask `sets.place` about many sets of one size on the first GPU type."""
    size = members.shape[1]
    for k in range(members.shape[0]):
        for m in range(size):
            work[m].index = members[k, m]
        answers[k] = sets.place(packed, 0, packed.cards[0].units, work, size, trials)


@compiled
def points_many(packed: PackedItems, members: IntArray, work: RecordArray, answers: IntArray) -> None:
    """Ask `sets.least_point` about many sets of one size on the first GPU type."""
    size = members.shape[1]
    for k in range(members.shape[0]):
        for m in range(size):
            work[m].index, work[m].fixed = members[k, m], -1
        answers[k] = sets.least_point(packed, 0, packed.cards[0].units, work, size, size, 0.0, 0.0, 0.0)


def random_sets(known: Catalogue, number: int) -> IntArray:
    """Draw sets of distinct items whose least shares nearly fill a GPU, shape (number, SET_SIZE)."""
    rng = np.random.default_rng(0)
    units = int(known.packed.cards[0].units)
    found = np.zeros((0, SET_SIZE), dtype=np.int64)
    while len(found) < number:
        drawn = np.sort(rng.integers(0, len(known.items), (4 * number, SET_SIZE)), axis=1)
        levels = known.least_levels[0][drawn].sum(axis=1)
        good = (np.diff(drawn, axis=1) > 0).all(axis=1) & (levels >= FILL[0] * units) & (levels <= FILL[1] * units)
        found = np.concatenate([found, drawn[good]])
    return found[:number]


def configurations(packed: PackedItems) -> list[Configurations | None]:
    """Return the packed configurations of the first GPU type in the form that `SetCheck` takes."""
    found: list[Configurations | None] = []
    for item in packed.items[0]:
        rows = packed.rows[int(item.first) : int(item.end)]
        limit = 1.0 / rows["kernels"]
        entry = Configurations(
            batch=rows["batch"],
            level=rows["level"],
            power_w=rows["power_w"],
            cache=rows["cache"],
            traffic=rows["traffic"],
            base_ms=rows["alone"] * limit,
            cache_ms=rows["sensitivity"] * limit,
            traffic_ms=rows["traffic_sensitivity"] * limit,
            limit_ms=limit,
            memory_mib=rows["memory_mib"],
            kernels=1.0,
        )
        found.append(entry if len(entry) else None)
    return found


def timed(calls: int, work: Callable[[], Any]) -> tuple[float, Any]:
    """Return calls per second, and what the work returned."""
    began = time.perf_counter()
    answer = work()
    return calls / (time.perf_counter() - began), answer


def set_checks(known: Catalogue) -> tuple[list[Timing], list[Timing], str]:
    """Time `place` and its first half, the least fixed point; the last entry describes the answers."""
    packed, chosen_sets = known.packed, random_sets(known, SETS)
    units = int(packed.cards[0].units)
    work = sets.new_members(SET_SIZE)
    check = SetCheck(known.problem.coefficients[0].hardware, configurations(packed), None)

    answers = np.zeros(SETS, dtype=np.int64)

    def place_compiled() -> list[int]:
        place_many(packed, chosen_sets, TRIALS, work, answers)
        return [int(answer) for answer in answers]

    def points_compiled() -> list[int]:
        points_many(packed, chosen_sets, work, answers)
        return [int(answer) for answer in answers]

    def place_all(function: Any, number: int) -> list[int]:
        found = []
        for members in chosen_sets[:number]:
            work["index"] = members
            found.append(int(function(packed, 0, units, work, SET_SIZE, TRIALS)))
        return found

    def points(function: Any, number: int) -> list[bool]:
        found = []
        for members in chosen_sets[:number]:
            work["index"], work["fixed"] = members, -1
            found.append(bool(function(packed, 0, units, work, SET_SIZE, SET_SIZE, 0.0, 0.0, 0.0)))
        return found

    def one_by_one(number: int) -> list[bool]:
        return [bool(np.isfinite(check.least_levels(members[None, :])).all()) for members in chosen_sets[:number]]

    def at_once() -> list[bool]:
        return [bool(row.all()) for row in np.isfinite(check.least_levels(chosen_sets))]

    # Part of others in the package, it is compiled by itself here.
    point: Any = compiled(sets.least_point)
    plain_place, plain_point = plain(sets.place), plain(point)
    # Compiles.
    place_all(sets.place, 1), points(point, 1), place_compiled(), points_compiled()
    place_timings = [Timing(FROM_COMPILED, []), Timing(FROM_PYTHON, []), Timing("plain Python", [])]
    point_timings = [
        Timing(FROM_COMPILED, []),
        Timing(FROM_PYTHON, []),
        Timing("plain Python", []),
        Timing("NumPy, one set at a time", []),
        Timing(f"NumPy, {SETS:,} sets at once", []),
    ]
    for _ in range(ROUNDS):
        found = _measure(
            place_timings,
            [
                (SETS, place_compiled),
                (SETS, lambda: place_all(sets.place, SETS)),
                (SETS_PLAIN, lambda: place_all(plain_place, SETS_PLAIN)),
            ],
        )
        _measure(
            point_timings,
            [
                (SETS, points_compiled),
                (SETS, lambda: points(point, SETS)),
                (SETS_PLAIN, lambda: points(plain_point, SETS_PLAIN)),
                (SETS_PLAIN, lambda: one_by_one(SETS_PLAIN)),
                (SETS, at_once),
            ],
        )
    share = 100.0 * sum(answer == sets.FEASIBLE for answer in found) / SETS
    return place_timings, point_timings, f"{share:.0f} % of the sets are feasible"


def _measure(timings: list[Timing], forms: list[tuple[int, Callable[[], list[Any]]]]) -> list[Any]:
    """Time every form once and compare its answers with the first form's; return those."""
    answers: list[Any] = []
    for timing, (calls, work) in zip(timings, forms, strict=True):
        rate, found = timed(calls, work)
        timing.rates.append(rate)
        answers = answers or found
        if not np.allclose(np.array(found, dtype=float), np.array(answers[: len(found)], dtype=float), rtol=1e-9):
            raise AssertionError(f"{timing.name}: other answers than {timings[0].name}")
    return answers


def cell_bounds(known: Catalogue) -> tuple[list[Timing], str]:
    """Time `bound_cells` on a partition refined as in pricing, multipliers from 0 every time."""
    packed, search = known.packed, local_search(known)
    value, level_price, goal = search.share_cost * 1.08, np.zeros(1), search.prices * 1.0
    partition = Partition(known)
    for _ in range(SPLITS):
        partition.sweep(value, level_price, goal)
        rows = partition.alive
        partition.split(int(rows[np.argmax(partition.bounds(rows))]))
    rows = np.random.default_rng(0).permutation(partition.alive)[:CELLS]

    def begin_anew() -> None:
        for name in ("cache_price", "power_price", "traffic_price"):
            partition.cells[name][rows] = 0.0

    def bounds(function: Any, number: int) -> list[float]:
        begin_anew()
        given = packed, partition.cells
        last = partition.least, partition.members, value, level_price, goal, SUBGRADIENT_STEPS
        for k in range(number):
            function(*given, rows[k : k + 1], *last)
        return [float(bound) for bound in partition.bounds(rows[:number])]

    plain_bound = plain(cells.bound_cells)
    numpy_bound = plain(cells.bound_cells, {"knapsack": numpy_knapsack})

    def swept() -> list[float]:
        begin_anew()
        partition.sweep(value, level_price, goal, rows=rows)
        return [float(bound) for bound in partition.bounds(rows)]

    # Compiles.
    bounds(cells.bound_cells, 1), swept()
    timings = [
        Timing(FROM_COMPILED, []),
        Timing(FROM_PYTHON, []),
        Timing("plain Python", []),
        Timing("NumPy knapsack", []),
    ]
    number = len(rows)
    for _ in range(ROUNDS):
        _measure(
            timings,
            [
                (number, swept),
                (number, lambda: bounds(cells.bound_cells, number)),
                (CELLS_PLAIN, lambda: bounds(plain_bound, CELLS_PLAIN)),
                (10 * CELLS_PLAIN, lambda: bounds(numpy_bound, 10 * CELLS_PLAIN)),
            ],
        )
    return timings, f"{number} cells of a partition split {SPLITS} times"


def table(title: str, timings: list[Timing]) -> str:
    """Render the forms of one question."""
    fastest = statistics.median(timings[0].rates)
    lines = [
        f"\n## {title}\n",
        "| form | calls/s, median | least | most | compiled is faster by |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, rates in timings:
        middle = statistics.median(rates)
        ratio = "-" if name == timings[0].name else f"{fastest / middle:,.1f}"
        lines.append(f"| {name} | {middle:,.0f} | {min(rates):,.0f} | {max(rates):,.0f} | {ratio} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure all and write the table."""
    known = catalogue(Problem(read_instance(INSTANCE)))
    if not is_compiled(sets.place):
        print("numba is switched off (NUMBA_DISABLE_JIT); there is nothing to compare", file=sys.stderr)
        return 1
    place, point, of_sets = set_checks(known)
    bound, of_cells = cell_bounds(known)
    write(
        "compiled",
        header("Set check and cell bound: compiled beside plain Python and NumPy", (*PACKAGES, "numba"))
        + f"\nOne core, {INSTANCE}, {ROUNDS} rounds in turn; compilation is not in the numbers. All forms gave the same"
        + f" answers. Sets: {SET_SIZE} workloads each whose least shares fill {FILL[0]:.0%} to {FILL[1]:.0%} of a GPU;"
        + f" {of_sets}. Cells: {of_cells}. In the package's loops the calls come from compiled code;"
        + " from Python, handing over the arguments comes on top.\n"
        + table("Exact set check (`packing.sets.place`)", place)
        + table("Its first half, the least fixed point (`packing.sets.least_point`, `conflicts.SetCheck`)", point)
        + table("Cell bound (`packing.cells.bound_cells`)", bound),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

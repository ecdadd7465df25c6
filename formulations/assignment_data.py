"""What the `assignment` formulation derives from a problem before it writes a row: items, reductions, conflicts.

The arguments why nothing is lost stand in `formulations.assignment`, `aggregates` and `conflicts`.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from igniter_opt.physics.rows import LinearRow
from igniter_opt.problem.aggregates import AggregateBounds, AggregateLimits, plain_limits
from igniter_opt.problem.configurations import Configurations, Problem
from igniter_opt.problem.conflicts import SetCheck, minimal_conflicts

# Conflict cuts: largest sets examined, and how many sets of one size are examined at most.
LARGEST_CONFLICT = 5
MOST_SETS = 6_000


class Item(NamedTuple):
    """The `number`-th of `replicas` equal replicas of a workload."""

    workload: int
    replicas: int
    number: int


class Slot(NamedTuple):
    """The `position`-th GPU (from 0) of a type."""

    gpu_type: int
    position: int


class TypeData(NamedTuple):
    """What is derived for one GPU type: its items' configurations, their limits, conflicts, pair shares."""

    configurations: list[Configurations | None]
    limits: AggregateLimits
    conflicts: list[tuple[int, ...]]
    beside: dict[tuple[int, int], int]


def type_data(problem: Problem, items: Sequence[Item], gpu_type: int, check: Callable[[], None]) -> TypeData:
    """Reduce the configurations of one GPU type and find its conflicts; `check` may raise to give up."""
    hardware = problem.coefficients[gpu_type].hardware
    found = []
    for item in items:
        check()
        found.append(problem.configurations(item.workload, gpu_type, item.replicas))
    if not problem.monotone[gpu_type]:
        limits = plain_limits(hardware, found)
        return TypeData([limits.without_hopeless(entry) for entry in found], limits, [], {})
    bounds = AggregateBounds(hardware, found)
    found = [None if entry is None else bounds.without_useless(entry) for entry in found]
    sets = SetCheck(hardware, found, problem.gpu_types[gpu_type].memory_limit_mib)
    present = [t for t, entry in enumerate(found) if entry is not None]
    check()
    conflicts = minimal_conflicts(sets, present, LARGEST_CONFLICT, MOST_SETS)
    check()
    return TypeData(found, bounds.limits(), conflicts, _pair_levels(sets, found, present))


def require_places(problem: Problem, items: Sequence[Item], types: Iterable[TypeData]) -> None:
    """Raise InfeasibleError if all configurations of some workload are gone.

    That can only be where a profile is not monotone: what fails alone may hold in company there, until all that company
    can bring is known.
    """
    placed = {items[t].workload for data in types for t, entry in enumerate(data.configurations) if entry is not None}
    problem.refuse([k for k in range(len(problem.workloads)) if k not in placed])


def sorted_items(problem: Problem) -> list[Item]:
    """All items, by descending least share (of the first type that can serve them)."""
    items = [
        Item(workload, replicas, number)
        for workload in range(len(problem.workloads))
        for replicas in problem.replica_counts(workload)
        for number in range(1, replicas + 1)
    ]

    def least_share(item: Item) -> float:
        for gpu_type, coefficients in enumerate(problem.coefficients):
            level = problem.least_level(item.workload, gpu_type, item.replicas)
            if level is not None:
                return level * coefficients.hardware.share_unit_percent
        return 0.0

    return sorted(items, key=lambda item: (-least_share(item), item))


def _pair_levels(
    sets: SetCheck, found: Sequence[Configurations | None], present: Sequence[int]
) -> dict[tuple[int, int], int]:
    """Least level of t beside s, for ordered pairs (t, s) where that is more than alone."""
    pairs = np.array([(t, s) for t in present for s in present if t < s])
    if pairs.size == 0:
        return {}
    beside: dict[tuple[int, int], int] = {}
    for (t, s), levels in zip(pairs.tolist(), sets.least_levels(pairs).tolist(), strict=True):
        for one, other, level in ((t, s, levels[0]), (s, t, levels[1])):
            entry = found[one]
            if np.isfinite(level) and entry is not None and level > entry.level.min():
                beside[one, other] = int(level)
    return beside


def harder_rows(rows: LinearRow, *, lift: bool) -> list[list[int]]:
    """For every configuration c the set H(c) of the derivation."""
    if not lift:
        return [[c] for c in range(len(rows.constant))]
    table = np.column_stack(rows)
    return [np.flatnonzero(np.all(table >= row, axis=1)).tolist() for row in table]

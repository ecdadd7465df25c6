"""Items (classes of identical replicas) and their configurations, packed into flat arrays for compiled code."""

from collections.abc import Callable, Hashable
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray, RecordArray, record_type
from igniter_opt.physics.interference import added_delay, clock_line
from igniter_opt.physics.parameters import HardwareCoefficients
from igniter_opt.problem.aggregates import AggregateBounds, AggregateLimits
from igniter_opt.problem.configurations import Configurations, Problem


class WorkloadClass(NamedTuple):
    """Workloads that ask for the same (`Instance.demand_of`); indices into the instance's workloads."""

    workloads: tuple[int, ...]
    replica_counts: tuple[int, ...]


class Item(NamedTuple):
    """One of `replicas` equal replicas of a workload of a class; `copies` of them can be in a plan."""

    workload_class: int
    replicas: int
    copies: int


_HARDWARE = ("idle_power_w", "clock_intercept", "clock_slope", "memory_limit_mib")
_LEAST = ("level", "power_w", "cache", "traffic", "memory_mib")
CONFIGURATION = record_type(
    ("level", "batch"),
    ("power_w", "cache", "traffic", "memory_mib", "alone", "kernels", "sensitivity", "traffic_sensitivity"),
)
ITEM = record_type(("first", "end", "copies", "least_level"), _LEAST)
CARD = record_type(
    ("units", "most"),
    (*_HARDWARE, "cache_limit", "power_limit_w", "traffic_limit"),
)
# Least of nothing: more than any card has.
MUCH = 1e18


class PackedItems(NamedTuple):
    """Configurations of all items on all GPU types.

    Records, since compiled code is handed every array in seven parts or more: with a score of arrays twice as much is
    compiled.

    Attributes
    ----------
    items
        ``ITEM``, shape (GPU types, items). On this type the item has the configurations ``first .. end - 1``, none
        where the type cannot serve it; one GPU may carry so many `copies`. `least_level` is its least share level
        alone, `units + 1` where impossible. `level`, `power_w`, `cache`, `traffic`, `memory_mib` are the least over
        its configurations, each taken separately (`MUCH` where there are none).
    rows
        ``CONFIGURATION``, shape (configurations,), every item's in ascending order of share level. A row, divided by
        its limit D, reads ``alone + kernels Δ(n) + sensitivity (C - cache) + traffic_sensitivity (T - traffic) ≤
        min(1, clock_intercept + clock_slope P)``.
    cards
        ``CARD``, shape (GPU types,): share levels of a whole GPU (`units`), the largest number of items on one GPU
        (`most`), hardware constants (memory is infinite where unknown), and the largest cache use, power and traffic
        of any feasible GPU.
    delay_ms
        ``Δ(n)`` for n = 0 .. max(most) + 1, shape (GPU types, max(most) + 2).
    """

    items: RecordArray
    rows: RecordArray
    cards: RecordArray
    delay_ms: FloatArray


class Catalogue(NamedTuple):
    """Everything that pattern methods know about a problem.

    Attributes
    ----------
    classes, items
        Workload classes; one item per class and replica count.
    packed
        The items' configurations.
    """

    problem: Problem
    classes: list[WorkloadClass]
    items: list[Item]
    packed: PackedItems

    @property
    def least_levels(self) -> IntArray:
        """Least share level of every item alone, shape (GPU types, items); `units + 1` where impossible."""
        return np.asarray(self.packed.items["least_level"])

    @property
    def class_items(self) -> list[list[int]]:
        """Items of every class."""
        found: list[list[int]] = [[] for _ in self.classes]
        for position, item in enumerate(self.items):
            found[item.workload_class].append(position)
        return found

    @property
    def demand(self) -> list[int]:
        """Workloads of every class."""
        return [len(entry.workloads) for entry in self.classes]

    def total_value(self, values: FloatArray) -> float:
        """``V``: for every workload the least of κ π over its replica counts κ, summed, for item values π."""
        return sum(
            count * min(self.items[item].replicas * float(values[item]) for item in items)
            for count, items in zip(self.demand, self.class_items, strict=True)
        )


def catalogue(problem: Problem, check: Callable[[], None] = lambda: None) -> Catalogue:
    """Group a problem's workloads and pack their configurations; `check` may raise to give up.

    All GPU types must have monotone models (`Problem.monotone`).
    """
    groups: dict[tuple[Hashable, ...], list[int]] = {}
    for position, workload in enumerate(problem.workloads):
        groups.setdefault(problem.instance.demand_of(workload), []).append(position)
    classes = [WorkloadClass(tuple(found), tuple(problem.replica_counts(found[0]))) for found in groups.values()]
    items = [
        Item(number, count, count * len(entry.workloads))
        for number, entry in enumerate(classes)
        for count in entry.replica_counts
    ]
    types = []
    for gpu_type, coefficients in enumerate(problem.coefficients):
        found = []
        for item in items:
            check()
            found.append(problem.configurations(classes[item.workload_class].workloads[0], gpu_type, item.replicas))
        types.append(_reduce(coefficients.hardware, items, found))
    return Catalogue(problem, classes, items, _pack(problem, types))


class _TypeItems(NamedTuple):
    """The items' configurations on one GPU type, None where there are none, and what a GPU can carry."""

    found: list[Configurations | None]
    copies: IntArray
    limits: AggregateLimits


def extended(packed: PackedItems, more: list[tuple[int, Configurations]]) -> PackedItems:
    """Return the items with further ones behind them, each of a GPU type and served only there.

    Parameters
    ----------
    more
        GPU type and configurations, in ascending order of share level and not none. They must be some that an item has
        or could have, so that what holds of every feasible GPU (`CARD`) goes on to hold.
    """
    if not more:
        return packed
    types, known = packed.items.shape
    rows, start = _rows([entry for _, entry in more]), len(packed.rows)
    items = np.zeros((types, known + len(more)), dtype=ITEM)
    items[:, :known] = packed.items
    items["least_level"][:, known:] = np.asarray(packed.cards["units"])[:, None] + 1
    for name in _LEAST:
        items[name][:, known:] = MUCH
    first = 0
    for position, (gpu_type, entry) in enumerate(more, known):
        own, place = rows[first : first + len(entry)], (gpu_type, position)
        items["first"][place], items["end"][place] = start + first, start + first + len(entry)
        items["copies"][place] = 1
        for name in _LEAST:
            items[name][place] = min(MUCH, own[name].min())
        items["least_level"][place] = own["level"].min()
        first += len(entry)
    return packed._replace(items=items, rows=np.concatenate([packed.rows, rows]))


def _reduce(hardware: HardwareCoefficients, items: list[Item], found: list[Configurations | None]) -> _TypeItems:
    """Drop configurations that a robust one replaces (`AggregateBounds.without_useless`)."""
    copies = np.zeros(len(items), dtype=np.int64)
    for position, entry in enumerate(found):
        if entry is not None:
            copies[position] = min(items[position].copies, hardware.share_levels // int(entry.level.min()))
    repeated = [entry for entry, count in zip(found, copies.tolist(), strict=True) for _ in range(count)]
    bounds = AggregateBounds(hardware, repeated)
    kept: list[Configurations | None] = []
    for entry in found:
        if entry is None:
            kept.append(None)
            continue
        useful = bounds.without_useless(entry)
        kept.append(useful.take(np.lexsort((useful.cache, useful.power_w, useful.level))))
    return _TypeItems(kept, copies, bounds.limits())


def _pack(problem: Problem, types: list[_TypeItems]) -> PackedItems:
    cards = _cards(problem, types)
    rows = _rows([entry for one in types for entry in one.found if entry is not None])
    delay_ms = [added_delay(entry.hardware, np.arange(cards["most"].max() + 2)) for entry in problem.coefficients]
    return PackedItems(_items(types, rows, cards), rows, cards, np.array(delay_ms))


def _rows(chosen: list[Configurations]) -> RecordArray:
    def joined(name: str) -> FloatArray:
        return np.concatenate([np.asarray(getattr(entry, name), dtype=np.float64) for entry in chosen])

    limit = joined("limit_ms")
    rows = np.zeros(len(limit), dtype=CONFIGURATION)
    for name in ("level", "batch", "power_w", "cache", "traffic", "memory_mib"):
        rows[name] = joined(name)
    rows["alone"] = joined("base_ms") / limit
    rows["kernels"] = np.concatenate([np.full(len(entry), entry.kernels) for entry in chosen]) / limit
    rows["sensitivity"] = joined("cache_ms") / limit
    rows["traffic_sensitivity"] = joined("traffic_ms") / limit
    return rows


def _cards(problem: Problem, types: list[_TypeItems]) -> RecordArray:
    cards = np.zeros(len(types), dtype=CARD)
    for card, one, coefficients, gpu in zip(cards, types, problem.coefficients, problem.gpu_types, strict=True):
        hardware = coefficients.hardware
        card.units, card.most, card.idle_power_w = hardware.share_levels, one.limits.count, hardware.idle_power_w
        card.clock_intercept, card.clock_slope = clock_line(hardware)
        card.memory_limit_mib = np.inf if gpu.memory_limit_mib is None else gpu.memory_limit_mib
        card.cache_limit, card.power_limit_w = one.limits.cache[1], one.limits.power[1]
        card.traffic_limit = one.limits.traffic[1]
    return cards


def _items(types: list[_TypeItems], rows: RecordArray, cards: RecordArray) -> RecordArray:
    items = np.zeros((len(types), len(types[0].found)), dtype=ITEM)
    counts = np.array([[0 if entry is None else len(entry) for entry in one.found] for one in types], dtype=np.int64)
    items["end"] = np.cumsum(counts).reshape(counts.shape)
    items["first"] = items["end"] - counts
    items["copies"] = np.array([one.copies for one in types], dtype=np.int64)
    served = counts > 0
    for name in _LEAST:
        items[name] = MUCH
        # Items without configurations have no place in between.
        items[name][served] = np.minimum(MUCH, np.minimum.reduceat(rows[name], items["first"][served]))
    items["least_level"] = np.where(served, items["level"], cards["units"][:, None] + 1)
    return items

"""Items (classes of identical replicas) and their configurations, packed into flat arrays for compiled code."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.physics.interference import added_delay, clock_line
from igniter_opt.physics.parameters import HardwareCoefficients
from igniter_opt.problem.aggregates import AggregateBounds, AggregateLimits
from igniter_opt.problem.configurations import Configurations, Problem


class WorkloadClass(NamedTuple):
    """Workloads with the same model, SLO, rate and replica limit; indices into the instance's workloads."""

    workloads: tuple[int, ...]
    replica_counts: tuple[int, ...]


class Item(NamedTuple):
    """One of `replicas` equal replicas of a workload of a class; `copies` of them can be in a plan."""

    workload_class: int
    replicas: int
    copies: int


class PackedItems(NamedTuple):
    """Configurations of all items on all GPU types.

    On GPU type g item t has the configurations ``first[g, t] .. first[g, t + 1] - 1`` in ascending order of share
    level, none where the type cannot serve it. A configuration's row, divided by its limit D, reads
    ``base + kernels Δ(n) + sensitivity (C - cache) + traffic_sensitivity (T - traffic) ≤ min(1, clock_intercept +
    clock_slope P)``.

    Attributes
    ----------
    first
        Shape (GPU types, items + 1).
    level, power_w, cache, traffic, memory_mib, base, kernels, sensitivity, traffic_sensitivity, batch
        Shape (configurations,).
    copies
        How many copies of each item one GPU may carry, shape (GPU types, items).
    most
        Largest number of items on one GPU of each type.
    delay_ms
        ``Δ(n)`` for n = 0 .. max(most) + 1, shape (GPU types, max(most) + 2).
    units, idle_power_w, clock_intercept, clock_slope, memory_limit_mib
        Share levels of a whole GPU and hardware constants of each type; memory is infinite where unknown.
    cache_limit, power_limit_w, traffic_limit
        Largest cache use, power and traffic of any feasible GPU of each type.
    """

    first: IntArray
    level: IntArray
    power_w: FloatArray
    cache: FloatArray
    traffic: FloatArray
    memory_mib: FloatArray
    base: FloatArray
    kernels: FloatArray
    sensitivity: FloatArray
    traffic_sensitivity: FloatArray
    batch: IntArray
    copies: IntArray
    most: IntArray
    delay_ms: FloatArray
    units: IntArray
    idle_power_w: FloatArray
    clock_intercept: FloatArray
    clock_slope: FloatArray
    memory_limit_mib: FloatArray
    cache_limit: FloatArray
    power_limit_w: FloatArray
    traffic_limit: FloatArray


class Catalogue(NamedTuple):
    """Everything that pattern methods know about a problem.

    Attributes
    ----------
    classes, items
        Workload classes; one item per class and replica count.
    packed
        The items' configurations.
    least_levels
        Least share level of every item alone, shape (GPU types, items); `units + 1` where impossible.
    """

    problem: Problem
    classes: list[WorkloadClass]
    items: list[Item]
    packed: PackedItems
    least_levels: IntArray

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
    groups: dict[tuple[str, float, float, int | None], list[int]] = {}
    for position, workload in enumerate(problem.workloads):
        key = (workload.model, workload.slo_ms, workload.rate_rps, workload.max_replicas)
        groups.setdefault(key, []).append(position)
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
    packed = _pack(problem, types)
    return Catalogue(problem, classes, items, packed, _least_levels(packed))


class _TypeItems(NamedTuple):
    """The items' configurations on one GPU type, None where there are none, and what a GPU can carry."""

    found: list[Configurations | None]
    copies: IntArray
    limits: AggregateLimits


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
    chosen = [entry for one in types for entry in one.found if entry is not None]
    counts = [0] + [0 if entry is None else len(entry) for one in types for entry in one.found]
    ends = np.cumsum(counts, dtype=np.int64)
    number = len(types[0].found)
    first = np.array([ends[g * number : (g + 1) * number + 1] for g in range(len(types))], dtype=np.int64)

    def joined(name: str) -> FloatArray:
        return np.concatenate([np.asarray(getattr(entry, name), dtype=np.float64) for entry in chosen])

    limit = joined("limit_ms")
    hardware = [coefficients.hardware for coefficients in problem.coefficients]
    lines = [clock_line(entry) for entry in hardware]
    most = np.array([one.limits.count for one in types], dtype=np.int64)
    memory = [gpu.memory_limit_mib for gpu in problem.gpu_types]
    return PackedItems(
        first=first,
        level=joined("level").astype(np.int64),
        power_w=joined("power_w"),
        cache=joined("cache"),
        traffic=joined("traffic"),
        memory_mib=joined("memory_mib"),
        base=joined("base_ms") / limit,
        kernels=np.concatenate([np.full(len(entry), entry.kernels) for entry in chosen]) / limit,
        sensitivity=joined("cache_ms") / limit,
        traffic_sensitivity=joined("traffic_ms") / limit,
        batch=joined("batch").astype(np.int64),
        copies=np.array([one.copies for one in types], dtype=np.int64),
        most=most,
        delay_ms=np.array([added_delay(entry, np.arange(most.max() + 2)) for entry in hardware]),
        units=np.array([entry.share_levels for entry in hardware], dtype=np.int64),
        idle_power_w=np.array([entry.idle_power_w for entry in hardware]),
        clock_intercept=np.array([intercept for intercept, _ in lines]),
        clock_slope=np.array([slope for _, slope in lines]),
        memory_limit_mib=np.array([np.inf if limit is None else limit for limit in memory]),
        cache_limit=np.array([one.limits.cache[1] for one in types]),
        power_limit_w=np.array([one.limits.power[1] for one in types]),
        traffic_limit=np.array([one.limits.traffic[1] for one in types]),
    )


def _least_levels(packed: PackedItems) -> IntArray:
    least = np.repeat(packed.units[:, None] + 1, packed.copies.shape[1], axis=1)
    start = packed.first[:, :-1]
    served = start < packed.first[:, 1:]
    least[served] = packed.level[start[served]]
    return least

"""The CP-SAT model of the planning problem: integer data and the model itself (see `cpsat`).

Items t, slots j and configurations c are those of `igniter_opt.formulations.assignment`, with the same dominance,
robust pruning and conflict sets. Needs a monotone performance model.

Model
-----
``u[t,j]``: item t is on slot j; ``x[t,c,j]``: with configuration c; ``Y[j,k]``: slot j holds k or more items;
integers ``C[j]``, ``P[j]``: its cache use and power, including idle power::

    exactly one of      u[t,.], left[t], not z          (left: only while repairing; z: only with a choice of κ)
    exactly one of      x[t,.,j], not u[t,j]
    Σ_t u[t,j] = Σ_k Y[j,k],  Y[j,k+1] → Y[j,k]
    Σ r x[.,.,j] ≤ U Y[j,1],  Σ m x[.,.,j] ≤ memory,  C[j] = Σ c x[.,.,j],  P[j] = idle Y[j,1] + Σ p x[.,.,j]
    Y[j,k] →            C[j] + Σ_c (Cmax - T[t,c,k]) x[t,c,j] ≤ Cmax                           for every t, k
    x[t,c,j] →          E C[j] + |f1| P[j] + K Σ_k (Δ(k) - Δ(k-1)) Y[j,k] ≤ f0 - A + E c       all over D
    at most one of      Y[j,k], {x[t,c,j]: c fails beside the k - 1 lightest items}
    at most one of      u[s,j], {x[t,c,j]: c fails beside s}
    not all of          u[t,j] for t in a conflict set
    u[t,j] →            some u[s,j-1] with s < t;  t on no slot before which there are t others of the type
    Σ price Y[j,1] ≤    the cost to reach

``T[t,c,k] = (1 - A - K Δ(k)) / E + c`` is the cache use up to which the uncapped row of c holds among k items.
Sums are written as (least value) u + Σ (value - least value) x, so that they propagate before c is chosen. Rows
that hold for the largest aggregates of any k items beside c's share (a knapsack) are left out.

Rounding
--------
Cache use, power and memory are scaled to integers; contributions and coefficients are rounded down, limits up, so
no feasible plan is cut off and every bound is valid. With about 1e8 units per quantity and 1e15 per row the rows
are relaxed by under 1e-6 of their size.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from ortools.sat.python import cp_model

from igniter_opt.base.arrays import FloatArray
from igniter_opt.formulations.assignment_data import Item, Slot, TypeData
from igniter_opt.physics.interference import added_delay, clock_line
from igniter_opt.physics.parameters import HardwareCoefficients
from igniter_opt.problem.configurations import Configurations, Problem

# The largest cache use, power and memory of a GPU, and the largest left side of a row, in integer units.
_CACHE_UNITS, _POWER_UNITS, _MEMORY_UNITS, _ROW_UNITS = 4e8, 5e7, 1e9, 1e15
# Relative error of the floating-point numbers that are rounded, generously; given away before rounding.
_FLOAT_GUARD = 1e-12
# A row counts as violated only by more than this, so that rounding never excludes anything.
_PROOF_GUARD = 1e-9

# Items with their configurations, by index.
Pairs = list[tuple[int, int]]


def _down(value: float) -> int:
    """Round a non-negative coefficient or contribution down."""
    return math.floor(value * (1 - _FLOAT_GUARD))


def _up(value: float) -> int:
    """Round a non-negative limit up."""
    return math.ceil(value * (1 + _FLOAT_GUARD))


# ---- data ---------------------------------------------------------------------------------------------------


class _CapRow(NamedTuple):
    """Integer coefficients of one configuration's capped row."""

    configuration: int
    cache: int
    power: int
    delays: list[int]
    limit: int


class _ItemRows(NamedTuple):
    """What one item demands on one GPU type, in integers (see the module's derivation).

    Attributes
    ----------
    resources
        Level, cache use, power and memory of every configuration.
    company
        Most items that a configuration's GPU can hold.
    thresholds
        By number of items k: configurations and ``T[t,c,k]``.
    beside
        By other item: the configurations that fail beside it.
    """

    resources: tuple[list[int], list[int], list[int], list[int]]
    company: npt.NDArray[np.int_]
    thresholds: dict[int, Pairs]
    caps: list[_CapRow]
    beside: dict[int, list[int]]


class TypeRows:
    """Rows of all items on one GPU type."""

    def __init__(self, hardware: HardwareCoefficients, data: TypeData, memory: float | None) -> None:
        self.hardware, self.data = hardware, data
        self.units = hardware.share_levels
        self.most = max(1, data.limits.count)
        self.delay = [float(value) for value in added_delay(hardware, np.arange(self.most + 1))]
        self.line = clock_line(hardware)
        self.cache = _largest(data.configurations, self.units, self.most, "cache")
        self.power = _largest(data.configurations, self.units, self.most, "power_w")
        self.largest = float(self.cache[-1, -1]), hardware.idle_power_w + float(self.power[-1, -1])
        self.cache_scale = _CACHE_UNITS / max(self.largest[0], _PROOF_GUARD)
        self.power_scale = _POWER_UNITS / max(self.largest[1], _PROOF_GUARD)
        self.memory_scale = None if memory is None else _MEMORY_UNITS / memory
        self.cache_limit = _up(self.largest[0] * self.cache_scale)
        self.idle = _down(hardware.idle_power_w * self.power_scale)
        least = [
            (np.inf,) * 3 if entry is None else (entry.level.min(), entry.cache.min(), entry.power_w.min())
            for entry in data.configurations
        ]
        self.least = np.array(least, dtype=float)
        self.items = [None if entry is None else self._rows(t, entry) for t, entry in enumerate(data.configurations)]

    def _rows(self, item: int, entry: Configurations) -> _ItemRows:
        base, kernels = entry.base_ms / entry.limit_ms, entry.kernels / entry.limit_ms
        slope = entry.cache_ms / entry.limit_ms
        own = np.array([_down(value) for value in entry.cache * self.cache_scale])
        level = entry.level.astype(int)
        lightest = np.sort(np.delete(self.least, item, axis=0), axis=0).cumsum(axis=0)
        company = np.ones(len(entry), dtype=int)
        capped = np.zeros(len(entry), dtype=bool)
        thresholds: dict[int, Pairs] = {}
        for k in range(2, self.most + 1):
            left = base + kernels * self.delay[k]
            fits = self._fits(entry, left, slope, lightest[k - 2]) & (company == k - 1)
            company[fits] = k
            cache, power = self.cache[k - 1, self.units - level], self.power[k - 1, self.units - level]
            rest = 1.0 - left
            thresholds[k] = [
                (int(c), _up(rest[c] / slope[c] * self.cache_scale) + int(own[c]))
                for c in np.flatnonzero(fits & (slope * cache > rest))
            ]
            capped |= fits & (np.minimum(slope * cache, rest) > self._cap(entry, power) - left)
        return _ItemRows(
            resources=(
                level.tolist(),
                own.tolist(),
                [_down(value) for value in entry.power_w * self.power_scale],
                [_down(value) for value in entry.memory_mib * (self.memory_scale or 0.0)],
            ),
            company=company,
            thresholds={k: found for k, found in thresholds.items() if found},
            caps=[
                self._cap_row(c, base[c], kernels[c], slope[c], int(own[c])) for c in np.flatnonzero(capped).tolist()
            ],
            beside=self._beside(item, entry, base + kernels * float(added_delay(self.hardware, 2)), slope),
        )

    def _cap(self, entry: Configurations, power: float | FloatArray) -> FloatArray:
        return np.asarray(self.line[0] + self.line[1] * (self.hardware.idle_power_w + entry.power_w + power))

    def _fits(
        self, entry: Configurations, left: FloatArray, slope: FloatArray, others: FloatArray
    ) -> npt.NDArray[np.bool_]:
        """Which configurations hold beside others of the given total level, cache use and power."""
        level, cache, power = others
        room = np.minimum(1.0, self._cap(entry, power)) - left
        return np.asarray((slope * cache <= room + _PROOF_GUARD) & (entry.level + level <= self.units))

    def _beside(self, item: int, entry: Configurations, left: FloatArray, slope: FloatArray) -> dict[int, list[int]]:
        found = {}
        for other in np.flatnonzero(np.isfinite(self.least[:, 0])).tolist():
            fails = ~self._fits(entry, left, slope, self.least[other])
            fails |= entry.level < self.data.beside.get((item, other), 0)
            if other != item and fails.any():
                found[other] = np.flatnonzero(fails).tolist()
        return found

    def _cap_row(self, configuration: int, base: float, kernels: float, slope: float, own: int) -> _CapRow:
        intercept, per_watt = self.line
        size = slope * self.largest[0] - per_watt * self.largest[1] + kernels * self.delay[-1]
        scale = _ROW_UNITS / max(size, intercept - base)
        cache = _down(slope * scale / self.cache_scale)
        delays = [_down(kernels * (after - before) * scale) for before, after in pairwise(self.delay)]
        power = _down(-per_watt * scale / self.power_scale)
        return _CapRow(configuration, cache, power, delays, _up((intercept - base) * scale) + cache * own)


def _largest(items: Iterable[Configurations | None], units: int, most: int, attribute: str) -> FloatArray:
    """Largest total of a property over k items at most (rows) within a number of share units (columns)."""
    table = np.zeros((most + 1, units + 1))
    for entry in items:
        if entry is None:
            continue
        best = np.full(units + 1, -np.inf)
        np.maximum.at(best, entry.level.astype(int), getattr(entry, attribute))
        without = table.copy()
        for level in np.flatnonzero(np.isfinite(best)).tolist():
            np.maximum(table[1:, level:], without[:-1, : units + 1 - level] + best[level], out=table[1:, level:])
    return table


# ---- model --------------------------------------------------------------------------------------------------


class CpSatModel:
    """The model for a number of slots per type and a cost to reach; see the module's derivation."""

    def __init__(
        self,
        problem: Problem,
        items: Sequence[Item],
        types: Sequence[TypeRows],
        slots: Sequence[int],
        units: Sequence[int],
        most: int | None,
        forbidden: Sequence[tuple[int, Pairs]],
        check: Callable[[], None],
    ) -> None:
        self.items, self.types = items, types
        self.slots = [Slot(g, k) for g, number in enumerate(slots) for k in range(number)]
        self.model = m = cp_model.CpModel()
        self.u: dict[tuple[int, int], Any] = {}
        self.x: dict[tuple[int, int], list[Any]] = {}
        self.company: list[list[Any]] = []
        self.aggregates: list[tuple[Any, Any]] = []
        self.on_slot: list[list[int]] = []
        for j, slot in enumerate(self.slots):
            check()
            able = [t for t, rows in enumerate(types[slot.gpu_type].items) if rows is not None]
            self.on_slot.append(able[slot.position :])
            self._slot(j)
            self._rows(j)
            self._order(j)
        self.cost = cp_model.LinearExpr.weighted_sum(
            [company[0] for company in self.company], [units[slot.gpu_type] for slot in self.slots]
        )
        if most is not None:
            m.add(self.cost <= most)
        self._forbid(forbidden)
        self._assign(problem, elastic=most is not None)

    def _slot(self, j: int) -> None:
        m, rows = self.model, self.types[self.slots[j].gpu_type]
        company = [m.new_bool_var("") for _ in range(rows.most)]
        for fewer, more in pairwise(company):
            m.add_implication(more, fewer)
        totals: list[tuple[list[Any], list[int]]] = [([], []) for _ in range(4)]
        for t in self.on_slot[j]:
            item = rows.items[t]
            assert item is not None  # noqa: S101 (on_slot holds only items that the type can serve)
            u = self.u[t, j] = m.new_bool_var("")
            x = self.x[t, j] = [m.new_bool_var("") for _ in item.company] if len(item.company) > 1 else [u]
            if len(x) > 1:
                m.add_exactly_one(*x, ~u)
            for (variables, weights), values in zip(totals, item.resources, strict=True):
                least = min(values)
                variables += [u, *x]
                weights += [least, *(value - least for value in values)]
        m.add(sum(self.u[t, j] for t in self.on_slot[j]) == sum(company))
        level, cache, power, memory = (cp_model.LinearExpr.weighted_sum(*total) for total in totals)
        m.add(level <= rows.units * company[0])
        if rows.memory_scale is not None:
            m.add(memory <= _up(_MEMORY_UNITS * (1 + _PROOF_GUARD)))
        self.aggregates.append((m.new_int_var(0, rows.cache_limit, ""), m.new_int_var(0, _up(_POWER_UNITS), "")))
        m.add(self.aggregates[j][0] == cache)
        m.add(self.aggregates[j][1] == power + rows.idle * company[0])
        self.company.append(company)

    def _rows(self, j: int) -> None:
        m, rows = self.model, self.types[self.slots[j].gpu_type]
        company, (cache, power) = self.company[j], self.aggregates[j]
        for t in self.on_slot[j]:
            x, u, item = self.x[t, j], self.u[t, j], rows.items[t]
            assert item is not None  # noqa: S101 (as above)
            for k in range(2, rows.most + 1):
                alone = np.flatnonzero(item.company < k).tolist()
                if np.any(item.company == k - 1):
                    m.add_at_most_one(company[k - 1], *([u] if len(alone) == len(x) else [x[c] for c in alone]))
                found = [(x[c], rows.cache_limit - limit) for c, limit in item.thresholds.get(k, [])]
                found = [(literal, excess) for literal, excess in found if excess > 0]
                if found:
                    excess = cp_model.LinearExpr.weighted_sum(*map(list, zip(*found, strict=True)))
                    m.add(cache + excess <= rows.cache_limit).only_enforce_if(company[k - 1])
            for row in item.caps:
                last = int(item.company[row.configuration])
                variables = [cache, power, *company[1:last]]
                weights = [row.cache, row.power, *row.delays[1:last]]
                left = cp_model.LinearExpr.weighted_sum(variables, weights)
                m.add(left <= row.limit).only_enforce_if(x[row.configuration])
            for other, failing in item.beside.items():
                if (other, j) in self.u:
                    here = [u] if len(failing) == len(x) else [x[c] for c in failing]
                    m.add_at_most_one(self.u[other, j], *here)
        for conflict in rows.data.conflicts:
            if all((t, j) in self.u for t in conflict):
                m.add_bool_or([~self.u[t, j] for t in conflict])

    def _order(self, j: int) -> None:
        if self.slots[j].position > 0:
            for t in self.on_slot[j]:
                self.model.add_bool_or([~self.u[t, j], *(self.u[s, j - 1] for s in self.on_slot[j - 1] if s < t)])
            self.model.add_implication(self.company[j][0], self.company[j - 1][0])

    def _forbid(self, forbidden: Sequence[tuple[int, Pairs]]) -> None:
        for gpu_type, pairs in forbidden:
            for j, slot in enumerate(self.slots):
                if slot.gpu_type == gpu_type and all((t, j) in self.u for t, _ in pairs):
                    self.model.add_bool_or([~self.x[t, j][c] for t, c in pairs])

    def _assign(self, problem: Problem, *, elastic: bool) -> None:
        """Every item once; minimise what is left out, or the cost."""
        m = self.model
        counts: dict[int, set[int]] = {}
        for item in self.items:
            counts.setdefault(item.workload, set()).add(item.replicas)
        self.z = {
            (workload, replicas): m.new_bool_var("")
            for workload, found in counts.items()
            if len(found) > 1
            for replicas in sorted(found)
        }
        for workload, found in counts.items():
            if len(found) > 1:
                m.add_exactly_one(self.z[workload, replicas] for replicas in found)
        self.left = [m.new_bool_var("") for _ in self.items] if elastic else []
        places: list[list[Any]] = [[] for _ in self.items]
        for (t, _), u in self.u.items():
            places[t].append(u)
        for t, item in enumerate(self.items):
            absent = [~self.z[item[:2]]] if item[:2] in self.z else []
            m.add_exactly_one(*places[t], *self.left[t : t + 1], *absent)
        if elastic:
            m.minimize(cp_model.LinearExpr.weighted_sum(self.left, [_weight(problem, item) for item in self.items]))
        else:
            m.minimize(self.cost)

    def hint(self, gpus: Sequence[tuple[int, Pairs]], replicas: Mapping[int, int]) -> None:
        """Give every variable a value: these GPUs, everything else left out.

        Parameters
        ----------
        gpus
            GPU types with (item, configuration) pairs; no more than there are slots.
        replicas
            Replicas of the workloads in the plan that the GPUs are from.
        """
        m = self.model
        free = {g: iter([j for j, s in enumerate(self.slots) if s.gpu_type == g]) for g in range(len(self.types))}
        by_smallest = sorted(gpus, key=lambda gpu: min(gpu[1]))
        content = {next(free[gpu_type]): dict(pairs) for gpu_type, pairs in by_smallest}
        placed = {t for pairs in content.values() for t in pairs}
        for j, slot in enumerate(self.slots):
            pairs, rows = content.get(j, {}), self.types[slot.gpu_type]
            for t in self.on_slot[j]:
                m.add_hint(self.u[t, j], t in pairs)
                if len(self.x[t, j]) > 1:
                    for c, literal in enumerate(self.x[t, j]):
                        m.add_hint(literal, pairs.get(t) == c)
            for k, literal in enumerate(self.company[j]):
                m.add_hint(literal, len(pairs) > k)
            chosen = [(rows.items[t], c) for t, c in pairs.items()]
            cache, power = (sum(item.resources[k][c] for item, c in chosen if item is not None) for k in (1, 2))
            m.add_hint(self.aggregates[j][0], cache)
            m.add_hint(self.aggregates[j][1], power + (rows.idle if pairs else 0))
        for (workload, count), z in self.z.items():
            m.add_hint(z, replicas.get(workload) == count)
        for t, left in enumerate(self.left):
            item = self.items[t]
            m.add_hint(
                left, t not in placed and (item[:2] not in self.z or replicas.get(item.workload) == item.replicas)
            )

    def chosen(self, value: Callable[[Any], bool]) -> list[tuple[int, Pairs]]:
        """Return the used GPUs: type and (item, configuration) pairs."""
        gpus = []
        for j, slot in enumerate(self.slots):
            here = [t for t in self.on_slot[j] if value(self.u[t, j])]
            pairs = [(t, c) for t in here for c, literal in enumerate(self.x[t, j]) if value(literal)]
            if pairs:
                gpus.append((slot.gpu_type, pairs))
        return gpus


def _weight(problem: Problem, item: Item) -> int:
    """Return the least share of an item in whole percent, at least 1."""
    shares = [
        level * coefficients.hardware.share_unit_percent
        for g, coefficients in enumerate(problem.coefficients)
        if (level := problem.least_level(item.workload, g, item.replicas)) is not None
    ]
    return max(1, round(min(shares)))

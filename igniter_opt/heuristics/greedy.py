"""iGniter's greedy placer and first-fit decreasing with and without interference (Xu et al. 2023).

One engine, three rules for choosing a GPU.

The engine keeps the open GPUs of each type in padded arrays. For a new demand, one vectorised step over all
GPUs with enough room tells which placements would be violated at the present shares. Usually none are (the
placement then costs the demand's own share and nothing more) or too many to fit; only what is left climbs,
one share unit at a time, to the least fixed point.
"""

from collections.abc import Sequence
from itertools import permutations
from typing import Literal, NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.errors import InfeasibleError
from igniter_opt.heuristics.demand import Demands, demands_on, split_where_too_large, whole_workloads
from igniter_opt.physics.interference import added_delay, clock_line
from igniter_opt.physics.rows import clock, clocks, needed, needed_beside
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import Draft, DraftGpu

Rule = Literal["least-growth", "first-fit", "first-fit-blind"]
MAX_ORDERED_TYPES = 4


class _Candidate(NamedTuple):
    gpu: int
    levels: list[int]
    growth: int


class _Fleet:
    """Open GPUs of one type, in the order they were opened.

    `rows` keeps, per GPU and slot, the row of the placement there as a newcomer would find it:
    ``need + E c_new + E' t_new ≤ D φ(P + p_new)`` with ``need = A + K Δ(n + 1) + E (C - c) + E' (T - t)``; D is
    infinite in empty slots.
    """

    def __init__(self, problem: Problem, demands: Demands) -> None:
        self.demands = demands
        self.hardware = problem.coefficients[demands.gpu_type].hardware
        gpu_type = problem.gpu_types[demands.gpu_type]
        self.memory_limit = gpu_type.memory_limit_mib
        self.count_limit = gpu_type.count
        self.unit_price = gpu_type.price_per_hour * self.hardware.share_unit_percent / 100.0
        self.clock = clock_line(self.hardware)
        self.delay = added_delay(self.hardware, np.arange(demands.levels + 2)).tolist()
        # Plain lists: the climb below works on a handful of numbers, where lists are faster than arrays.
        self.base, self.cache_ms = demands.base_ms.tolist(), demands.cache_ms.tolist()
        self.cache, self.power = demands.cache.tolist(), demands.power_w.tolist()
        self.traffic_ms, self.traffic = demands.traffic_ms.tolist(), demands.traffic.tolist()
        self.kernels, self.limit = demands.kernels.tolist(), demands.limit_ms.tolist()
        self.tables = list(
            zip(
                self.base, self.cache_ms, self.cache, self.traffic_ms, self.traffic, self.power, self.kernels,
                self.limit, strict=True,
            )
        )  # fmt: skip
        self.lower: list[int] = demands.lower_level.tolist()
        self.size = 0
        self.members: list[list[int]] = []
        self.levels: list[list[int]] = []
        self.total = np.zeros(16, dtype=np.int64)
        self.memory = np.zeros(16)
        self.aggregates = np.zeros((16, 4))  # P, C, T, Δ(n + 1)
        self.rows = np.zeros((4, 16, 4))  # need, E, E', D
        self.rows[3] = np.inf

    def open(self, demand: int) -> int:
        """Open a GPU with one demand at its least level."""
        if self.size == len(self.total):
            self.total = np.concatenate([self.total, np.zeros_like(self.total)])
            self.memory = np.concatenate([self.memory, np.zeros_like(self.memory)])
            self.aggregates = np.concatenate([self.aggregates, np.zeros_like(self.aggregates)])
            self.rows = np.concatenate([self.rows, self._empty_rows()], axis=1)
        self.size += 1
        self.members.append([])
        self.levels.append([])
        self.put(self.size - 1, demand, [self.lower[demand]])
        return self.size - 1

    def _empty_rows(self) -> FloatArray:
        rows = np.zeros_like(self.rows)
        rows[3] = np.inf
        return rows

    def put(self, gpu: int, demand: int, levels: list[int]) -> None:
        """Add a demand to a GPU and set the levels of all its placements (the new one last)."""
        members = self.members[gpu]
        members.append(demand)
        self.levels[gpu] = levels
        if len(members) > self.rows.shape[2]:
            self.rows = np.concatenate([self.rows, self._empty_rows()], axis=2)
        power, cache, traffic = self._aggregates(members, levels)
        delay = self.delay[len(members) + 1]
        self.aggregates[gpu] = power, cache, traffic, delay
        rows = []
        for member, level in zip(members, levels, strict=True):
            base, cache_ms, own, traffic_ms, own_traffic, _, kernels, limit = self.tables[member]
            need = needed(
                base[level], kernels, delay,
                cache_ms[level], cache - own[level], traffic_ms[level], traffic - own_traffic[level],
            )  # fmt: skip
            rows.append((need, cache_ms[level], traffic_ms[level], limit[level]))
        self.rows[:, gpu, : len(members)] = np.array(rows).T
        self.total[gpu] = sum(levels)
        self.memory[gpu] += self.demands.memory_mib[demand]

    def _aggregates(self, members: list[int], levels: list[int]) -> tuple[float, float, float]:
        power, cache, traffic = self.hardware.idle_power_w, 0.0, 0.0
        for member, level in zip(members, levels, strict=True):
            power += self.power[member][level]
            cache += self.cache[member][level]
            traffic += self.traffic[member][level]
        return power, cache, traffic

    def roomy(self, demand: int) -> IntArray:
        """GPUs whose free share (and memory) admits the demand at its least level, in order."""
        fits = self.total[: self.size] <= self.demands.levels - self.lower[demand]
        if self.memory_limit is not None:
            fits &= self.memory[: self.size] + self.demands.memory_mib[demand] <= self.memory_limit
        return np.flatnonzero(fits)

    def violations(self, demand: int, gpus: IntArray) -> IntArray:
        """Count, per GPU, the placements over their limit if the demand joined at its least level."""
        level = self.lower[demand]
        cache, traffic = self.cache[demand][level], self.traffic[demand][level]
        power, other_cache, other_traffic, delay = self.aggregates[gpus].T
        intercept, slope = self.clock
        ratio = clocks(intercept, slope, power + self.power[demand][level])
        need, cache_ms, traffic_ms, limit = (row.take(gpus, axis=0) for row in self.rows)
        over = needed_beside(need, cache_ms, cache, traffic_ms, traffic) > limit * ratio[:, None]
        mine = needed(
            self.base[demand][level], self.kernels[demand], delay,
            self.cache_ms[demand][level], other_cache, self.traffic_ms[demand][level], other_traffic,
        )  # fmt: skip
        return np.asarray(over.sum(axis=1) + (mine > self.limit[demand][level] * ratio))

    def climb(self, members: list[int], levels: list[int], most: int) -> list[int] | None:
        """Raise every violated placement by one unit until none is, or the total exceeds `most` units."""
        delay = self.delay[len(members)]
        intercept, slope = self.clock
        idle = self.hardware.idle_power_w
        tables = [self.tables[member] for member in members]
        levels = list(levels)
        total = sum(levels)
        while total <= most:
            power, cache, traffic = idle, 0.0, 0.0
            for (_, _, own, _, own_traffic, watt, _, _), level in zip(tables, levels, strict=True):
                cache += own[level]
                traffic += own_traffic[level]
                power += watt[level]
            ratio = clock(intercept, slope, power)
            before = total
            for slot, (base, cache_ms, own, traffic_ms, own_traffic, _, kernels, limit) in enumerate(tables):
                level = levels[slot]
                left = needed(
                    base[level], kernels, delay,
                    cache_ms[level], cache - own[level], traffic_ms[level], traffic - own_traffic[level],
                )  # fmt: skip
                if left > limit[level] * ratio:
                    levels[slot] = level + 1
                    total += 1
            if total == before:
                return levels
        return None

    def can_open(self, demand: int) -> bool:
        """Whether another GPU exists and can carry the demand."""
        left = self.count_limit is None or self.size < self.count_limit
        return left and self.lower[demand] <= self.demands.levels

    def draft(self, gpu: int, repair: bool) -> DraftGpu:
        """Return one GPU's placements.

        The published algorithm never predicts a newly opened GPU again; `repair` runs the allocation loop
        once more, which changes a GPU only where the published plan would violate a limit.
        """
        demands = self.demands
        members, levels = self.members[gpu], self.levels[gpu]
        if repair:
            climbed = self.climb(members, levels, demands.levels)
            if climbed is None:
                raise InfeasibleError("the greedy placement violates a limit that more share cannot mend")
            levels = climbed
        placements = [
            Draft(part.workload, part.replica, int(demands.batch[member]), level, part.rate_rps)
            for member, level in zip(members, levels, strict=True)
            for part in [demands.parts[member]]
        ]
        return DraftGpu(demands.gpu_type, placements)

    def find(self, demand: int, rule: Rule, least: float) -> _Candidate | None:
        """Find the GPU that the rule chooses for a demand; its growth times price must be below `least`."""
        level = self.lower[demand]
        gpus = self.roomy(demand)
        if gpus.size == 0:
            return None
        if rule == "first-fit-blind":
            gpu = int(gpus[0])
            return _Candidate(gpu, [*self.levels[gpu], level], level)
        violations = self.violations(demand, gpus)
        possible = self.total[gpus] + violations <= self.demands.levels - level
        found: _Candidate | None = None
        for gpu, violated in zip(gpus[possible].tolist(), violations[possible].tolist(), strict=True):
            before = int(self.total[gpu])
            most = self.demands.levels
            if rule == "least-growth":
                # Only strictly less growth (times price) than the best so far is of interest.
                if (level + violated) * self.unit_price >= least:
                    continue
                if found is not None:
                    most = min(most, before + found.growth - 1)
            levels: list[int] | None = [*self.levels[gpu], level]
            if violated:
                levels = self.climb([*self.members[gpu], demand], [*self.levels[gpu], level], most)
            if levels is None or (sum(levels) - before) * self.unit_price >= least:
                continue
            found = _Candidate(gpu, levels, sum(levels) - before)
            if rule == "first-fit" or found.growth == level:
                break
            least = found.growth * self.unit_price
        return found


def place(problem: Problem, rule: Rule) -> list[DraftGpu]:
    """Place all workloads by a greedy rule.

    With one GPU type this is the published algorithm. With several, new GPUs are opened in a given order of
    types (the first with any left that can carry the part), growth is weighed by price, and the order that
    gives the cheapest plan wins (all orders of up to four types, else each type once at the front).

    Raises
    ------
    InfeasibleError
        The rule finds no plan.
    """
    types = range(len(problem.gpu_types))
    whole = {k: demands_on(problem, k, whole_workloads(problem)) for k in types}
    orders = list(permutations(types))
    if len(types) > MAX_ORDERED_TYPES:
        orders = [(first, *(k for k in types if k != first)) for first in types]
    reasons: list[str] = []
    best: list[DraftGpu] | None = None
    best_cost = np.inf
    for order in orders:
        try:
            plan = _place_in_order(problem, rule, order, whole)
        except InfeasibleError as error:
            reasons.append(str(error))
            continue
        cost = sum(problem.gpu_types[gpu.gpu_type].price_per_hour for gpu in plan)
        if cost < best_cost * (1 - 1e-12):
            best, best_cost = plan, cost
    if best is None:
        raise InfeasibleError("; ".join(dict.fromkeys(reasons)))
    return best


def _place_in_order(problem: Problem, rule: Rule, order: Sequence[int], whole: dict[int, Demands]) -> list[DraftGpu]:
    parts = split_where_too_large(problem, order, whole)
    split = len(parts) > len(problem.workloads) or any(part.batch for part in parts)
    fleets = {k: _Fleet(problem, demands_on(problem, k, parts) if split else whole[k]) for k in order}
    lower = np.array(
        [
            fleets[part.home].demands.lower_level[position] * fleets[part.home].hardware.share_unit_percent
            for position, part in enumerate(parts)
        ]
    )
    opened: list[tuple[_Fleet, int]] = []
    for position in np.argsort(-lower, kind="stable").tolist():
        chosen: tuple[_Fleet, _Candidate] | None = None
        least = np.inf
        for fleet in fleets.values():
            found = fleet.find(position, rule, least)
            if found is not None:
                chosen = (fleet, found)
                least = found.growth * fleet.unit_price
                if rule != "least-growth":
                    break
        if chosen is not None:
            chosen[0].put(chosen[1].gpu, position, chosen[1].levels)
            continue
        for fleet in fleets.values():
            if fleet.can_open(position):
                opened.append((fleet, fleet.open(position)))
                break
        else:
            name = problem.workloads[parts[position].workload].name
            raise InfeasibleError(f"no GPU is left for workload {name} (the counts of the GPU types are used up)")
    return [fleet.draft(gpu, repair=rule != "first-fit-blind") for fleet, gpu in opened]

"""Interference cells: upper bounds on the value of any feasible set, compiled.

A *cell* of a GPU type is a number of items n and intervals [C_lo, C_hi] of total cache use, [P_lo, P_hi] of total
power and [T_lo, T_hi] of total traffic (which faithful coefficients have none of). The cells in use always cover every
feasible set: at first one per n with the largest intervals (`aggregates.AggregateBounds`), later the halves of cells
that were split.

Take a feasible set in a cell. Every member's row holds at the set's own n, C, P and T, so, its left side growing with
C and T and its right side falling with P, it also holds at C_lo, P_lo and T_lo. Hence the member's share, cache use,
power and traffic are at least the least ones over its configurations that hold there (`fill_cell`), called w, c, p and
t. With values v of the items, θ ≥ 0 the price of a share level, and any λ, μ, ν ≥ 0 (Lagrangian multipliers of
Σ c ≤ C_hi, idle + Σ p ≤ P_hi and Σ t ≤ T_hi), the set's worth Σ v - θ Σ level is at most::

    λ C_hi + μ (P_hi - idle) + ν T_hi + max { Σ (v - θ w - λ c - μ p - ν t) : n items, Σ w ≤ U }

and the maximum is a knapsack over items, counts and share levels, solved exactly (`knapsack`). An item with n
copies of others at its disposal that have no more weight and no less profit can be left out: a set of n items
that holds it lacks one of those copies and is no worse with the two exchanged. So the knapsack's cost hardly
grows with the number of items.

Multipliers are improved by a few subgradient steps and kept per cell from one call to the next; every value of
them gives a valid bound.
"""

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.compiled import compiled
from igniter_opt.packing.items import PackedItems
from igniter_opt.packing.sets import PROOF_GUARD
from igniter_opt.physics.rows import clock, needed

NOTHING = -1e300


@compiled
def fill_cell(
    packed: PackedItems,
    gpu: int,
    count: int,
    box: FloatArray,
    weight: IntArray,
    cache: FloatArray,
    power: FloatArray,
    traffic: FloatArray,
) -> bool:
    """Fill in every item's least share level, cache use, power, traffic in a cell; False if no set is in the cell.

    Parameters
    ----------
    box
        ``C_lo, C_hi, P_lo, P_hi, T_lo, T_hi``.
    weight, cache, power, traffic
        Shape (items,); `weight` is units + 1 where an item cannot be in the cell.
    """
    delay = packed.delay_ms[gpu, count]
    cache_low, cache_high, power_low, power_high = box[0], box[1], box[2], box[3]
    traffic_low, traffic_high = box[4], box[5]
    units = packed.units[gpu]
    idle = packed.idle_power_w[gpu]
    number = packed.copies.shape[1]
    for item in range(number):
        best, least_cache, least_power, least_traffic = units + 1, 1e18, 1e18, 1e18
        for c in range(packed.first[gpu, item], packed.first[gpu, item + 1]):
            if packed.cache[c] > cache_high or idle + packed.power_w[c] > power_high:
                continue
            if packed.traffic[c] > traffic_high:
                continue
            total = max(power_low, idle + packed.power_w[c])
            ratio = clock(packed.clock_intercept[gpu], packed.clock_slope[gpu], total)
            left = needed(
                packed.base[c], packed.kernels[c], delay,
                packed.sensitivity[c], max(cache_low - packed.cache[c], 0.0),
                packed.traffic_sensitivity[c], max(traffic_low - packed.traffic[c], 0.0),
            )  # fmt: skip
            if left > ratio + PROOF_GUARD:
                continue
            best = min(best, packed.level[c])
            least_cache = min(least_cache, packed.cache[c])
            least_power = min(least_power, packed.power_w[c])
            least_traffic = min(least_traffic, packed.traffic[c])
        weight[item], cache[item], power[item], traffic[item] = best, least_cache, least_power, least_traffic
    # The n items of least share, cache use, power, traffic must fit, each on its own.
    fits: bool = (
        _least_sum(packed, gpu, weight, weight, count) <= units
        and _least_sum(packed, gpu, weight, cache, count) <= cache_high
        and _least_sum(packed, gpu, weight, power, count) + idle <= power_high
        and _least_sum(packed, gpu, weight, traffic, count) <= traffic_high
    )
    return fits


@compiled
def _least_sum(packed: PackedItems, gpu: int, weight: IntArray, value: FloatArray | IntArray, count: int) -> float:
    """Least sum of `value` over `count` copies of items that can be in the cell."""
    least = np.full(count, 1e18)
    for item in range(weight.shape[0]):
        if weight[item] > packed.units[gpu]:
            continue
        for _ in range(min(packed.copies[gpu, item], count)):
            if value[item] >= least[count - 1]:
                break
            position = count - 1
            while position > 0 and least[position - 1] > value[item]:
                least[position] = least[position - 1]
                position -= 1
            least[position] = value[item]
    return float(least.sum())


@compiled
def knapsack(
    copies: IntArray,
    units: int,
    count: int,
    weight: IntArray,
    profit: FloatArray,
    members: IntArray,
) -> float:
    """Most profit of exactly `count` copies of items with total weight at most `units`; NOTHING if there are none.

    Parameters
    ----------
    weight, profit
        Shape (items,); items of weight above `units` are left out.
    members
        Filled with the chosen items, shape (count,).
    """
    # Candidates: by ascending weight, those that fewer than `count` lighter-or-equal copies match in profit.
    top_profit = np.full((units + 1, count), NOTHING)
    top_item = np.full((units + 1, count), -1, dtype=np.int64)
    for item in range(weight.shape[0]):
        w = weight[item]
        if w > units:
            continue
        for _ in range(min(copies[item], count)):
            value = profit[item]
            if value <= top_profit[w, count - 1]:
                break
            position = count - 1
            while position > 0 and top_profit[w, position - 1] < value:
                top_profit[w, position] = top_profit[w, position - 1]
                top_item[w, position] = top_item[w, position - 1]
                position -= 1
            top_profit[w, position] = value
            top_item[w, position] = item
    best = np.full(count, NOTHING)
    candidates = np.empty((units + 1) * count, dtype=np.int64)
    number = 0
    for w in range(units + 1):
        for k in range(count):
            value = top_profit[w, k]
            if top_item[w, k] < 0 or value <= best[count - 1]:
                break
            position = count - 1
            while position > 0 and best[position - 1] < value:
                best[position] = best[position - 1]
                position -= 1
            best[position] = value
            candidates[number] = top_item[w, k]
            number += 1
    table = np.full((count + 1, units + 1), NOTHING)
    table[0, :] = 0.0
    taken = np.zeros((number, count + 1, units + 1), dtype=np.bool_)
    for position in range(number):
        item = candidates[position]
        w, value = weight[item], profit[item]
        for k in range(min(count, position + 1), 0, -1):
            for space in range(units, w - 1, -1):
                value_with = table[k - 1, space - w] + value
                if value_with > table[k, space]:
                    table[k, space] = value_with
                    taken[position, k, space] = True
    answer = table[count, units]
    if answer < -1e200:
        return NOTHING
    k, space = count, units
    for position in range(number - 1, -1, -1):
        if k > 0 and taken[position, k, space]:
            k -= 1
            members[k] = candidates[position]
            space -= weight[candidates[position]]
    return float(answer)


@compiled
def bound_cell(
    packed: PackedItems,
    gpu: int,
    count: int,
    box: FloatArray,
    weight: IntArray,
    cache: FloatArray,
    power: FloatArray,
    traffic: FloatArray,
    value: FloatArray,
    level_price: float,
    goal: float,
    steps: int,
    multipliers: FloatArray,
    members: IntArray,
) -> float:
    """Upper bound on the worth of any feasible set in a cell.

    Parameters
    ----------
    value, level_price
        Item values and θ.
    goal
        Stop improving the multipliers once the bound is at or below this.
    steps
        Subgradient steps at most.
    multipliers
        λ, μ and ν to begin with; replaced by the best found.
    members
        Filled with the set that attains the best bound, shape (count,).
    """
    best = 1e300
    lam, mu, nu = multipliers[0], multipliers[1], multipliers[2]
    idle = packed.idle_power_w[gpu]
    cache_room, power_room, traffic_room = box[1], box[3] - idle, box[5]
    profit = np.empty(weight.shape[0])
    found = np.empty(count, dtype=np.int64)
    step = 1.0
    for _ in range(steps + 1):
        for item in range(weight.shape[0]):
            if weight[item] <= packed.units[gpu]:
                profit[item] = value[item] - level_price * weight[item] - lam * cache[item] - mu * power[item]
                profit[item] -= nu * traffic[item]
        most = knapsack(packed.copies[gpu], packed.units[gpu], count, weight, profit, found)
        if most <= NOTHING:
            return NOTHING
        bound = most + lam * cache_room + mu * power_room + nu * traffic_room
        if bound < best:
            best = bound
            multipliers[0], multipliers[1], multipliers[2] = lam, mu, nu
            members[:count] = found
        else:
            step *= 0.5
        if best <= goal:
            break
        cache_excess, power_excess, traffic_excess = -cache_room, -power_room, -traffic_room
        for k in range(count):
            cache_excess += cache[found[k]]
            power_excess += power[found[k]]
            traffic_excess += traffic[found[k]]
        # Scaled to fractions of the room, so that all multipliers move alike.
        scaled_cache, scaled_power = cache_excess / (cache_room + 1e-9), power_excess / (power_room + 1e-9)
        if lam <= 0 and scaled_cache < 0:
            scaled_cache = 0.0
        if mu <= 0 and scaled_power < 0:
            scaled_power = 0.0
        scaled_traffic = traffic_excess / (traffic_room + 1e-9)
        if nu <= 0 and scaled_traffic < 0:
            scaled_traffic = 0.0
        length = scaled_cache * scaled_cache + scaled_power * scaled_power + scaled_traffic * scaled_traffic
        if length < 1e-12:
            break
        size = step * (bound - goal) / length
        lam = max(0.0, lam + size * scaled_cache / (cache_room + 1e-9))
        mu = max(0.0, mu + size * scaled_power / (power_room + 1e-9))
        nu = max(0.0, nu + size * scaled_traffic / (traffic_room + 1e-9))
    return best


@compiled
def sweep(
    packed: PackedItems,
    gpu: IntArray,
    count: IntArray,
    box: FloatArray,
    weight: IntArray,
    cache: FloatArray,
    power: FloatArray,
    traffic: FloatArray,
    cells: IntArray,
    value: FloatArray,
    level_price: FloatArray,
    goal: FloatArray,
    steps: int,
    multipliers: FloatArray,
    members: IntArray,
    bound: FloatArray,
) -> None:
    """Bound many cells (`bound_cell`); arrays hold one row per cell, `cells` says which rows to treat."""
    for cell in cells:
        g = gpu[cell]
        bound[cell] = bound_cell(
            packed,
            g,
            count[cell],
            box[cell],
            weight[cell],
            cache[cell],
            power[cell],
            traffic[cell],
            value,
            level_price[g],
            goal[g],
            steps,
            multipliers[cell],
            members[cell],
        )


@compiled
def split_axis(packed: PackedItems, gpu: int, count: int, box: FloatArray, members: IntArray) -> int:
    """Which axis to halve: 0 for cache use, 1 for power, 2 for traffic.

    The one whose upper half asks more share of the set that attains the bound; where none does, the widest.
    """
    half_cache = (box[1] - box[0]) / 2
    half_power = (box[3] - box[2]) / 2
    half_traffic = (box[5] - box[4]) / 2
    by_cache, by_power, by_traffic = 0, 0, 0
    for k in range(count):
        item = members[k]
        by_cache += corner_level(packed, gpu, count, box[0] + half_cache, box[2], box[4], item)
        by_power += corner_level(packed, gpu, count, box[0], box[2] + half_power, box[4], item)
        by_traffic += corner_level(packed, gpu, count, box[0], box[2], box[4] + half_traffic, item)
    if by_traffic > max(by_cache, by_power):
        return 2
    wide = half_traffic / packed.traffic_limit[gpu] if packed.traffic_limit[gpu] > 0 else 0.0
    even = by_traffic == by_cache and by_traffic == by_power
    if even and wide * packed.cache_limit[gpu] > half_cache and wide * packed.power_limit_w[gpu] > half_power:
        return 2
    if by_cache != by_power:
        return 0 if by_cache > by_power else 1
    power_matters = clock(packed.clock_intercept[gpu], packed.clock_slope[gpu], box[3]) < 1.0
    if not power_matters:
        return 0
    return 0 if half_cache / packed.cache_limit[gpu] >= half_power / packed.power_limit_w[gpu] else 1


@compiled
def corner_level(
    packed: PackedItems, gpu: int, count: int, cache_low: float, power_low: float, traffic_low: float, item: int
) -> int:
    """Least share level of an item at a cell's lower corner; units + 1 if there is none."""
    delay = packed.delay_ms[gpu, count]
    idle = packed.idle_power_w[gpu]
    for c in range(packed.first[gpu, item], packed.first[gpu, item + 1]):
        total = max(power_low, idle + packed.power_w[c])
        ratio = clock(packed.clock_intercept[gpu], packed.clock_slope[gpu], total)
        left = needed(
            packed.base[c], packed.kernels[c], delay,
            packed.sensitivity[c], max(cache_low - packed.cache[c], 0.0),
            packed.traffic_sensitivity[c], max(traffic_low - packed.traffic[c], 0.0),
        )  # fmt: skip
        if left <= ratio + PROOF_GUARD:
            return int(packed.level[c])
    return int(packed.units[gpu]) + 1

"""Exhaustive search of one interference cell, compiled: all feasible sets worth more than a goal.

Depth first over the items in a fixed order. In the notation of `cells`, a partial set can be completed to a set of
n items worth more than the goal only if its profits, plus the most profit of as many further items from those
still to come as are missing, within the share left, plus ``λ C_hi + μ (P_hi - idle) + ν T_hi``, exceed it. That most
profit is a table over (position, items missing, share left), computed once per cell. Partial sets are also given to
`sets.least_point`, with the cell's n and its lower corner as the aggregates' floor: a proof that they are infeasible
is one for all their supersets of size n in the cell, and the ideal points it leaves (no feasible set has less)
replace the partial sums.

Hence when the search ends on its own accord, every feasible set of the cell worth more than the goal was
recorded, or counted in `open_worth` where `sets.place` gave no answer.
"""

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.compiled import compiled
from igniter_opt.packing.cells import NOTHING
from igniter_opt.packing.items import PackedItems
from igniter_opt.packing.sets import FEASIBLE, INFEASIBLE, least_point, place

# Bounds are compared with the goal after giving this much back to rounding.
GUARD = 1e-9


@compiled
def _order_items(
    packed: PackedItems, gpu: int, count: int, weight: IntArray, profit: FloatArray, need: float
) -> IntArray:
    """Items (repeated by copies) that some set with total profit above `need` can hold, by falling density."""
    units = packed.units[gpu]
    number = weight.shape[0]
    # Most profit of k items (copies at will) within each share: an upper bound on what joins an item.
    top = np.full(units + 1, NOTHING)
    for item in range(number):
        if weight[item] <= units:
            top[weight[item]] = max(top[weight[item]], profit[item])
    table = np.full((count, units + 1), NOTHING)
    table[0, :] = 0.0
    for k in range(1, count):
        for space in range(units + 1):
            best = NOTHING
            for w in range(1, space + 1):
                if top[w] > NOTHING and table[k - 1, space - w] > NOTHING:
                    best = max(best, table[k - 1, space - w] + top[w])
            table[k, space] = best
    kept = np.empty(number * count, dtype=np.int64)
    density = np.empty(number * count)
    size = 0
    for item in range(number):
        if weight[item] <= units and table[count - 1, units - weight[item]] + profit[item] > need - GUARD:
            for _ in range(min(packed.copies[gpu, item], count)):
                kept[size] = item
                density[size] = -profit[item] / weight[item]
                size += 1
    return kept[:size][np.argsort(density[:size], kind="mergesort")]


@compiled
def _suffix_table(count: int, units: int, order: IntArray, weight: IntArray, profit: FloatArray) -> FloatArray:
    """Most profit of exactly k items among those from a position on, within each share left."""
    size = order.shape[0]
    table = np.full((size + 1, count + 1, units + 1), NOTHING)
    table[size, 0, :] = 0.0
    for position in range(size - 1, -1, -1):
        w, value = weight[order[position]], profit[order[position]]
        table[position] = table[position + 1]
        for k in range(1, min(count, size - position) + 1):
            for space in range(w, units + 1):
                other = table[position + 1, k - 1, space - w] + value
                table[position, k, space] = max(table[position, k, space], other)
    return table


@compiled
def close_cell(
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
    multipliers: FloatArray,
    goal: float,
    node_limit: int,
    trials: int,
    found: IntArray,
    worth: FloatArray,
) -> tuple[int, int, bool, float]:
    """Search a cell for feasible sets worth more than `goal`.

    Parameters
    ----------
    node_limit
        Partial sets to look at, at most.
    trials
        Limit of `sets.place`.
    found, worth
        Filled with sets, shape (sets, most items), and upper bounds of their worth; the search ends when full.

    Returns
    -------
    tuple
        Sets found; nodes; whether the search was exhaustive; the largest upper bound on the worth of sets that
        were neither refuted nor found feasible (`cells.NOTHING` if there are none).
    """
    units, idle = packed.units[gpu], packed.idle_power_w[gpu]
    lam, mu, nu = multipliers[0], multipliers[1], multipliers[2]
    constant = lam * box[1] + mu * (box[3] - idle) + nu * box[5]
    number = weight.shape[0]
    profit = np.full(number, NOTHING)
    for item in range(number):
        if weight[item] <= units:
            profit[item] = value[item] - level_price * weight[item] - lam * cache[item] - mu * power[item]
            profit[item] -= nu * traffic[item]
    order = _order_items(packed, gpu, count, weight, profit, goal - constant)
    size = order.shape[0]
    sets_found, nodes, open_worth = 0, 0, NOTHING
    if size < count:
        return sets_found, nodes, True, open_worth
    suffix = _suffix_table(count, units, order, weight, profit)
    members = np.empty(count, dtype=np.int64)
    position = np.full(count + 1, -1, dtype=np.int64)
    # Per depth: share left, sum of values, sums of least cache use, power and traffic of the members so far.
    space = np.zeros(count + 1, dtype=np.int64)
    sums = np.zeros((count + 1, 4))
    free = np.full(count, -1, dtype=np.int64)
    fixed = np.full(count, -1, dtype=np.int64)
    chosen = np.empty(count, dtype=np.int64)
    point = np.empty((5, count))
    space[0] = units
    depth = 0
    while depth >= 0:
        position[depth] += 1
        here = position[depth]
        missing = count - depth
        if here + missing > size:
            depth -= 1
            continue
        # The best completion from here on only falls with the position: leave the level once it is too low.
        rest = sums[depth, 0] - level_price * (units - space[depth])
        relaxed = rest - lam * sums[depth, 1] - mu * sums[depth, 2] - nu * sums[depth, 3] + constant
        if suffix[here, missing, space[depth]] + relaxed <= goal - GUARD:
            depth -= 1
            continue
        item = order[here]
        if here > 0 and order[here - 1] == item and (depth == 0 or position[depth - 1] != here - 1):
            continue  # copies of an item are taken in their order
        left = space[depth] - weight[item]
        if left < 0:
            continue
        if suffix[here + 1, missing - 1, left] + profit[item] + relaxed <= goal - GUARD:
            continue
        nodes += 1
        if nodes > node_limit:
            return sets_found, nodes, False, open_worth
        members[depth] = item
        if not least_point(packed, gpu, units, members, depth + 1, count, box[0], box[2], box[4], free, point):
            continue
        levels, cache_sum, power_sum, traffic_sum, value_sum = 0, 0.0, 0.0, 0.0, 0.0
        for k in range(depth + 1):
            levels += int(point[0, k])
            power_sum += point[1, k]
            cache_sum += point[2, k]
            traffic_sum += point[4, k]
            value_sum += value[members[k]]
        if cache_sum > box[1] or power_sum + idle > box[3] or traffic_sum > box[5]:
            continue
        if depth + 1 < count:
            depth += 1
            space[depth] = units - levels
            sums[depth, 0], sums[depth, 1], sums[depth, 2], sums[depth, 3] = (
                value_sum,
                cache_sum,
                power_sum,
                traffic_sum,
            )
            position[depth] = here
            continue
        most = value_sum - level_price * levels
        if most <= goal - GUARD:
            continue
        answer = place(packed, gpu, units, members, count, trials, fixed, point, chosen)
        if answer == INFEASIBLE:
            continue
        if answer == FEASIBLE:
            found[sets_found, :count] = members
            worth[sets_found] = most
            sets_found += 1
            if sets_found == found.shape[0]:
                return sets_found, nodes, False, open_worth
        else:
            open_worth = max(open_worth, most)
    return sets_found, nodes, True, open_worth

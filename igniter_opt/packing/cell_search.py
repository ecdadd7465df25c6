"""Exhaustive search of one interference cell, compiled: all feasible sets worth more than a goal.

Depth first over the items in a fixed order. In the notation of `cells`, a partial set can be completed to a set of
n items worth more than the goal only if its profits, plus the most profit of as many further items from those
still to come as are missing, within the share left, plus ``λ C_hi + μ (P_hi - idle) + ν T_hi``, exceed it. That most
profit is a table over (position, items missing, share left), computed once per cell. Since exactly so many items are
missing, only what each takes above the least that any takes is counted: a card full of items of nearly equal shares
has few such levels.

Where items are many and alike, sets of nearly equal profits are too many for that. Then the aggregate with the
dearest multiplier is taken out of the Lagrangian and into the table: the room for it, less the least that each item
takes, is cut into steps; what an item takes above the least counts in whole steps, rounded down, and the room that is
left, too. A sum of amounts rounded down is at most the rounded-down sum, so that no set is lost.

Partial sets are also given to `sets.least_point`, with the cell's n and its lower corner as the aggregates' floor: a
proof that they are infeasible is one for all their supersets of size n in the cell, and the ideal points it leaves (no
feasible set has less) replace the partial sums.

Hence when the search ends on its own accord, every feasible set of the cell worth more than the goal was
recorded, or counted in `open_worth` where `sets.place` gave no answer.
"""

import math

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray, RecordArray
from igniter_opt.base.compiled import compiled, part
from igniter_opt.packing.cells import CACHE, NOTHING, POWER, TRAFFIC, filled, new_offers, set_profits
from igniter_opt.packing.items import PackedItems
from igniter_opt.packing.sets import FEASIBLE, INFEASIBLE, least_point, place
from igniter_opt.packing.sorting import ascending

# Bounds are compared with the goal after giving this much back to rounding.
GUARD = 1e-9
# Entries of a table at most, and steps of an amount that are worth it.
_ENTRIES, _MOST_STEPS, _FEWEST_STEPS = 3_000_000, 400, 8
# What an amount in steps gives back to rounding, and the least step as a part of the room for an amount.
_STEP_GUARD, _LEAST_STEP = 1e-7, 1e-6


@part
def _order_items(offers: RecordArray, units: int, count: int, need: float) -> IntArray:
    """Items (repeated by copies) that some set with total profit above `need` can hold, by falling density."""
    number = offers.shape[0]
    # Most profit of k items (copies at will) within each share: an upper bound on what joins an item.
    table = filled(count + 1, units + 1)
    top = table[count]
    for item in range(number):
        own = offers[item]
        if own.weight <= units:
            top[own.weight] = max(top[own.weight], own.profit)
    for space in range(units + 1):
        table[0, space] = 0.0
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
        own = offers[item]
        if own.weight <= units and table[count - 1, units - own.weight] + own.profit > need - GUARD:
            for _ in range(min(own.copies, count)):
                kept[size] = item
                density[size] = -own.profit / own.weight
                size += 1
    order = ascending(density, size)
    for position in range(size):
        order[position] = kept[order[position]]
    return order


@part
def _suffix_table(
    count: int, room: int, steps: int, order: IntArray, offers: RecordArray, extra: IntArray
) -> FloatArray:
    """Most profit of exactly k items among those from a position on, within each excess of levels and steps left."""
    size = order.shape[0]
    table = np.empty((size + 1, count + 1, room + 1, steps + 1))
    for k in range(count + 1):
        for space in range(room + 1):
            for step in range(steps + 1):
                table[size, k, space, step] = NOTHING if k > 0 else 0.0
    for position in range(size - 1, -1, -1):
        profit = offers[order[position]].profit
        levels, taken = extra[position, 0], extra[position, 1]
        for k in range(count + 1):
            able = 0 < k <= size - position
            for space in range(room + 1):
                for step in range(steps + 1):
                    best = table[position + 1, k, space, step]
                    if able and space >= levels and step >= taken:
                        best = max(best, table[position + 1, k - 1, space - levels, step - taken] + profit)
                    table[position, k, space, step] = best
    return table


@compiled
def close_cell(
    packed: PackedItems,
    cells: RecordArray,
    row: int,
    least: FloatArray,
    value: FloatArray,
    level_price: float,
    goal: float,
    node_limit: int,
    by_steps: bool,
    trials: int,
    members: RecordArray,
    found: IntArray,
    worth: FloatArray,
) -> tuple[int, int, bool, float]:
    """Search a cell for feasible sets worth more than `goal`.

    Parameters
    ----------
    cells, row, least
        As `cells.fill_cell` takes them.
    node_limit
        Partial sets to look at, at most.
    by_steps
        Whether an aggregate is counted in steps.
    trials
        Limit of `sets.place`.
    members
        ``sets.MEMBER``, work space.
    found, worth
        Filled with sets, shape (sets, most items), and upper bounds of their worth; the search ends when full.

    Returns
    -------
    tuple
        Sets found; nodes; whether the search was exhaustive; the largest upper bound on the worth of sets that
        were neither refuted nor found feasible (`cells.NOTHING` if there are none).
    """
    cell = cells[row]
    gpu, count = cell.gpu, cell.count
    units, idle = packed.cards[gpu].units, packed.cards[gpu].idle_power_w
    lam, mu, nu = cell.cache_price, cell.power_price, cell.traffic_price
    constant = lam * cell.cache_high + mu * (cell.power_high - idle) + nu * cell.traffic_high
    offers = new_offers(packed, cells, row, least)
    set_profits(offers, cells, row, least, value, level_price)
    order = _order_items(offers, units, count, goal - constant)
    size = order.shape[0]
    sets_found, nodes, open_worth = 0, 0, NOTHING
    if size < count:
        return sets_found, nodes, True, open_worth
    # The least level of any item, and room for what items take above it; the same for an amount in steps.
    lightest = units
    for k in range(size):
        lightest = min(lightest, offers[order[k]].weight)
    room = units - count * lightest
    axis, steps, least_amount, amount_room, width, price = CACHE, 0, 0.0, 0.0, 1.0, 0.0
    if by_steps and room >= 0:
        steps = min(_MOST_STEPS, _ENTRIES // ((size + 1) * (count + 1) * (room + 1)) - 1)
        if steps < _FEWEST_STEPS:
            steps = 0
    if steps > 0:
        amount_room, price = cell.cache_high, lam * cell.cache_high
        if mu * (cell.power_high - idle) > price:
            axis, amount_room, price = POWER, cell.power_high - idle, mu * (cell.power_high - idle)
        if nu * cell.traffic_high > price:
            axis, amount_room, price = TRAFFIC, cell.traffic_high, nu * cell.traffic_high
        if price <= 0.0:
            steps = 0  # no aggregate matters
    if steps > 0:
        # That aggregate has no multiplier any more.
        constant -= price
        freed = lam if axis == CACHE else (mu if axis == POWER else nu)
        for item in range(offers.shape[0]):
            offers[item].profit += freed * least[row, item, axis]
        lam, mu, nu = 0.0 if axis == CACHE else lam, 0.0 if axis == POWER else mu, 0.0 if axis == TRAFFIC else nu
        least_amount = least[row, order[0], axis]
        for k in range(size):
            least_amount = min(least_amount, least[row, order[k], axis])
        # Steps so small that sums' rounding is a part of one are not worth it.
        least_width = _LEAST_STEP * amount_room + 1e-12
        width = max(least_width, (amount_room - count * least_amount) / steps)
        if amount_room - count * least_amount < -least_width:
            room = -1
    if room < 0:
        return sets_found, nodes, True, open_worth
    extra = np.empty((size, 2), dtype=np.int64)
    for k in range(size):
        extra[k, 0], extra[k, 1] = offers[order[k]].weight - lightest, 0
        if steps > 0:
            extra[k, 1] = int(max(0.0, (least[row, order[k], axis] - least_amount) / width - _STEP_GUARD))
    suffix = _suffix_table(count, room, steps, order, offers, extra)
    # Per depth: share left, sum of values, sums of least cache use, power and traffic of the members so far.
    position = np.empty(count + 1, dtype=np.int64)
    space = np.empty(count + 1, dtype=np.int64)
    sums = np.empty((count + 1, 4))
    position[0], space[0] = -1, units
    for column in range(4):
        sums[0, column] = 0.0
    for k in range(count):
        members[k].fixed = -1
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
        levels_left, steps_left = min(room, space[depth] - missing * lightest), 0
        if steps > 0:
            amount_left = amount_room - sums[depth, axis] - missing * least_amount
            steps_left = min(steps, math.floor(amount_left / width + _STEP_GUARD))
        if (
            levels_left < 0
            or steps_left < 0
            or suffix[here, missing, levels_left, steps_left] + relaxed <= goal - GUARD
        ):
            depth -= 1
            continue
        item = order[here]
        if here > 0 and order[here - 1] == item and (depth == 0 or position[depth - 1] != here - 1):
            continue  # copies of an item are taken in their order
        levels_left -= extra[here, 0]
        if steps > 0:
            amount_left -= least[row, item, axis] - least_amount
            steps_left = min(steps, math.floor(amount_left / width + _STEP_GUARD))
        if levels_left < 0 or steps_left < 0:
            continue
        if suffix[here + 1, missing - 1, levels_left, steps_left] + offers[item].profit + relaxed <= goal - GUARD:
            continue
        nodes += 1
        if nodes > node_limit:
            return sets_found, nodes, False, open_worth
        members[depth].index = item
        floors = (cell.cache_low, cell.power_low, cell.traffic_low)
        if not least_point(packed, gpu, units, members, depth + 1, count, *floors):
            continue
        levels, cache_sum, power_sum, traffic_sum, value_sum = 0, 0.0, 0.0, 0.0, 0.0
        for k in range(depth + 1):
            own = members[k]
            levels += int(own.level)
            power_sum += own.power_w
            cache_sum += own.cache
            traffic_sum += own.traffic
            value_sum += value[own.index]
        if cache_sum > cell.cache_high or power_sum + idle > cell.power_high or traffic_sum > cell.traffic_high:
            continue
        if depth + 1 < count:
            depth += 1
            space[depth] = units - levels
            sums[depth, 0], sums[depth, 1] = value_sum, cache_sum
            sums[depth, 2], sums[depth, 3] = power_sum, traffic_sum
            position[depth] = here
            continue
        most = value_sum - level_price * levels
        if most <= goal - GUARD:
            continue
        answer = place(packed, gpu, units, members, count, trials)
        for k in range(count):
            members[k].fixed = -1
        if answer == INFEASIBLE:
            continue
        if answer == FEASIBLE:
            for k in range(count):
                found[sets_found, k] = members[k].index
            worth[sets_found] = most
            sets_found += 1
            if sets_found == found.shape[0]:
                return sets_found, nodes, False, open_worth
        else:
            open_worth = max(open_worth, most)
    return sets_found, nodes, True, open_worth

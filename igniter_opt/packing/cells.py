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

from igniter_opt.base.arrays import FloatArray, IntArray, RecordArray, record_type
from igniter_opt.base.compilable import compilable
from igniter_opt.base.compiled import compiled, part
from igniter_opt.packing.items import MUCH, PackedItems
from igniter_opt.packing.sets import PROOF_GUARD
from igniter_opt.physics.rows import clock, needed

NOTHING = -1e300

BOX = ("cache_low", "cache_high", "power_low", "power_high", "traffic_low", "traffic_high")
# A cell: its GPU type, number of items, how often it was split off, and box; λ, μ and ν as they are now; its bound when
# it was last computed.
CELL = record_type(
    ("gpu", "count", "depth"),
    (*BOX, "cache_price", "power_price", "traffic_price", "bound"),
)
# Columns of the least amounts w, c, p and t.
LEVEL, CACHE, POWER, TRAFFIC = 0, 1, 2, 3
AMOUNTS = 4
# An item in a knapsack: its weight, how often it may be taken, and its profit.
OFFER = record_type(("weight", "copies"), ("profit",))


@compiled
def fill_cell(packed: PackedItems, cells: RecordArray, row: int, least: FloatArray) -> bool:
    """Fill in every item's least share level, cache use, power, traffic in a cell; False if no set is in the cell.

    Parameters
    ----------
    cells, row
        ``CELL``, and which of them.
    least
        Shape (cells, items, AMOUNTS), of which the cell's row is filled in; the level is units + 1 where an item
        cannot be in the cell.
    """
    cell = cells[row]
    card = packed.cards[cell.gpu]
    delay = packed.delay_ms[cell.gpu, cell.count]
    idle = card.idle_power_w
    for number in range(packed.items.shape[1]):
        best, least_cache, least_power, least_traffic = card.units + 1, MUCH, MUCH, MUCH
        item = packed.items[cell.gpu, number]
        for c in range(item.first, item.end):
            own = packed.rows[c]
            if own.cache > cell.cache_high or idle + own.power_w > cell.power_high or own.traffic > cell.traffic_high:
                continue
            ratio = clock(card.clock_intercept, card.clock_slope, max(cell.power_low, idle + own.power_w))
            left = needed(
                own.alone, own.kernels, delay,
                own.sensitivity, max(cell.cache_low - own.cache, 0.0),
                own.traffic_sensitivity, max(cell.traffic_low - own.traffic, 0.0),
            )  # fmt: skip
            if left > ratio + PROOF_GUARD:
                continue
            best = min(best, own.level)
            least_cache = min(least_cache, own.cache)
            least_power = min(least_power, own.power_w)
            least_traffic = min(least_traffic, own.traffic)
        least[row, number, LEVEL], least[row, number, CACHE] = best, least_cache
        least[row, number, POWER], least[row, number, TRAFFIC] = least_power, least_traffic
    # The n items of least share, cache use, power, traffic must fit, each on its own.
    for amount in range(AMOUNTS):
        total = _least_sum(packed, cells, row, least, amount)
        if amount == LEVEL and total > card.units:
            return False
        if amount == CACHE and total > cell.cache_high:
            return False
        if amount == POWER and total + idle > cell.power_high:
            return False
        if amount == TRAFFIC and total > cell.traffic_high:
            return False
    return True


@part
def _least_sum(packed: PackedItems, cells: RecordArray, row: int, least: FloatArray, amount: int) -> float:
    """Least sum of an amount over as many copies of items that can be in the cell as it has."""
    gpu, count = cells[row].gpu, cells[row].count
    smallest = np.empty(count)
    for k in range(count):
        smallest[k] = MUCH
    for item in range(packed.items.shape[1]):
        if least[row, item, LEVEL] > packed.cards[gpu].units:
            continue
        value = least[row, item, amount]
        for _ in range(min(packed.items[gpu, item].copies, count)):
            if value >= smallest[count - 1]:
                break
            position = count - 1
            while position > 0 and smallest[position - 1] > value:
                smallest[position] = smallest[position - 1]
                position -= 1
            smallest[position] = value
    total = 0.0
    for k in range(count):
        total += smallest[k]
    return total


@compilable
def set_profits(
    offers: RecordArray, cells: RecordArray, row: int, least: FloatArray, value: FloatArray, level_price: float
) -> None:
    """Fill in the items' profits ``v - θ w - λ c - μ p - ν t`` at a cell's prices."""
    cell = cells[row]
    for item in range(offers.shape[0]):
        offers[item].profit = (
            value[item]
            - level_price * least[row, item, LEVEL]
            - cell.cache_price * least[row, item, CACHE]
            - cell.power_price * least[row, item, POWER]
            - cell.traffic_price * least[row, item, TRAFFIC]
        )


@compilable
def new_offers(packed: PackedItems, cells: RecordArray, row: int, least: FloatArray) -> RecordArray:
    """Return the items as a cell's knapsack has them, without profits."""
    gpu = cells[row].gpu
    offers = np.empty(packed.items.shape[1], dtype=OFFER)
    for item in range(offers.shape[0]):
        own = offers[item]
        own.weight, own.copies = int(least[row, item, LEVEL]), packed.items[gpu, item].copies
    return offers


@compilable
def filled(rows: int, columns: int) -> FloatArray:
    """Return a table of NOTHING."""
    table = np.empty((rows, columns))
    for row in range(rows):
        for column in range(columns):
            table[row, column] = NOTHING
    return table


@part
def knapsack(offers: RecordArray, units: int, count: int, members: IntArray) -> float:
    """Most profit of exactly `count` copies of items with total weight at most `units`; NOTHING if there are none.

    Parameters
    ----------
    offers
        ``OFFER``; items of weight above `units` are left out.
    members
        Filled with the chosen items, shape (count,).
    """
    # Candidates: by ascending weight, those that fewer than `count` lighter-or-equal copies match in profit.
    top_profit = filled(units + 1, count)
    top_item = np.empty((units + 1, count), dtype=np.int64)
    for w in range(units + 1):
        for k in range(count):
            top_item[w, k] = -1
    for item in range(offers.shape[0]):
        own = offers[item]
        w, value = own.weight, own.profit
        if w > units:
            continue
        for _ in range(min(own.copies, count)):
            if value <= top_profit[w, count - 1]:
                break
            position = count - 1
            while position > 0 and top_profit[w, position - 1] < value:
                top_profit[w, position] = top_profit[w, position - 1]
                top_item[w, position] = top_item[w, position - 1]
                position -= 1
            top_profit[w, position] = value
            top_item[w, position] = item
    best = np.empty(count)
    for k in range(count):
        best[k] = NOTHING
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
    table = filled(count + 1, units + 1)
    for space in range(units + 1):
        table[0, space] = 0.0
    taken = np.zeros((number, count + 1, units + 1), dtype=np.bool_)
    for position in range(number):
        own = offers[candidates[position]]
        w, value = own.weight, own.profit
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
            space -= offers[candidates[position]].weight
    return float(answer)


@compiled
def bound_cells(
    packed: PackedItems,
    cells: RecordArray,
    rows: IntArray,
    least: FloatArray,
    members: IntArray,
    value: FloatArray,
    level_price: FloatArray,
    goal: FloatArray,
    steps: int,
) -> None:
    """Fill in upper bounds on the worth of any feasible set in some cells.

    Parameters
    ----------
    cells
        ``CELL``; bound, λ, μ and ν are replaced by the best found.
    rows
        Which of them to treat.
    members
        Shape (cells, most items): a cell's row is filled with the set that attains its bound.
    value, level_price
        Item values, and θ of every GPU type.
    goal
        Stop improving a cell's multipliers once its bound is at or below this on its GPU type.
    steps
        Subgradient steps at most.
    """
    for number in range(rows.shape[0]):
        row = rows[number]
        cell = cells[row]
        count, units, idle = cell.count, packed.cards[cell.gpu].units, packed.cards[cell.gpu].idle_power_w
        cache_room, power_room, traffic_room = cell.cache_high, cell.power_high - idle, cell.traffic_high
        best = 1e300
        lam, mu, nu = cell.cache_price, cell.power_price, cell.traffic_price
        best_lam, best_mu, best_nu = lam, mu, nu
        offers = new_offers(packed, cells, row, least)
        found = np.empty(count, dtype=np.int64)
        step = 1.0
        for _ in range(steps + 1):
            cell.cache_price, cell.power_price, cell.traffic_price = lam, mu, nu
            set_profits(offers, cells, row, least, value, level_price[cell.gpu])
            most = knapsack(offers, units, count, found)
            if most <= NOTHING:
                best = NOTHING
                break
            bound = most + lam * cache_room + mu * power_room + nu * traffic_room
            if bound < best:
                best = bound
                best_lam, best_mu, best_nu = lam, mu, nu
                for k in range(count):
                    members[row, k] = found[k]
            else:
                step *= 0.5
            if best <= goal[cell.gpu]:
                break
            cache_excess, power_excess, traffic_excess = -cache_room, -power_room, -traffic_room
            for k in range(count):
                cache_excess += least[row, found[k], CACHE]
                power_excess += least[row, found[k], POWER]
                traffic_excess += least[row, found[k], TRAFFIC]
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
            size = step * (bound - goal[cell.gpu]) / length
            lam = max(0.0, lam + size * scaled_cache / (cache_room + 1e-9))
            mu = max(0.0, mu + size * scaled_power / (power_room + 1e-9))
            nu = max(0.0, nu + size * scaled_traffic / (traffic_room + 1e-9))
        cell.cache_price, cell.power_price, cell.traffic_price = best_lam, best_mu, best_nu
        cell.bound = best


@compiled
def split_axis(packed: PackedItems, cells: RecordArray, row: int, members: IntArray) -> int:
    """Which axis to halve: 0 for cache use, 1 for power, 2 for traffic.

    The one whose upper half asks more share of the set that attains the bound; where none does, the widest.
    """
    cell = cells[row]
    card = packed.cards[cell.gpu]
    half_cache = (cell.cache_high - cell.cache_low) / 2
    half_power = (cell.power_high - cell.power_low) / 2
    half_traffic = (cell.traffic_high - cell.traffic_low) / 2
    by_cache, by_power, by_traffic = 0, 0, 0
    for k in range(3 * cell.count):
        item, axis = members[row, k // 3], k % 3
        level = corner_level(
            packed,
            cell.gpu,
            cell.count,
            cell.cache_low + (half_cache if axis == 0 else 0.0),
            cell.power_low + (half_power if axis == 1 else 0.0),
            cell.traffic_low + (half_traffic if axis == 2 else 0.0),
            item,
        )
        if axis == 0:
            by_cache += level
        elif axis == 1:
            by_power += level
        else:
            by_traffic += level
    if by_traffic > max(by_cache, by_power):
        return 2
    wide = half_traffic / card.traffic_limit if card.traffic_limit > 0 else 0.0
    even = by_traffic == by_cache and by_traffic == by_power
    if even and wide * card.cache_limit > half_cache and wide * card.power_limit_w > half_power:
        return 2
    if by_cache != by_power:
        return 0 if by_cache > by_power else 1
    power_matters = clock(card.clock_intercept, card.clock_slope, cell.power_high) < 1.0
    if not power_matters:
        return 0
    return 0 if half_cache / card.cache_limit >= half_power / card.power_limit_w else 1


@part
def corner_level(
    packed: PackedItems, gpu: int, count: int, cache_low: float, power_low: float, traffic_low: float, item: int
) -> int:
    """Least share level of an item at a cell's lower corner; units + 1 if there is none."""
    delay, card, entry = packed.delay_ms[gpu, count], packed.cards[gpu], packed.items[gpu, item]
    for c in range(entry.first, entry.end):
        own = packed.rows[c]
        ratio = clock(card.clock_intercept, card.clock_slope, max(power_low, card.idle_power_w + own.power_w))
        left = needed(
            own.alone, own.kernels, delay,
            own.sensitivity, max(cache_low - own.cache, 0.0),
            own.traffic_sensitivity, max(traffic_low - own.traffic, 0.0),
        )  # fmt: skip
        if left <= ratio + PROOF_GUARD:
            return int(own.level)
    return int(card.units) + 1

"""Best-fit construction and local search over plans, compiled.

A plan is a number of GPUs with their types, and items on each; every GPU's set is proven feasible by
`sets.choose`, which picks batches and shares anew whenever a set changes.
"""

import math
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray, RecordArray, record_type
from igniter_opt.base.compilable import compilable
from igniter_opt.base.compiled import compiled, part
from igniter_opt.packing.chance import below, chance, seeded
from igniter_opt.packing.items import PackedItems
from igniter_opt.packing.sets import FEASIBLE, place
from igniter_opt.packing.sorting import ascending

# Of more GPUs than this with room for an item only the fullest are tried, then as many of the emptiest.
_MOST_TRIED = 60

# GPU type, number of items and total share levels of a GPU.
GPU = record_type(("kind", "count", "used"))
# Another item of the same class (with the next replica count, in a circle), -1 for none; an item's replica count; what
# it is worth.
WORTH = record_type(("alternative", "replicas"), ("value",))


class Packing(NamedTuple):
    """A plan in arrays: the first ``number[0]`` GPUs are in use.

    Attributes
    ----------
    gpus
        ``GPU``.
    members
        Items of each GPU, shape (GPUs, most items).
    left
        How many more GPUs of each type may be opened.
    number
        Shape (1,): GPUs in use.
    """

    gpus: RecordArray
    members: IntArray
    left: IntArray
    number: IntArray


class Prices(NamedTuple):
    """Price of a GPU of each type, and what is to be known of each item (``WORTH``)."""

    price: FloatArray
    items: RecordArray


@compilable
def levels_with(packed: PackedItems, gpu: int, plan: Packing, j: int, size: int, item: int, work: RecordArray) -> int:
    """Total share levels on a GPU of some type of j's first items and one more; -1 if it is not found feasible.

    Parameters
    ----------
    item
        The one more; none if negative.
    work
        ``sets.MEMBER``, none fixed.
    """
    for k in range(size):
        work[k].index = plan.members[j, k]
    number = size
    if item >= 0:
        work[size].index = item
        number += 1
    if place(packed, gpu, packed.cards[gpu].units, work, number, 0) != FEASIBLE:
        return -1
    total = 0
    for k in range(number):
        total += packed.rows[work[k].chosen].level
    return total


@part
def insert(packed: PackedItems, prices: Prices, plan: Packing, item: int, work: RecordArray) -> bool:
    """Put an item where the least room is left, or on a new GPU; False if neither is possible."""
    used = plan.number[0]
    candidates = np.empty(used, dtype=np.int64)
    rooms = np.empty(used)
    number = 0
    for j in range(used):
        gpu = plan.gpus[j]
        card, entry = packed.cards[gpu.kind], packed.items[gpu.kind, item]
        if entry.copies > 0 and gpu.used + entry.least_level <= card.units and gpu.count < card.most:
            candidates[number] = j
            rooms[number] = (card.units - gpu.used) * prices.price[gpu.kind] / card.units
            number += 1
    if number > _MOST_TRIED:
        order = ascending(rooms, number)
        for position in range(number):
            order[position] = candidates[order[position]]
        candidates = order
    best, best_room, best_levels = -1, 1e300, 0
    for turn in range(min(number, 2 * _MOST_TRIED)):
        position = turn
        if turn >= _MOST_TRIED:
            if best >= 0:
                break
            # None of the fullest: go on from the emptiest.
            position = number - 1 - (turn - _MOST_TRIED)
        j = candidates[position]
        gpu = plan.gpus[j]
        levels = levels_with(packed, gpu.kind, plan, j, gpu.count, item, work)
        if levels < 0:
            continue
        # Room left is compared across types by what it costs.
        units = packed.cards[gpu.kind].units
        room = (units - levels) * prices.price[gpu.kind] / units
        if room < best_room:
            best, best_room, best_levels = j, room, levels
            if levels == units:
                break
    if best >= 0:
        gpu = plan.gpus[best]
        plan.members[best, gpu.count] = item
        gpu.count += 1
        gpu.used = best_levels
        return True
    # On a new GPU of the type on which its least share costs least.
    best_price = 1e300
    for kind in range(packed.cards.shape[0]):
        entry = packed.items[kind, item]
        if plan.left[kind] > 0 and entry.copies > 0:
            price = prices.price[kind] * entry.least_level / packed.cards[kind].units
            if price < best_price:
                best, best_price = kind, price
    if best < 0 or used >= plan.gpus.shape[0]:
        return False
    plan.members[used, 0] = item
    levels = levels_with(packed, best, plan, used, 1, -1, work)
    if levels >= 0:
        gpu = plan.gpus[used]
        gpu.kind, gpu.count, gpu.used = best, 1, levels
        plan.left[best] -= 1
        plan.number[0] += 1
    return levels >= 0


@compilable
def move_gpu(source: Packing, j: int, target: Packing, place: int) -> None:
    """Copy a GPU of a plan to a place in the same or another one."""
    old, new = source.gpus[j], target.gpus[place]
    new.kind, new.count, new.used = old.kind, old.count, old.used
    for k in range(old.count):
        target.members[place, k] = source.members[j, k]


@compilable
def close_gpu(plan: Packing, j: int) -> None:
    """Give a GPU back; the last one takes its place."""
    plan.left[plan.gpus[j].kind] += 1
    plan.number[0] -= 1
    move_gpu(plan, plan.number[0], plan, j)


@part
def cheaper_types(packed: PackedItems, prices: Prices, plan: Packing, work: RecordArray) -> None:
    """Move every GPU's set to the cheapest type that carries it, dearest GPUs first."""
    types = prices.price.shape[0]
    if types == 1:
        return
    for _ in range(2):
        for j in range(plan.number[0]):
            gpu = plan.gpus[j]
            best, best_levels = gpu.kind, 0
            for kind in range(types):
                if prices.price[kind] >= prices.price[best] or plan.left[kind] <= 0:
                    continue
                able = True
                for k in range(gpu.count):
                    able = able and packed.items[kind, plan.members[j, k]].copies > 0
                if not able:
                    continue
                levels = levels_with(packed, kind, plan, j, gpu.count, -1, work)
                if levels >= 0:
                    best, best_levels = kind, levels
            if best != gpu.kind:
                plan.left[gpu.kind] += 1
                plan.left[best] -= 1
                gpu.kind, gpu.used = best, best_levels


@compilable
def worth_of(prices: Prices, plan: Packing, j: int) -> float:
    """What a GPU's items are worth."""
    worth = 0.0
    for k in range(plan.gpus[j].count):
        worth += prices.items[plan.members[j, k]].value
    return worth


@compilable
def score(prices: Prices, plan: Packing) -> float:
    """Cost less a reward below any price for uneven filling (sum of squares), which empties GPUs in the end."""
    cost, uneven = 0.0, 0.0
    for j in range(plan.number[0]):
        price = prices.price[plan.gpus[j].kind]
        worth = worth_of(prices, plan, j)
        cost += price
        uneven += worth * worth / price
    return cost - 0.2 * uneven


@compilable
def copy_packing(source: Packing, target: Packing) -> None:
    """Copy a plan into arrays of the same shapes."""
    for j in range(source.number[0]):
        move_gpu(source, j, target, j)
    for kind in range(source.left.shape[0]):
        target.left[kind] = source.left[kind]
    target.number[0] = source.number[0]


@compiled
def ruin_and_recreate(
    packed: PackedItems,
    prices: Prices,
    plan: Packing,
    spare: Packing,
    best: Packing,
    queue: IntArray,
    first: int,
    last: int,
    rounds: int,
    temperature: float,
    seed: int,
    work: RecordArray,
    goal: FloatArray,
    harvest: IntArray,
    noted: int,
) -> int:
    """Empty a few GPUs, insert their items anew, keep what is no worse (or little worse, at random).

    Construction is the same without ruin, hence here: whatever is compiled twice takes twice as long.

    Parameters
    ----------
    plan
        The plan to begin with; left at the last accepted one.
    spare, best
        Arrays of the same shapes: scratch, and the best plan found (before, too, unless `first` is 0).
    queue
        Items to insert in this order, no more; empty to improve the plan.
    first, last, rounds
        Rounds to do, of so many in all; the first seeds the random numbers.
    temperature
        In units of the mean price: worse plans are accepted with probability exp(-loss / temperature), cooling
        linearly to nothing.
    goal
        Sets worth more than this on their type are noted, shape (GPU types,).
    harvest
        Shape (sets, 2 + most items): filled with GPU type, size and items of such sets.
    noted
        How many are there already.

    Returns
    -------
    int
        How many sets are noted now; -1 if an item of the queue fits nowhere.
    """
    constructs = queue.shape[0] > 0
    pool = np.empty(8 * plan.members.shape[1] + 256, dtype=np.int64)
    keys = np.empty(pool.shape[0])
    current = score(prices, plan)
    if first == 0:
        seeded(seed)
        copy_packing(plan, best)
    best_score = score(prices, best)
    mean_price = 0.0
    for kind in range(prices.price.shape[0]):
        mean_price += prices.price[kind]
    mean_price /= prices.price.shape[0]
    for turn in range(first, last):
        removed, order = 0, queue
        if not constructs:
            if plan.number[0] < 2:
                break
            copy_packing(plan, spare)
            removed = 2 + below(4)
            number = 0
            for k in range(min(removed, plan.number[0])):
                j = below(plan.number[0])
                if k == 0:
                    # The emptier of three at random: the one most likely to vanish.
                    for _ in range(2):
                        other = below(plan.number[0])
                        mine, its = plan.gpus[j], plan.gpus[other]
                        if its.used * packed.cards[mine.kind].units < mine.used * packed.cards[its.kind].units:
                            j = other
                for m in range(plan.gpus[j].count):
                    pool[number] = plan.members[j, m]
                    number += 1
                close_gpu(plan, j)
            number = _change_replicas(packed, plan, pool, number, prices, work)
            noise = chance() * 0.6
            for k in range(number):
                least = 1e18
                for kind in range(prices.price.shape[0]):
                    entry = packed.items[kind, pool[k]]
                    if entry.copies > 0:
                        least = min(least, entry.least_level / packed.cards[kind].units)
                keys[k] = -least * (1.0 + noise * (chance() - 0.5))
            order = ascending(keys, number)
            for k in range(number):
                order[k] = pool[order[k]]
        placed = True
        for position in range(order.shape[0]):
            placed = insert(packed, prices, plan, order[position], work)
            if not placed:
                break
        if placed:
            cheaper_types(packed, prices, plan, work)
        if constructs:
            return noted if placed else -1
        if placed:
            for j in range(max(0, spare.number[0] - removed), plan.number[0]):
                gpu = plan.gpus[j]
                if noted < harvest.shape[0] and worth_of(prices, plan, j) > goal[gpu.kind]:
                    harvest[noted, 0], harvest[noted, 1] = gpu.kind, gpu.count
                    for k in range(gpu.count):
                        harvest[noted, 2 + k] = plan.members[j, k]
                    noted += 1
            found = score(prices, plan)
            heat = temperature * mean_price * (1.0 - turn / rounds)
            if found <= current or (heat > 0 and chance() < math.exp((current - found) / heat)):
                current = found
                if found < best_score - 1e-12:
                    best_score = found
                    copy_packing(plan, best)
                continue
        copy_packing(spare, plan)
    return noted


@part
def _change_replicas(
    packed: PackedItems, plan: Packing, pool: IntArray, number: int, prices: Prices, work: RecordArray
) -> int:
    """Now and then split or join one removed workload: take all its replicas out and queue another number."""
    if number == 0 or chance() < 0.5:
        return number
    item = pool[below(number)]
    other, replicas = prices.items[item].alternative, prices.items[item].replicas
    if other < 0:
        return number
    # Take that many copies out of the pool, and where these do not suffice, out of the plan.
    missing = replicas
    k = 0
    while k < number and missing > 0:
        if pool[k] == item:
            number -= 1
            pool[k] = pool[number]
            missing -= 1
        else:
            k += 1
    for j in range(plan.number[0] - 1, -1, -1):
        gpu = plan.gpus[j]
        k = 0
        while k < gpu.count and missing > 0:
            if plan.members[j, k] == item:
                gpu.count -= 1
                plan.members[j, k] = plan.members[j, gpu.count]
                missing -= 1
            else:
                k += 1
        if gpu.count == 0:
            close_gpu(plan, j)
        elif missing < replicas:
            gpu.used = levels_with(packed, gpu.kind, plan, j, gpu.count, -1, work)
    for _ in range(prices.items[other].replicas):
        pool[number] = other
        number += 1
    return number

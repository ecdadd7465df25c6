"""Best-fit construction and local search over plans, compiled.

A plan is a number of GPUs with their types, and items on each; every GPU's set is proven feasible by
`sets.choose`, which picks batches and shares anew whenever a set changes.
"""

from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.compiled import compiled
from igniter_opt.packing.items import PackedItems
from igniter_opt.packing.sets import FEASIBLE, choose

# Of more GPUs than this with room for an item only the fullest are tried, then as many of the emptiest.
_MOST_TRIED = 60


class Packing(NamedTuple):
    """A plan in arrays: the first ``number[0]`` GPUs are in use.

    Attributes
    ----------
    kind, size, used
        GPU type, number of items and total share levels of each GPU.
    members
        Items of each GPU, shape (GPUs, most items).
    left
        How many more GPUs of each type may be opened.
    number
        Shape (1,): GPUs in use.
    """

    kind: IntArray
    size: IntArray
    used: IntArray
    members: IntArray
    left: IntArray
    number: IntArray


class Workspace(NamedTuple):
    """Scratch arrays for the set check."""

    fixed: IntArray
    point: FloatArray
    chosen: IntArray
    trial: IntArray


class Prices(NamedTuple):
    """Price of a GPU of each type, the least share level of each item on it, and what each item is worth."""

    price: FloatArray
    least_level: IntArray
    value: FloatArray


@compiled
def levels_with(packed: PackedItems, gpu: int, members: IntArray, size: int, item: int, work: Workspace) -> int:
    """Total share levels of a set with one more item (none if negative); -1 if it is not found feasible."""
    work.trial[:size] = members[:size]
    number = size
    if item >= 0:
        work.trial[size] = item
        number += 1
    if choose(packed, gpu, packed.units[gpu], work.trial, number, work.fixed, work.point, work.chosen) != FEASIBLE:
        return -1
    total = 0
    for k in range(number):
        total += packed.level[work.chosen[k]]
    return total


@compiled
def insert(packed: PackedItems, prices: Prices, plan: Packing, item: int, work: Workspace, first: int) -> bool:
    """Put an item where the least room is left, or on a new GPU; False if neither is possible.

    Parameters
    ----------
    first
        GPUs before this one are left alone.
    """
    candidates = np.empty(plan.number[0], dtype=np.int64)
    rooms = np.empty(plan.number[0])
    number = 0
    for j in range(first, plan.number[0]):
        g = plan.kind[j]
        if plan.used[j] + prices.least_level[g, item] > packed.units[g] or plan.size[j] >= packed.most[g]:
            continue
        if packed.copies[g, item] > 0:
            candidates[number] = j
            rooms[number] = (packed.units[g] - plan.used[j]) * prices.price[g] / packed.units[g]
            number += 1
    order = np.arange(number)
    if number > _MOST_TRIED:
        order = np.argsort(rooms[:number], kind="mergesort")
    best, best_room, best_levels = -1, 1e300, 0
    for turn in range(min(number, 2 * _MOST_TRIED)):
        position = turn
        if turn >= _MOST_TRIED:
            if best >= 0:
                break
            # None of the fullest: go on from the emptiest.
            position = number - 1 - (turn - _MOST_TRIED)
        j = candidates[order[position]]
        g = plan.kind[j]
        levels = levels_with(packed, g, plan.members[j], plan.size[j], item, work)
        if levels < 0:
            continue
        # Room left is compared across types by what it costs.
        room = (packed.units[g] - levels) * prices.price[g] / packed.units[g]
        if room < best_room:
            best, best_room, best_levels = j, room, levels
            if levels == packed.units[g]:
                break
    if best >= 0:
        plan.members[best, plan.size[best]] = item
        plan.size[best] += 1
        plan.used[best] = best_levels
        return True
    return open_gpu(packed, prices, plan, item, work)


@compiled
def open_gpu(packed: PackedItems, prices: Prices, plan: Packing, item: int, work: Workspace) -> bool:
    """Put an item on a new GPU of the type on which its least share costs least."""
    best, best_price = -1, 1e300
    for g in range(prices.price.shape[0]):
        if plan.left[g] <= 0 or packed.copies[g, item] == 0:
            continue
        price = prices.price[g] * prices.least_level[g, item] / packed.units[g]
        if price < best_price:
            best, best_price = g, price
    j = plan.number[0]
    if best < 0 or j >= plan.kind.shape[0]:
        return False
    plan.members[j, 0] = item
    levels = levels_with(packed, best, plan.members[j], 1, -1, work)
    if levels < 0:
        return False
    plan.kind[j], plan.size[j], plan.used[j] = best, 1, levels
    plan.left[best] -= 1
    plan.number[0] += 1
    return True


@compiled
def close_gpu(plan: Packing, j: int) -> None:
    """Give a GPU back; the last one takes its place."""
    plan.left[plan.kind[j]] += 1
    last = plan.number[0] - 1
    plan.kind[j], plan.size[j], plan.used[j] = plan.kind[last], plan.size[last], plan.used[last]
    plan.members[j] = plan.members[last]
    plan.number[0] = last


@compiled
def cheaper_types(packed: PackedItems, prices: Prices, plan: Packing, work: Workspace) -> None:
    """Move every GPU's set to the cheapest type that carries it, dearest GPUs first."""
    if prices.price.shape[0] == 1:
        return
    for _ in range(2):
        for j in range(plan.number[0]):
            now = plan.kind[j]
            best, best_levels = now, 0
            for g in range(prices.price.shape[0]):
                if prices.price[g] >= prices.price[best] or plan.left[g] <= 0:
                    continue
                able = True
                for k in range(plan.size[j]):
                    able = able and packed.copies[g, plan.members[j, k]] > 0
                if not able:
                    continue
                levels = levels_with(packed, g, plan.members[j], plan.size[j], -1, work)
                if levels >= 0:
                    best, best_levels = g, levels
            if best != now:
                plan.left[now] += 1
                plan.left[best] -= 1
                plan.kind[j], plan.used[j] = best, best_levels


@compiled
def construct(packed: PackedItems, prices: Prices, plan: Packing, order: IntArray, work: Workspace) -> bool:
    """Insert items in the given order; False if one fits nowhere."""
    for item in order:
        if not insert(packed, prices, plan, item, work, 0):
            return False
    cheaper_types(packed, prices, plan, work)
    return True


@compiled
def score(packed: PackedItems, prices: Prices, plan: Packing) -> float:
    """Cost less a reward below any price for uneven filling (sum of squares), which empties GPUs in the end."""
    cost, uneven = 0.0, 0.0
    for j in range(plan.number[0]):
        price = prices.price[plan.kind[j]]
        worth = 0.0
        for k in range(plan.size[j]):
            worth += prices.value[plan.members[j, k]]
        cost += price
        uneven += worth * worth / price
    return cost - 0.2 * uneven


@compiled
def copy_packing(source: Packing, target: Packing) -> None:
    """Copy a plan into arrays of the same shapes."""
    number = source.number[0]
    target.kind[:number] = source.kind[:number]
    target.size[:number] = source.size[:number]
    target.used[:number] = source.used[:number]
    target.members[:number] = source.members[:number]
    target.left[:] = source.left
    target.number[0] = number


@compiled
def ruin_and_recreate(
    packed: PackedItems,
    prices: Prices,
    plan: Packing,
    spare: Packing,
    best: Packing,
    alternatives: IntArray,
    replicas: IntArray,
    first: int,
    last: int,
    rounds: int,
    temperature: float,
    seed: int,
    work: Workspace,
    goal: FloatArray,
    harvest: IntArray,
    noted: int,
) -> int:
    """Empty a few GPUs, insert their items anew, keep what is no worse (or little worse, at random).

    Parameters
    ----------
    plan
        The plan to begin with; left at the last accepted one.
    spare, best
        Arrays of the same shapes: scratch, and the best plan found (before, too, unless `first` is 0).
    alternatives
        Another item of the same class (with the next replica count, in a circle) for every item, -1 for none.
    replicas
        Replica count of each item.
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
        How many sets are noted now.
    """
    pool = np.empty(8 * plan.members.shape[1] + 256, dtype=np.int64)
    keys = np.empty(pool.shape[0])
    current = score(packed, prices, plan)
    if first == 0:
        np.random.seed(seed)
        copy_packing(plan, best)
    best_score = score(packed, prices, best)
    mean_price = prices.price.mean()
    for turn in range(first, last):
        if plan.number[0] < 2:
            break
        copy_packing(plan, spare)
        number = 0
        removed = 2 + np.random.randint(0, 4)
        for k in range(min(removed, plan.number[0])):
            if k == 0:
                # The emptier of three at random: the one most likely to vanish.
                j = np.random.randint(0, plan.number[0])
                for _ in range(2):
                    other = np.random.randint(0, plan.number[0])
                    if plan.used[other] * packed.units[plan.kind[j]] < plan.used[j] * packed.units[plan.kind[other]]:
                        j = other
            else:
                j = np.random.randint(0, plan.number[0])
            for m in range(plan.size[j]):
                pool[number] = plan.members[j, m]
                number += 1
            close_gpu(plan, j)
        number = _change_replicas(packed, plan, pool, number, alternatives, replicas, prices, work)
        noise = np.random.random() * 0.6
        for k in range(number):
            least = 1e18
            for g in range(prices.price.shape[0]):
                if packed.copies[g, pool[k]] > 0:
                    least = min(least, prices.least_level[g, pool[k]] / packed.units[g])
            keys[k] = -least * (1.0 + noise * (np.random.random() - 0.5))
        order = np.argsort(keys[:number])
        fits = True
        for k in range(number):
            if not insert(packed, prices, plan, pool[order[k]], work, 0):
                fits = False
                break
        if fits:
            cheaper_types(packed, prices, plan, work)
            for j in range(max(0, spare.number[0] - removed), plan.number[0]):
                worth = 0.0
                for k in range(plan.size[j]):
                    worth += prices.value[plan.members[j, k]]
                if worth > goal[plan.kind[j]] and noted < harvest.shape[0]:
                    harvest[noted, 0], harvest[noted, 1] = plan.kind[j], plan.size[j]
                    for k in range(plan.size[j]):
                        harvest[noted, 2 + k] = plan.members[j, k]
                    noted += 1
            found = score(packed, prices, plan)
            heat = temperature * mean_price * (1.0 - turn / rounds)
            if found <= current or (heat > 0 and np.random.random() < np.exp((current - found) / heat)):
                current = found
                if found < best_score - 1e-12:
                    best_score = found
                    copy_packing(plan, best)
                continue
        copy_packing(spare, plan)
    return noted


@compiled
def _change_replicas(
    packed: PackedItems,
    plan: Packing,
    pool: IntArray,
    number: int,
    alternatives: IntArray,
    replicas: IntArray,
    prices: Prices,
    work: Workspace,
) -> int:
    """Now and then split or join one removed workload: take all its replicas out and queue another number."""
    if number == 0 or np.random.random() < 0.5:
        return number
    item = pool[np.random.randint(0, number)]
    other = alternatives[item]
    if other < 0:
        return number
    # Take `replicas[item]` copies out of the pool, and where these do not suffice, out of the plan.
    missing = replicas[item]
    k = 0
    while k < number and missing > 0:
        if pool[k] == item:
            number -= 1
            pool[k] = pool[number]
            missing -= 1
        else:
            k += 1
    for j in range(plan.number[0] - 1, -1, -1):
        k = 0
        while k < plan.size[j] and missing > 0:
            if plan.members[j, k] == item:
                plan.size[j] -= 1
                plan.members[j, k] = plan.members[j, plan.size[j]]
                missing -= 1
            else:
                k += 1
        if plan.size[j] == 0:
            close_gpu(plan, j)
        elif missing < replicas[item]:
            plan.used[j] = levels_with(packed, plan.kind[j], plan.members[j], plan.size[j], -1, work)
    for _ in range(replicas[other]):
        pool[number] = other
        number += 1
    return number

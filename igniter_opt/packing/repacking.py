"""Plans on given GPUs, by annealing: how many of each type is fixed, and no GPU may need more than it has.

Local search over plans whose every GPU is feasible (`search`) ends where each GPU is nearly full: nothing moves any
more. Here GPUs may be overloaded, and what is minimised is by how many share levels, weighted by their price. One or
two items move from a GPU to another, or change places with one or two there. A set's load is the total share that
`sets.choose` finds for it on a card with some levels more; where it finds none, it is so high that every item on such
a GPU is one too many.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray, RecordArray
from igniter_opt.base.compilable import compilable
from igniter_opt.base.compiled import compiled
from igniter_opt.packing.chance import below, chance, seeded
from igniter_opt.packing.items import Catalogue, PackedItems
from igniter_opt.packing.plans import Pattern
from igniter_opt.packing.search import GPU
from igniter_opt.packing.sets import FEASIBLE, new_members, place

# A set is looked at with this part of a card's levels more than it has.
_MORE = 0.25
# Between two questions whether to hurry: a tenth of a second, about.
_ROUNDS_AT_ONCE = 20_000
# GPUs with more items than a type's most are overloaded, too; room for so many more.
_SPARE = 4


@compilable
def load_of(packed: PackedItems, gpu: int, size: int, work: RecordArray) -> int:
    """Share levels that the items in ``work[:size]`` need on a GPU of a type: found, or far above what it has."""
    card = packed.cards[gpu]
    least = 0
    able = size <= card.most
    for k in range(size):
        item = packed.items[gpu, work[k].index]
        # Where the type cannot serve an item that is more than a whole card (`items.ITEM`).
        least += item.least_level
        able = able and item.copies > 0
    units = card.units + int(_MORE * card.units)
    if not able or least > units or place(packed, gpu, units, work, size, 0) != FEASIBLE:
        found: int = 2 * least + units
        return found
    total = 0
    for k in range(size):
        total += packed.rows[work[k].chosen].level
    return total


@compiled
def load(packed: PackedItems, gpu: int, size: int, work: RecordArray) -> int:
    """Return `load_of` to Python."""
    found: int = load_of(packed, gpu, size, work)
    return found


@compilable
def overload(packed: PackedItems, gpu: int, load: int) -> int:
    """Levels that a load is above what a GPU of a type has."""
    more: int = max(0, load - packed.cards[gpu].units)
    return more


@compilable
def gather(
    members: IntArray, j: int, leaving: int, count: int, others: IntArray, coming: int, work: RecordArray
) -> int:
    """Put GPU j's items but the first few, and the first few others, into ``work``; return how many."""
    size = 0
    for k in range(leaving, count):
        work[size].index = members[j, k]
        size += 1
    for k in range(coming):
        work[size].index = others[k]
        size += 1
    return size


@compiled
def add_items(
    packed: PackedItems,
    weight: FloatArray,
    gpus: RecordArray,
    members: IntArray,
    items: IntArray,
    work: RecordArray,
) -> bool:
    """Put items one after the other where they overload least, then where they leave least room; False if nowhere."""
    for position in range(items.shape[0]):
        best, best_over, best_room, best_load = -1, 0.0, 0.0, 0
        for j in range(gpus.shape[0]):
            gpu = gpus[j]
            card = packed.cards[gpu.kind]
            if gpu.count >= card.most or packed.items[gpu.kind, items[position]].copies <= 0:
                continue
            size = gather(members, j, 0, gpu.count, items[position : position + 1], 1, work)
            load = load_of(packed, gpu.kind, size, work)
            over = weight[gpu.kind] * overload(packed, gpu.kind, load)
            room = weight[gpu.kind] * (card.units - load)
            if best < 0 or over < best_over or (over == best_over and room < best_room):
                best, best_over, best_room, best_load = j, over, room, load
        if best < 0:
            return False
        gpu = gpus[best]
        members[best, gpu.count] = items[position]
        gpu.count += 1
        gpu.used = best_load
    return True


@compiled
def relieve(
    packed: PackedItems,
    weight: FloatArray,
    gpus: RecordArray,
    members: IntArray,
    work: RecordArray,
    first: int,
    last: int,
    rounds: int,
    hot: float,
    cold: float,
    seed: int,
) -> int:
    """Anneal the overload; return how many GPUs are overloaded in the end (the search ends once none is).

    Parameters
    ----------
    weight
        Price of a share level on each GPU type.
    gpus, members
        The plan: ``search.GPU`` with loads as `used`, and the items of every GPU; changed in place.
    work
        ``sets.MEMBER``, as long as a row of `members`.
    first, last, rounds
        Rounds to do, of so many in all; the first seeds the random numbers.
    hot, cold
        Temperatures in the unit of the weights, falling geometrically over all rounds.
    """
    if first == 0:
        seeded(seed)
    number, width = members.shape
    moved = np.empty(4, dtype=np.int64)
    overloaded = 0
    for j in range(number):
        overloaded += overload(packed, gpus[j].kind, gpus[j].used) > 0
    for turn in range(first, last):
        if overloaded == 0:
            break
        heat = hot * (cold / hot) ** (turn / rounds)
        a, b = below(number), below(number)
        for _ in range(3):
            # Overloaded GPUs more often than others.
            if overload(packed, gpus[a].kind, gpus[a].used) > 0:
                break
            a = below(number)
        dice = chance()
        from_a, from_b = 1, 1
        if dice < 0.2:
            from_b = 0
        elif dice >= 0.85:
            from_b = 2
        elif dice >= 0.7:
            from_a = 2
        one, other = gpus[a], gpus[b]
        if a == b or from_a > one.count or from_b > other.count:
            continue
        size_a, size_b = one.count - from_a + from_b, other.count - from_b + from_a
        if size_a > width or size_b > width:
            continue
        for k in range(from_a):
            pick = k + below(one.count - k)
            members[a, k], members[a, pick] = members[a, pick], members[a, k]
        for k in range(from_b):
            pick = k + below(other.count - k)
            members[b, k], members[b, pick] = members[b, pick], members[b, k]
        before_a = overload(packed, one.kind, one.used)
        before_b = overload(packed, other.kind, other.used)
        most = weight[one.kind] * before_a + weight[other.kind] * before_b - heat * math.log(max(1e-300, chance()))
        gather(members, a, from_a, one.count, members[b], from_b, work)
        load_a = load_of(packed, one.kind, size_a, work)
        after_a = overload(packed, one.kind, load_a)
        if weight[one.kind] * after_a > most:
            continue
        gather(members, b, from_b, other.count, members[a], from_a, work)
        load_b = load_of(packed, other.kind, size_b, work)
        after_b = overload(packed, other.kind, load_b)
        if weight[one.kind] * after_a + weight[other.kind] * after_b > most:
            continue
        for k in range(from_a):
            moved[k] = members[a, k]
        for k in range(from_b):
            moved[2 + k] = members[b, k]
        for k in range(from_a, one.count):
            members[a, k - from_a] = members[a, k]
        for k in range(from_b, other.count):
            members[b, k - from_b] = members[b, k]
        for k in range(from_b):
            members[a, size_a - from_b + k] = moved[2 + k]
        for k in range(from_a):
            members[b, size_b - from_a + k] = moved[k]
        overloaded += (after_a > 0) - (before_a > 0) + (after_b > 0) - (before_b > 0)
        one.count, one.used = size_a, load_a
        other.count, other.used = size_b, load_b
    return overloaded


class Repacking:
    """Puts all items on given GPUs, with work space of its own.

    Parameters
    ----------
    prices
        Price of each GPU type.
    order
        What items are inserted by, the largest first: `LocalSearch.share_cost`, say.
    """

    def __init__(self, catalogue: Catalogue, prices: FloatArray, order: FloatArray) -> None:
        self.packed, self.order = catalogue.packed, order
        weight = np.asarray(prices / self.packed.cards["units"])
        # Temperatures are in levels of a mean card.
        self.weight: FloatArray = weight / weight.mean()
        self.width = int(self.packed.cards["most"].max()) + _SPARE
        self._work = new_members(self.width + 1)

    def run(
        self,
        counts: Sequence[int],
        items: Sequence[int],
        start: Sequence[Pattern],
        *,
        rounds: int,
        hot: float,
        cold: float,
        seed: int,
        hurry: Callable[[], bool] = lambda: False,
    ) -> list[Pattern] | None:
        """Return patterns on so many GPUs of each type that hold all items; None if none are found.

        Parameters
        ----------
        items
            What is to be placed, an item as often as there are copies of it.
        start
            Patterns to begin with, the first first, as far as there are GPUs and their items are asked for.
        rounds, hot, cold
            Changes that are tried, and temperatures in share levels of a mean card.
        hurry
            Asked every now and then whether to give up.
        """
        gpus = np.zeros(sum(counts), dtype=GPU)
        members = np.zeros((len(gpus), self.width), dtype=np.int64)
        gpus["kind"] = np.repeat(np.arange(len(counts)), counts)
        waiting = Counter(items)
        free = {kind: np.flatnonzero(gpus["kind"] == kind).tolist()[::-1] for kind in range(len(counts))}
        for kind, own in start:
            kept = [item for item, count in Counter(own).items() for _ in range(min(count, waiting[item]))]
            if free[kind] and kept:
                j = free[kind].pop()
                members[j, : len(kept)] = kept
                gpus[j] = (kind, len(kept), self._levels(kind, kept))
                waiting.subtract(kept)
        left = np.array(sorted(waiting.elements(), key=lambda item: -self.order[item]), dtype=np.int64)
        if not add_items(self.packed, self.weight, gpus, members, left, self._work):
            return None
        overloaded = 1
        for first in range(0, rounds, _ROUNDS_AT_ONCE):
            last = min(first + _ROUNDS_AT_ONCE, rounds)
            overloaded = relieve(
                self.packed, self.weight, gpus, members, self._work, first, last, rounds, hot, cold, seed
            )
            if overloaded == 0 or hurry():
                break
        if overloaded:
            return None
        return sorted(
            (int(gpu.kind), tuple(sorted(row[: gpu.count].tolist())))
            for gpu, row in zip(gpus, members, strict=True)
            if gpu.count
        )

    def _levels(self, kind: int, members: Sequence[int]) -> int:
        for k, item in enumerate(members):
            self._work[k].index = item
        return load(self.packed, kind, len(members), self._work)

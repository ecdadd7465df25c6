"""Sets of high worth on one GPU, by annealing: a pricing heuristic for cards that carry a dozen items.

Plans that local search walks over (`search`) hold few sets at a time, and cells (`cells`) yield the set that attains a
bound, which on a big card is rarely feasible. Here one GPU's set is changed by up to two items at a time and judged by
its worth alone; with a hundred items that is a few hundred thousand sets a second. It only ever proposes sets that
`sets.place` finds feasible, and proves nothing.
"""

import math
from collections.abc import Sequence

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray, RecordArray
from igniter_opt.base.compiled import compiled
from igniter_opt.packing.chance import below, chance, seeded
from igniter_opt.packing.items import Catalogue, PackedItems
from igniter_opt.packing.plans import Pattern
from igniter_opt.packing.sets import FEASIBLE, new_members, place

# Temperatures at the beginning and at the end, in prices of the card.
_HOT, _COLD = 0.02, 0.001
# Sets that one run notes at most, and the best of them that are returned.
_NOTED, _BEST = 500, 15


@compiled
def anneal_set(
    packed: PackedItems,
    gpu: int,
    value: FloatArray,
    rounds: int,
    hot: float,
    cold: float,
    seed: int,
    goal: float,
    work: RecordArray,
    found: IntArray,
    worths: FloatArray,
) -> int:
    """Anneal the set of one GPU, from nothing, for the most worth; return how many sets are noted in the end.

    Parameters
    ----------
    value
        Value of every item; those of none are left alone.
    rounds, hot, cold
        Changes that are tried, and temperatures in units of the values, falling geometrically.
    goal
        Sets worth more than this are noted.
    work
        ``sets.MEMBER``, at least `most` + 3.
    found, worths
        Filled with size and items, shape (sets, 1 + most), and worth of the sets.
    """
    seeded(seed)
    card = packed.cards[gpu]
    number = packed.items.shape[1]
    members = np.empty(work.shape[0], dtype=np.int64)
    inside = np.zeros(number, dtype=np.int64)
    size, levels, worth, noted = 0, 0, 0.0, 0
    for turn in range(rounds):
        heat = hot * (cold / hot) ** (turn / rounds)
        dice = chance()
        leaving, coming = 1, 1
        if dice < 0.15:
            leaving = 0
        elif dice < 0.2:
            coming = 0
        elif dice >= 0.6:
            leaving, coming = 2, 2
            if dice < 0.75:
                coming = 1
            elif dice < 0.9:
                leaving = 1
        if leaving > size or size - leaving + coming > card.most:
            continue
        gain, least = 0.0, levels
        for k in range(leaving):
            pick = k + below(size - k)
            members[k], members[pick] = members[pick], members[k]
            gain -= value[members[k]]
            least -= packed.items[gpu, members[k]].least_level
        kept = size - leaving
        for k in range(kept):
            work[k].index = members[leaving + k]
        able = True
        for k in range(coming):
            item = below(number)
            entry = packed.items[gpu, item]
            twice = k > 0 and work[kept].index == item
            able = able and value[item] > 0 and inside[item] < entry.copies and not twice
            gain += value[item]
            least += entry.least_level
            work[kept + k].index = item
        if not able or least > card.units or (gain < 0 and chance() >= math.exp(gain / heat)):
            continue
        if place(packed, gpu, card.units, work, kept + coming, 0) != FEASIBLE:
            continue
        for k in range(leaving):
            inside[members[k]] -= 1
        size, levels, worth = kept + coming, least, worth + gain
        for k in range(size):
            members[k] = work[k].index
            if k >= kept:
                inside[members[k]] += 1
        if worth > goal and gain > 0:
            # Later ones are better, mostly: they take the first ones' places.
            place_of = noted % found.shape[0]
            found[place_of, 0], worths[place_of] = size, worth
            for k in range(size):
                found[place_of, 1 + k] = members[k]
            noted += 1
    number_noted: int = min(noted, found.shape[0])
    return number_noted


class CardSearch:
    """Annealing of one GPU's set, with work space of its own."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.packed = catalogue.packed
        width = int(self.packed.cards["most"].max()) + 4
        self._work = new_members(width)
        self._found = np.zeros((_NOTED, width), dtype=np.int64)
        self._worths = np.zeros(_NOTED)

    def run(self, value: FloatArray, goal: Sequence[float] | FloatArray, *, rounds: int, seed: int) -> list[Pattern]:
        """Return feasible sets worth more than `goal` on their type, the best of each type's run.

        Parameters
        ----------
        value
            Value of every item, at least 0, shape (items,).
        goal
            Worth to exceed on each GPU type, above 0; a type whose goal is infinite is left out.
        """
        patterns: list[Pattern] = []
        for gpu, least in enumerate(goal):
            if not np.isfinite(least):
                continue
            noted = anneal_set(
                self.packed,
                gpu,
                value,
                rounds,
                _HOT * float(least),
                _COLD * float(least),
                seed,
                float(least),
                self._work,
                self._found,
                self._worths,
            )
            sets = {
                (gpu, tuple(sorted(row[1 : 1 + row[0]].tolist()))): worth
                for row, worth in zip(self._found[:noted], self._worths[:noted].tolist(), strict=True)
            }
            patterns += sorted(sets, key=lambda pattern: -sets[pattern])[:_BEST]
        return patterns

"""Cheaper plans by moves: a GPU less, or a cheaper one, whose placements go elsewhere; proposals are mended likewise.

Every set of placements is one that `settle` found batches and shares for. An item goes where it fills best; where it
fits nowhere it takes the place of a smaller one, which then looks for a place, and so on: sizes fall, so this ends.
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from igniter_opt.beside.settle import Settler
from igniter_opt.packing.plans import Pattern

# A GPU's placements are tried elsewhere so many times, in another order each.
_TRIES = 3


class LocalMoves:
    """Moves among plans that hold in the search's sample.

    Parameters
    ----------
    prices, counts
        Price of each GPU type in steps, and how many GPUs there are (None: any number).
    """

    def __init__(self, settler: Settler, prices: Sequence[int], counts: Sequence[int | None], seed: int) -> None:
        self.settler, self.prices, self.counts = settler, prices, counts
        self.rng = np.random.default_rng(seed)

    def cost(self, plan: Sequence[Pattern]) -> int:
        """Cost of a plan in steps."""
        return sum(self.prices[gpu] for gpu, _ in plan)

    def cheaper(self, plan: Sequence[Pattern]) -> list[Pattern] | None:
        """Return a plan that costs less by one GPU gone or exchanged for a cheaper one, or None."""
        emptiest = sorted(range(len(plan)), key=lambda j: self._load(plan[j]) * self.prices[plan[j][0]])
        for attempt in range(_TRIES):
            for j in emptiest:
                gpu, items = plan[j]
                rest = [pattern for k, pattern in enumerate(plan) if k != j]
                for instead in [None, *self._cheaper_types(gpu, rest)]:
                    if attempt and len(items) == 1 and instead is not None:
                        continue
                    new = rest if instead is None else [*rest, (instead, ())]
                    found = self._inserted(new, items, shuffle=attempt > 0)
                    if found is not None:
                        return found
        return None

    def mended(self, proposal: Sequence[Pattern]) -> list[Pattern] | None:
        """Return a plan on the same GPUs in which every set holds, or None."""
        plan: list[Pattern] = []
        pool: list[int] = []
        for gpu, items in proposal:
            kept, out = self._thinned(gpu, items)
            plan.append((gpu, kept))
            pool += out
        tries = (self._inserted(plan, pool, shuffle=attempt > 0) for attempt in range(_TRIES))
        return next((found for found in tries if found is not None), None)

    def _thinned(self, gpu: int, items: tuple[int, ...]) -> tuple[tuple[int, ...], list[int]]:
        """Take as little out of a set as makes it hold: one item, the smallest that does, else the largest."""
        kept: tuple[int, ...] = items
        out: list[int] = []
        while kept and not self._holds((gpu, kept)):
            by_size = sorted(set(kept), key=lambda item: self.settler.least_level(gpu, item))
            chosen = next((item for item in by_size if self._holds((gpu, _without(kept, item)))), by_size[-1])
            kept, out = _without(kept, chosen), [*out, chosen]
        return kept, out

    def _inserted(self, plan: Sequence[Pattern], items: Sequence[int], *, shuffle: bool) -> list[Pattern] | None:
        new, pool = list(plan), list(items)
        while pool:
            pool.sort(key=self._size)
            item = pool.pop(int(self.rng.integers(len(pool))) if shuffle else -1)
            out = self._placed(new, item, shuffle=shuffle)
            if out is None:
                return None
            pool += out
        return [pattern for pattern in new if pattern[1]]

    def _placed(self, plan: list[Pattern], item: int, *, shuffle: bool) -> list[int] | None:
        """Place an item; return what it displaced, or None where it found no place."""
        order = sorted(range(len(plan)), key=lambda j: -self._load(plan[j]))
        if shuffle:
            order = self.rng.permutation(len(plan)).tolist()
        for j in order:
            gpu, items = plan[j]
            larger = (gpu, tuple(sorted((*items, item))))
            if self._holds(larger):
                plan[j] = larger
                return []
        for j in order:
            gpu, items = plan[j]
            for other in sorted(set(items), key=self._size):
                if self._size(other) >= self._size(item):
                    break
                changed = (gpu, tuple(sorted((*_without(items, other), item))))
                if self._holds(changed):
                    plan[j] = changed
                    return [other]
        return None

    def _holds(self, pattern: Pattern) -> bool:
        return self.settler.may_hold(pattern) and self.settler.settle(pattern) is not None

    def _cheaper_types(self, gpu: int, rest: Sequence[Pattern]) -> list[int]:
        used = Counter(kind for kind, _ in rest)
        left = [math.inf if count is None else count - used[kind] for kind, count in enumerate(self.counts)]
        types = sorted(range(len(self.prices)), key=lambda kind: self.prices[kind])
        return [kind for kind in types if self.prices[kind] < self.prices[gpu] and left[kind] > 0]

    def _load(self, pattern: Pattern) -> float:
        """Part of a GPU that the least shares of its items take."""
        gpu, items = pattern
        units = int(self.settler.known.packed.cards[gpu].units)
        return sum(self.settler.least_level(gpu, item) for item in items) / units

    def _size(self, item: int) -> float:
        """Least part of any GPU that an item takes alone, in prices."""
        levels, units = self.settler.known.least_levels[:, item], self.settler.known.packed.cards["units"]
        return float(min(price * level / unit for price, level, unit in zip(self.prices, levels, units, strict=True)))


def _without(items: tuple[int, ...], item: int) -> tuple[int, ...]:
    position = items.index(item)
    return items[:position] + items[position + 1 :]

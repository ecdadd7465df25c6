"""Best-fit construction and ruin-and-recreate for Python callers: patterns in, patterns out."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray, RecordArray
from igniter_opt.packing.items import Catalogue
from igniter_opt.packing.plans import Pattern
from igniter_opt.packing.search import GPU, WORTH, Packing, Prices, ruin_and_recreate
from igniter_opt.packing.sets import new_members

# Unlimited GPUs of a type, as a number; sets noted per call.
_MANY = 1 << 40
_NOTED = 4_000
# Between two questions whether to hurry: rounds times placements. A tenth of a second, about.
_PLACEMENTS_AT_ONCE = 40_000


class Improved(NamedTuple):
    """Best plan found, the last one accepted, and feasible sets worth more than the goal met on the way."""

    best: list[Pattern]
    last: list[Pattern]
    noted: list[Pattern]


class LocalSearch:
    """Construction and improvement of plans.

    Parameters
    ----------
    prices
        Price of each GPU type, in any unit (about 1 is best).
    counts
        How many GPUs of each type exist; None for unlimited.
    """

    def __init__(self, catalogue: Catalogue, prices: Sequence[float], counts: Sequence[int | None]) -> None:
        self.catalogue, self.packed = catalogue, catalogue.packed
        self.prices = np.array(prices, dtype=np.float64)
        self.counts = [_MANY if count is None else count for count in counts]
        width = int(self.packed.cards["most"].max()) + 1
        self._width = width
        self._items = _alternatives(catalogue)
        self.share_cost = self._share_cost()

    def _share_cost(self) -> FloatArray:
        """Cost of each item's least share on the type where that is cheapest, shape (items,)."""
        cost = self.catalogue.least_levels * (self.prices / self.packed.cards["units"])[:, None]
        cost = np.where(self.packed.items["copies"] > 0, cost, np.inf)
        return np.asarray(cost.min(axis=0))

    def items_of_a_plan(self, *, fewest: bool) -> list[int]:
        """Items of a plan: every workload with its fewest replicas, or with those that need least share."""
        chosen = []
        for entry, items in zip(self.catalogue.classes, self.catalogue.class_items, strict=True):
            replicas = [self.catalogue.items[item].replicas for item in items]
            cost = [
                0.0 if fewest else count * self.share_cost[item] for count, item in zip(replicas, items, strict=True)
            ]
            _, count, item = min(zip(cost, replicas, items, strict=True))
            chosen += [item] * (count * len(entry.workloads))
        return chosen

    def without(self, types: Collection[int]) -> dict[int, int]:
        """Return `taken` for the other methods, if only GPUs of some types are to be used."""
        return {gpu: count for gpu, count in enumerate(self.counts) if gpu not in types}

    def on_one_type(self, gpu: int, seed: int) -> list[Pattern] | None:
        """Return a plan on one type of GPUs for the items that it can serve; None if there are too few GPUs of it."""
        able = self.packed.items["copies"][gpu] > 0
        items = [item for item in self.items_of_a_plan(fewest=False) if able[item]]
        return self.construct(items, 0.0, seed, self.without((gpu,))) if items else None

    def construct(
        self, items: Sequence[int], noise: float, seed: int, taken: Mapping[int, int] | None = None
    ) -> list[Pattern] | None:
        """Best-fit decreasing on noisy least shares; None if some item fits nowhere.

        Parameters
        ----------
        taken
            GPUs of each type that are not available.
        """
        rng = np.random.default_rng(seed)
        array = np.array(items, dtype=np.int64)
        keys = -self.share_cost[array] * (1.0 + noise * (rng.random(len(array)) - 0.5))
        plan = self._packing(len(array), taken)
        order = array[np.argsort(keys, kind="stable")]
        worth = self._prices(self.share_cost)
        # One round that is not the first, so that no random number is drawn or seeded; nothing is noted.
        rounds, temperature, seed, goal = (1, 2, 1), 0.0, 0, self.prices
        work, noted = self._work_space()
        made = ruin_and_recreate(
            self.packed, worth, plan, plan, plan, order, *rounds, temperature, seed, work, goal, noted, 0
        )
        return None if made < 0 else self._patterns(plan)

    def improve(
        self,
        patterns: Sequence[Pattern],
        value: FloatArray,
        goal: FloatArray,
        *,
        rounds: int,
        temperature: float,
        seed: int,
        taken: Mapping[int, int] | None = None,
        hurry: Callable[[], bool] = lambda: False,
    ) -> Improved:
        """Ruin and recreate, guided by item values.

        Parameters
        ----------
        value
            What each item is worth, in the unit of the prices; a full GPU's items add up to about its price.
        goal
            Sets worth more than this on their type are noted.
        hurry
            Asked every now and then whether to end early.
        """
        number = sum(len(members) for _, members in patterns)
        plan, spare, best = (self._packing(number, taken) for _ in range(3))
        used = Counter(gpu for gpu, _ in patterns)
        for j, (gpu, members) in enumerate(patterns):
            plan.members[j, : len(members)] = members
            levels = int(self.catalogue.least_levels[gpu, list(members)].sum())
            plan.gpus[j] = (gpu, len(members), levels)
        for gpu, count in used.items():
            plan.left[gpu] -= count
        plan.number[0] = len(patterns)
        worth, met, nothing = self._prices(value), 0, np.zeros(0, dtype=np.int64)
        work, noted = self._work_space()
        step = max(1, _PLACEMENTS_AT_ONCE // max(1, number))
        for first in range(0, rounds, step):
            met = ruin_and_recreate(
                self.packed,
                worth,
                plan,
                spare,
                best,
                nothing,
                first,
                min(first + step, rounds),
                rounds,
                temperature,
                seed,
                work,
                goal,
                noted,
                met,
            )
            if hurry():
                break
        sets = [(int(row[0]), tuple(sorted(row[2 : 2 + row[1]].tolist()))) for row in noted[:met]]
        return Improved(self._patterns(best), self._patterns(plan), list(dict.fromkeys(sets)))

    def _work_space(self) -> tuple[RecordArray, IntArray]:
        """Members of a set, and room for the sets that are noted: for every call, which may be beside others."""
        return new_members(self._width), np.zeros((_NOTED, self._width + 2), dtype=np.int64)

    def _packing(self, items: int, taken: Mapping[int, int] | None) -> Packing:
        # Splitting a workload may add items.
        replicas = int(self._items["replicas"].max(initial=1))
        rows = items * replicas + 8 if self._items["alternative"].max(initial=-1) >= 0 else items + replicas + 8
        left = np.array(self.counts, dtype=np.int64)
        for gpu, count in (taken or {}).items():
            left[gpu] -= count
        return Packing(
            gpus=np.zeros(rows, dtype=GPU),
            members=np.zeros((rows, self._width), dtype=np.int64),
            left=left,
            number=np.zeros(1, dtype=np.int64),
        )

    def _prices(self, value: FloatArray) -> Prices:
        items = self._items.copy()
        items["value"] = value
        return Prices(self.prices, items)

    @staticmethod
    def _patterns(plan: Packing) -> list[Pattern]:
        return sorted(
            (int(plan.gpus[j].kind), tuple(sorted(plan.members[j, : plan.gpus[j].count].tolist())))
            for j in range(int(plan.number[0]))
        )


def _alternatives(catalogue: Catalogue) -> RecordArray:
    """For every item the next replica count's item of its class (in a circle; -1 for none), and its replicas."""
    items = np.zeros(len(catalogue.items), dtype=WORTH)
    items["replicas"] = [item.replicas for item in catalogue.items]
    items["alternative"] = -1
    for siblings in catalogue.class_items:
        if len(siblings) > 1:
            items["alternative"][siblings] = siblings[1:] + siblings[:1]
    return items

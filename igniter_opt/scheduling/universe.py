"""Every workload at every rate that it has over time, compiled once: which sets of servers one GPU carries, and when.

A workload at one of its rates is an item of one large catalogue (`packing.items`), so that a set of servers at the
rates of a step, or at the largest rates of a window of steps, is a set of items, whose feasibility is decided exactly
(`packing.sets`) and remembered.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.data.instance import Instance, Workload
from igniter_opt.packing.items import catalogue
from igniter_opt.packing.plans import TRIALS
from igniter_opt.packing.sets import FEASIBLE, new_members, place
from igniter_opt.problem.configurations import Problem


class Setting(NamedTuple):
    """How a server is set: largest batch, and share as a multiple of the card's least step."""

    batch: int
    level: int


Layout = tuple[tuple[int, tuple[tuple[int, int], ...]], ...]
"""GPUs of a plan in ascending order: GPU type, and of each server its workload and that one's number of replicas."""


class Universe:
    """The items of all steps.

    Parameters
    ----------
    instance
        The workloads and GPU types; its rates do not matter. All profiles must be monotone.
    rates
        Rate of every workload in every step, in req/s, shape (steps, workloads).

    Attributes
    ----------
    rank
        Which of its rates, in ascending order, a workload has in a step; shape (steps, workloads).
    """

    def __init__(self, instance: Instance, rates: FloatArray, margin: float, confidence: float | None) -> None:
        self.instance, self.rates = instance, rates
        rank = []
        rated: list[Workload] = []
        first = [0]
        for k, workload in enumerate(instance.workloads):
            own, inverse = np.unique(rates[:, k], return_inverse=True)
            rank.append(inverse)
            rated += [
                workload.model_copy(update={"name": f"w{k}.{j}", "rate_rps": float(rate)}) for j, rate in enumerate(own)
            ]
            first.append(len(rated))
        self.rank: IntArray = np.stack(rank, axis=1).astype(np.int64)
        self.problem = Problem(instance.model_copy(update={"workloads": tuple(rated)}), margin, confidence)
        self.known = catalogue(self.problem)
        self.packed = self.known.packed
        self._first = first
        self._item = self._items(first)
        self._members = new_members(int(self.packed.cards["most"].max()) + 1)
        self._units = [int(card.units) for card in self.packed.cards]
        self._most = [int(card.most) for card in self.packed.cards]
        self._fits: dict[tuple[int, tuple[int, ...]], bool] = {}

    def _items(self, first: Sequence[int]) -> list[dict[int, IntArray]]:
        """Return by workload and number of replicas the items of its rates in ascending order."""
        class_of = {w: number for number, entry in enumerate(self.known.classes) for w in entry.workloads}
        index = {(entry.workload_class, entry.replicas): t for t, entry in enumerate(self.known.items)}
        found: list[dict[int, IntArray]] = []
        for begin, end in pairwise(first):
            counts = range(1, self.problem.replica_limit(begin) + 1)
            every = {
                count: np.array([index.get((class_of[w], count), -1) for w in range(begin, end)], dtype=np.int64)
                for count in counts
            }
            found.append(every)
        return found

    def item(self, workload: int, replicas: int, rank: int) -> int:
        """Return the item of a server at a rate; -1 where there is none."""
        own = self._item[workload].get(replicas)
        return -1 if own is None else int(own[rank])

    def items_over(self, workload: int, replicas: int) -> list[int]:
        """Return a server's item in every step."""
        own = self._item[workload].get(replicas)
        if own is None:
            return [-1] * len(self.rank)
        return [int(entry) for entry in own[self.rank[:, workload]]]

    def fits(self, gpu_type: int, items: Iterable[int]) -> bool:
        """Whether one GPU is found to carry some items."""
        members = tuple(sorted(items))
        key = gpu_type, members
        found = self._fits.get(key)
        if found is None:
            found = self._fits[key] = self._placed(gpu_type, members) is not None
        return found

    def _placed(self, gpu_type: int, members: tuple[int, ...]) -> list[int] | None:
        size = len(members)
        if size == 0:
            return []
        if members[0] < 0 or size > self._most[gpu_type]:
            return None
        if int(self.packed.items["least_level"][gpu_type, list(members)].sum()) > self._units[gpu_type]:
            return None
        self._members["index"][:size] = members
        answer = place(self.packed, gpu_type, self._units[gpu_type], self._members, size, TRIALS)
        return self._members["chosen"][:size].tolist() if answer == FEASIBLE else None

    def settings(self, gpu_type: int, items: Sequence[int]) -> list[Setting] | None:
        """Return how each of some items, in the order given, can be set on one GPU; None where it is not found."""
        order = sorted(range(len(items)), key=lambda k: items[k])
        chosen = self._placed(gpu_type, tuple(items[k] for k in order))
        if chosen is None:
            return None
        found: list[Setting] = [Setting(0, 0)] * len(items)
        for k, row in zip(order, chosen, strict=True):
            found[k] = Setting(int(self.packed.rows["batch"][row]), int(self.packed.rows["level"][row]))
        return found

    def row(self, gpu_type: int, workload: int, replicas: int, rank: int, setting: Setting) -> FloatArray:
        """Return the numbers of a configuration (`settings.Row`), whether or not another one dominates it."""
        every = self.problem.every_configuration(self._first[workload] + rank, gpu_type, replicas)
        levels = self.problem.coefficients[gpu_type].hardware.share_levels
        k = (setting.batch - 1) * levels + setting.level - 1
        limit = float(every.limit_ms[k])
        if not limit > 0:
            return np.full(9, np.inf)
        own = (every.level, every.power_w, every.cache, every.traffic, every.memory_mib)
        scaled = (every.base_ms[k], every.kernels, every.cache_ms[k], every.traffic_ms[k])
        return np.array([*(float(entry[k]) for entry in own), *(float(entry) / limit for entry in scaled)])

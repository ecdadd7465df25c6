"""Batches and shares at which a set of placements holds on one GPU beside neighbours as they are, found by simulation.

Each placement has the least share with which it holds alone, and its part of what is left. Where a placement is late in
the sample, share moves to it from those that are hardly ever late, for a few rounds. So such a GPU is used up to the
last unit: what is left over on a GPU serves nobody, and its price is the same.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.packing.items import Catalogue
from igniter_opt.packing.plans import Pattern, Placer
from igniter_opt.simulation.gpu_sample import GpuSample, Tenant
from igniter_opt.simulation.lateness import smallest_sample

# Runs and smallest samples of one look, and what is clear at it: the first is quick and only sees who is much too late.
_LOOKS = ((range(2), 0.05, 2.0), (range(6), 0.12, 1.0))
# Requests of a run: a search cannot wait until the slowest of many workloads has had its own.
_MOST_AT_A_LOOK = 1e5
# One late request of the few that a slow workload has says little: as if it were one of so many.
_FEWEST_LATE = 3.0
# Share is moved so many times, from placements with less than this part of the late requests that they may have.
_ROUNDS, _HARDLY_LATE = 8, 0.6
# A batch whose slack is within this part of the largest one's will do: larger ones only burden neighbours.
_SLACK = 0.99


class Settled(NamedTuple):
    """Batches and share levels of a pattern's items, in its order; `simulated` where rows do not admit them."""

    batches: tuple[int, ...]
    levels: tuple[int, ...]
    simulated: bool


class Settler:
    """Finds such batches and shares; remembers what it found.

    Parameters
    ----------
    known
        The problem's catalogue.
    sample
        All sets meet the same requests.
    target
        Part of the requests that may be late, in the sample.
    check
        May raise to give up.
    """

    def __init__(
        self, known: Catalogue, sample: GpuSample, target: float, check: Callable[[], None] = lambda: None
    ) -> None:
        self.known, self.sample, self.target, self.check = known, sample, target, check
        self.placer = Placer(known)
        self.simulations = 0
        self._found: dict[Pattern, Settled | None] = {}
        self._batches: dict[tuple[int, int], IntArray] = {}

    def firmer(self, pattern: Pattern, late: FloatArray) -> None:
        """Move share to what was late after all; where that cannot be, the set does not hold.

        Parameters
        ----------
        late
            Late parts of the set's items over those that are admitted.
        """
        own = self._found.get(pattern)
        if own is None or not own.simulated or (late <= 1.0).all():
            return
        self._found[pattern] = self._with_levels(pattern, self._moved(pattern, own.levels, late))

    def settle(self, pattern: Pattern) -> Settled | None:
        """Return batches and shares of a set, or None where none were found."""
        if pattern not in self._found:
            self._found[pattern] = self._by_rows(pattern) or self._by_sample(pattern)
        return self._found[pattern]

    def may_hold(self, pattern: Pattern) -> bool:
        """Whether the least shares alone fit; where they do not, nothing holds."""
        gpu, members = pattern
        if pattern in self._found:
            return self._found[pattern] is not None
        units = int(self.known.packed.cards[gpu].units)
        return sum(self.least_level(gpu, item) for item in members) <= units

    def least_level(self, gpu: int, item: int) -> int:
        """Least share level of an item alone."""
        return int(self.known.least_levels[gpu, item])

    def _by_rows(self, pattern: Pattern) -> Settled | None:
        chosen = self.placer.least_share(pattern)
        if chosen is None:
            return None
        rows = self.known.packed.rows[chosen]
        return Settled(tuple(rows["batch"].astype(int).tolist()), tuple(rows["level"].astype(int).tolist()), False)

    def _by_sample(self, pattern: Pattern) -> Settled | None:
        found = self._with_levels(pattern, self._all_share(pattern))
        for _ in range(_ROUNDS):
            late = None if found is None else self._late(*pattern, found.batches, found.levels)
            if found is None or late is None:
                return None
            if (late <= 1.0).all():
                return found
            found = self._with_levels(pattern, self._moved(pattern, found.levels, late))
        return None

    def _all_share(self, pattern: Pattern) -> list[int] | None:
        """Return the least levels of all items, and what is left in proportion to them."""
        gpu, members = pattern
        least = np.array([self.least_level(gpu, item) for item in members])
        spare = int(self.known.packed.cards[gpu].units) - int(least.sum())
        if spare < 0:
            return None
        exact = spare * least / least.sum()
        more = np.floor(exact).astype(np.int64)
        more[np.argsort(more - exact, kind="stable")[: spare - int(more.sum())]] += 1
        return [int(level) for level in least + more]

    def _moved(self, pattern: Pattern, levels: Sequence[int], late: FloatArray) -> list[int] | None:
        """Move share to what is late from what hardly is; None where nobody has any to give."""
        gpu, members = pattern
        new = list(levels)
        givers = [k for k in np.argsort(late, kind="stable").tolist() if late[k] < _HARDLY_LATE]
        for k in np.argsort(-late, kind="stable").tolist():
            if late[k] <= 1.0:
                break
            for _ in range(1 if late[k] <= 2.5 else 2):
                able = [j for j in givers if new[j] > self.least_level(gpu, members[j])]
                if not able:
                    return None
                # In turn, so that nobody gives all.
                giver = max(able, key=lambda j: (new[j] - levels[j], -late[j]))
                new[giver] -= 1
                new[k] += 1
        return new

    def _with_levels(self, pattern: Pattern, levels: Sequence[int] | None) -> Settled | None:
        """Choose batches for share levels; None where there are none, or no memory for them."""
        gpu, members = pattern
        if levels is None:
            return None
        batches = [int(self._batch(gpu, item)[level - 1]) for item, level in zip(members, levels, strict=True)]
        if not self._memory_suffices(gpu, members, batches):
            return None
        return Settled(tuple(batches), tuple(levels), True)

    def _late(
        self, gpu: int, members: Sequence[int], batches: Sequence[int], levels: Sequence[int]
    ) -> FloatArray | None:
        """Return late parts over the target; of the first look at which anybody is much too late."""
        problem = self.known.problem
        shares = problem.coefficients[gpu].hardware.shares()
        tenants = []
        seen: Counter[int] = Counter()
        for item, batch, level in zip(members, batches, levels, strict=True):
            entry = self.known.items[item]
            same = self.known.classes[entry.workload_class].workloads
            # Of many equal ones any will do; on one GPU they are different ones as far as there are.
            copy = seen[item]
            seen[item] += 1
            workload = same[copy // entry.replicas % len(same)]
            rate = problem.workloads[workload].rate_rps / entry.replicas
            tenants.append(
                Tenant(workload, copy % entry.replicas, (rate,) * entry.replicas, batch, float(shares[level - 1]))
            )
        ratio = None
        for runs, size, clear in _LOOKS:
            self.check()
            self.simulations += 1
            found = self.sample.late(
                problem.coefficients[gpu],
                tenants,
                max(1, round(size * smallest_sample(self.target))),
                runs,
                problem.margin,
                within=_MOST_AT_A_LOOK,
            )
            if found is None:
                return None
            expected = np.maximum(_FEWEST_LATE, found.requests.sum(axis=0) * self.target)
            ratio = (found.share * found.requests).sum(axis=0) / expected
            if (ratio > clear).any():
                break
        return ratio

    def _batch(self, gpu: int, item: int) -> IntArray:
        """Return the batch of an item at every share level: the smallest that leaves about as much time as any."""
        if (gpu, item) not in self._batches:
            entry = self.known.items[item]
            workload = self.known.classes[entry.workload_class].workloads[0]
            problem = self.known.problem
            every = problem.every_configuration(workload, gpu, entry.replicas)
            shape = (int(every.batch.max()), int(every.level.max()))
            slack = np.where(every.limit_ms > 0.0, every.limit_ms - every.base_ms, -np.inf).reshape(shape)
            best = slack.max(axis=0)
            enough = slack >= np.where(best > 0.0, _SLACK * best, best)
            self._batches[gpu, item] = enough.argmax(axis=0) + 1
        return self._batches[gpu, item]

    def _memory_suffices(self, gpu: int, members: Sequence[int], batches: Sequence[int]) -> bool:
        limit = self.known.problem.gpu_types[gpu].memory_limit_mib
        if limit is None:
            return True
        models = self.known.problem.coefficients[gpu].models
        needed = 0.0
        for item, batch in zip(members, batches, strict=True):
            workload = self.known.classes[self.known.items[item].workload_class].workloads[0]
            model = models[self.known.problem.workloads[workload].model]
            needed += model.memory_fixed_mib + model.memory_per_item_mib * batch
        return needed <= limit

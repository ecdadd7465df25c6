"""Columns of `replanning`: what a GPU may carry, fresh or in place of a running one, and what that disrupts.

All feasible sets are listed where they are few. Otherwise the columns are those near what runs and near the plans that
are known: their subsets, and these with one or two items more, as long as there is time.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, combinations
from typing import NamedTuple

from igniter_opt.base.clock import Clock, EnoughError
from igniter_opt.packing.plans import Pattern, patterns_of
from igniter_opt.packing.running import Takeover, Takeovers
from igniter_opt.packing.sets import FEASIBLE, INFEASIBLE
from igniter_opt.problem.draft import DraftGpu

# All sets are listed where they are no more than this over the number of running GPUs, and one.
_MOST_LISTED = 6_000
# Otherwise: part of the time, and how many items are tried two or more at a time.
_PART, _MOST_LOOSE = 0.5, 12
# How many leave a set that is known and how many arrive, the nearest first.
_NEARBY = (
    (0, 0),
    (1, 0),
    (0, 1),
    (1, 1),
    (2, 0),
    (0, 2),
    (2, 1),
    (1, 2),
    (3, 0),
    (2, 2),
    (3, 1),
    (3, 2),
    (4, 0),
    (3, 3),
)


_QUICK = (20,)


class Column(NamedTuple):
    """A GPU of a plan: the running one that it takes the place of (None: a fresh one), its set, what that disrupts."""

    gpu: int | None
    pattern: Pattern
    takeover: Takeover


class StandingColumns:
    """Columns for a problem and what runs.

    Parameters
    ----------
    takeovers
        Judges sets on running GPUs.
    before
        How many servers every workload has.
    plans
        Plans whose patterns are to be among the columns, from the first.
    clock
        Ends the search.

    Attributes
    ----------
    complete
        Whether the columns are all that there are.
    """

    def __init__(
        self, takeovers: Takeovers, before: Mapping[int, int], plans: Sequence[Sequence[DraftGpu]], clock: Clock
    ) -> None:
        self.takeovers, self.known, self.running = takeovers, takeovers.catalogue, takeovers.gpus
        self.before, self.clock = before, clock
        self._columns: dict[tuple[int | None, Pattern], Column] = {}
        self.complete = True
        self._most = _MOST_LISTED // (len(self.running) + 1)
        self._patterns = [entry for plan in plans for entry in patterns_of(self.known, takeovers.placer, plan) or ()]
        try:
            self._generate()
        except EnoughError:
            self.complete = False

    @property
    def columns(self) -> list[Column]:
        """All of them, in the order in which they were found."""
        return list(self._columns.values())

    def _generate(self) -> None:
        for pattern in (*self._standing(), *self._patterns):
            self._offer(pattern)
        listed = [list(self._sets(gpu_type, self._most)) for gpu_type in range(len(self.known.problem.gpu_types))]
        if all(len(found) <= self._most for found in listed):
            for pattern in (entry for found in listed for entry in found):
                self.clock.check()
                self._offer(pattern)
            return
        self.complete = False
        whole, self.takeovers.trials = self.takeovers.trials, _QUICK
        with suppress(EnoughError), self.clock.within(_PART):
            for pattern in self._near():
                self.clock.check()
                self._offer(pattern)
        self.takeovers.trials = whole

    def _sets(self, gpu_type: int, most: int) -> Iterator[Pattern]:
        """Yield feasible sets of a type, one more than `most` at most."""
        waiting: list[tuple[int, ...]] = [()]
        found = 0
        items = len(self.known.items)
        copies = self.known.packed.items["copies"][gpu_type].tolist()
        while waiting:
            members = waiting.pop()
            for item in range(members[-1] if members else 0, items):
                if members.count(item) >= copies[item]:
                    continue
                self.clock.check()
                answer, _ = self.takeovers.answer(gpu_type, (*members, item))
                if answer == INFEASIBLE:
                    continue
                if answer != FEASIBLE:
                    self.complete = False
                    continue
                waiting.append((*members, item))
                yield gpu_type, (*members, item)
                found += 1
                if found > most:
                    return

    def _near(self) -> Iterator[Pattern]:
        """Yield sets near what runs and near the plans: their subsets, and with few items more."""
        kinds = Counter(chain(self._standing(), self._patterns))
        loose = self._loose()
        for leaving, arriving in _NEARBY:
            items = [*loose, *range(len(self.known.items))] if arriving == 1 else loose[:_MOST_LOOSE]
            for gpu_type, members in kinds:
                for staying in (
                    dict.fromkeys(combinations(members, len(members) - leaving)) if members[leaving:] else ()
                ):
                    for more in combinations(dict.fromkeys(items), arriving):
                        yield gpu_type, tuple(sorted((*staying, *more)))

    def _standing(self) -> Iterator[Pattern]:
        """Yield what the running GPUs carry, with the replica counts that are there now where they may be."""
        index = {(item.workload_class, item.replicas): t for t, item in enumerate(self.known.items)}
        for gpu in self.running:
            items = []
            for server in gpu.servers:
                number = self.takeovers.class_of[server.workload]
                counts = self.known.classes[number].replica_counts
                count = min(counts, key=lambda c, have=self.before[server.workload]: abs(c - have))  # type: ignore[misc]
                items.append(index[number, count])
            if items:
                yield gpu.gpu_type, tuple(sorted(items))

    def _loose(self) -> list[int]:
        """Return items that are likely to move: new ones, those of GPUs that do not hold, and of the emptiest ones."""
        standing = list(self._standing())
        here = {item for _, members in standing for item in members}
        found = [item for item in range(len(self.known.items)) if item not in here]
        broken = [members for gpu, members in standing if self.takeovers.answer(gpu, members)[0] != FEASIBLE]
        emptiest = sorted((members for _, members in standing), key=len)
        return list(dict.fromkeys([*found, *(item for members in [*broken, *emptiest] for item in members)]))

    def _offer(self, pattern: Pattern) -> None:
        """Add a set as a fresh GPU's, and in place of every running GPU of which it can take over something."""
        if (None, pattern) in self._columns:
            return
        fresh = self.takeovers.fresh(pattern)
        if fresh is None:
            self.complete &= self.takeovers.answer(*pattern)[0] == INFEASIBLE
            return
        self._columns[None, pattern] = Column(None, pattern, fresh)
        classes = {self.known.items[item].workload_class for item in pattern[1]}
        for number, gpu in enumerate(self.running):
            if gpu.gpu_type != pattern[0] or classes.isdisjoint(self.takeovers.servers_of[number]):
                continue
            found = self.takeovers.on(number, pattern)
            if found is None:
                self.complete = False
                continue
            self._columns[number, pattern] = Column(number, pattern, found)

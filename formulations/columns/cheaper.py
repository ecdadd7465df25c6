"""Plans on cheaper numbers of GPUs: vectors of GPU counts below the best plan's cost, each tried by annealing.

With several types there are often a dozen vectors between bound and best plan, a step of price apart. In most of them
not even the linear master covers everything; in the likeliest it does so for the least part of their cost. The search
begins with the best plan's GPUs, as far as the vector has them, or with patterns that the linear master uses there.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event

import numpy as np

from igniter_opt.formulations.columns.generation import ColumnGeneration
from igniter_opt.formulations.columns.integer import Promising
from igniter_opt.formulations.columns.master import Master
from igniter_opt.packing.local_search import LocalSearch
from igniter_opt.packing.plans import Pattern, Placer
from igniter_opt.packing.repacking import Repacking

# Changes per placement, twice as many whenever a vector is tried again; temperatures in levels of a mean card.
_ROUNDS, _HOT, _COLD = 2_000, 0.5, 0.1
# So many are tried once where the linear master, over what is known, covers everything within none.
_MOST_UNCOVERED = 1
_REPORT_EVERY_S = 0.5
# What the linear master uses less often is left to rounding.
_USED = 1e-6


class CheaperCounts:
    """Looks for a plan with other numbers of GPUs.

    Parameters
    ----------
    is_up
        Asked every now and then, by other threads, whether to give up.
    report
        Called while they work.
    """

    def __init__(
        self,
        search: LocalSearch,
        placer: Placer,
        *,
        seed: int,
        is_up: Callable[[], bool],
        report: Callable[[], None],
    ) -> None:
        self.search, self.placer, self.seed, self.is_up, self.report = search, placer, seed, is_up, report
        # One for each of the two ways to begin, which go on beside each other.
        self.repackings = [Repacking(search.catalogue, search.prices, search.share_cost) for _ in range(2)]
        self._tries = Counter[tuple[int, ...]]()
        self._turn = 0

    def look(
        self, best: Sequence[Pattern], most: int, promising: Sequence[Promising], root: ColumnGeneration
    ) -> list[Pattern] | None:
        """Return a plan cheaper than `most`, or None; every call tries a vector, the more promising ones more often.

        Parameters
        ----------
        best
            A plan, which costs `most` in steps of the price grid.
        promising
            Vectors of GPU counts to choose from, the most promising first (`promising_counts`).
        root
            Column generation, with patterns to begin with.
        """
        vectors = [entry for entry in promising if entry.cost < most]
        covered = [entry.counts for entry in vectors if entry.covered]
        order = covered or [entry.counts for entry in vectors[:_MOST_UNCOVERED] if not self._tries[entry.counts]]
        if not order:
            return None
        _, _, vector = min(((1 + place) << self._tries[counts], place, counts) for place, counts in enumerate(order))
        again = self._tries[vector]
        self._tries[vector] += 1
        self._turn += 1
        items = [item for _, members in best for item in members]
        given_up = Event()

        def run(repacking: Repacking, start: list[Pattern]) -> list[Pattern] | None:
            return repacking.run(
                vector,
                items,
                start,
                rounds=_ROUNDS * len(items) * 2**again,
                hot=_HOT,
                cold=_COLD,
                seed=self.seed + self._turn,
                hurry=lambda: given_up.is_set() or self.is_up(),
            )

        starts = [self._fullest_first(best), self._used_by_the_master(vector, root)]
        with ThreadPoolExecutor(len(starts)) as threads:
            runs = [threads.submit(run, *entry) for entry in zip(self.repackings, starts, strict=True)]
            try:
                while wait(runs, _REPORT_EVERY_S).not_done:
                    self.report()
            finally:
                given_up.set()
        # The first in order, whichever ended first, so that plans do not depend on the machine.
        return next((found for found in (entry.result() for entry in runs) if found is not None), None)

    def _fullest_first(self, best: Sequence[Pattern]) -> list[Pattern]:
        units = self.search.packed.cards["units"]
        return sorted(best, key=lambda pattern: -self.placer.levels(pattern) / units[pattern[0]])

    def _used_by_the_master(self, vector: Sequence[int], root: ColumnGeneration) -> list[Pattern]:
        """Patterns that the linear master uses within these counts, the most used first, with some noise."""
        master = Master(root.catalogue, root.demand, root.prices, vector, artificial_cost=10.0)
        master.add(root.master.patterns)
        values = master.solve().values
        rng = np.random.default_rng(self.seed + self._turn)
        noisy = values * (1.0 + rng.random(len(values)))
        order = [position for position in np.argsort(-noisy, kind="stable").tolist() if values[position] > _USED]
        return [master.patterns[position] for position in order for _ in range(max(1, round(float(values[position]))))]

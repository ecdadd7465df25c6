"""Vectors of GPU counts between bound and best plan, and which of them are proven to have no plan.

A vector N is excluded by a proof of its own, or by a cut: with values π ≥ 0 of the items, V the value of all demand,
and B_g no less than the worth of any feasible set on type g, the GPUs of any plan carry sets that are worth V together,
so that its counts have ``Σ N_g B_g ≥ V``. Every pricing of a type's sets (`pricing.Priced.worst`) gives such a cut for
nothing, whatever counts its values came from, and one vector's proof excludes many others.
"""

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.formulations.columns.incumbent import Incumbent
from igniter_opt.problem.costs import PriceGrid

# Where there are more between bound and best plan, none are listed.
_MOST_LISTED = 2_000
# A cut leaves this much of the value to rounding.
_GUARD = 1e-6
# Stands for infinite worths, in values of all demand: one GPU of such a type is more than enough, none is nothing.
_MUCH = 1e9


class CountVectors:
    """Vectors of GPU counts.

    Parameters
    ----------
    most
        So many are listed at most, the cheapest.

    Attributes
    ----------
    excluded
        Vectors for which it is proven that no plan has exactly these numbers, whatever bound and best plan are.
    fractional
        Vectors within which known patterns cover everything as a linear program: only integers can exclude them.
    """

    def __init__(self, grid: PriceGrid, incumbent: Incumbent, most: int) -> None:
        self.grid, self.incumbent, self.most = grid, incumbent, most
        self.excluded: set[tuple[int, ...]] = set()
        self.fractional: set[tuple[int, ...]] = set()
        self._cuts: list[FloatArray] = []
        # How many of them every vector was held against.
        self._seen: dict[tuple[int, ...], int] = {}
        self._known: tuple[tuple[int, int], list[tuple[int, tuple[int, ...]]] | None] = ((-1, -1), None)

    def left(self, least: int) -> list[tuple[int, tuple[int, ...]]]:
        """Return cost and counts of those that cost `least` or more, less than the best plan, and are not excluded.

        The cheapest come first; there are none without a plan.
        """
        return [entry for entry in self._between(least) or [] if not self.is_excluded(entry[1])][: self.most]

    def is_excluded(self, counts: tuple[int, ...]) -> bool:
        """Whether it is proven that no plan has exactly these numbers."""
        seen = self._seen.get(counts, 0)
        if counts not in self.excluded and seen < len(self._cuts):
            self._seen[counts] = len(self._cuts)
            if float((np.array(self._cuts[seen:]) @ counts).min()) < 1.0:
                self.excluded.add(counts)
        return counts in self.excluded

    def cut(self, value: float, worst: FloatArray) -> None:
        """Take ``Σ N_g worst_g ≥ value`` as a cut, which all plans are within.

        Parameters
        ----------
        value
            ``V``: total value of all demand, for item values π ≥ 0.
        worst
            ``B_g``: no feasible set on type g is worth more; infinite where that is not known.
        """
        enough = value * (1.0 - _GUARD) - _GUARD
        if enough > 0.0:
            self._cuts.append(np.clip(worst / enough, 0.0, _MUCH))

    def bound(self, least: int) -> int:
        """Raise a lower bound on the cost: to the cheapest vector that is left, or to the best plan's cost.

        Every plan has some vector of counts. (In steps of the price grid.)
        """
        if self._between(least) is None:
            return least
        return min([cost for cost, _ in self.left(least)], default=self.incumbent.cost)

    def _between(self, least: int) -> list[tuple[int, tuple[int, ...]]] | None:
        if self.incumbent.patterns is None:
            return None
        between = least, self.incumbent.cost
        if self._known[0] != between:
            self._known = between, self.grid.vectors(*between, _MOST_LISTED)
        return self._known[1]

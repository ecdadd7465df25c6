"""Vectors of GPU counts between bound and best plan, and which of them are proven to have no plan."""

from igniter_opt.formulations.columns.incumbent import Incumbent
from igniter_opt.problem.costs import PriceGrid

# Where there are more between bound and best plan, none are listed.
_MOST_LISTED = 2_000


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
    """

    def __init__(self, grid: PriceGrid, incumbent: Incumbent, most: int) -> None:
        self.grid, self.incumbent, self.most = grid, incumbent, most
        self.excluded: set[tuple[int, ...]] = set()
        self._known: tuple[tuple[int, int], list[tuple[int, tuple[int, ...]]] | None] = ((-1, -1), None)

    def left(self, least: int) -> list[tuple[int, tuple[int, ...]]]:
        """Return cost and counts of those that cost `least` or more, less than the best plan, and are not excluded.

        The cheapest come first; there are none without a plan.
        """
        return [entry for entry in self._between(least) or [] if entry[1] not in self.excluded][: self.most]

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

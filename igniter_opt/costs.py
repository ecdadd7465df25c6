"""Exact costs: prices as integers on a common grid, and lower bounds rounded up to attainable costs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import reduce

from igniter_opt.errors import VerificationError

# Attainable costs are listed exactly up to this many grid steps; beyond it the grid itself is used.
_MAX_STEPS = 2_000_000
# Vectors of GPU counts are listed up to this many.
_MOST_VECTORS = 100_000
# Shares are taken for whole parts of a percent with denominators up to this where they are as close as doubles are.
_MOST_PARTS = 1_000
# By how much a bound from floating-point arithmetic may exceed the true one, in grid steps and relatively;
# it is given back before rounding up.
_GUARD_STEPS = 1e-4
_GUARD_RELATIVE = 1e-6


def common_step(values: Sequence[float]) -> Decimal:
    """Greatest common divisor of some decimals: every sum of them is a whole multiple of it."""
    decimals = [Decimal(str(value)) for value in values]
    scale = Decimal(10) ** min(0, *(int(value.normalize().as_tuple().exponent) for value in decimals))
    return scale * reduce(math.gcd, [int(value / scale) for value in decimals])


def share_step(units: Sequence[float]) -> float:
    """Return the step (percent) of which every total of shares is a whole multiple, up to 1e-12 per share unit.

    Share units are often parts of 100 percent that no decimal equals, as 100/66.
    """
    fractions = [Fraction(unit).limit_denominator(_MOST_PARTS) for unit in units]
    if any(abs(float(part) - unit) > 1e-12 for part, unit in zip(fractions, units, strict=True)):
        return float(common_step(units))
    below = math.lcm(*(part.denominator for part in fractions))
    return math.gcd(*(int(part * below) for part in fractions)) / below


@dataclass(frozen=True)
class PriceGrid:
    """Prices as whole multiples of one step (their greatest common divisor as decimals).

    Attributes
    ----------
    step
        The grid step in currency per hour.
    units
        Price of each GPU type in steps.
    counts
        How many GPUs of each type exist; None for unlimited.
    """

    step: Decimal
    units: tuple[int, ...]
    counts: tuple[int | None, ...]

    @classmethod
    def of(cls, prices: Sequence[float], counts: Sequence[int | None]) -> "PriceGrid":
        """Build the grid of some prices."""
        step = common_step(prices)
        return cls(step, tuple(int(Decimal(str(price)) / step) for price in prices), tuple(counts))

    def cost(self, units: int) -> Decimal:
        """Cost per hour of a number of steps."""
        return self.step * units

    def round_up(self, bound_units: float, known_units: int) -> int:
        """Round a lower bound (in steps) up to the next cost that some set of GPUs has.

        Every plan costs a sum of prices, so if no plan is cheaper than `bound_units`, none is cheaper than the
        least attainable cost from there on. The bound comes from floating-point arithmetic, so a guard is given
        back first; where it is more than a step (prices with many decimals), costs within one part in a million
        of the bound count as equal to it.

        Parameters
        ----------
        bound_units
            The lower bound.
        known_units
            Cost of a known plan; the result is never above it.

        Raises
        ------
        VerificationError
            The bound is above the known plan: one of the two is wrong.
        """
        guard = max(_GUARD_STEPS, _GUARD_RELATIVE * abs(bound_units))
        if bound_units > known_units + guard:
            raise VerificationError(
                f"a lower bound of {self.cost(1) * Decimal(bound_units)} is above a plan that costs"
                f" {self.cost(known_units)}; please report this"
            )
        if bound_units >= known_units - guard:
            return known_units
        least = max(0, math.ceil(bound_units - guard))
        if known_units > _MAX_STEPS:
            return least
        above = self._attainable(known_units) >> least
        return known_units if above == 0 else min(known_units, least + (above & -above).bit_length() - 1)

    def below(self, units: int) -> int:
        """Return the largest cost below `units` that some set of GPUs has (a bound on it where prices are fine)."""
        if units > _MAX_STEPS:
            return units - 1
        return (self._attainable(units) & ((1 << units) - 1)).bit_length() - 1

    def vectors(self, least: int, below: int, most: int) -> list[tuple[int, tuple[int, ...]]] | None:
        """List the vectors of GPU counts that cost at least `least` and less than `below`, cheapest first.

        None if there are more than `most` of them, or prices are too fine to list them.
        """
        waiting: list[tuple[int, tuple[int, ...]]] = [(0, ())]
        for position, (unit, count) in enumerate(zip(self.units, self.counts, strict=True)):
            last = position == len(self.units) - 1
            extended = []
            for cost, vector in waiting:
                number = (below - 1 - cost) // unit
                if count is not None:
                    number = min(number, count)
                first = max(0, -((cost - least) // unit)) if last else 0
                extended += [(cost + unit * k, (*vector, k)) for k in range(first, number + 1)]
                if len(extended) > _MOST_VECTORS:
                    return None
            waiting = extended
        found = sorted(waiting)
        return found if len(found) <= most else None

    def _attainable(self, most: int) -> int:
        """Bit set of the costs up to `most` steps that some multiset of GPUs has."""
        mask = (1 << (most + 1)) - 1
        attainable = 1
        for unit, count in zip(self.units, self.counts, strict=True):
            number = most // unit if count is None else min(count, most // unit)
            step = 1
            while number > 0:
                taken = min(step, number)
                attainable |= (attainable << (unit * taken)) & mask
                number -= taken
                step *= 2
        return attainable

"""Exact costs: prices as integers on a common grid, and lower bounds rounded up to attainable costs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache, reduce

from igniter_opt.base.errors import VerificationError

# Cost in steps of a plan where there is none: more than any costs.
NO_PLAN = 2**62
# Attainable costs are a bit set up to this many grid steps; beyond it, sums of prices are listed.
_MAX_STEPS = 2_000_000
# Sums of prices and vectors of GPU counts are listed up to this many.
_MOST_SUMS, _MOST_VECTORS = 20_000, 100_000
# Shares are taken for whole parts of a percent with denominators up to this where they are as close as doubles are.
_MOST_PARTS = 1_000
# By how much a bound from floating-point arithmetic may exceed the true one, in grid steps and relatively; it is
# given back before rounding up.
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
    most
        No plan needs more GPUs than this, since each has a placement; None where that is not known. It keeps the cost
        of a dear GPU from being that of a million cheap ones.
    """

    step: Decimal
    units: tuple[int, ...]
    counts: tuple[int | None, ...]
    most: int | None = None

    @classmethod
    def of(cls, prices: Sequence[float], counts: Sequence[int | None], most: int | None = None) -> "PriceGrid":
        """Build the grid of some prices."""
        step = common_step(prices)
        return cls(step, tuple(int(Decimal(str(price)) / step) for price in prices), tuple(counts), most)

    @property
    def limits(self) -> tuple[int | None, ...]:
        """How many GPUs of each type a plan may have; None for unlimited."""
        if self.most is None:
            return self.counts
        return tuple(self.most if count is None else min(count, self.most) for count in self.counts)

    def cost(self, units: int) -> Decimal:
        """Cost per hour of a number of steps."""
        return self.step * units

    def round_up(self, bound_units: float, known_units: int = NO_PLAN) -> int:
        """Round a lower bound (in steps) up to the next cost that some set of GPUs has.

        Every plan costs a sum of prices, so if no plan is cheaper than `bound_units`, none is cheaper than the
        least attainable cost from there on. The bound comes from floating-point arithmetic, so the guard is given
        back first: the result is the least attainable cost that is not excluded by more than the guard (or a cost
        below it, where prices are too fine to list their sums). It is the known plan's only where no attainable
        cost lies between, however little apart prices are.

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
        guard = _guard(bound_units)
        if bound_units > known_units + guard:
            raise VerificationError(
                f"a lower bound of {self.cost(1) * Decimal(bound_units)} is above a plan that costs"
                f" {self.cost(known_units)}; please report this"
            )
        least = max(0, math.ceil(bound_units - guard))
        found = self._attainable_from(least, known_units)
        if found is None:
            return least if known_units == NO_PLAN else known_units
        return found

    @property
    def all_units(self) -> int:
        """Cost of all GPUs that a plan may have, in steps: none costs more."""
        return sum(
            unit * (NO_PLAN if limit is None else limit) for unit, limit in zip(self.units, self.limits, strict=True)
        )

    def excluding(self, units: float) -> float:
        """Return a bound (in steps) that excludes plans of this cost: `round_up` of it is above."""
        return units + 10 * _GUARD_STEPS + 2 * _GUARD_RELATIVE * units

    def excluded(self, bound_units: float) -> int:
        """Return the largest cost that some set of GPUs has and that a bound can exclude; -1 if there is none."""
        least = math.ceil((bound_units - 10 * _GUARD_STEPS) / (1 + 2 * _GUARD_RELATIVE))
        return self.below(least) if least > 0 else -1

    def below(self, units: int) -> int:
        """Return the largest cost below `units` that some set of GPUs has (a bound on it where prices are fine)."""
        if units <= _MAX_STEPS:
            return (self._attainable(units) & ((1 << units) - 1)).bit_length() - 1
        unit, count, sums = self._sums(units - 1)
        if sums is None:
            return units - 1
        most = math.inf if count is None else count
        return max(cost + unit * int(min(most, (units - 1 - cost) // unit)) for cost in sums)

    def _attainable_from(self, least: int, most: int) -> int | None:
        """Return the least cost from `least` to `most` that some set of GPUs has.

        `least` itself where prices are too fine to tell; None if there is no such cost.
        """
        if least > most:
            return None
        if most <= _MAX_STEPS:
            above = self._attainable(most) >> least
            return None if above == 0 else least + (above & -above).bit_length() - 1
        unlimited = [unit for unit, count in zip(self.units, self.limits, strict=True) if count is None]
        # One more GPU of an unlimited type gets from below `least` to `least` or beyond.
        most = min(most, least + min(unlimited, default=most))
        if most <= _MAX_STEPS:
            return self._attainable_from(least, most)
        unit, count, sums = self._sums(most)
        if sums is None:
            return least
        numbers = [max(0, -((cost - least) // unit)) for cost in sums]
        reached = [
            cost + unit * number for cost, number in zip(sums, numbers, strict=True) if count is None or number <= count
        ]
        return min((cost for cost in reached if cost <= most), default=None)

    def _sums(self, most: int) -> tuple[int, int | None, tuple[int, ...] | None]:
        """Return price and count of the cheapest type, and the costs up to `most` that the others have."""
        order = sorted(zip(self.units, self.limits, strict=True), key=lambda entry: -entry[0])
        return *order[-1], _sums_of(tuple(order[:-1]), most)

    def vectors(self, least: int, below: int, most: int) -> list[tuple[int, tuple[int, ...]]] | None:
        """List the vectors of GPU counts that cost at least `least` and less than `below`, cheapest first.

        None if there are more than `most` of them, or prices are too fine to list them.
        """
        waiting: list[tuple[int, tuple[int, ...]]] = [(0, ())]
        for position, (unit, count) in enumerate(zip(self.units, self.limits, strict=True)):
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
        found = sorted(entry for entry in waiting if self.most is None or sum(entry[1]) <= self.most)
        return found if len(found) <= most else None

    def _attainable(self, most: int) -> int:
        """Bit set of the costs up to `most` steps that some multiset of GPUs has."""
        mask = (1 << (most + 1)) - 1
        attainable = 1
        for unit, count in zip(self.units, self.limits, strict=True):
            number = most // unit if count is None else min(count, most // unit)
            step = 1
            while number > 0:
                taken = min(step, number)
                attainable |= (attainable << (unit * taken)) & mask
                number -= taken
                step *= 2
        return attainable


def _guard(units: float) -> float:
    """By how much a bound may exceed the true one."""
    return max(_GUARD_STEPS, _GUARD_RELATIVE * abs(units))


@lru_cache(maxsize=16)
def _sums_of(types: tuple[tuple[int, int | None], ...], most: int) -> tuple[int, ...] | None:
    """Return the costs up to `most` of all sets of GPUs of some (price, count) types; None if they are too many."""
    sums = {0}
    for unit, count in types:
        if len(sums) * ((most // unit if count is None else min(count, most // unit)) + 1) > _MOST_VECTORS:
            return None
        sums = {
            cost + unit * number
            for cost in sums
            for number in range(((most - cost) // unit if count is None else min(count, (most - cost) // unit)) + 1)
        }
        if len(sums) > _MOST_SUMS:
            return None
    return tuple(sums)

"""What came of a sweep: a row a point, and the steps between them."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from igniter_opt.base.display import Shown
from igniter_opt.base.files import StrPath
from igniter_opt.base.frames import frame
from igniter_opt.base.kinds import SWEEP, write_output
from igniter_opt.base.schema import summary
from igniter_opt.base.text import counted, rounded
from igniter_opt.data.gpu_type import PRICE_DECIMALS
from igniter_opt.data.plan import Plan
from igniter_opt.slo.rules import RULES, proven_within
from igniter_opt.sweeps.axes import Axis

if TYPE_CHECKING:
    import pandas as pd

# Costs are sums of prices with at most six decimals.
_SAME = 1e-7


@dataclass(frozen=True)
class SweepPoint:
    """A point of a sweep.

    Attributes
    ----------
    coordinates
        A value of every axis.
    prices
        Price per hour of every GPU type on offer.
    plan
        The cheapest plan found, verified; None without one.
    lower_bound_per_hour
        Proven bound on the cost, infinite where no plan exists; None without one.
    solved
        Whether it was solved; otherwise plan and bound are those of other points.
    plan_from, bound_from
        The points that plan and bound come from, if from others.
    message
        Why there is no plan, or no proof.
    """

    coordinates: tuple[float, ...]
    prices: Mapping[str, float]
    plan: Plan | None
    lower_bound_per_hour: float | None
    solved: bool
    plan_from: tuple[float, ...] | None = None
    bound_from: tuple[tuple[float, ...], ...] | None = None
    message: str | None = None

    @property
    def cost_per_hour(self) -> float | None:
        """Cost of the plan."""
        return None if self.plan is None else self.plan.solver.cost_per_hour

    @property
    def infeasible(self) -> bool:
        """Whether it is proven that there is no plan."""
        return self.lower_bound_per_hour == math.inf

    @property
    def proven(self) -> bool:
        """Whether the least cost is proven, or that there is no plan."""
        cost, bound = self.cost_per_hour, self.lower_bound_per_hour
        return self.infeasible or (cost is not None and bound is not None and bound >= cost - _SAME)

    @property
    def status(self) -> str:
        """The plan's status, ``infeasible``, or ``no plan``."""
        if self.plan is None:
            return "infeasible" if self.infeasible else "no plan"
        return self.plan.solver.status

    @property
    def gpus(self) -> dict[str, int]:
        """Number of GPUs of every type on offer; empty without a plan."""
        if self.plan is None:
            return {}
        found = Counter(gpu.type for gpu in self.plan.gpus)
        return {name: found[name] for name in self.prices}

    @property
    def mix(self) -> str:
        """The GPUs in words, such as ``2 V100 + 1 H100``."""
        return " + ".join(f"{number} {name}" for name, number in self.gpus.items() if number)


@dataclass(frozen=True)
class SweepStep:
    """A change between two neighbours along the axis.

    Attributes
    ----------
    below, above
        The two values.
    words
        What changes, such as ``1 GPU less from 27.3 on``.
    proven
        Whether it is proven that there is such a change between the two.
    """

    below: float
    above: float
    words: str
    proven: bool


@dataclass
class Sweep(Shown):
    """What `whatif` found.

    Attributes
    ----------
    instance, currency, slo_rule
        Name of the unchanged instance, currency of all amounts, and the rule.
    axes
        What was varied.
    points
        By rising values, of the last axis first.
    interrupted
        Whether a stop ended it: points are missing, or not proven.
    elapsed_s
        Seconds that it took.
    """

    instance: str
    currency: str
    slo_rule: str
    axes: tuple[Axis, ...]
    points: list[SweepPoint] = field(default_factory=list)
    interrupted: bool = False
    elapsed_s: float = 0.0

    def __repr__(self) -> str:
        return summary(
            "Sweep",
            instance=self.instance,
            vary=", ".join(axis.key for axis in self.axes),
            points=len(self.points),
            proven=sum(point.proven for point in self.points),
            solved=sum(point.solved for point in self.points),
            interrupted=self.interrupted or None,
        )

    @property
    def within(self) -> str:
        """What proofs are within, such as ``p99's safe limits``; empty: nothing but the model."""
        return proven_within(self.slo_rule).removeprefix(" within ")

    @property
    def steps(self) -> list[SweepStep]:
        """Where costs, or along prices the best GPUs, change; of sweeps along one axis."""
        if len(self.axes) != 1:
            return []
        pairs = pairwise(self.points)
        return [step for low, high in pairs if (step := self._step(low, high)) is not None]

    def _step(self, low: SweepPoint, high: SweepPoint) -> SweepStep | None:
        """Return the change between two neighbours, if there is any."""
        (axis,), below, above = self.axes, low.coordinates[0], high.coordinates[0]
        if axis.variable.priced:
            return _change_of_mix(axis, low, high)
        # The cheaper plan holds at its own point (verified); at the other one nothing costs as little (its bound).
        costs = [math.inf if point.infeasible else point.cost_per_hour for point in (low, high)]
        if costs[0] is None or costs[1] is None or costs[0] == costs[1] or abs(costs[0] - costs[1]) <= _SAME:
            return None
        falls = costs[1] < costs[0]
        dear, cheap = (low, high) if falls else (high, low)
        assert cheap.cost_per_hour is not None  # noqa: S101
        bound = dear.lower_bound_per_hour
        proven = bound is not None and bound > cheap.cost_per_hour + _SAME
        where = f"from {_shown(axis, above)} on" if falls else f"up to {_shown(axis, below)}"
        if axis.variable.of_rates and RULES[self.slo_rule].lower_rates != "always":
            where = f"at {_shown(axis, cheap.coordinates[0])}, not at {_shown(axis, dear.coordinates[0])}"
        return SweepStep(below, above, f"{_difference(dear, cheap)} {where}", proven)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return the rows as plain data; they do not depend on how many workers there were, where points are proven."""
        return [self._row(point) for point in self.points]

    def _row(self, point: SweepPoint) -> dict[str, Any]:
        bound = point.lower_bound_per_hour
        return {
            **{axis.key: value for axis, value in zip(self.axes, point.coordinates, strict=True)},
            "cost_per_hour": point.cost_per_hour,
            "lower_bound_per_hour": None if bound == math.inf else bound,
            "status": point.status,
            "proven": point.proven,
            "gpus": None if point.plan is None else len(point.plan.gpus),
            "mix": point.mix or None,
            "solved": point.solved,
            "plan_from": _told([] if point.plan_from is None else [point.plan_from]),
            "bound_from": _told(point.bound_from or []),
            "within": self.within or None,
            "message": point.message,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data (the form of ``whatif --json``)."""
        return {
            "instance": self.instance,
            "currency": self.currency,
            "slo_rule": self.slo_rule,
            "vary": [
                {"key": axis.key, "what": axis.title(self.currency), "values": list(axis.values)} for axis in self.axes
            ],
            "interrupted": self.interrupted,
            "points": self.to_dicts(),
            "steps": [
                {"below": step.below, "above": step.above, "words": step.words, "proven": step.proven}
                for step in self.steps
            ],
        }

    def to_frame(self) -> "pd.DataFrame":
        """Return the rows as a table."""
        columns = list(self._row(SweepPoint(tuple(0.0 for _ in self.axes), {}, None, None, solved=False)))
        found = frame(self.to_dicts(), columns)
        # Whole numbers where there are any: a column with gaps would be of floating-point ones.
        return found.astype({"gpus": "Int64"})

    def to_csv(self) -> str:
        """Return the rows as CSV text."""
        return str(self.to_frame().to_csv(index=False))

    def write(self, path: StrPath) -> None:
        """Write the rows as a CSV file, atomically; raise InputError where something else than a sweep is."""
        write_output(path, self.to_csv().encode(), SWEEP)


def _told(points: Sequence[tuple[float, ...]]) -> str | None:
    """Name points in one cell."""
    return " and ".join(" x ".join(f"{value:.12g}" for value in point) for point in points) or None


def _difference(dear: SweepPoint, cheap: SweepPoint) -> str:
    """Say what the cheaper of two plans has less."""
    if dear.infeasible:
        return f"a plan ({cheap.mix})"
    less = sum(dear.gpus.values()) - sum(cheap.gpus.values())
    types = {name for point in (dear, cheap) for name, number in point.gpus.items() if number}
    if len(types) == 1 and less > 0:
        return f"{counted(less, 'GPU')} less"
    assert dear.cost_per_hour is not None and cheap.cost_per_hour is not None  # noqa: S101
    return f"{rounded(dear.cost_per_hour - cheap.cost_per_hour, PRICE_DECIMALS)} per hour less ({cheap.mix})"


def _change_of_mix(axis: Axis, low: SweepPoint, high: SweepPoint) -> SweepStep | None:
    """Say where other GPUs become the best: those of either point cost more at the other one than what is there."""
    if low.plan is None or high.plan is None or low.gpus == high.gpus:
        return None
    # Proven if either plan is optimal where it is, and dearer than a verified plan at the other point.
    moved = _cost_at(low, high.prices), _cost_at(high, low.prices)
    own = _cost_at(low, low.prices), _cost_at(high, high.prices)
    if not (moved[0] > own[1] or moved[1] > own[0]):
        # Both cost the same at both points: neither is better.
        return None
    proven = low.proven and high.proven and moved[0] > own[1] and moved[1] > own[0]
    words = f"{low.mix} up to {_shown(axis, low.coordinates[0])}, then {high.mix}"
    return SweepStep(low.coordinates[0], high.coordinates[0], words, proven)


def _cost_at(point: SweepPoint, prices: Mapping[str, float]) -> Fraction:
    """Exact cost of a point's GPUs at other prices."""
    return sum((number * Fraction(str(prices[name])) for name, number in point.gpus.items()), Fraction(0))


def _shown(axis: Axis, value: float) -> str:
    unit = axis.variable.unit
    return f"{value:.6g}" + {"": "", "times": " times", "per hour": ""}.get(unit, f" {unit}")

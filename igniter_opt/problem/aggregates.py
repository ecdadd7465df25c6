"""How large a GPU's aggregates (placements n, cache use C, traffic T, power P) can get, and what follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.physics.interference import added_delay, clock_ratio
from igniter_opt.physics.parameters import HardwareCoefficients
from igniter_opt.problem.configurations import Configurations


@dataclass(frozen=True)
class AggregateLimits:
    """Intervals that hold the aggregates of every feasible GPU: cache, traffic, power (W), delay per kernel (ms)."""

    count: int
    cache: tuple[float, float]
    traffic: tuple[float, float]
    power: tuple[float, float]
    delay: tuple[float, float]

    def left_side(self, entry: Configurations) -> tuple[FloatArray, FloatArray]:
        """Least and largest value of each configuration's row, ``(A + K Δ + E (C - c) + E' (T - t)) / D``."""
        rows = entry.linear_rows()
        delay = np.outer(rows.kernels, self.delay)
        cache = np.outer(rows.cache, self.cache)
        traffic = np.outer(rows.traffic, self.traffic)
        return (
            rows.constant + delay.min(axis=1) + cache.min(axis=1) + traffic.min(axis=1),
            rows.constant + delay.max(axis=1) + cache.max(axis=1) + traffic.max(axis=1),
        )

    def without_hopeless(self, entry: Configurations | None) -> Configurations | None:
        """Drop configurations whose row fails at any aggregates: its least value is above φ, which is at most 1."""
        if entry is None:
            return None
        least, _ = self.left_side(entry)
        return entry.take(least <= 1.0) if np.any(least <= 1.0) else None


class AggregateBounds:
    """Largest aggregates of any set of items whose shares fit in a given number of share units.

    A multiple-choice knapsack: at most one configuration per item, sums of count, cache use, traffic and power each
    maximised on their own (so they need not be reached together). Valid for monotone models, whose
    contributions are non-negative.
    """

    def __init__(self, hardware: HardwareCoefficients, items: Sequence[Configurations | None]) -> None:
        self.hardware = hardware
        units = hardware.share_levels
        self._count, self._cache, self._traffic, self._power = np.zeros((4, units + 1))
        for entry in items:
            if entry is None:
                continue
            for table, value in (
                (self._count, np.ones(len(entry))),
                (self._cache, entry.cache),
                (self._traffic, entry.traffic),
                (self._power, entry.power_w),
            ):
                best = np.full(units + 1, -np.inf)
                np.maximum.at(best, entry.level, value)
                without = table.copy()
                for level in np.flatnonzero(np.isfinite(best)).tolist():
                    np.maximum(table[level:], without[: units + 1 - level] + best[level], out=table[level:])

    def limits(self) -> AggregateLimits:
        """Intervals for a whole GPU, an empty one included."""
        count = int(self._count[-1])
        return AggregateLimits(
            count=count,
            cache=(0.0, float(self._cache[-1])),
            traffic=(0.0, float(self._traffic[-1])),
            power=(0.0, self.hardware.idle_power_w + float(self._power[-1])),
            delay=(0.0, float(added_delay(self.hardware, count))),
        )

    def without_useless(self, entry: Configurations) -> Configurations:
        """Drop configurations that a *robust* one replaces in every plan.

        A configuration is robust if its row holds with the largest aggregates that fit beside its share. It
        replaces each configuration of the item with no less share, power, cache use, traffic and memory: its own row
        holds whatever the neighbours are, and no neighbour's row gets harder.
        """
        room = self.hardware.share_levels - entry.level
        delay = added_delay(self.hardware, 1 + self._count[room])
        ratio = clock_ratio(self.hardware, self.hardware.idle_power_w + entry.power_w + self._power[room])
        needed = entry.needed_ms(delay, self._cache[room], self._traffic[room])
        robust = np.flatnonzero(needed <= entry.limit_ms * ratio)
        keep = np.ones(len(entry), dtype=bool)
        resources = np.column_stack([entry.level, entry.power_w, entry.cache, entry.traffic, entry.memory_mib])
        for chosen in robust.tolist():
            if keep[chosen]:
                worse = np.all(resources >= resources[chosen], axis=1)
                worse[chosen] = False
                keep &= ~worse
        return entry.take(keep)


def plain_limits(hardware: HardwareCoefficients, items: Sequence[Configurations | None]) -> AggregateLimits:
    """Intervals for the aggregates that assume nothing about signs: sums of the items' extremes."""

    def interval(values: list[FloatArray]) -> tuple[float, float]:
        low = sum(min(0.0, float(value.min())) for value in values)
        return low, sum(max(0.0, float(value.max())) for value in values)

    present = [entry for entry in items if entry is not None]
    cache = interval([entry.cache for entry in present])
    traffic = interval([entry.traffic for entry in present])
    power = interval([entry.power_w for entry in present])
    delays = added_delay(hardware, np.arange(len(present) + 1))
    return AggregateLimits(
        count=len(present),
        cache=cache,
        traffic=traffic,
        power=(min(0.0, hardware.idle_power_w + power[0]), hardware.idle_power_w + power[1]),
        delay=(float(delays.min()), float(delays.max())),
    )

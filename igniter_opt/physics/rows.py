"""The inequality on which everything rests, and the clock in it, as plain arithmetic.

A placement of fixed batch and share meets its SLO and its rate where its GPU latency is at most D, that is where its
*row* holds::

    A + K Δ(n) + E (C - c) + E' (T - t)  ≤  D φ(P),      φ(P) = min(1, f0 + f1 P)

The GPU's *aggregates* are the number of placements n, with the delay Δ(n) per kernel, and the totals of cache use C,
traffic T and power P. The placement's own are c and t; A is its GPU latency alone at full clock, K its kernels, E and
E' what a unit of contention costs it. What a row needs (its left side) is linear in the aggregates, and the clock φ is
capped by a line.

Numbers, arrays that broadcast, and compiled code call the same functions. They are sums of floating-point numbers,
whose order decides the last bit, and plans are the same to the last bit: so the same quantity in another order has a
function of its own, that says so. Contention is no axis of arrays: a sum over its two kinds takes longer than the two
terms spelled out, for numbers, for arrays and in compiled code alike.
"""

from typing import Any, NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.compilable import compilable

# A number or an array of them; in `LinearRow.at` an expression of a modelling language, too.
Quantity = Any


@compilable
def needed(
    base: Quantity,
    kernels: Quantity,
    delay: Quantity,
    cache_sensitivity: Quantity,
    cache: Quantity,
    traffic_sensitivity: Quantity,
    traffic: Quantity,
) -> Quantity:
    """Left side of a row, ``A + K Δ + E (C - c) + E' (T - t)``, in ms, or of a row divided by D.

    Parameters
    ----------
    base, kernels, cache_sensitivity, traffic_sensitivity
        A, K, E and E' (ms, kernels, ms per unit), or all of them over D.
    delay
        Δ in ms per kernel.
    cache, traffic
        What the *other* placements use, ``C - c`` and ``T - t``.
    """
    return base + kernels * delay + (cache_sensitivity * cache + traffic_sensitivity * traffic)


@compilable
def needed_beside(
    known: Quantity, cache_sensitivity: Quantity, cache: Quantity, traffic_sensitivity: Quantity, traffic: Quantity
) -> Quantity:
    """Left side of a row beside one more placement, from the `known` one that has the larger Δ already."""
    return known + cache_sensitivity * cache + traffic_sensitivity * traffic


@compilable
def gpu_latency(
    fixed: Quantity,
    kernels: Quantity,
    delay: Quantity,
    active: Quantity,
    cache_sensitivity: Quantity,
    cache: Quantity,
    traffic_sensitivity: Quantity,
    traffic: Quantity,
    ratio: Quantity,
) -> Quantity:
    """GPU latency in ms: a row's left side over the clock, with the factors of A, E and E' kept apart.

    ``(s + K Δ + k (1 + γ (C - c) + γ' (T - t))) / φ`` with A = s + k, E = k γ, E' = k γ'.

    Parameters
    ----------
    fixed, active
        s and k in ms.
    cache_sensitivity, traffic_sensitivity
        γ and γ', fractions of k per unit.
    cache, traffic
        What the other placements use.
    ratio
        φ, above 0.
    """
    return (
        fixed + kernels * delay + active * (1.0 + cache_sensitivity * cache + traffic_sensitivity * traffic)
    ) / ratio


class LinearRow(NamedTuple):
    """A row divided by D, in the aggregates themselves: ``constant + kernels Δ + cache C + traffic T ≤ φ(P)``."""

    constant: Quantity
    kernels: Quantity
    cache: Quantity
    traffic: Quantity

    def at(self, delay: Quantity, cache: Quantity, traffic: Quantity) -> Quantity:
        """Left side at the GPU's aggregates."""
        return self.constant + self.kernels * delay + self.cache * cache + self.traffic * traffic


def linear_row(
    base: Quantity,
    kernels: Quantity,
    cache_sensitivity: Quantity,
    cache: Quantity,
    traffic_sensitivity: Quantity,
    traffic: Quantity,
    limit: Quantity,
) -> LinearRow:
    """Return a row divided by D (`limit`); `cache` and `traffic` are the placement's own, c and t."""
    own = cache_sensitivity * cache + traffic_sensitivity * traffic
    return LinearRow((base - own) / limit, kernels / limit, cache_sensitivity / limit, traffic_sensitivity / limit)


@compilable
def clock(intercept: float, slope: float, power_w: float) -> float:
    """Relative clock ``φ(P) = min(1, f0 + f1 P)`` at a total power in W."""
    return min(1.0, intercept + slope * power_w)


def clocks(intercept: Quantity, slope: Quantity, power_w: Quantity) -> FloatArray:
    """`clock` of arrays."""
    return np.asarray(np.minimum(1.0, intercept + slope * power_w))


def clocks_above_cap(slope: float, excess_w: Quantity) -> FloatArray:
    """`clock` of arrays from what the power exceeds the cap by, with f0 = 1 - f1 cap; a fit varies slope and cap."""
    return np.asarray(np.minimum(1.0, 1.0 + slope * excess_w))


@compilable
def power_at_clock(intercept: Quantity, slope: Quantity, ratio: Quantity) -> Quantity:
    """Return the power in W at which the line that caps the clock is at a ratio; the slope must not be 0."""
    return (ratio - intercept) / slope


def throughput_rps(batch: Quantity, active_ms: Quantity) -> Quantity:
    """Requests per second of batches that follow each other without a break, as power and contention depend on it."""
    return 1000.0 * batch / active_ms


def at_rate(slope: Quantity, throughput: Quantity, intercept: Quantity) -> Quantity:
    """What a placement draws or causes (power in W, cache use, traffic) at a throughput, without its other terms."""
    return slope * throughput + intercept


def of_batch(slope: Quantity, batch: Quantity, active_ms: Quantity, intercept: Quantity) -> Quantity:
    """`at_rate` from batch and active time, multiplied in another order: the last digits of fits depend on it."""
    return slope * 1000.0 * batch / active_ms + intercept

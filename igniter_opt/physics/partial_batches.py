"""The predictor for batches that are not the plan's: smaller ones, and neighbours that are not busy all the time.

Part of `physics.interference`, whose formulas it uses; units are the same.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.physics.interference import (
    PlacementTerms,
    added_delay,
    clock_line,
    clock_ratio,
    gpu_latency_ms,
    placement_terms,
)
from igniter_opt.physics.parameters import Coefficients
from igniter_opt.physics.rows import clock, gpu_latency, power_at_clock


class BatchServiceTimes(NamedTuple):
    """Times of every batch size that the placements of one GPU may form, in ms; one array per placement.

    The arrays of a placement with batch b have b entries, for batches of 1 .. b. A server is busy for
    ``gpu_ms + feedback_ms`` per batch, since loading overlaps execution; a request's latency holds its batch's
    ``load_ms`` too.
    """

    gpu_ms: list[FloatArray]
    load_ms: list[FloatArray]
    feedback_ms: list[FloatArray]


def batch_service_times(
    coefficients: Coefficients,
    model: npt.ArrayLike,
    batch: npt.ArrayLike,
    share: npt.ArrayLike,
    margin: npt.ArrayLike = 0.0,
) -> BatchServiceTimes:
    """Predict every batch size up to its own for each placement of one GPU, its neighbours at the plan's batches.

    Active time, power and load are those of the batch formed; the neighbours' cache use, traffic and power are those
    of their full batches.

    Parameters
    ----------
    model, batch, share
        Shape (placements,): model indices, batches and shares in percent of the GPU's placements.
    margin
        Inflates the GPU latency by ``1 + margin``; one for all placements, or one each.
    """
    margins = np.broadcast_to(np.asarray(margin, dtype=float), np.shape(model))
    models, batches, shares = np.asarray(model), np.asarray(batch), np.asarray(share, dtype=float)
    hardware = coefficients.hardware
    full = placement_terms(coefficients, models, batches, shares)
    cache, traffic, power = full.cache.sum(), full.traffic.sum(), hardware.idle_power_w + full.power_w.sum()
    delay = added_delay(hardware, len(models))
    times = BatchServiceTimes([], [], [])
    for k, largest in enumerate(batches.astype(int).tolist()):
        own = placement_terms(coefficients, models[k], np.arange(1, largest + 1), shares[k])
        # No batch but the full one is in the totals, so its own part is taken out of them.
        cache_total = cache - full.cache[k] + own.cache
        traffic_total = traffic - full.traffic[k] + own.traffic
        ratio = clock_ratio(hardware, power - full.power_w[k] + own.power_w)
        times.gpu_ms.append(gpu_latency_ms(own, delay, cache_total, traffic_total, ratio) * (1.0 + margins[k]))
        times.load_ms.append(own.load_ms)
        times.feedback_ms.append(own.feedback_ms)
    return times


def partial_batch_bound_ms(
    limit_ms: float,
    delay_ms: float,
    active_ms: float,
    full_active_ms: float,
    slowed: float,
    power_w: float,
    full_power_w: float,
    idle_power_w: float,
    clock_intercept: float,
    clock_slope: float,
) -> float:
    """Largest GPU latency of a partial batch beside any neighbours that let a full batch meet `limit_ms`.

    Of a placement with batch b, let a_k and p_k be active time and power of a batch of k ≤ b. Neighbours add
    x = kernels Δ ≥ 0, z ≥ 0 W of power, and contention that slows a batch of k by y_k ≥ 0, which is for either kind in
    proportion to `PlacementTerms.cache_ms` or `traffic_ms` (in a monotone model, see `is_monotone`), so that

        t(k) = (s + x + a_k + y_k) / φ(idle + p_k + z),

    and the full batch's ``t(b) ≤ D`` reads ``s + x + a_b + y_b ≤ D φ_b(z)``. With ρ the largest of 1 and what these two
    are at k over what they are at b, y_k ≤ ρ y_b. For given z the largest t(k) spends what is left, D φ_b(z) - s - a_b,
    on x, or on y_b if ρ > 1, which makes it at most

        g(z) = (ρ D φ_b(z) - e) / φ_k(z),   e = ρ (s + a_b) - s - a_k.

    φ is constant up to the power cap and linear above, so g is monotone between the points where φ_b or φ_k leave 1
    and ends where φ_b(z) = (s + a_b) / D; the largest t(k) is at one of these. Where, as is usual, ρ = 1, a_k ≤ a_b
    and p_k ≤ p_b, g falls: it is constant, then D φ_b - e falls, then g = D - (D |slope| (p_b - p_k) + e) / φ_k falls;
    so its largest value is g(0). If the GPU is below its cap with this placement alone, that is D - (a_b - a_k), or
    ``t_solo(k) + D - t_solo(b)``: interference adds at least as much to a full batch as to a smaller one.

    The bound is attained (by neighbours that add scheduling delay only), so no smaller one holds for every company.
    It is conservative for a GPU whose neighbours slow by cache use or by the clock, which lengthen a partial batch
    by y_k or in proportion to t(k), less than a full one.

    Parameters
    ----------
    limit_ms
        D, at least the full batch's GPU latency alone.
    delay_ms, active_ms, full_active_ms, slowed, power_w, full_power_w
        s, a_k, a_b, ρ, p_k, p_b.
    idle_power_w, clock_intercept, clock_slope
        Idle power and `clock_line` of the card.

    Returns
    -------
    float
        Infinite where some such neighbours would leave the partial batch no clock, or ρ is infinite.
    """
    # Scalars only, in plain arithmetic: `slo.percentile` compiles this.
    if slowed == np.inf:
        return np.inf
    excess = slowed * (delay_ms + full_active_ms) - delay_ms - active_ms
    usual = slowed <= 1.0 and active_ms <= full_active_ms and power_w <= full_power_w
    last = 0.0
    cap = 0.0
    if not usual and clock_slope < 0.0:
        cap = power_at_clock(clock_intercept, clock_slope, 1.0)
        last = power_at_clock(clock_intercept, clock_slope, (delay_ms + full_active_ms) / limit_ms)
        last = last - idle_power_w - full_power_w
    largest = 0.0
    for corner in range(1 if usual else 4):
        added = 0.0
        if corner == 1:
            added = last
        elif corner == 2:
            added = cap - idle_power_w - full_power_w
        elif corner == 3:
            added = cap - idle_power_w - power_w
        added = min(max(added, 0.0), max(last, 0.0))
        full_ratio = clock(clock_intercept, clock_slope, idle_power_w + full_power_w + added)
        own_ratio = clock(clock_intercept, clock_slope, idle_power_w + power_w + added)
        if own_ratio <= 0.0:
            return np.inf
        largest = max(largest, (slowed * limit_ms * full_ratio - excess) / own_ratio)
    return largest


def slowed_at_most(slowed_ms: FloatArray, full_ms: FloatArray) -> float:
    """Return ρ of `partial_batch_bound_ms`, by what a unit of each contention adds to a batch and to the full one."""
    most = 1.0
    for own, full in zip(slowed_ms, full_ms):  # noqa: B905 (compiled)
        if own > 0.0:
            most = max(most, own / full) if full > 0.0 else np.inf
    return most


class SharedGpu(NamedTuple):
    """All that decides how long batches take on one GPU, whoever runs beside them.

    Attributes
    ----------
    terms
        For every placement and batch size, shape (placements, largest batch): a batch of k at index k - 1. Beyond a
        placement's own batch the entries are not used.
    added_delay_ms
        Scheduling delay per kernel with n placements running at index n, shape (placements + 1,).
    idle_power_w, clock_intercept, clock_slope
        Idle power, and `interference.clock_line`.
    """

    terms: PlacementTerms
    added_delay_ms: FloatArray
    idle_power_w: float
    clock_intercept: float
    clock_slope: float


def shared_gpu(
    coefficients: Coefficients, model: npt.ArrayLike, batch: npt.ArrayLike, share: npt.ArrayLike
) -> SharedGpu:
    """Evaluate the terms of every batch that the placements of one GPU may form.

    Parameters
    ----------
    model, batch, share
        Shape (placements,): model indices, largest batches and shares in percent.
    """
    sizes = np.arange(1, int(np.max(batch)) + 1, dtype=float)
    # Larger batches than a placement's own are evaluated at its own, where the profile knows them.
    formed = np.minimum(sizes[None, :], np.asarray(batch, dtype=float)[:, None])
    terms = placement_terms(coefficients, np.asarray(model)[:, None], formed, np.asarray(share, dtype=float)[:, None])
    hardware = coefficients.hardware
    return SharedGpu(
        PlacementTerms(*(np.ascontiguousarray(np.broadcast_to(term, formed.shape)) for term in terms)),
        np.concatenate([[0.0], added_delay(hardware, np.arange(1, len(formed) + 1))]),
        hardware.idle_power_w,
        *clock_line(hardware),
    )


def running_times_ms(shared: SharedGpu, size: IntArray, time: FloatArray) -> None:
    """Write the GPU latencies of batches that run at the same time, as if they ran so from beginning to end.

    That is ``(t_sch + t_act) / φ`` with n, C, T and P of what runs (Xu et al. 2023).

    Parameters
    ----------
    size
        Batch that each placement runs, 0 for none; shape (placements,).
    time
        Receives the latencies; infinite where no clock is left, and where nothing runs.
    """
    # Scalars only, in plain arithmetic: `simulation.side_by_side` compiles this.
    terms = shared.terms
    running, cache, traffic, power = 0, 0.0, 0.0, shared.idle_power_w
    for i in range(size.size):
        if size[i] > 0:
            k = size[i] - 1
            running += 1
            cache += terms.cache[i, k]
            traffic += terms.traffic[i, k]
            power += terms.power_w[i, k]
    ratio = clock(shared.clock_intercept, shared.clock_slope, power)
    for i in range(size.size):
        time[i] = np.inf
        if size[i] > 0 and ratio > 0.0:
            k = size[i] - 1
            time[i] = gpu_latency(
                terms.delay_ms[i, k], terms.kernels[i, k], shared.added_delay_ms[running], terms.active_ms[i, k],
                terms.sensitivity[i, k], cache - terms.cache[i, k],
                terms.traffic_sensitivity[i, k], traffic - terms.traffic[i, k],
                ratio,
            )  # fmt: skip

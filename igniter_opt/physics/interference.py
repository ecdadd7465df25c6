"""The performance model of Xu et al. 2023: latency and throughput of placements side by side on one GPU.

The interference physics of the whole package is in this module, on the arithmetic of `rows` (and, for batches smaller
than the plan's, in `partial_batches`), in two forms: `predict` and `predict_many` evaluate it, and `placement_terms`
with `clock_ratio` and `added_delay` give its parts, which are *linear* in a GPU's aggregates (number of placements n,
total cache use C, total traffic T, total power P) once batch and share are fixed. Traffic is a second kind of
contention that only the refined coefficients know (`refined`); with the faithful ones it is 0.

Units: latencies and times in ms, rates and throughputs in req/s, shares in percent of the SMs, power in W.
"""

import contextlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.physics import rows
from igniter_opt.physics.parameters import Coefficients, HardwareCoefficients, RefinedTerms


class PlacementTerms(NamedTuple):
    """What one placement contributes and suffers, as arrays of one shape.

    ``t_gpu = (delay_ms + kernels Δ(n) + active_ms (1 + sensitivity (C - cache) + traffic_sensitivity (T - traffic)))
    / φ(P)``.
    """

    active_ms: FloatArray
    power_w: FloatArray
    cache: FloatArray
    delay_ms: FloatArray
    kernels: FloatArray
    sensitivity: FloatArray
    load_ms: FloatArray
    feedback_ms: FloatArray
    traffic: FloatArray
    traffic_sensitivity: FloatArray

    @property
    def base_ms(self) -> FloatArray:
        """A of a row of `configurations`: GPU latency alone at full clock; infinite without an active time."""
        return self.delay_ms + self.active_ms

    @property
    def cache_ms(self) -> FloatArray:
        """E of such a row; 0 without an active time, whose row fails by A."""
        return np.where(np.isfinite(self.active_ms), self.active_ms, 0.0) * self.sensitivity

    @property
    def traffic_ms(self) -> FloatArray:
        """E' of such a row; 0 without an active time."""
        return np.where(np.isfinite(self.active_ms), self.active_ms, 0.0) * self.traffic_sensitivity


def placement_terms(
    coefficients: Coefficients, model: npt.ArrayLike, batch: npt.ArrayLike, share: npt.ArrayLike
) -> PlacementTerms:
    """Evaluate a placement's terms (Xu et al. 2023, equations for k_act, power and L2 utilisation; or `refined`).

    Parameters
    ----------
    model, batch, share
        Model indices (`Coefficients.index`; -1 means no placement), batch sizes and shares in percent;
        any broadcastable shapes.

    Returns
    -------
    PlacementTerms
        The active time is infinite (and the throughput that power and cache use depend on 0) where the faithful
        formula says nothing: at and below its pole at share ``-k4``, and where it is not positive.
    """
    index = np.asarray(model)
    b = np.asarray(batch, dtype=float)
    r = np.asarray(share, dtype=float)
    (k1, k2, k3, k4, k5, ap, bp, ac, bc, sensitivity, delay, kernels, bytes_in, bytes_out, way) = (
        row.take(index, mode="wrap") for row in coefficients.table
    )
    refined = _refined_terms(coefficients, index, b, r) if coefficients.is_refined else None
    active = _faithful_active_ms((k1 * b + k2) * b + k3, r + k4, k5) if refined is None else refined.active_ms
    throughput = rows.throughput_rps(b, active)
    power, cache = rows.at_rate(ap, throughput, bp), rows.at_rate(ac, throughput, bc)
    if refined is not None:
        power, sensitivity = power + refined.power_w, sensitivity + refined.sensitivity
        cache = cache + refined.cache
    per_byte = b / coefficients.hardware.pcie_bytes_per_ms
    return PlacementTerms(
        active_ms=active,
        power_w=power,
        cache=cache,
        delay_ms=delay,
        kernels=kernels,
        sensitivity=sensitivity,
        load_ms=way + per_byte * bytes_in,
        feedback_ms=per_byte * bytes_out,
        traffic=np.zeros_like(cache) if refined is None else refined.traffic,
        traffic_sensitivity=np.zeros_like(cache) if refined is None else refined.traffic_sensitivity,
    )


def _faithful_active_ms(work: FloatArray, above_pole: FloatArray, least: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        active = work / above_pole + least
    return np.where((above_pole > 0.0) & (active > 0.0), active, np.inf)


class _Refined(NamedTuple):
    """Active time, and what the refined terms add to power, cache and sensitivity; traffic and its sensitivity."""

    active_ms: FloatArray
    power_w: FloatArray
    cache: FloatArray
    sensitivity: FloatArray
    traffic: FloatArray
    traffic_sensitivity: FloatArray


def _refined_terms(coefficients: Coefficients, index: IntArray, b: FloatArray, r: FloatArray) -> _Refined:
    """Evaluate the terms of `refined`; an absent placement takes 1 ms and nothing else."""
    index, b, r = np.broadcast_arrays(index, b, r)
    terms = _Refined(np.ones(index.shape), *(np.zeros(index.shape) for _ in _Refined._fields[1:]))
    for position, model in enumerate(coefficients.models.values()):
        here = index % (len(coefficients.models) + 1) == position
        if model.refined is None or not here.any():
            continue
        own, batch, share = model.refined, b[here], r[here]
        active = own.surface.at(batch, share)
        whole = own.surface.at(batch, 100.0)
        terms.active_ms[here] = active
        terms.power_w[here] = own.power_per_share * share
        if own.utilisation is not None:
            terms.cache[here] = own.utilisation.at(batch) * whole / active
        terms.sensitivity[here] = (own.cache_kernel_ms * model.kernels + own.cache_whole * whole) / active
        terms.traffic[here] = rows.of_batch(own.traffic_slope, batch, active, own.traffic_intercept)
        terms.traffic_sensitivity[here] = (
            own.traffic_sensitivity + (own.traffic_kernel_ms * model.kernels + own.traffic_whole * whole) / active
        )
    return terms


def added_delay(hardware: HardwareCoefficients, count: npt.ArrayLike) -> FloatArray:
    """Scheduling delay added per kernel in ms: ``Δ(n) = α n + β`` for n ≥ 2 placements, 0 for one."""
    n = np.asarray(count, dtype=float)
    return np.where(n > 1, hardware.delay_slope * n + hardware.delay_intercept, 0.0)


def clock_line(hardware: HardwareCoefficients) -> tuple[float, float]:
    """Intercept and slope (per W) of the line that caps the clock: ``φ(P) = min(1, intercept + slope P)``."""
    slope = hardware.frequency_slope / hardware.max_frequency_mhz
    return 1.0 - slope * hardware.max_power_w, slope


def clock_ratio(hardware: HardwareCoefficients, power_w: npt.ArrayLike) -> FloatArray:
    """Relative clock ``φ(P) = f / F = min(1, 1 + (a / F) (P - Pmax))`` at total power P in W."""
    intercept, slope = clock_line(hardware)
    return rows.clocks(intercept, slope, np.asarray(power_w, dtype=float))


def is_monotone(coefficients: Coefficients, models: Iterable[str] | None = None) -> bool:
    """Whether removing a neighbour, or lowering its share, can never raise a predicted latency.

    True when the interference coefficients are non-negative and no profiled batch of the given models (default: all) at
    a share that the card grants has a negative power or cache use or an active time that grows with the share.
    Arguments that compare a set of placements with its subsets (conflict cuts, least fixed points as proofs) hold only
    then.
    """
    hardware = coefficients.hardware
    if hardware.delay_slope < 0 or added_delay(hardware, 2) < 0 or hardware.frequency_slope > 0:
        return False
    for name in coefficients.models if models is None else models:
        model = coefficients.models[name]
        if min(model.cache_sensitivity, model.power_slope, model.cache_slope) < 0:
            return False
        if model.refined is not None and min(_refined_weights(model.refined)) < 0:
            return False
        batches = np.arange(1, model.max_batch + 1)[:, None]
        terms = placement_terms(coefficients, coefficients.index(name), batches, hardware.granted_shares()[None, :])
        if not (np.all(np.isfinite(terms.active_ms)) and np.all(np.diff(terms.active_ms, axis=1) <= 0)):
            return False
        if not (np.all(terms.power_w >= 0) and np.all(terms.cache >= 0) and np.all(terms.traffic >= 0)):
            return False
    return True


def _refined_weights(terms: RefinedTerms) -> list[float]:
    return [
        terms.power_per_share, terms.traffic_slope, terms.cache_kernel_ms, terms.cache_whole,
        terms.traffic_sensitivity, terms.traffic_kernel_ms, terms.traffic_whole,
    ]  # fmt: skip


class GpuPredictions(NamedTuple):
    """Predictions for many GPUs; arrays of shape (GPUs, placements) or (GPUs,)."""

    gpu_latency_ms: FloatArray
    latency_ms: FloatArray
    throughput_rps: FloatArray
    clock_ratio: FloatArray
    power_w: FloatArray


def predict_many(
    coefficients: Coefficients,
    model: IntArray,
    batch: npt.ArrayLike,
    share: npt.ArrayLike,
    margin: npt.ArrayLike = 0.0,
) -> GpuPredictions:
    """Predict many GPUs at once.

    Parameters
    ----------
    model, batch, share
        Shape (GPUs, placements): model indices with -1 where there is no placement (batch and share are
        then ignored, but must be positive numbers), batch sizes, shares in percent.
    margin
        Inflates the GPU latency by ``1 + margin``; one for all, or of shape (GPUs, placements).

    Returns
    -------
    GpuPredictions
        Latency infinite and throughput 0 where the power drawn would leave no clock; entries without
        a placement are meaningless.
    """
    index = np.asarray(model)
    terms = placement_terms(coefficients, index, batch, share)
    hardware = coefficients.hardware
    power = hardware.idle_power_w + terms.power_w.sum(axis=1)
    ratio = clock_ratio(hardware, power)
    delay = added_delay(hardware, (index >= 0).sum(axis=1))
    cache, traffic = terms.cache.sum(axis=1)[:, None], terms.traffic.sum(axis=1)[:, None]
    gpu = gpu_latency_ms(terms, delay[:, None], cache, traffic, ratio[:, None]) * (1.0 + np.asarray(margin))
    busy = gpu + terms.feedback_ms
    return GpuPredictions(
        gpu_latency_ms=gpu,
        latency_ms=terms.load_ms + busy,
        throughput_rps=np.asarray(batch, dtype=float) * 1000.0 / busy,
        clock_ratio=ratio,
        power_w=power,
    )


def gpu_latency_ms(
    terms: PlacementTerms,
    delay: npt.ArrayLike,
    cache_total: npt.ArrayLike,
    traffic_total: npt.ArrayLike,
    ratio: FloatArray,
) -> FloatArray:
    """GPU latency ``(t_sch + t_act) / φ`` in ms (Xu et al. 2023).

    Infinite where φ is not positive, and where there is no active time (`placement_terms`).
    """
    timed = np.isfinite(terms.active_ms)
    bounded = ratio.min(initial=1.0) > 0.0 and timed.all()
    with contextlib.nullcontext() if bounded else np.errstate(divide="ignore", invalid="ignore"):
        latency = rows.gpu_latency(
            terms.delay_ms, terms.kernels, np.asarray(delay), terms.active_ms,
            terms.sensitivity, np.asarray(cache_total) - terms.cache,
            terms.traffic_sensitivity, np.asarray(traffic_total) - terms.traffic,
            ratio,
        )  # fmt: skip
        return np.asarray(latency if bounded else np.where((ratio > 0.0) & timed, latency, np.inf))


def no_active_time(coefficients: Coefficients, model: str) -> str:
    """Say why `placement_terms` has an infinite active time somewhere."""
    pole = -coefficients.models[model].active[3]
    why = f" (their formula has a pole at a share of {pole:.3g} %)" if 0 < pole < 100 else ""
    return f"the igniter coefficients of profile {coefficients.profile_name} give no positive active time there{why}"

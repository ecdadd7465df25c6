"""The faithful coefficients (Xu et al. 2023, Section 3), from the solo grid and the probes of a profile."""

import numpy as np
from scipy.optimize import leastsq

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InputError
from igniter_opt.data.profile import Hardware, ModelProfile, Profile
from igniter_opt.fitting.refined import uncapped_power
from igniter_opt.physics.parameters import Coefficients, HardwareCoefficients, ModelCoefficients

# A slow-down smaller than this is rounding noise.
_ROUNDING = 1e-12


def fit_faithful(profile: Profile) -> Coefficients:
    """Fit the faithful coefficients of a profile.

    Raises
    ------
    InputError
        A model's measurements admit no fit.
    """
    models = {name: _fit_model(name, model, profile.hardware) for name, model in profile.models.items()}
    return Coefficients(profile.name, _fit_hardware(profile.hardware), models)


def _fit_hardware(hardware: Hardware) -> HardwareCoefficients:
    slope, intercept = _fit_scheduling_delay(hardware)
    return HardwareCoefficients(
        max_frequency_mhz=hardware.max_frequency_mhz,
        max_power_w=hardware.max_power_w,
        idle_power_w=hardware.idle_power_w,
        frequency_slope=_fit_frequency_slope(hardware),
        delay_slope=slope,
        delay_intercept=intercept,
        pcie_bytes_per_ms=hardware.pcie_bandwidth_bytes_per_ms,
        share_unit_percent=hardware.share_unit_percent,
        least_level=round((hardware.least_share_percent or hardware.share_unit_percent) / hardware.share_unit_percent),
        memory_mib=hardware.memory_mib,
    )


def _fit_frequency_slope(hardware: Hardware) -> float:
    """Least-squares ``a`` of ``f = F + a (P - Pmax)`` (Xu et al. 2023, the clock under the power cap).

    Once the card caps its clock, its measured power no longer says what the processes would draw, so from
    there on power continues with the mean step seen before.
    """
    top = hardware.max_frequency_mhz
    frequency = np.array(hardware.coexecution.frequency_mhz)
    power = np.array(hardware.coexecution.power_w)
    below = np.flatnonzero(frequency < top)
    if below.size == 0:
        return 0.0
    first = int(below[0])
    uncapped = uncapped_power(power, frequency / top, hardware.idle_power_w)[first:]
    excess = uncapped - hardware.max_power_w
    if not np.any(excess):
        return 0.0
    slope = float(excess @ (frequency[first:] - top) / (excess @ excess))
    if slope > 0:
        raise InputError(
            f"{hardware.gpu}: coexecution says that the clock rises with power above the cap (slope {slope:.3g} MHz/W);"
            " check power_w, frequency_mhz and max_power_w"
        )
    return slope


def _fit_scheduling_delay(hardware: Hardware) -> tuple[float, float]:
    """Line ``α n + β`` through the scheduling delay that n ≥ 2 processes add per kernel; never falling, nor below 0.

    Where kernels are launched by CUDA graphs no delay is added, and readings of about nothing may fall with n, or be
    less than alone, by noise. The line is then the least-squares one of those that do neither: level, or 0 at n = 2.
    """
    run = hardware.coexecution
    delay = np.array(run.scheduling_delay_ms_per_kernel) * np.array(run.frequency_mhz)
    delay /= hardware.max_frequency_mhz
    count = np.arange(2, len(delay) + 1)
    added = delay[1:] - delay[0]
    slope, intercept = np.polyfit(count, added, 1)
    if slope < 0:
        return 0.0, max(0.0, float(added.mean()))
    if 2.0 * slope + intercept < 0:
        slope = max(0.0, float((count - 2) @ added / ((count - 2) @ (count - 2))))
        return slope, -2.0 * slope
    return float(slope), float(intercept)


def _fit_model(name: str, model: ModelProfile, hardware: Hardware) -> ModelCoefficients:
    grid = model.solo_grid
    batch, share = (
        np.asarray(axis, dtype=float).ravel() for axis in np.meshgrid(grid.batch, grid.share_percent, indexing="ij")
    )
    latency = np.array(grid.gpu_latency_ms).ravel()
    frequency = np.array(grid.frequency_mhz).ravel()
    power = np.array(grid.power_w).ravel()
    delay = model.scheduling_delay_ms
    top = hardware.max_frequency_mhz

    active = _fit_active_time(name, batch, share, latency * np.minimum(1.0, frequency / top) - delay)
    throughput = 1000.0 * batch / (latency - delay)
    uncapped = frequency > top - 1
    power_slope, power_intercept = _fit_line(
        f"{name}: power", throughput[uncapped], power[uncapped] - hardware.idle_power_w
    )
    at = [
        grid.batch.index(point.batch) * len(grid.share_percent) + grid.share_percent.index(point.share_percent)
        for point in model.l2_utilisation_percent_at
    ]
    readings = np.array([point.value for point in model.l2_utilisation_percent_at])
    cache_slope, cache_intercept = _fit_line(f"{name}: L2 utilisation", throughput[at], readings)
    probe = model.interference_probe
    slowdown = probe.active_time_paired_ms * probe.frequency_paired_mhz / top / probe.active_time_alone_ms - 1
    if abs(slowdown) < _ROUNDING:
        slowdown = 0.0
    memory = model.memory
    return ModelCoefficients(
        kernels=float(model.kernels),
        input_bytes=model.input_bytes,
        output_bytes=model.output_bytes,
        scheduling_delay_ms=delay,
        active=active,
        power_slope=power_slope,
        power_intercept=power_intercept,
        cache_slope=cache_slope,
        cache_intercept=cache_intercept,
        cache_sensitivity=slowdown / probe.l2_utilisation_percent,
        max_batch=model.max_batch,
        memory_fixed_mib=memory.fixed_mib if memory else 0.0,
        memory_per_item_mib=memory.per_item_mib if memory else 0.0,
    )


def _fit_active_time(
    name: str, batch: FloatArray, share: FloatArray, active: FloatArray
) -> tuple[float, float, float, float, float]:
    """Levenberg-Marquardt fit of ``k(b, r) = (k1 b² + k2 b + k3) / (r + k4) + k5`` in ms."""
    if batch.size < 5:
        raise InputError(f"model {name}: solo_grid has {batch.size} points; the active time needs at least 5")

    def residuals(k: FloatArray) -> FloatArray:
        surface = (k[0] * batch * batch + k[1] * batch + k[2]) / (share + k[3]) + k[4]
        return np.asarray(surface - active)

    # The published coefficients come from exactly this MINPACK driver and its default tolerances: k3 of
    # ResNet-50 is so ill-determined that other drivers stop a few percent away from it.
    solution, _, _, message, code = leastsq(residuals, np.ones(5), maxfev=100_000, full_output=True)
    if code not in (1, 2, 3, 4) or not np.all(np.isfinite(solution)):
        raise InputError(f"model {name}: no active-time surface fits its solo_grid ({message})")
    k1, k2, k3, k4, k5 = (float(value) for value in solution)
    return k1, k2, k3, k4, k5


def _fit_line(what: str, x: FloatArray, y: FloatArray) -> tuple[float, float]:
    if np.unique(x).size < 2:
        raise InputError(f"model {what} cannot be fitted: needs measurements at two or more throughputs")
    slope, intercept = np.polyfit(x, y, 1)
    return float(slope), float(intercept)

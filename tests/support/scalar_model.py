"""The performance model once more, slowly and in scalars, straight from the published formulas."""

import math
from dataclasses import dataclass

import numpy as np

from igniter_opt.data.instance import Workload
from igniter_opt.physics.curves import ActiveSurface
from igniter_opt.physics.parameters import Coefficients


@dataclass
class Scalar:
    latency: float
    throughput: float


def surface_time(surface: ActiveSurface, batch: int, share: float) -> float:
    """The refined surface by two linear interpolations, in b and in 1/r, and its rules beyond the table."""
    batches, shares, table = surface.batches, surface.shares, surface.active_ms
    at = [float(np.interp(batch, batches, [row[k] for row in table])) for k in range(len(shares))]
    time = float(np.interp(1.0 / share, [1.0 / r for r in reversed(shares)], list(reversed(at))))
    return time * max(1.0, batch / batches[-1]) * max(1.0, shares[0] / share)


def active_time(coefficients: Coefficients, model: str, batch: int, share: float) -> float:
    refined = coefficients.models[model].refined
    if refined is not None:
        return surface_time(refined.surface, batch, share)
    k1, k2, k3, k4, k5 = coefficients.models[model].active
    return (k1 * batch**2 + k2 * batch + k3) / (share + k4) + k5


def predict_scalar(
    coefficients: Coefficients, placements: list[tuple[str, int, float]], margin: float = 0.0
) -> list[Scalar]:
    hardware = coefficients.hardware
    n = len(placements)
    power, cache, traffic = hardware.idle_power_w, [], []
    for model, batch, share in placements:
        c = coefficients.models[model]
        rate = 1000.0 * batch / active_time(coefficients, model, batch, share)
        power += c.power_slope * rate + c.power_intercept
        cache.append(c.cache_slope * rate + c.cache_intercept)
        traffic.append(0.0)
        if c.refined is not None:
            power += c.refined.power_per_share * share
            traffic[-1] = c.refined.traffic_slope * rate + c.refined.traffic_intercept
            if c.refined.utilisation is not None:
                counted = c.refined.utilisation
                percent = float(np.interp(math.log(batch), [math.log(b) for b in counted.batches], counted.percent))
                faster = active_time(coefficients, model, batch, 100.0) / active_time(coefficients, model, batch, share)
                cache[-1] += percent * faster
    top = hardware.max_frequency_mhz
    clock = top if power <= hardware.max_power_w else top + hardware.frequency_slope * (power - hardware.max_power_w)
    delta = hardware.delay_slope * n + hardware.delay_intercept if n >= 2 else 0.0
    results = []
    for k, (model, batch, share) in enumerate(placements):
        c = coefficients.models[model]
        scheduling = c.scheduling_delay_ms + delta * c.kernels
        others = sum(cache) - cache[k]
        alone = active_time(coefficients, model, batch, share)
        active = alone * (1 + c.cache_sensitivity * others)
        if c.refined is not None:
            whole, r = active_time(coefficients, model, batch, 100.0), c.refined
            active += (r.cache_kernel_ms * c.kernels + r.cache_whole * whole) * others
            per_traffic = r.traffic_sensitivity * alone + r.traffic_kernel_ms * c.kernels + r.traffic_whole * whole
            active += per_traffic * (sum(traffic) - traffic[k])
        gpu = (scheduling + active) / (clock / top) * (1 + margin) if clock > 0 else math.inf
        load = batch * c.input_bytes / hardware.pcie_bytes_per_ms
        feedback = batch * c.output_bytes / hardware.pcie_bytes_per_ms
        results.append(Scalar(load + gpu + feedback, 1000.0 * batch / (gpu + feedback)))
    return results


def limit_scalar(slo_rule: str, workload: Workload, rate: float, batch: int) -> float:
    if slo_rule == "half":
        return workload.slo_ms / 2
    return workload.slo_ms - (batch - 1) * 1000.0 / rate

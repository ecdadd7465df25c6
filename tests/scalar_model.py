"""The performance model once more, slowly and in scalars, straight from the published formulas."""

import math
from dataclasses import dataclass

from igniter_opt.coefficients import Coefficients
from igniter_opt.instance import Workload


@dataclass
class Scalar:
    latency: float
    throughput: float


def active_time(coefficients: Coefficients, model: str, batch: int, share: float) -> float:
    k1, k2, k3, k4, k5 = coefficients.models[model].active
    return (k1 * batch**2 + k2 * batch + k3) / (share + k4) + k5


def predict_scalar(
    coefficients: Coefficients, placements: list[tuple[str, int, float]], margin: float = 0.0
) -> list[Scalar]:
    hardware = coefficients.hardware
    n = len(placements)
    power, cache = hardware.idle_power_w, []
    for model, batch, share in placements:
        c = coefficients.models[model]
        rate = 1000.0 * batch / active_time(coefficients, model, batch, share)
        power += c.power_slope * rate + c.power_intercept
        cache.append(c.cache_slope * rate + c.cache_intercept)
    top = hardware.max_frequency_mhz
    clock = top if power <= hardware.max_power_w else top + hardware.frequency_slope * (power - hardware.max_power_w)
    delta = hardware.delay_slope * n + hardware.delay_intercept if n >= 2 else 0.0
    results = []
    for k, (model, batch, share) in enumerate(placements):
        c = coefficients.models[model]
        scheduling = c.scheduling_delay_ms + delta * c.kernels
        others = sum(cache) - cache[k]
        active = active_time(coefficients, model, batch, share) * (1 + c.cache_sensitivity * others)
        gpu = (scheduling + active) / (clock / top) * (1 + margin) if clock > 0 else math.inf
        load = batch * c.input_bytes / hardware.pcie_bytes_per_ms
        feedback = batch * c.output_bytes / hardware.pcie_bytes_per_ms
        results.append(Scalar(load + gpu + feedback, 1000.0 * batch / (gpu + feedback)))
    return results


def limit_scalar(slo_rule: str, workload: Workload, rate: float, batch: int) -> float:
    if slo_rule == "half":
        return workload.slo_ms / 2
    return workload.slo_ms - (batch - 1) * 1000.0 / rate

"""iGniter's greedy by its published definition, slowly: scalars, no shortcuts, one GPU type, half rule."""

import math

from igniter_opt.data.instance import Instance
from igniter_opt.fitting.coefficients import fit_coefficients
from tests.support.scalar_model import predict_scalar

Placed = tuple[str, int, float]  # workload, batch, share


def reference_greedy(instance: Instance, *, first_fit: bool = False) -> list[list[Placed]]:
    gpu_type = instance.gpu_types[0]
    coefficients = fit_coefficients(gpu_type.profile)
    hardware = coefficients.hardware
    unit, pcie = hardware.share_unit_percent, hardware.pcie_bytes_per_ms
    demands = []
    for workload in instance.workloads:
        c = coefficients.models[workload.model]
        target, rate = workload.slo_ms / 2, workload.rate_rps / 1000
        batch = math.ceil(target * rate * pcie / (pcie + rate * c.input_bytes))
        k1, k2, k3, k4, k5 = c.active
        need = k1 * batch**2 + k2 * batch + k3
        left = target - c.scheduling_delay_ms - batch * (c.input_bytes + c.output_bytes) / pcie - k5
        demands.append((workload, batch, unit * math.ceil((need / left - k4) / unit)))
    demands.sort(key=lambda entry: -entry[2])
    gpus: list[list[list]] = []
    for workload, batch, lower in demands:
        best = None
        for position, gpu in enumerate(gpus):
            trial = [list(entry) for entry in gpu] + [[workload, batch, lower]]
            while sum(entry[2] for entry in trial) <= 100:
                predicted = predict_scalar(coefficients, [(w.model, b, r) for w, b, r in trial])
                late = [k for k, (w, _, _) in enumerate(trial) if predicted[k].latency > w.slo_ms / 2]
                if not late:
                    break
                for k in late:
                    trial[k][2] += unit
            total = sum(entry[2] for entry in trial)
            growth = total - sum(entry[2] for entry in gpu)
            if total <= 100 and (best is None or growth < best[0]):
                best = (growth, position, trial)
                if first_fit:
                    break
        if best is None:
            gpus.append([[workload, batch, lower]])
        else:
            gpus[best[1]] = best[2]
    return [[(w.name, b, r) for w, b, r in gpu] for gpu in gpus]

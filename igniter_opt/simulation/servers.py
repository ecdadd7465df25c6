"""Placements as servers: how long each takes for a batch of any size, and how long its batcher waits."""

from typing import NamedTuple

import numpy as np

from igniter_opt.coefficients import FloatArray, fit_coefficients
from igniter_opt.errors import InputError
from igniter_opt.plan import Placement, Plan
from igniter_opt.predictor import batch_service_times
from igniter_opt.serving import queue_delay_us
from igniter_opt.simulation.engine import NS_PER_MS, whole_ns
from igniter_opt.verify import verify

# What makes it impossible to say how a plan would be served.
_MALFORMED = ("gpu-type", "profile", "workload", "model", "batch", "share", "rate")


class Server(NamedTuple):
    """A placement as it serves, times in whole ns; those of a batch of k at index k - 1."""

    gpu_name: str
    placement: Placement
    delay: float
    gpu: FloatArray
    load: FloatArray
    feedback: FloatArray


def servers_of(plan: Plan, margin: float = 0.0) -> list[list[Server]]:
    """Return the placements of every workload of the instance, in the order of the plan.

    Parameters
    ----------
    margin
        Inflates predicted GPU latencies by ``1 + margin``.

    Raises
    ------
    InputError
        Something is wrong with the plan that makes its serving times unknowable.
    """
    # What the file claims about itself does not matter here.
    faults = [entry for entry in verify(plan).violations if entry.kind in _MALFORMED and entry.where != "solver"]
    if faults:
        more = f" (and {len(faults) - 1} more; `verify` lists them)" if len(faults) > 1 else ""
        raise InputError(f"the plan cannot be served: {faults[0].where}: {faults[0].message}{more}")
    types = {gpu.name: gpu for gpu in plan.instance.gpu_types}
    found: dict[str, list[Server]] = {workload.name: [] for workload in plan.instance.workloads}
    for gpu in plan.gpus:
        coefficients = fit_coefficients(types[gpu.type].profile)
        times = batch_service_times(
            coefficients,
            np.array([coefficients.index(placement.model) for placement in gpu.placements]),
            np.array([placement.batch for placement in gpu.placements]),
            np.array([placement.share_percent for placement in gpu.placements]),
            margin,
        )
        for k, placement in enumerate(gpu.placements):
            parts = [whole_ns(part[k] * NS_PER_MS) for part in (times.gpu_ms, times.load_ms, times.feedback_ms)]
            if not min(part.min() for part in parts) >= 0.0:
                raise InputError(
                    f"the plan cannot be served: {gpu.name}: the profile of {gpu.type} predicts a negative time"
                    f" for a small batch of {placement.model}; its measurements do not fit together"
                )
            delay = queue_delay_us(plan, placement) * NS_PER_MS / 1000.0
            found[placement.workload].append(Server(gpu.name, placement, delay, *parts))
    missing = [name for name, servers in found.items() if not servers]
    if missing:
        raise InputError(f"the plan cannot be served: workload {missing[0]} is not placed")
    return list(found.values())

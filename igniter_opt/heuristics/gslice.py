"""GSLICE+: batch and share tuned by feedback, no model (as described by Xu et al. 2023, Section 5).

Every workload starts at batch 1 and a share of 30 percent. Up to five times in turn, the batch is multiplied
by target / latency (rounded down) unless the residual, target less latency, is 0 to 10 percent of the target;
then the share is multiplied by the larger of latency / target and rate / throughput (rounded up to share
units). The target is the rule's limit for batch 1; where a rule grants a larger batch less
(`slo.rule.Rule.latency_limit_ms`), the difference counts as latency. What a running server would measure,
`predict_many` predicts. Under rule p99 it is the percentile of waiting and latency, and the target the SLO; where
the queue grows without end, the latency of a full batch stands for it, and the rate makes the share grow.

Where the paper is silent: workloads are first tuned alone on a GPU, then placed first-fit in order of
descending tuned share, then all are tuned again, up to five times in turn, beside the neighbours they now
have. Shares that would exceed the GPU grow in proportion to what is free; batches that would exceed its
memory do not grow. A workload too large for a whole GPU is split into the least number of equal replicas that
whole GPUs carry. Nothing checks the outcome: the plan may violate targets and rates.

On Table 3 (V100) this yields 6 GPUs, as in Figure 18 of the paper. Shares in percent:

=========  ====  ====  ====  ====  ===  ====  ====  ====  ====  ===  ===  ====
.            W1    W2    W3    W4   W5    W6    W7    W8    W9  W10  W11   W12
=========  ====  ====  ====  ====  ===  ====  ====  ====  ====  ===  ===  ====
Figure 18    45  17.5  12.5  37.5   45  17.5  62.5  77.5   100   75   20    65
here         20  12.5  12.5    35   45    20    60  77.5  37.5   80   15  92.5
=========  ====  ====  ====  ====  ===  ====  ====  ====  ====  ===  ===  ====

Nine shares are within 5. The other three (W1, W9, W12) settle here near what suffices alone on a GPU (20,
37.5 and 92.5): the predictor's latencies are smooth, the paper's tuner measured a real GPU, and its placement
is not described. By the predictor W7, W9 and W10 end short of their rates, having no share left to grow into
or too small a batch.
"""

import math
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.errors import InfeasibleError
from igniter_opt.heuristics.demand import require_few_parts
from igniter_opt.heuristics.gpulets import cheapest_on_one_type
from igniter_opt.physics.interference import predict_many
from igniter_opt.physics.parameters import HardwareCoefficients
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import Draft, DraftGpu
from igniter_opt.slo.rule import Replicas

_FIRST_SHARE_PERCENT = 30.0
_ROUNDS = 5
_TOLERATED_RESIDUAL = 0.1
_GUARD = 1e-9
# Keeps divisions finite where the power drawn leaves no clock and so no throughput.
_LEAST_RATE = 1e-12


class _Parts(NamedTuple):
    """Replicas on one GPU type; arrays of one shape, with model -1 where there is none."""

    workload: IntArray
    model: IntArray
    rate_rps: FloatArray
    slo_ms: FloatArray
    max_batch: IntArray
    memory_fixed_mib: FloatArray
    memory_per_item_mib: FloatArray

    def memory_mib(self, batch: IntArray) -> FloatArray:
        return self.memory_fixed_mib + self.memory_per_item_mib * batch

    def arranged(self, index: IntArray) -> "_Parts":
        """Return the parts at the given positions; position -1 means none."""
        present = index >= 0
        return _Parts(
            workload=self.workload[index],
            model=np.where(present, self.model[index], -1),
            rate_rps=self.rate_rps[index],
            slo_ms=self.slo_ms[index],
            max_batch=self.max_batch[index],
            memory_fixed_mib=self.memory_fixed_mib[index] * present,
            memory_per_item_mib=self.memory_per_item_mib[index] * present,
        )


class _Setting(NamedTuple):
    """Batches and shares (in units; 0 where there is no part) of the parts of many GPUs."""

    batch: IntArray
    level: IntArray


def place(problem: Problem) -> list[DraftGpu]:
    """Place all workloads by GSLICE+ on the one GPU type that gives the cheapest plan.

    Raises
    ------
    InfeasibleError
        Some workload cannot be carried, or no type has enough GPUs.
    """
    return cheapest_on_one_type(problem, lambda gpu_type: _place_on(problem, gpu_type))


def _place_on(problem: Problem, gpu_type: int) -> list[DraftGpu]:
    hardware = problem.coefficients[gpu_type].hardware
    parts = _parts(problem, gpu_type)
    apart = parts.arranged(np.arange(len(parts.workload))[:, None])
    first_level = math.ceil(_FIRST_SHARE_PERCENT / hardware.share_unit_percent - _GUARD)
    first = np.full(apart.model.shape, min(max(first_level, hardware.least_level), hardware.share_levels))
    alone = _tuned(problem, gpu_type, apart, _Setting(np.ones_like(first), first))
    members = _first_fit_decreasing(problem, gpu_type, alone.level[:, 0], parts.memory_mib(alone.batch[:, 0]))
    index = np.full((len(members), max(map(len, members))), -1)
    for gpu, positions in enumerate(members):
        index[gpu, : len(positions)] = positions
    together = _Setting(np.where(index >= 0, alone.batch[index, 0], 1), np.where(index >= 0, alone.level[index, 0], 0))
    batch, level = _tuned(problem, gpu_type, parts.arranged(index), together)
    replica = _replica_numbers(parts.workload)
    return [
        DraftGpu(
            gpu_type,
            [
                Draft(
                    int(parts.workload[position]),
                    int(replica[position]),
                    int(batch[gpu, slot]),
                    int(level[gpu, slot]),
                    float(parts.rate_rps[position]),
                )
                for slot, position in enumerate(positions)
            ],
        )
        for gpu, positions in enumerate(members)
    ]


def _parts(problem: Problem, gpu_type: int) -> _Parts:
    """Split what no whole GPU carries into the least number of equal replicas."""
    coefficients = problem.coefficients[gpu_type]
    rows: list[tuple[float, ...]] = []
    for workload, demand in enumerate(problem.workloads):
        model = coefficients.models[demand.model]
        memory = (model.memory_fixed_mib, model.memory_per_item_mib)
        index = coefficients.index(demand.model)
        count = _replicas(problem, gpu_type, workload)
        require_few_parts(demand, count, len(rows))
        row = (workload, index, demand.rate_rps / count, demand.slo_ms, model.max_batch, *memory)
        rows += [row] * count
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return _Parts(*columns)


def _replicas(problem: Problem, gpu_type: int, workload: int) -> int:
    """Find the least number of equal replicas whose rate a whole GPU carries within the target."""
    demand = problem.workloads[workload]
    alone = problem.alone(workload, gpu_type)
    rates = problem.largest_rates(workload, gpu_type)
    # What is tuned is the full batch, so it has to be within the SLO where a rule would rarely have it formed, too.
    carried = rates[(alone.on_whole_gpu.latency_ms[:, 0] <= demand.slo_ms) & alone.fits & (rates > 0.0)]
    if carried.size == 0:
        raise InfeasibleError(f"workload {demand.name} fits a whole GPU within its SLO at no batch")
    most = float(carried.max())
    count = max(1, math.ceil(demand.rate_rps / most - _GUARD))
    if demand.max_replicas is not None and count > demand.max_replicas:
        raise InfeasibleError(
            f"workload {demand.name} ({demand.rate_rps:g} req/s) needs {count} replicas, more than its"
            f" max_replicas of {demand.max_replicas}: a whole GPU carries {most:.4g} req/s within its SLO"
        )
    return count


def _memory_limit(problem: Problem, gpu_type: int) -> float:
    return problem.gpu_types[gpu_type].memory_limit_mib or math.inf


def _tuned(problem: Problem, gpu_type: int, parts: _Parts, start: _Setting) -> _Setting:
    """Alternate batch and share steps of all parts on all GPUs (rows) until nothing changes."""
    setting = start
    for _ in range(_ROUNDS):
        before = setting
        latency, _ = _residual_ratios(problem, gpu_type, parts, setting)
        setting = _with_scaled_batches(parts, setting, latency, _memory_limit(problem, gpu_type))
        latency, rate = _residual_ratios(problem, gpu_type, parts, setting)
        setting = _with_scaled_shares(setting, np.maximum(latency, rate), problem.coefficients[gpu_type].hardware)
        if all(np.array_equal(old, new) for old, new in zip(before, setting, strict=True)):
            break
    return setting


def _residual_ratios(
    problem: Problem, gpu_type: int, parts: _Parts, setting: _Setting
) -> tuple[FloatArray, FloatArray]:
    """Measure latency / target and rate / throughput of every part beside its neighbours."""
    coefficients = problem.coefficients[gpu_type]
    share = np.maximum(setting.level, 1) * coefficients.hardware.share_unit_percent
    measured = predict_many(coefficients, parts.model, setting.batch, share, problem.margin)
    rate = parts.rate_rps / np.maximum(measured.throughput_rps, _LEAST_RATE)
    replicas = Replicas(parts.model, setting.batch, share, parts.rate_rps, parts.workload)
    found = problem.rule.latencies_ms(coefficients, replicas, measured.latency_ms, problem.margin)
    target = problem.rule.latency_limit_ms(parts.slo_ms, parts.rate_rps, np.ones_like(setting.batch))
    waiting = target - problem.rule.latency_limit_ms(parts.slo_ms, parts.rate_rps, setting.batch)
    latency = (np.where(np.isfinite(found), found, measured.latency_ms) + waiting) / target
    return latency, rate


def _with_scaled_batches(
    parts: _Parts, setting: _Setting, latency_ratio: FloatArray, memory_limit_mib: float
) -> _Setting:
    settled = (latency_ratio <= 1.0) & (latency_ratio >= 1.0 - _TOLERATED_RESIDUAL)
    scaled = np.clip(np.floor(setting.batch / latency_ratio + _GUARD), 1, parts.max_batch).astype(np.int64)
    batch = np.where(settled, setting.batch, scaled)
    full = parts.memory_mib(batch).sum(axis=1) > memory_limit_mib
    batch[full] = np.minimum(batch[full], setting.batch[full])
    return setting._replace(batch=batch)


def _with_scaled_shares(setting: _Setting, ratio: FloatArray, hardware: HardwareCoefficients) -> _Setting:
    levels, least = hardware.share_levels, hardware.least_level
    scaled = np.ceil(np.minimum(np.maximum(setting.level, 1) * ratio, levels) - _GUARD)
    wanted = np.maximum(least, scaled).astype(np.int64)
    wanted[setting.level == 0] = 0
    kept = np.minimum(wanted, setting.level)
    growth = wanted - kept
    free = levels - kept.sum(axis=1, keepdims=True)
    # Only GPUs whose shares would exceed the whole are cut back; the rounding down keeps them within it.
    allowed = growth * free // np.maximum(growth.sum(axis=1, keepdims=True), 1)
    return setting._replace(level=kept + np.minimum(growth, allowed))


def _first_fit_decreasing(problem: Problem, gpu_type: int, level: IntArray, memory_mib: FloatArray) -> list[list[int]]:
    """Place parts in order of descending share; return the positions on every GPU."""
    members: list[list[int]] = []
    free_level = np.full(len(level), problem.coefficients[gpu_type].hardware.share_levels)
    free_memory = np.full(len(level), _memory_limit(problem, gpu_type))
    for position in np.argsort(-level, kind="stable").tolist():
        # One GPU per part is enough, so some GPU always has room.
        gpu = int(np.argmax((free_level >= level[position]) & (free_memory >= memory_mib[position])))
        free_level[gpu] -= level[position]
        free_memory[gpu] -= memory_mib[position]
        if gpu == len(members):
            members.append([])
        members[gpu].append(position)
    return members


def _replica_numbers(workload: IntArray) -> IntArray:
    """Count the parts of every workload from 1; parts of one workload are adjacent."""
    return np.arange(len(workload)) - np.searchsorted(workload, workload) + 1

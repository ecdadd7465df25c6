"""What iGniter's greedy decides before placement: replicas, batches and least shares (Xu et al. 2023).

``T`` is the latency target: half the SLO under the ``half`` rule; under others for arrivals at a constant rate, such as
``deadline``, the rule's own limit for the chosen batch takes its place.

Under other rules, such as ``p99``, Theorem 1, which balances the time to fill a batch against the time to serve it, has
no meaning. There the batch is the one that needs the least share alone, and of several the one that leaves most room
for interference (least A / D); and what a whole GPU sustains is nine tenths of the largest rate that meets the rule on
it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.errors import InfeasibleError, UnsuitableError
from igniter_opt.data.instance import Workload
from igniter_opt.physics.interference import placement_terms
from igniter_opt.problem.configurations import Problem
from igniter_opt.slo.constant_rate import ConstantRate

# Rounding guard of the ceilings below: far smaller than any share unit or batch, far above rounding errors.
_GUARD = 1e-9
_SUSTAINABLE_FRACTION = 0.9
# More replicas than this in one plan are a mistake in a rate, or a task for more than one plan.
MOST_PARTS = 100_000


class Part(NamedTuple):
    """A workload, or one of the replicas it is split into.

    `batch` is 0 for an ordinary part; otherwise the part gets a whole GPU of type `home` with that batch.
    """

    workload: int
    replica: int
    rate_rps: float
    batch: int
    home: int


@dataclass(frozen=True)
class Demands:
    """The parts as demands on one GPU type; arrays with one entry (or row) per part.

    Arrays over levels have ``levels + 1`` columns; column ``l`` belongs to a share of ``l`` units, column 0
    is not used.

    Attributes
    ----------
    batch, lower_level
        Chosen batch (by Theorem 1 where it has a meaning) and least sufficient share alone, in units; `levels` + 1
        when a whole GPU of this type does not suffice.
    base_ms, cache_ms, traffic_ms, limit_ms, kernels
        The row of `configurations`: A, E, E' and D per level, K per part.
    """

    gpu_type: int
    levels: int
    parts: Sequence[Part]
    batch: IntArray
    lower_level: IntArray
    base_ms: FloatArray
    cache_ms: FloatArray
    power_w: FloatArray
    cache: FloatArray
    traffic_ms: FloatArray
    traffic: FloatArray
    limit_ms: FloatArray
    kernels: FloatArray
    memory_mib: FloatArray


def igniter_batch(
    problem: Problem, gpu_type: int, model: IntArray, rate_rps: FloatArray, slo_ms: FloatArray
) -> IntArray:
    """Theorem 1: the least batch whose throughput reaches the rate if the latency is exactly T.

    ``b = ⌈T R B / (B + R input_bytes)⌉``, but no larger than the profile's largest batch.
    """
    coefficients = problem.coefficients[gpu_type]
    bandwidth = coefficients.hardware.pcie_bytes_per_ms
    rate = rate_rps / 1000.0
    exact = slo_ms / 2.0 * rate * bandwidth / (bandwidth + rate * coefficients.table[12][model])
    largest = np.array([*(entry.max_batch for entry in coefficients.models.values()), 1])[model]
    return np.asarray(np.clip(np.ceil(exact - _GUARD), 1, largest), dtype=np.int64)


def require_few_parts(demand: Workload, needed: float, others: int) -> None:
    """Raise UnsuitableError where a workload needs so many replicas that with `others` they are over `MOST_PARTS`."""
    if needed + others > MOST_PARTS:
        before = f" besides the {others:,} of other workloads" if others else ""
        raise UnsuitableError(
            f"workload {demand.name}: rate_rps of {demand.rate_rps:g} needs {needed:,.0f} replicas or more{before}; a"
            f" plan has at most {MOST_PARTS:,}; check the rate and its unit (requests per second)"
        )


def whole_workloads(problem: Problem) -> list[Part]:
    """Every workload as one part."""
    return [Part(k, 1, workload.rate_rps, 0, 0) for k, workload in enumerate(problem.workloads)]


def split_where_too_large(problem: Problem, order: Sequence[int], whole: dict[int, Demands]) -> list[Part]:
    """Split the workloads that no whole GPU carries; the others stay whole.

    Without `max_replicas` by the paper's rule, with it into equal replicas.

    Parameters
    ----------
    order
        GPU types in order of preference: a part's home is the first that can carry it.
    whole
        `demands_on` of `whole_workloads`, per GPU type.

    Raises
    ------
    InfeasibleError
        A workload meets its SLO on no type at any batch, or needs more replicas than it may have.
    UnsuitableError
        More than `MOST_PARTS` are needed.
    """
    parts: list[Part] = []
    for workload, demand in enumerate(problem.workloads):
        homes = [g for g in order if whole[g].lower_level[workload] <= whole[g].levels]
        if homes:
            parts.append(Part(workload, 1, demand.rate_rps, 0, homes[0]))
            continue
        if demand.max_replicas is not None:
            parts += _equal_parts(problem, order, workload)
            continue
        reasons = []
        for gpu_type in order:
            if problem.knows(workload, gpu_type):
                try:
                    parts += _split(problem, gpu_type, workload, len(parts))
                    break
                except InfeasibleError as error:
                    reasons.append(str(error))
        else:
            raise InfeasibleError("; ".join(reasons))
    return parts


def _equal_parts(problem: Problem, order: Sequence[int], workload: int) -> list[Part]:
    """Split one workload into the least number of equal replicas, as `max_replicas` asks for.

    Each replica is an ordinary part where Theorem 1's batch serves it, else it gets a whole GPU with the least
    batch that does.
    """
    demand = problem.workloads[workload]
    for count in range(1, problem.replica_limit(workload) + 1):
        rate = demand.rate_rps / count
        for gpu_type in order:
            if problem.least_level(workload, gpu_type, count) is None:
                continue
            part = Part(workload, 1, rate, 0, gpu_type)
            demands = demands_on(problem, gpu_type, [part])
            if demands.lower_level[0] > demands.levels:
                part = part._replace(batch=_least_batch_on_whole_gpu(problem, gpu_type, workload, count))
            if part.batch >= 0:
                return [part._replace(replica=number) for number in range(1, count + 1)]
    raise InfeasibleError(
        f"workload {demand.name} is too large for {demand.max_replicas} equal replicas on whole GPUs"
        f" (max_replicas is {demand.max_replicas})"
    )


def _least_batch_on_whole_gpu(problem: Problem, gpu_type: int, workload: int, count: int) -> int:
    """Least batch that serves one of `count` replicas alone on a whole GPU; -1 if none does."""
    every = problem.every_configuration(workload, gpu_type, count)
    whole = every.take(every.level == problem.coefficients[gpu_type].hardware.share_levels)
    memory = problem.gpu_types[gpu_type].memory_limit_mib
    serves = problem.feasible_alone(whole, gpu_type) & (whole.memory_mib <= (np.inf if memory is None else memory))
    return int(whole.batch[serves].min()) if serves.any() else -1


def _split(problem: Problem, gpu_type: int, workload: int, others: int) -> list[Part]:
    """Split one workload into dedicated whole GPUs and a remainder.

    The paper's rule: the largest batch, scanning up from 1 until the first failure, whose latency alone on a
    whole GPU is below the target; ``⌈0.9 throughput⌉`` there is what a dedicated GPU sustains.
    """
    demand = problem.workloads[workload]
    coefficients = problem.coefficients[gpu_type]
    name = problem.gpu_types[gpu_type].name
    batch, rate = problem.rule.dedicated(problem.alone(workload, gpu_type), demand, _sustained)
    if rate <= 0:
        raise InfeasibleError(f"workload {demand.name} meets its SLO on a whole {name} at no batch")
    # "While the rate exceeds what is sustainable, dedicate a GPU": the remainder is in (0, sustainable].
    whole = max(0, math.ceil(demand.rate_rps / rate * (1 - _GUARD)) - 1)
    require_few_parts(demand, whole + 1, others)
    parts = [Part(workload, number + 1, rate, batch, gpu_type) for number in range(whole)]
    remainder = Part(workload, whole + 1, demand.rate_rps - whole * rate, 0, gpu_type)
    if demands_on(problem, gpu_type, [remainder]).lower_level[0] > coefficients.hardware.share_levels:
        remainder = remainder._replace(batch=batch)
    return [*parts, remainder]


def _sustained(rate_rps: FloatArray) -> FloatArray:
    """What a dedicated GPU sustains of the largest rates."""
    return np.minimum(np.ceil(_SUSTAINABLE_FRACTION * rate_rps - _GUARD), rate_rps)


def demands_on(problem: Problem, gpu_type: int, parts: Sequence[Part]) -> Demands:
    """Batch and least share of every part on one GPU type, with its row at every share level."""
    coefficients = problem.coefficients[gpu_type]
    hardware = coefficients.hardware
    levels = hardware.share_levels
    index = {name: position for position, name in enumerate(coefficients.models)}
    workloads = [problem.workloads[part.workload] for part in parts]
    model = np.array([index.get(workload.model, -1) for workload in workloads])
    slo = np.array([workload.slo_ms for workload in workloads])
    rate = np.array([part.rate_rps for part in parts])
    fixed = np.array([part.batch for part in parts])
    rule = problem.rule
    if isinstance(rule, ConstantRate):
        batch = np.where(fixed > 0, fixed, igniter_batch(problem, gpu_type, model, rate, slo))
    else:
        batch, limit = _roomiest_batches(problem, gpu_type, parts)
    terms = placement_terms(coefficients, model[:, None], batch[:, None], hardware.shares()[None, :])
    if isinstance(rule, ConstantRate):
        by_part = rule.gpu_latency_limit_ms(
            slo, rate, batch, terms.load_ms[:, 0], terms.feedback_ms[:, 0], problem.margin
        )
        limit = np.repeat(by_part[:, None], levels, axis=1)
    base = terms.base_ms
    # The closed form of the paper, r_lower = u ⌈(g/δ - k4) / u⌉, is the first level with s + k(b, r) ≤ D.
    enough = (base <= limit) & (np.arange(1, levels + 1) >= hardware.least_level)
    lower = np.where(enough.any(axis=1), enough.argmax(axis=1) + 1, levels + 1)
    lower[fixed > 0] = levels
    memory = np.array([(m.memory_fixed_mib, m.memory_per_item_mib) for m in coefficients.models.values()] + [(0, 0)])
    memory_mib = memory[model, 0] + memory[model, 1] * batch
    most = problem.gpu_types[gpu_type].memory_limit_mib
    elsewhere = (fixed > 0) & (np.array([part.home for part in parts]) != gpu_type)
    lower[(model < 0) | elsewhere | (memory_mib > (np.inf if most is None else most))] = levels + 1
    return Demands(
        gpu_type=gpu_type,
        levels=levels,
        parts=parts,
        batch=batch,
        lower_level=lower,
        base_ms=_from_level_one(base),
        cache_ms=_from_level_one(terms.cache_ms),
        power_w=_from_level_one(terms.power_w),
        cache=_from_level_one(terms.cache),
        traffic_ms=_from_level_one(terms.traffic_ms),
        traffic=_from_level_one(terms.traffic),
        limit_ms=_from_level_one(limit),
        kernels=terms.kernels[:, 0],
        memory_mib=memory_mib,
    )


def _roomiest_batches(problem: Problem, gpu_type: int, parts: Sequence[Part]) -> tuple[IntArray, FloatArray]:
    """Choose batches by the rule's limits; return them and D at every level, shapes (parts,) and (parts, levels)."""
    hardware = problem.coefficients[gpu_type].hardware
    batches = np.ones(len(parts), dtype=np.int64)
    limits = np.zeros((len(parts), hardware.share_levels))
    for position, part in enumerate(parts):
        if part.batch and part.home != gpu_type:
            batches[position] = part.batch  # stays where it is, and may be more than this type serves
            continue
        if not problem.knows(part.workload, gpu_type):
            continue
        name = problem.workloads[part.workload].model
        table = problem.limits_ms(part.workload, gpu_type, part.rate_rps)
        terms = problem.grid(name, gpu_type)
        base = terms.base_ms
        most = problem.coefficients[gpu_type].models[name].most_batch(problem.gpu_types[gpu_type].memory_limit_mib)
        holds = (base <= table) & (np.arange(1, len(base) + 1)[:, None] <= most)
        if part.batch:
            batches[position] = part.batch
        elif holds.any():
            level = int(holds.any(axis=0).argmax())
            ratio = np.where(holds[:, level], base[:, level] / np.maximum(table[:, level], 1e-300), np.inf)
            batches[position] = int(ratio.argmin()) + 1
        limits[position] = table[batches[position] - 1]
    return batches, limits


def _from_level_one(table: FloatArray) -> FloatArray:
    return np.concatenate([np.zeros((len(table), 1)), table], axis=1)

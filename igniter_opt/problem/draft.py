"""Placements as solvers produce them (indices and share levels), and the plan made of them."""

import math
from collections.abc import Iterator, Sequence
from decimal import Decimal
from importlib.metadata import version
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.errors import InputError, UnsuitableError
from igniter_opt.base.schema import LARGEST_INTEGER, checked_number, describe
from igniter_opt.data.instance import Instance
from igniter_opt.data.plan import Placement, Plan, PlanGpu, SolverInfo, Status
from igniter_opt.physics.interference import predict_many
from igniter_opt.problem.configurations import Problem


class Draft(NamedTuple):
    """A placement.

    Attributes
    ----------
    workload
        Which of `Problem.workloads`, from 0.
    replica
        Which replica of it, from 1; all replicas' rates together are the workload's.
    batch
        Largest batch, from 1.
    level
        Its share, as a multiple of the least step that the card's share changes by: level 13 of a card with steps of
        2.5 % is 32.5 % (``coefficients[gpu_type].hardware.shares()[level - 1]``, in percent).
    rate_rps
        The rate that it carries, in req/s.
    """

    workload: int
    replica: int
    batch: int
    level: int
    rate_rps: float


class DraftGpu(NamedTuple):
    """One GPU of a draft plan: which of `Problem.gpu_types`, from 0, and its placements."""

    gpu_type: int
    placements: list[Draft]


def checked_drafts(problem: Problem, gpus: object) -> list[DraftGpu]:
    """Return the GPUs that somebody else's heuristic made, NumPy's numbers as Python's.

    Whether they hold is not asked here.

    Raises
    ------
    UnsuitableError
        They are no GPUs of a plan for this problem; the message says what is wrong where.
    """
    if not isinstance(gpus, Sequence) or not all(isinstance(gpu, DraftGpu) for gpu in gpus) or not gpus:
        raise UnsuitableError(f"place must return a list of DraftGpu, one at least; found {describe(gpus)}")
    return [_checked_gpu(problem, number, gpu) for number, gpu in enumerate(gpus)]


def _checked_gpu(problem: Problem, number: int, gpu: DraftGpu) -> DraftGpu:
    def whole(where: str, value: object, low: int, high: float) -> int:
        found = int(checked_number(where, value, whole=True))
        if not low <= found <= high:
            raise InputError(f"{where} must be in {low}..{high:g}; found {found}")
        return found

    where, placements = f"GPU {number}", []
    gpu_type = whole(f"{where}: gpu_type", gpu.gpu_type, 0, len(problem.gpu_types) - 1)
    if not isinstance(gpu.placements, Sequence) or not gpu.placements:
        raise UnsuitableError(f"{where}: placements must be a list of Draft; found {describe(gpu.placements)}")
    coefficients = problem.coefficients[gpu_type]
    for position, draft in enumerate(gpu.placements):
        here = f"{where}, placement {position}"
        if not isinstance(draft, Draft):
            raise UnsuitableError(f"{here}: must be a Draft; found {describe(draft)}")
        workload = whole(f"{here}: workload", draft.workload, 0, len(problem.workloads) - 1)
        if not problem.knows(workload, gpu_type):
            name = problem.gpu_types[gpu_type].name
            raise UnsuitableError(f"{here}: the profile of {name} has no {problem.workloads[workload].model}")
        rate = checked_number(f"{here}: rate_rps", draft.rate_rps)
        if not 0 < rate < math.inf:
            raise UnsuitableError(f"{here}: rate_rps must be a finite number above 0; found {describe(rate)}")
        hardware, model = coefficients.hardware, coefficients.models[problem.workloads[workload].model]
        placements.append(
            Draft(
                workload,
                whole(f"{here}: replica", draft.replica, 1, LARGEST_INTEGER),
                whole(f"{here}: batch", draft.batch, 1, model.max_batch),
                whole(f"{here}: level", draft.level, hardware.least_level, hardware.share_levels),
                rate,
            )
        )
    return DraftGpu(gpu_type, placements)


def draft_cost(problem: Problem, gpus: Sequence[DraftGpu]) -> Decimal:
    """Exact cost per hour of the GPUs."""
    return sum((Decimal(str(problem.gpu_types[gpu.gpu_type].price_per_hour)) for gpu in gpus), Decimal(0))


def draft_share_percent(problem: Problem, gpus: Sequence[DraftGpu]) -> float:
    """Total share of all placements in percent."""
    return sum(
        float(problem.coefficients[gpu.gpu_type].hardware.shares()[draft.level - 1])
        for gpu in gpus
        for draft in gpu.placements
    )


def drafts_from_plan(problem: Problem, plan: Plan) -> list[DraftGpu]:
    """Turn a plan, of this or another instance, into a draft for this problem.

    Raises
    ------
    InputError
        The plan has names, batches or shares that the problem lacks. (Whether it holds is for `verify` to say.)
    """
    workloads = {workload.name: k for k, workload in enumerate(problem.workloads)}
    types = {gpu.name: k for k, gpu in enumerate(problem.gpu_types)}
    gpus = []
    for gpu in plan.gpus:
        if gpu.type not in types:
            raise InputError(f"start plan: {gpu.name}: the instance has no GPU type {gpu.type!r}")
        coefficients = problem.coefficients[types[gpu.type]]
        placements = []
        for placement in gpu.placements:
            where = f"start plan: {gpu.name}/{placement.workload}"
            workload = workloads.get(placement.workload)
            if workload is None or problem.workloads[workload].model != placement.model:
                raise InputError(f"{where}: the instance has no such workload of model {placement.model!r}")
            level = placement.share_percent / coefficients.hardware.share_unit_percent
            if (
                placement.model not in coefficients.models
                or not coefficients.hardware.least_level <= round(level) <= coefficients.hardware.share_levels
            ):
                raise InputError(f"{where}: {gpu.type} cannot grant it {placement.share_percent:g} %")
            if (
                abs(level - round(level)) > 1e-6
                or not 1 <= placement.batch <= coefficients.models[placement.model].max_batch
            ):
                raise InputError(f"{where}: batch or share are outside the profile's grid")
            placements.append(Draft(workload, placement.replica, placement.batch, round(level), placement.rate_rps))
        gpus.append(DraftGpu(types[gpu.type], placements))
    return gpus


class DraftPredictions(NamedTuple):
    """What the predictor says of a draft: one entry per placement, GPU after GPU; clock and power one per GPU."""

    gpu_latency_ms: FloatArray
    latency_ms: FloatArray
    throughput_rps: FloatArray
    clock_ratio: FloatArray
    power_w: FloatArray


class DraftArrays:
    """A draft as arrays: one entry per placement, GPU after GPU.

    Attributes
    ----------
    first
        Position of the first placement of every GPU, and the number of placements.
    gpu, gpu_type
        GPU of every placement; type of every GPU.
    model, share_percent
        Of every placement, by its GPU type's coefficients.
    """

    def __init__(self, problem: Problem, gpus: Sequence[DraftGpu]) -> None:
        self.problem = problem
        sizes = np.array([len(gpu.placements) for gpu in gpus], dtype=np.int64)
        self.first = np.concatenate([[0], np.cumsum(sizes)])
        self.gpu = np.repeat(np.arange(len(gpus)), sizes)
        self.gpu_type = np.array([gpu.gpu_type for gpu in gpus], dtype=np.int64)
        drafts = [draft for gpu in gpus for draft in gpu.placements]
        self.workload, self.replica, self.batch, self.level = (
            np.array([draft[field] for draft in drafts], dtype=np.int64) for field in range(4)
        )
        self.rate_rps = np.array([draft.rate_rps for draft in drafts], dtype=np.float64)
        self.model, self.share_percent = np.full(len(drafts), -1), np.zeros(len(drafts))
        names = [workload.model for workload in problem.workloads]
        for gpu_type, here in self.by_type():
            coefficients = problem.coefficients[gpu_type]
            index = {name: position for position, name in enumerate(coefficients.models)}
            self.model[here] = [index[names[workload]] for workload in self.workload[here].tolist()]
            self.share_percent[here] = coefficients.hardware.shares()[self.level[here] - 1]

    def by_type(self) -> Iterator[tuple[int, IntArray]]:
        """Return the placements on every GPU type that is used."""
        for gpu_type in np.unique(self.gpu_type).tolist():
            yield gpu_type, np.flatnonzero(self.gpu_type[self.gpu] == gpu_type)

    def alike(self) -> Iterator[tuple[int, IntArray, IntArray]]:
        """Return GPU type, GPUs, and placements of shape (GPUs, slots), for GPUs of one type with as many placements.

        Without padding: a sum over a GPU's placements is the same to the last bit, whatever other GPUs there are.
        """
        kinds = np.column_stack([self.gpu_type, np.diff(self.first)])
        for gpu_type, size in np.unique(kinds, axis=0).tolist():
            gpus = np.flatnonzero((kinds == (gpu_type, size)).all(axis=1))
            yield gpu_type, gpus, self.first[gpus][:, None] + np.arange(size)

    def predicted(self, margin: float = 0.0) -> DraftPredictions:
        """Predict every GPU once; with a margin as it is judged, by model (`fitting.judging`)."""
        coefficients = self.problem.coefficients if margin else self.problem.plain
        by_placement, by_gpu = np.empty((3, len(self.gpu))), np.empty((2, len(self.gpu_type)))
        for gpu_type, gpus, slots in self.alike():
            found = predict_many(
                coefficients[gpu_type],
                self.model[slots],
                self.batch[slots].astype(np.float64),
                self.share_percent[slots],
                margin,
            )
            by_placement[:, slots] = found.gpu_latency_ms, found.latency_ms, found.throughput_rps
            by_gpu[:, gpus] = found.clock_ratio, found.power_w
        return DraftPredictions(*by_placement, *by_gpu)


def predicted_gpus(
    problem: Problem, gpus: Sequence[DraftGpu], predictions: DraftPredictions | None = None
) -> tuple[PlanGpu, ...]:
    """Name the GPUs and add the predicted latency and throughput of every placement."""
    found = predictions or DraftArrays(problem, gpus).predicted()
    predicted = zip(found.latency_ms.tolist(), found.throughput_rps.tolist(), strict=True)
    numbers = [0] * len(problem.gpu_types)
    named = []
    for gpu in gpus:
        gpu_type = problem.gpu_types[gpu.gpu_type]
        numbers[gpu.gpu_type] += 1
        shares = problem.coefficients[gpu.gpu_type].hardware.shares()[[draft.level - 1 for draft in gpu.placements]]
        placements = []
        for draft, share in zip(gpu.placements, shares.tolist(), strict=True):
            workload = problem.workloads[draft.workload]
            latency, throughput = next(predicted)
            placements.append(
                Placement(
                    workload=workload.name,
                    replica=draft.replica,
                    model=workload.model,
                    batch=draft.batch,
                    share_percent=share,
                    rate_rps=draft.rate_rps,
                    predicted_latency_ms=latency,
                    predicted_throughput_rps=throughput,
                    queue_delay_us=problem.rule.queue_delay_us(workload.slo_ms, draft.rate_rps, draft.batch),
                )
            )
        named.append(
            PlanGpu(name=f"{gpu_type.name}-{numbers[gpu.gpu_type]}", type=gpu_type.name, placements=tuple(placements))
        )
    return tuple(named)


def make_plan(
    problem: Problem,
    gpus: list[DraftGpu],
    *,
    method: str,
    status: Status,
    lower_bound: Decimal | None = None,
    share_lower_bound_percent: float | None = None,
    runtime_s: float = 0.0,
    seed: int = 0,
    predictions: DraftPredictions | None = None,
) -> Plan:
    """Make a self-contained plan of a draft whose latencies are finite; its `predictions`, where there are any."""
    return finished_plan(
        problem.instance,
        predicted_gpus(problem, gpus, predictions),
        method=method,
        status=status,
        lower_bound=lower_bound,
        share_percent=draft_share_percent(problem, gpus),
        share_lower_bound_percent=share_lower_bound_percent,
        runtime_s=runtime_s,
        margin=problem.margin,
        confidence=problem.confidence,
        seed=seed,
    )


def finished_plan(
    instance: Instance,
    gpus: tuple[PlanGpu, ...],
    *,
    method: str,
    status: Status,
    lower_bound: Decimal | None = None,
    share_percent: float | None = None,
    share_lower_bound_percent: float | None = None,
    runtime_s: float = 0.0,
    margin: float = 0.0,
    confidence: float | None = None,
    seed: int = 0,
) -> Plan:
    """Make a self-contained plan of its GPUs, whatever shares them; total share is their sum unless given."""
    prices = {gpu.name: Decimal(str(gpu.price_per_hour)) for gpu in instance.gpu_types}
    cost = sum((prices[gpu.type] for gpu in gpus), Decimal(0))
    return Plan(
        instance=instance,
        solver=SolverInfo(
            method=method,
            status=status,
            cost_per_hour=float(cost),
            lower_bound_per_hour=None if lower_bound is None else float(lower_bound),
            gap=None if lower_bound is None else float((cost - lower_bound) / cost),
            total_share_percent=sum(gpu.total_share_percent for gpu in gpus)
            if share_percent is None
            else share_percent,
            total_share_lower_bound_percent=share_lower_bound_percent,
            runtime_s=round(runtime_s, 6),
            margin=margin,
            confidence=confidence,
            seed=seed,
            version=version("igniter-opt"),
        ),
        gpus=gpus,
    )

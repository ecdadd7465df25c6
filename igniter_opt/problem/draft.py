"""Placements as solvers produce them (indices and share levels), and the plan made of them."""

from decimal import Decimal
from importlib.metadata import version
from typing import NamedTuple

import numpy as np

from igniter_opt.base.errors import InputError, UnsuitableError
from igniter_opt.data.plan import Placement, Plan, PlanGpu, SolverInfo, Status
from igniter_opt.physics.interference import GpuPredictions, no_active_time, predict_many
from igniter_opt.problem.configurations import Problem


class Draft(NamedTuple):
    """A placement: workload index, replica (from 1), batch, share level, rate in req/s."""

    workload: int
    replica: int
    batch: int
    level: int
    rate_rps: float


class DraftGpu(NamedTuple):
    """One GPU of a draft plan."""

    gpu_type: int
    placements: list[Draft]


def draft_cost(problem: Problem, gpus: list[DraftGpu]) -> Decimal:
    """Exact cost per hour of the GPUs."""
    return sum((Decimal(str(problem.gpu_types[gpu.gpu_type].price_per_hour)) for gpu in gpus), Decimal(0))


def draft_share_percent(problem: Problem, gpus: list[DraftGpu]) -> float:
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


def predicted(problem: Problem, gpu: DraftGpu) -> GpuPredictions:
    """Predict one GPU of a draft, without a margin."""
    coefficients = problem.coefficients[gpu.gpu_type]
    shares = coefficients.hardware.shares()[[draft.level - 1 for draft in gpu.placements]]
    return predict_many(
        coefficients,
        np.array([[coefficients.index(problem.workloads[draft.workload].model) for draft in gpu.placements]]),
        np.array([[draft.batch for draft in gpu.placements]], dtype=float),
        shares[None, :],
    )


class Unbounded(NamedTuple):
    """A GPU of a draft on which some placements have no finite latency: its position, why, and the workloads."""

    gpu: int
    why: str
    workloads: list[str]


def unbounded_gpus(problem: Problem, gpus: list[DraftGpu]) -> list[Unbounded]:
    """Return the GPUs that no plan can have, because nothing bounds a latency there (`interference.gpu_latency_ms`)."""
    found = []
    for position, gpu in enumerate(gpus):
        prediction = predicted(problem, gpu)
        lost = [
            problem.workloads[draft.workload]
            for draft, latency in zip(gpu.placements, prediction.latency_ms[0].tolist(), strict=True)
            if not np.isfinite(latency)
        ]
        if not lost:
            continue
        coefficients, name = problem.coefficients[gpu.gpu_type], problem.gpu_types[gpu.gpu_type].name
        if prediction.clock_ratio[0] > 0:
            why = f"{lost[0].name} has too small a share of a {name}: {no_active_time(coefficients, lost[0].model)}"
        else:
            power, cap = float(prediction.power_w[0]), coefficients.hardware.max_power_w
            why = (
                f"one {name} would draw {power:.0f} W, so far beyond its cap of {cap:g} W that by profile"
                f" {coefficients.profile_name} no clock is left"
            )
        found.append(Unbounded(position, why, list(dict.fromkeys(workload.name for workload in lost))))
    return found


def refuse_impossible(problem: Problem, gpus: list[DraftGpu]) -> None:
    """Raise UnsuitableError where a profile predicts that something takes no time, or less: no plan means anything.

    Interference that was measured as negative does that, where more neighbours are added than were measured; methods
    multiply by latencies, so that they may take such a placement for one that holds or for one that does not.
    """
    for gpu in gpus:
        latency = predicted(problem, gpu).gpu_latency_ms[0]
        if np.all(latency > 0):
            continue
        names = [problem.workloads[draft.workload].model for draft in gpu.placements]
        worst = int(np.argmin(latency))
        beside = ", ".join(dict.fromkeys(names[:worst] + names[worst + 1 :]))
        profile = problem.coefficients[gpu.gpu_type].profile_name
        raise UnsuitableError(
            f"profile {profile} predicts a GPU latency of {latency[worst]:.4g} ms for {names[worst]}"
            + (f" beside {beside}" if beside else "")
            + ", which nothing can have; judge the profile with `igniter-opt profile check`, and measure it again"
        )


def predicted_gpus(problem: Problem, gpus: list[DraftGpu]) -> tuple[PlanGpu, ...]:
    """Name the GPUs and add the predicted latency and throughput of every placement."""
    numbers = [0] * len(problem.gpu_types)
    named = []
    for gpu in gpus:
        gpu_type = problem.gpu_types[gpu.gpu_type]
        numbers[gpu.gpu_type] += 1
        workloads = [problem.workloads[draft.workload] for draft in gpu.placements]
        shares = problem.coefficients[gpu.gpu_type].hardware.shares()[[draft.level - 1 for draft in gpu.placements]]
        prediction = predicted(problem, gpu)
        placements = tuple(
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
            for workload, draft, share, latency, throughput in zip(
                workloads,
                gpu.placements,
                shares.tolist(),
                prediction.latency_ms[0].tolist(),
                prediction.throughput_rps[0].tolist(),
                strict=True,
            )
        )
        named.append(
            PlanGpu(name=f"{gpu_type.name}-{numbers[gpu.gpu_type]}", type=gpu_type.name, placements=placements)
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
) -> Plan:
    """Make a self-contained plan of a draft, which has no `unbounded_gpus`."""
    cost = draft_cost(problem, gpus)
    return Plan(
        instance=problem.instance,
        solver=SolverInfo(
            method=method,
            status=status,
            cost_per_hour=float(cost),
            lower_bound_per_hour=None if lower_bound is None else float(lower_bound),
            gap=None if lower_bound is None else float((cost - lower_bound) / cost),
            total_share_percent=draft_share_percent(problem, gpus),
            total_share_lower_bound_percent=share_lower_bound_percent,
            runtime_s=round(runtime_s, 6),
            margin=problem.margin,
            confidence=problem.confidence,
            seed=seed,
            version=version("igniter-opt"),
        ),
        gpus=predicted_gpus(problem, gpus),
    )

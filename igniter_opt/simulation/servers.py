"""Placements as servers: how long each takes for a batch of any size, how long its batcher waits, who is beside it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InputError
from igniter_opt.base.nanoseconds import NS_PER_MS, whole_ns
from igniter_opt.data.plan import Placement, Plan
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.fitting.slice_tables import slice_tables
from igniter_opt.physics.partial_batches import SharedGpu, batch_service_times, shared_gpu
from igniter_opt.physics.slices import SliceTable
from igniter_opt.slo.batcher import queue_delay_us
from igniter_opt.verify import verify_busy

# What makes it impossible to say how a plan would be served.
_MALFORMED = (
    "gpu-type", "profile", "workload", "model", "batch", "share", "rate", "slice", "geometry", "processes", "memory"
)  # fmt: skip


class Server(NamedTuple):
    """A placement as it serves, times in whole ns; those of a batch of k at index k - 1.

    In a slice `processes` servers take batches from one queue.
    """

    gpu_name: str
    placement: Placement
    delay: float
    gpu: FloatArray
    load: FloatArray
    feedback: FloatArray
    processes: int = 1


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
    faults = [entry for entry in verify_busy(plan).violations if entry.kind in _MALFORMED and entry.where != "solver"]
    if faults:
        more = f" (and {len(faults) - 1} more; `verify` lists them)" if len(faults) > 1 else ""
        raise InputError(f"the plan cannot be served: {faults[0].where}: {faults[0].message}{more}")
    types = {gpu.name: gpu for gpu in plan.instance.gpu_types}
    found: dict[str, list[Server]] = {workload.name: [] for workload in plan.instance.workloads}
    tables = {name: slice_tables(gpu.slice_profile) for name, gpu in types.items() if gpu.is_cut}
    for gpu in plan.gpus:
        if gpu.type in tables:
            for placement in gpu.placements:
                table = tables[gpu.type][placement.model][str(placement.slice)]
                found[placement.workload].append(_in_slice(plan, gpu.name, placement, table, margin))
            continue
        coefficients = fit_coefficients(types[gpu.type].mps_profile)
        times = batch_service_times(
            coefficients,
            np.array([coefficients.index(placement.model) for placement in gpu.placements]),
            np.array([placement.batch for placement in gpu.placements]),
            np.array([placement.share_percent for placement in gpu.placements]),
            margin,
        )
        for k, placement in enumerate(gpu.placements):
            own = (times.gpu_ms, times.load_ms, times.feedback_ms)
            busy, load, feedback = (whole_ns(part[k] * NS_PER_MS) for part in own)
            if not min(part.min() for part in (busy, load, feedback)) >= 0.0:
                raise InputError(
                    f"the plan cannot be served: {gpu.name}: the profile of {gpu.type} predicts a negative time"
                    f" for a small batch of {placement.model}; its measurements do not fit together"
                )
            delay = queue_delay_us(plan, placement) * NS_PER_MS / 1000.0
            found[placement.workload].append(Server(gpu.name, placement, delay, busy, load, feedback))
    missing = [name for name, servers in found.items() if not servers]
    if missing:
        raise InputError(f"the plan cannot be served: workload {missing[0]} is not placed")
    return list(found.values())


def _in_slice(plan: Plan, gpu: str, placement: Placement, table: SliceTable, margin: float) -> Server:
    """Return a slice's servers: what a batch takes beyond the time that it keeps its process busy comes behind."""
    processes = int(placement.processes or 1)
    busy, latency = table.times_up_to(table.row(placement.batch, processes) or 0)
    occupied = whole_ns(busy * (1.0 + margin) * NS_PER_MS)
    behind = whole_ns(np.maximum(latency - busy, 0.0) * (1.0 + margin) * NS_PER_MS)
    delay = queue_delay_us(plan, placement) * NS_PER_MS / 1000.0
    return Server(gpu, placement, delay, occupied, behind, np.zeros(len(busy)), processes)


class Company(NamedTuple):
    """The placements of one GPU together.

    Attributes
    ----------
    members
        For each placement, in the plan's order: the number of its workload in the instance, and which of this
        workload's servers (`servers_of`) it is.
    """

    shared: SharedGpu
    members: list[tuple[int, int]]


def companies_of(plan: Plan) -> list[Company]:
    """Return the plan's GPUs, in its order."""
    types = {gpu.name: gpu for gpu in plan.instance.gpu_types}
    number_of = {workload.name: number for number, workload in enumerate(plan.instance.workloads)}
    seen = [0] * len(number_of)
    found = []
    for gpu in plan.gpus:
        coefficients = fit_coefficients(types[gpu.type].mps_profile)
        shared = shared_gpu(
            coefficients,
            np.array([coefficients.index(placement.model) for placement in gpu.placements]),
            np.array([placement.batch for placement in gpu.placements]),
            np.array([placement.share_percent for placement in gpu.placements]),
        )
        members = []
        for placement in gpu.placements:
            number = number_of[placement.workload]
            members.append((number, seen[number]))
            seen[number] += 1
        found.append(Company(shared, members))
    return found


def tied_together(companies: Sequence[Company]) -> list[tuple[list[int], list[Company]]]:
    """Return the workloads and GPUs that depend on each other, since replicas tie GPUs together.

    Returns
    -------
    list
        The numbers of the workloads, ascending, and their GPUs.
    """
    workloads = 1 + max(number for company in companies for number, _ in company.members)
    edges = np.array([(number, workloads + k) for k, company in enumerate(companies) for number, _ in company.members])
    size = workloads + len(companies)
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(size, size))
    count, label = connected_components(graph, directed=False)
    groups: list[tuple[list[int], list[Company]]] = [([], []) for _ in range(count)]
    for number in range(workloads):
        groups[label[number]][0].append(number)
    for company, of in zip(companies, label[workloads:], strict=True):
        groups[of][1].append(company)
    return groups

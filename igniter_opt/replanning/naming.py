"""From columns to a plan: which workload of a class has which place, so that what stays is whose it was."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from igniter_opt.formulations.columns.standing import Column
from igniter_opt.packing.items import Catalogue
from igniter_opt.packing.running import RunningGpu
from igniter_opt.problem.draft import Draft, DraftGpu

Slot = tuple[int, int]  # column and position of a member in it


def drafts_of_columns(known: Catalogue, running: Sequence[RunningGpu], columns: Sequence[Column]) -> list[DraftGpu]:
    """Turn columns that cover every workload exactly into a draft, GPU by GPU in their order."""
    owners = _owners(known, running, columns)
    workloads = known.problem.workloads
    gpus = []
    for number, column in enumerate(columns):
        placements = []
        for position, (item, (batch, level)) in enumerate(
            zip(column.pattern[1], column.takeover.configurations, strict=True)
        ):
            workload, replica = owners[number, position]
            rate = workloads[workload].rate_rps / known.items[item].replicas
            placements.append(Draft(workload, replica, batch, level, rate))
        gpus.append(DraftGpu(column.pattern[0], placements))
    return gpus


def _owners(
    known: Catalogue, running: Sequence[RunningGpu], columns: Sequence[Column]
) -> Mapping[Slot, tuple[int, int]]:
    """Return workload and replica of every member: those of the servers taken over, where there is a way."""
    slots: dict[int, list[Slot]] = {}
    stays: dict[Slot, int] = {}
    for number, column in enumerate(columns):
        for position, (item, server) in enumerate(zip(column.pattern[1], column.takeover.taken, strict=True)):
            slots.setdefault(item, []).append((number, position))
            if server >= 0 and column.gpu is not None:
                stays[number, position] = running[column.gpu].servers[server].workload
    owners: dict[Slot, tuple[int, int]] = {}
    for number, items in enumerate(known.class_items):
        waiting = list(known.classes[number].workloads)
        for item in items:
            places, replicas = slots.get(item, []), known.items[item].replicas
            # Those come first who have most to keep with this number of replicas.
            here = [stays.get(place) for place in places]
            waiting.sort(key=lambda workload, here=here: (-here.count(workload), workload))  # type: ignore[misc]
            chosen = sorted(waiting[: len(places) // replicas])
            waiting = [workload for workload in waiting if workload not in chosen]
            rows = [(workload, replica) for workload in chosen for replica in range(1, replicas + 1)]
            gain = np.array([[float(stays.get(place) == workload) for place in places] for workload, _ in rows])
            if rows:
                for row, place in zip(*linear_sum_assignment(gain, maximize=True), strict=True):
                    owners[places[place]] = rows[row]
    return owners

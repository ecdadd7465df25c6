"""What a new plan does to the servers of a running one, and which of its GPUs are which."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from igniter_opt.data.migration import Disruption, DisruptionWeights
from igniter_opt.data.plan import Plan, PlanGpu
from igniter_opt.deploy.differences import ServedPlacement
from igniter_opt.deploy.matching import served_by_gpu

# A GPU that takes the place of one of another type, which none does.
_NEVER = 1e12


class InPlace(NamedTuple):
    """A server of a workload that has one on the same GPU before and after: positions among the GPU's servers."""

    old: int
    new: int


def in_place(old: Sequence[ServedPlacement], new: Sequence[ServedPlacement]) -> list[InPlace]:
    """Pair the servers that a GPU has before and after, workload by workload; those that differ least first."""
    pairs = []
    old_left, new_left = dict.fromkeys(range(len(old))), dict.fromkeys(range(len(new)))
    for level in range(3):
        for k in list(new_left):
            found = next((j for j in old_left if _difference(old[j], new[k]) == level), None)
            if found is not None:
                pairs.append(InPlace(found, k))
                del old_left[found], new_left[k]
    return pairs


def _difference(old: ServedPlacement, new: ServedPlacement) -> int | None:
    """0: served alike; 1: another share; 2: anything else of one workload; None: of two workloads."""
    if old.workload != new.workload:
        return None
    if old.settings == new.settings:
        return 0
    same = (old.model, old.batch, old.queue_delay_us) == (new.model, new.batch, new.queue_delay_us)
    return 1 if same else 2


def disruption(old: Plan, new: Plan, weights: DisruptionWeights, bound: float | None = None) -> Disruption:
    """Count what becomes of servers where the new plan's GPUs have the names of the old one's that they are."""
    before = dict(zip([gpu.name for gpu in old.gpus], served_by_gpu(old), strict=True))
    arrived: dict[str, int] = {}
    left: dict[str, int] = {}
    for entry in (placement for served in before.values() for placement in served):
        left[entry.workload] = left.get(entry.workload, 0) + 1
    counted = [0, 0, 0]
    for gpu, served in zip(new.gpus, served_by_gpu(new), strict=True):
        there = before.get(gpu.name, [])
        pairs = in_place(there, served)
        for pair in pairs:
            counted[_difference(there[pair.old], served[pair.new]) or 0] += 1
            left[served[pair.new].workload] -= 1
        stayed = {pair.new for pair in pairs}
        for k, entry in enumerate(served):
            if k not in stayed:
                arrived[entry.workload] = arrived.get(entry.workload, 0) + 1
    moves = sum(min(number, left.get(name, 0)) for name, number in arrived.items())
    return Disruption(
        moves=moves,
        restarts=counted[2],
        resizes=counted[1],
        starts=sum(arrived.values()) - moves,
        stops=sum(left.values()) - moves,
        kept=counted[0],
        weighted=_weighted(moves, counted[2], counted[1], weights),
        bound=bound,
    )


def _weighted(moves: int, restarts: int, resizes: int, weights: DisruptionWeights) -> float:
    return round(weights.move * moves + weights.restart * restarts + weights.resize * resizes, 9)


def matched(old: Plan, new: Plan, weights: DisruptionWeights) -> Plan:
    """Return the new plan with its GPUs called as those of the old one that they are: with the least disruption.

    GPUs of a type are interchangeable, so it is an assignment of GPUs to GPUs. Others get names that nothing has; of
    servers that stay, the numbers stay, as far as they are numbers in the new plan.
    """
    before, after = served_by_gpu(old), served_by_gpu(new)
    cost = np.full((len(new.gpus), len(old.gpus)), _NEVER)
    for row, gpu in enumerate(new.gpus):
        for column, other in enumerate(old.gpus):
            if gpu.type == other.type:
                cost[row, column] = _cost(before[column], after[row], weights)
    # Of equal ones the GPU of the same name.
    names = {gpu.name: column for column, gpu in enumerate(old.gpus)}
    for row, gpu in enumerate(new.gpus):
        if gpu.name in names:
            cost[row, names[gpu.name]] -= 1e-6
    rows, columns = linear_sum_assignment(cost)
    pairs = {int(r): int(c) for r, c in zip(rows, columns, strict=True) if cost[r, c] < _NEVER / 2}
    taken = {gpu.name for gpu in old.gpus}
    named: list[tuple[int, PlanGpu]] = []
    for row, gpu in enumerate(new.gpus):
        if row in pairs:
            name = old.gpus[pairs[row]].name
        else:
            name = next(other for other in (f"{gpu.type}-{k}" for k in count(1)) if other not in taken)
            taken.add(name)
        named.append((pairs.get(row, len(old.gpus) + row), gpu.model_copy(update={"name": name})))
    gpus = tuple(gpu for _, gpu in sorted(named, key=lambda entry: entry[0]))
    return _renumbered(old, new.model_copy(update={"gpus": gpus}))


def _cost(old: Sequence[ServedPlacement], new: Sequence[ServedPlacement], weights: DisruptionWeights) -> float:
    levels = (0.0, weights.resize, weights.restart)
    pairs = in_place(old, new)
    changed = sum(levels[_difference(old[pair.old], new[pair.new]) or 0] for pair in pairs)
    return changed + weights.move * (len(new) - len(pairs))


def _renumbered(old: Plan, new: Plan) -> Plan:
    """Let servers that stay on their GPU keep their replica's number."""
    wanted: dict[tuple[str, int], int] = {}
    before = dict(zip([gpu.name for gpu in old.gpus], served_by_gpu(old), strict=True))
    for gpu, served in zip(new.gpus, served_by_gpu(new), strict=True):
        there = before.get(gpu.name, [])
        for pair in in_place(there, served):
            wanted[gpu.name, pair.new] = there[pair.old].replica
    numbers: dict[tuple[str, int], int] = {}
    for name, places in _places(new).items():
        free = dict.fromkeys(range(1, len(places) + 1))
        for place in places:
            if wanted.get(place) in free:
                numbers[place] = wanted[place]
                del free[wanted[place]]
        for place in places:
            if place not in numbers:
                numbers[place] = next(iter(free))
                del free[numbers[place]]
        del name
    gpus = [
        gpu.model_copy(
            update={
                "placements": tuple(
                    entry.model_copy(update={"replica": numbers[gpu.name, k]}) for k, entry in enumerate(gpu.placements)
                )
            }
        )
        for gpu in new.gpus
    ]
    return new.model_copy(update={"gpus": tuple(gpus)})


def _places(plan: Plan) -> Mapping[str, list[tuple[str, int]]]:
    found: dict[str, list[tuple[str, int]]] = {}
    for name, place in _each(plan):
        found.setdefault(name, []).append(place)
    return found


def _each(plan: Plan) -> Iterator[tuple[str, tuple[str, int]]]:
    for gpu in plan.gpus:
        for position, placement in enumerate(gpu.placements):
            yield placement.workload, (gpu.name, position)

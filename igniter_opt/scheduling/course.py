"""Which server is on which GPU in which step: a course through time, and what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import numpy.typing as npt

from igniter_opt.base.arrays import IntArray
from igniter_opt.scheduling.universe import Layout

# A server that is not there.
ABSENT = -1


@dataclass(frozen=True)
class StepPrices:
    """What a course pays for.

    Attributes
    ----------
    gpu
        Price of a GPU of each type for one step, in currency.
    start
        What a GPU of each type costs beyond that when it is started, in currency.
    move
        Price of a move, in currency.
    """

    gpu: tuple[float, ...]
    start: tuple[float, ...]
    move: float


@dataclass
class Course:
    """Places of all servers.

    Attributes
    ----------
    types
        GPU type of every slot; a slot is a GPU, or none while no server is on it.
    servers
        Workload and number of every server; no two of a workload have the same.
    slot
        Where each is in each step, shape (servers, steps), or `ABSENT`.
    replicas
        How many servers each workload has in each step, shape (workloads, steps).
    """

    types: tuple[int, ...]
    servers: tuple[tuple[int, int], ...]
    slot: IntArray
    replicas: IntArray

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return int(self.slot.shape[1])

    def used(self) -> npt.NDArray[np.bool_]:
        """Which slots are GPUs in which steps, shape (slots, steps)."""
        slots = np.arange(len(self.types))[:, None, None]
        return np.asarray((self.slot[None, :, :] == slots).any(axis=1))

    def moves(self) -> int:
        """How many servers go to another GPU between two steps."""
        before, after = self.slot[:, :-1], self.slot[:, 1:]
        return int(((before != after) & (before != ABSENT) & (after != ABSENT)).sum())

    def cost(self, prices: StepPrices) -> float:
        """Return what GPUs, their starts and moves cost in all."""
        used = self.used()
        gpu, start = (np.array([price[kind] for kind in self.types]) for price in (prices.gpu, prices.start))
        starts = used & ~np.concatenate([np.zeros((len(self.types), 1), dtype=bool), used[:, :-1]], axis=1)
        return float(gpu @ used.sum(axis=1) + start @ starts.sum(axis=1)) + prices.move * self.moves()

    def layout(self, step: int) -> dict[int, list[tuple[int, int]]]:
        """Return the servers of every GPU in a step, by slot."""
        found: dict[int, list[tuple[int, int]]] = {}
        for server, place in zip(self.servers, self.slot[:, step].tolist(), strict=True):
            if place != ABSENT:
                found.setdefault(place, []).append(server)
        return found


def course_of(layouts: Sequence[Layout], before: Course | None = None) -> Course:
    """Follow layouts from step to step, every GPU as the one before with which it shares the most servers.

    GPUs of a type are interchangeable, and so are the servers of a workload.

    Parameters
    ----------
    before
        The course that goes on with these layouts.
    """
    types = [] if before is None else list(before.types)
    number = {} if before is None else {server: k for k, server in enumerate(before.servers)}
    last = {} if before is None else before.layout(before.steps - 1)
    standing = [last.get(slot, []) for slot in range(len(types))]
    places: list[dict[tuple[int, int], int]] = []
    for layout in layouts:
        standing = _next(standing, types, layout)
        place = {server: slot for slot, members in enumerate(standing) for server in members}
        for server in place:
            number.setdefault(server, len(number))
        places.append(place)
    slots = np.full((len(number), len(layouts)), ABSENT, dtype=np.int64)
    for step, place in enumerate(places):
        for server, slot in place.items():
            slots[number[server], step] = slot
    replicas = _replicas(layouts)
    if before is not None:
        past = np.full((len(number), before.steps), ABSENT, dtype=np.int64)
        past[: len(before.servers)] = before.slot
        slots = np.concatenate([past, slots], axis=1)
        replicas = np.concatenate([before.replicas, replicas], axis=1)
    return Course(tuple(types), tuple(number), slots, replicas)


def _replicas(layouts: Sequence[Layout]) -> IntArray:
    """Return how many servers every workload has in every step."""
    workloads = 1 + max(workload for layout in layouts for _, members in layout for workload, _ in members)
    found = np.zeros((workloads, len(layouts)), dtype=np.int64)
    for step, layout in enumerate(layouts):
        for _, members in layout:
            for workload, replicas in members:
                found[workload, step] = replicas
    return found


def _next(
    standing: Sequence[Sequence[tuple[int, int]]], types: list[int], layout: Layout
) -> list[list[tuple[int, int]]]:
    """Return the servers of every slot with a layout, after what stands; new slots are added to the types.

    Servers that stay keep their numbers, which others then have not; there may be gaps between numbers.
    """
    now: list[list[tuple[int, int]]] = [[] for _ in types]
    waiting: list[list[int]] = [[] for _ in types]
    for (gpu_type, members), slot in zip(layout, _matched(standing, types, layout), strict=True):
        if slot >= len(types):
            types.append(gpu_type)
            now.append([])
            waiting.append([])
        waiting[slot] = [workload for workload, _ in members]
        for server in standing[slot] if slot < len(standing) else []:
            if server[0] in waiting[slot]:
                waiting[slot].remove(server[0])
                now[slot].append(server)
    taken = {server for members in now for server in members}
    # Those that left come first: they move, others start.
    left = [server for members in standing for server in members if server not in taken]
    for slot, names in enumerate(waiting):
        for workload in names:
            known = (server for server in left if server[0] == workload and server not in taken)
            new = ((workload, number) for number in count(1))
            server = next(known, None) or next(entry for entry in new if entry not in taken)
            taken.add(server)
            now[slot].append(server)
    return now


def _matched(standing: Sequence[Sequence[tuple[int, int]]], types: Sequence[int], layout: Layout) -> list[int]:
    """Return the slot of every GPU of a layout; new ones from ``len(types)`` up, in the order of the layout."""
    from scipy.optimize import linear_sum_assignment

    number = len(types)
    # A GPU that stands is taken before one that does not, and any of its type before a new one.
    worth = np.full((len(layout), number + len(layout)), -1e6)
    for row, (gpu_type, members) in enumerate(layout):
        for column, there in enumerate(standing):
            if types[column] == gpu_type:
                worth[row, column] = _common([w for w, _ in there], [w for w, _ in members]) + (
                    0.01 if there else 0.005
                )
        worth[row, number + row] = 0.0
    rows, columns = linear_sum_assignment(worth, maximize=True)
    found, new = [0] * len(layout), number
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        found[row] = column
    for row, column in enumerate(found):
        if column >= number:
            found[row] = new
            new += 1
    return found


def _common(some: Sequence[int], others: Sequence[int]) -> int:
    return sum(min(some.count(entry), others.count(entry)) for entry in set(some))


def layouts_of(course: Course) -> list[Layout]:
    """Return the layout of every step."""
    found = []
    for step in range(course.steps):
        gpus = [
            (course.types[slot], tuple(sorted((w, int(course.replicas[w, step])) for w, _ in members)))
            for slot, members in course.layout(step).items()
        ]
        found.append(tuple(sorted(gpus)))
    return found


def cost_of_layout(layout: Layout, price: Sequence[float]) -> float:
    """Return the sum of the GPUs' prices."""
    return float(sum(price[gpu_type] for gpu_type, _ in layout))

"""A course made cheaper, one server at a time: where a server is best over all steps while the others stay.

With all other servers where they are, a server's best way through time is a shortest path: states are the slots that
have room for it in a step (a set check), going to another slot costs a move, being alone on a slot costs the GPU, and
where a slot is empty one step earlier, its start. Repeated over all servers until none gains anything.
"""

from collections.abc import Callable, Sequence

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.scheduling.course import ABSENT, Course, StepPrices
from igniter_opt.scheduling.universe import Universe

_EPSILON = 1e-9


class Improvement:
    """Improves one course in place.

    Parameters
    ----------
    counts
        How many GPUs of each type exist; None for unlimited.
    enough
        Says when to end.
    frozen
        So many of the first steps stay as they are.
    """

    def __init__(
        self,
        universe: Universe,
        course: Course,
        prices: StepPrices,
        counts: Sequence[int | None],
        enough: Callable[[], bool],
        frozen: int = 0,
    ) -> None:
        self.universe, self.prices, self.enough, self.frozen = universe, prices, enough, frozen
        self.course = _with_spares(course, counts)
        self.items = self._items()

    def _items(self) -> list[list[int]]:
        """Return the item of every server in every step."""
        course, found = self.course, []
        for workload, _ in course.servers:
            ranks = self.universe.rank[: course.steps, workload].tolist()
            counts = course.replicas[workload].tolist()
            found.append([self.universe.item(workload, n, r) if n else -1 for n, r in zip(counts, ranks, strict=True)])
        return found

    def run(self) -> Course:
        """Improve until nothing more is gained."""
        servers, quiet = len(self.course.servers), 0
        while quiet < servers:
            for server in range(servers):
                if self.enough() or quiet >= servers:
                    return self.course
                quiet = 0 if self._moved(server) else quiet + 1
        return self.course

    def _others(self, server: int) -> list[list[list[int]]]:
        """Return the items of the other servers, by step and slot."""
        course = self.course
        found: list[list[list[int]]] = [[[] for _ in course.types] for _ in range(course.steps)]
        for other, row in enumerate(course.slot.tolist()):
            if other == server:
                continue
            items = self.items[other]
            for step, place in enumerate(row):
                if place != ABSENT:
                    found[step][place].append(items[step])
        return found

    def _moved(self, server: int) -> bool:
        """Put a server where it is best; whether that costs less than where it is."""
        course, prices = self.course, self.prices
        others = self._others(server)
        best = self._best_way(server, others)
        if best is None:
            return False
        before = course.cost(prices)
        old = course.slot[server].copy()
        course.slot[server] = best
        if course.cost(prices) < before - _EPSILON:
            return True
        course.slot[server] = old
        return False

    def _best_way(self, server: int, others: list[list[list[int]]]) -> IntArray | None:
        course, prices, universe = self.course, self.prices, self.universe
        kinds, items = course.types, self.items[server]
        slots = len(kinds)
        gpu = np.array([prices.gpu[kind] for kind in kinds])
        start = np.array([prices.start[kind] for kind in kinds])
        present = (course.slot[server] != ABSENT).tolist()
        filled = np.array([[bool(entry) for entry in row] for row in others])
        back = np.full((course.steps, slots), -1, dtype=np.int64)
        value: FloatArray | None = None
        move = prices.move * (1.0 - np.eye(slots))
        gone = 0.0  # the best value while the server is not there
        for step in range(course.steps):
            if not present[step]:
                if value is not None:
                    back[step] = int(value.argmin())
                    gone = float(value.min())
                    value = None
                continue
            row, own = others[step], items[step]
            if step < self.frozen:
                room = np.arange(slots) == course.slot[server, step]
            else:
                room = np.array([universe.fits(kinds[q], [*row[q], own]) for q in range(slots)])
            here = np.where(filled[step], 0.0, gpu)
            empty = ~filled[step - 1] if step else np.ones(slots, dtype=bool)
            # What the others' slots that are filled anew would cost without this server beside them before.
            started = np.where(empty & filled[step], start, 0.0)
            arrives = np.where(empty & ~filled[step], start, 0.0)
            if value is None:
                value = gone + here + arrives
            else:
                # From p to q: staying saves the start that `started` (or `arrives`) charges; leaving p, which others
                # fill anew, saves it as well.
                via = value[:, None] + move + arrives[None, :] - started[:, None]
                via[np.arange(slots), np.arange(slots)] = value - started
                back[step] = via.argmin(axis=0)
                value = via.min(axis=0) + here
            value = np.where(room, value, np.inf)
            if not np.isfinite(value).any():
                return None
        return self._traced(present, back, value)

    def _traced(self, present: list[bool], back: IntArray, value: FloatArray | None) -> IntArray:
        steps = len(present)
        way = np.full(steps, ABSENT, dtype=np.int64)
        at = ABSENT if value is None else int(value.argmin())
        for step in range(steps - 1, -1, -1):
            if present[step]:
                way[step] = at
                at = int(back[step, at])
            elif at == ABSENT or not (step + 1 < steps and present[step + 1]):
                at = int(back[step, 0])
        return way


def _with_spares(course: Course, counts: Sequence[int | None]) -> Course:
    """Add an empty slot of every type, where there may be another GPU of it."""
    types = list(course.types)
    for kind, count in enumerate(counts):
        if count is None or types.count(kind) < count:
            types.append(kind)
    return Course(tuple(types), course.servers, course.slot.copy(), course.replicas)

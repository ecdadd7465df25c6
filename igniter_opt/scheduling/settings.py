"""Batches and shares along a course, changed as seldom as can be found.

A GPU of a course has a set of servers in every step. Going through time, a server that stays keeps its setting while
all of the GPU hold with it at the step's rates. Where they do not, or others arrive, some are set anew: for as many of
the steps ahead as possible at once, that is at the largest rates of a window of steps, for the servers of all of its
steps together. Rules whose placements hold at lower rates, too, make one setting hold in the whole window; whether it
does is asked in every step, whatever the rule. Of several ways (only those that arrive, some more, all set anew) the
one with the fewest changes per step ahead is taken: a greedy choice, which nothing proves best.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.physics.rows import clocks, needed
from igniter_opt.scheduling.course import Course
from igniter_opt.scheduling.universe import Setting, Universe

# Steps looked ahead at most, and servers set anew at once before it is all of them.
_AHEAD, _FEW = 48, 2
# What having to choose again counts, in changes.
_NO_CHANGE = 0.5
# A row counts as held only below its limit by this, relative to it (`packing.sets`).
_GUARD = 1e-12

Settings = dict[int, Setting]
"""Setting of every server (its position in the course) that is there."""


class Row(NamedTuple):
    """The numbers of one configuration at one rate; the row is divided by its limit (`packing.items.PackedItems`)."""

    level: float
    power_w: float
    cache: float
    traffic: float
    memory_mib: float
    alone: float
    kernels: float
    sensitivity: float
    traffic_sensitivity: float


class Tuner:
    """Finds settings for the GPUs of a course.

    Parameters
    ----------
    blocks
        Steps beyond which nothing is known before them: no window reaches from before one to after it.
    """

    def __init__(self, universe: Universe, course: Course, blocks: Sequence[int] = ()) -> None:
        self.universe, self.course = universe, course
        self.blocks = [*blocks, course.steps]
        self.ranks = universe.rank
        self._rows: dict[tuple[int, int, int, int, Setting], FloatArray] = {}

    def run(self) -> list[Settings] | None:
        """Return the settings of every step; None where some GPU's set is not found feasible after all."""
        found: list[Settings] = [{} for _ in range(self.course.steps)]
        for slot in range(len(self.course.types)):
            here = self.course.slot == slot
            before: Settings = {}
            ends = 0
            for step in range(self.course.steps):
                members = np.flatnonzero(here[:, step]).tolist()
                kept = {server: before[server] for server in members if server in before}
                if len(kept) < len(members) or (step >= ends and not self._hold(slot, step, kept)):
                    chosen = self._choose(slot, step, members, kept)
                    if chosen is None:
                        return None
                    kept, ends = chosen
                found[step].update(kept)
                before = kept
        return found

    # ---- choosing -------------------------------------------------------------------------------------

    def _choose(self, slot: int, step: int, members: Sequence[int], kept: Settings) -> tuple[Settings, int] | None:
        """Return settings that hold from a step on, and until when they are known to."""
        options: list[tuple[float, int, int, Settings]] = []

        def offer(fixed: Settings) -> None:
            found = self._longest(slot, step, members, fixed)
            if found is not None:
                changes = sum(found[0][server] != kept[server] for server in kept)
                options.append(((changes + _NO_CHANGE) / (found[1] - step), changes, found[1], found[0]))

        for number in range(min(len(kept), _FEW) + 1):
            for freed in combinations(sorted(kept), number):
                offer({server: setting for server, setting in kept.items() if server not in freed})
            if options and number == 0:
                break
        if len(kept) > _FEW or not options:
            offer({})
        if not options:
            return None
        _, _, ends, best = min(options, key=lambda entry: entry[:2])
        return {server: best[server] for server in members}, ends

    def _longest(self, slot: int, step: int, members: Sequence[int], fixed: Settings) -> tuple[Settings, int] | None:
        """Return settings for the longest window found from a step on, in doubling and halving lengths."""
        best = self._over(slot, step, step + 1, members, fixed)
        if best is None:
            return None
        low, length = 1, 2
        most = min(_AHEAD, next(end for end in self.blocks if end > step) - step)
        high = most + 1
        while low < most and high - low > 1:
            length = min(most, 2 * low) if high == most + 1 else (low + high) // 2
            if length <= low:
                break
            found = self._over(slot, step, step + length, members, fixed)
            if found is None:
                high = length
            else:
                best, low = found, length
        return best, step + low

    def _over(self, slot: int, begin: int, end: int, members: Sequence[int], fixed: Settings) -> Settings | None:
        """Return settings of the servers of a window at its largest rates, some of them fixed."""
        ranks: dict[int, int] = {}
        counts: dict[int, int] = {}
        for server in np.flatnonzero((self.course.slot[:, begin:end] == slot).any(axis=1)).tolist():
            steps = begin + np.flatnonzero(self.course.slot[server, begin:end] == slot)
            workload = self.course.servers[server][0]
            replicas = self.course.replicas[workload, steps]
            counts[server] = int(replicas.min())
            ranks[server] = int(self.ranks[steps, workload].max())
        kind = self.course.types[slot]
        order = list(ranks)
        if not fixed:
            found = self.universe.settings(kind, [self._item(server, counts, ranks) for server in order])
            return None if found is None else dict(zip(order, found, strict=True))
        free = [server for server in order if server not in fixed]
        rows = [
            self._row(kind, server, counts[server], ranks[server], fixed[server]) for server in order if server in fixed
        ]
        if len(free) > _FEW:
            return None
        options = [self._options(kind, self._item(server, counts, ranks)) for server in free]
        picked = _first_that_holds(self.universe, kind, rows, [rows_of for _, rows_of in options])
        if picked is None:
            return None
        chosen = {server: options[k][0][picked[k]] for k, server in enumerate(free)}
        return {server: fixed.get(server) or chosen[server] for server in order}

    def _item(self, server: int, counts: Mapping[int, int], ranks: Mapping[int, int]) -> int:
        return self.universe.item(self.course.servers[server][0], counts[server], ranks[server])

    def _options(self, kind: int, item: int) -> tuple[list[Setting], FloatArray]:
        packed = self.universe.packed
        if item < 0:
            return [], np.zeros((0, len(Row._fields)))
        entry = packed.items[kind, item]
        rows = packed.rows[int(entry.first) : int(entry.end)]
        settings = [Setting(int(row["batch"]), int(row["level"])) for row in rows]
        return settings, np.stack([rows[name].astype(np.float64) for name in Row._fields], axis=1)

    # ---- judging --------------------------------------------------------------------------------------

    def _hold(self, slot: int, step: int, settings: Settings) -> bool:
        """Whether servers hold beside each other with their settings at the rates of a step."""
        if not settings:
            return True
        kind, rows = self.course.types[slot], []
        for server, setting in settings.items():
            workload = self.course.servers[server][0]
            count, rank = int(self.course.replicas[workload, step]), int(self.ranks[step, workload])
            rows.append(self._row(kind, server, count, rank, setting))
        return _first_that_holds(self.universe, kind, rows, []) is not None

    def _row(self, kind: int, server: int, count: int, rank: int, setting: Setting) -> FloatArray:
        """Return a configuration's `Row`, also where another one dominates it."""
        workload = self.course.servers[server][0]
        key = kind, workload, count, rank, setting
        if key not in self._rows:
            self._rows[key] = self.universe.row(kind, workload, count, rank, setting)
        return self._rows[key]


def _first_that_holds(
    universe: Universe, kind: int, fixed: Sequence[FloatArray], options: Sequence[FloatArray]
) -> list[int] | None:
    """Return one option of each server (up to two), such that all hold with the fixed ones; the least shares first."""
    card = universe.packed.cards[kind]
    size = len(fixed) + len(options)
    if size > int(card.most):
        return None
    delay = float(universe.packed.delay_ms[kind, size])
    shape = tuple(len(entry) for entry in options)
    if 0 in shape:
        return None
    grids = np.indices(shape).reshape(len(shape), -1) if shape else np.zeros((0, 1), dtype=np.int64)
    # Rows of every combination: shape (servers, combinations, numbers).
    number = grids.shape[1]
    rows = np.empty((size, number, len(Row._fields)))
    for k, row in enumerate(fixed):
        rows[k] = row
    for k, entry in enumerate(options):
        rows[len(fixed) + k] = entry[grids[k]]
    sums = rows[:, :, :5].sum(axis=0)
    power = float(card.idle_power_w) + sums[:, 1]
    ratio = clocks(float(card.clock_intercept), float(card.clock_slope), power)
    left = needed(
        rows[:, :, 5], rows[:, :, 6], delay,
        rows[:, :, 7], sums[None, :, 2] - rows[:, :, 2], rows[:, :, 8], sums[None, :, 3] - rows[:, :, 3],
    )  # fmt: skip
    holds = (left <= ratio - _GUARD).all(axis=0) & (sums[:, 0] <= int(card.units))
    holds &= sums[:, 4] <= float(card.memory_limit_mib)
    if not holds.any():
        return None
    best = int(np.where(holds, sums[:, 0], np.inf).argmin())
    return [int(entry) for entry in grids[:, best]]


def changes(course: Course, settings: Sequence[Settings]) -> tuple[int, int]:
    """Return how many servers that stay on their GPU get another batch, and how many only another share."""
    restarts, resizes = 0, 0
    for step in range(1, course.steps):
        for server, now in settings[step].items():
            before = settings[step - 1].get(server)
            if before is None or course.slot[server, step] != course.slot[server, step - 1] or before == now:
                continue
            restarts += before.batch != now.batch
            resizes += before.batch == now.batch
    return restarts, resizes

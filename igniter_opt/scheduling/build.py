"""A schedule out of a pool of layouts: which GPUs carry which servers in which step, and how these are set.

The pool has the layout of every step's own plan, and those of plans for the largest rates in windows of several steps,
which hold in all of their steps where the rule's placements hold at lower rates; whether a layout holds in a step is
asked of every step in any case. The cheapest path through the pool (`path`) is improved server by server (`improve`),
its layouts join the pool, and so again while that gains something.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from igniter_opt.base.arrays import FloatArray
from igniter_opt.problem.draft import Draft, DraftGpu
from igniter_opt.scheduling.course import Course, StepPrices, course_of, layouts_of
from igniter_opt.scheduling.improve import Improvement
from igniter_opt.scheduling.path import path_of_layouts
from igniter_opt.scheduling.settings import Settings, Tuner
from igniter_opt.scheduling.universe import Layout, Universe

# Windows of so many steps, beginning every so many steps.
WINDOWS = ((3, 2), (6, 3), (12, 6), (24, 12))
_ROUNDS = 4
# A move counts this much of a GPU's step at least: of equal costs the fewest moves.
_TIE = 1e-4
_GAIN = 1e-6


def layout_of(gpus: Sequence[DraftGpu]) -> Layout:
    """Return the layout of a draft."""
    count = Counter(draft.workload for gpu in gpus for draft in gpu.placements)
    return tuple(
        sorted(
            (gpu.gpu_type, tuple(sorted((draft.workload, count[draft.workload]) for draft in gpu.placements)))
            for gpu in gpus
        )
    )


def windows(begin: int, end: int) -> list[tuple[int, int]]:
    """Return the windows of a block of steps, first step and the one after the last."""
    found = [(first, first + size) for size, stride in WINDOWS for first in range(begin, end - size + 1, stride)]
    return [*found, (begin, end)] if end - begin > 1 else found


def window_rates(rates: FloatArray, window: tuple[int, int]) -> tuple[float, ...]:
    """Return the largest rate of every workload in a window."""
    return tuple(rates[window[0] : window[1]].max(axis=0).tolist())


@dataclass(frozen=True)
class Built:
    """A course and the settings of its servers."""

    course: Course
    settings: list[Settings]


class Builder:
    """Builds a schedule.

    Parameters
    ----------
    blocks
        First steps of blocks that are planned one after the other, knowing nothing of later ones; 0 is the first.
    pools
        Layouts for the steps of every block.
    """

    def __init__(
        self,
        universe: Universe,
        blocks: Sequence[int],
        pools: Sequence[Sequence[Layout]],
        prices: StepPrices,
        report: Callable[[str], object],
        enough: Callable[[], bool],
    ) -> None:
        least = min(prices.gpu) * _TIE
        self.prices = StepPrices(prices.gpu, prices.start, max(prices.move, least))
        self.universe, self.blocks, self.pools = universe, list(blocks), pools
        self.report, self.enough = report, enough

    def run(self) -> Built | None:
        """Return the schedule; None where some step has no layout that holds."""
        steps = len(self.universe.rates)
        course: Course | None = None
        for block, (begin, end) in enumerate(zip(self.blocks, [*self.blocks[1:], steps], strict=True)):
            self.report(f"a path through {len(set(self.pools[block]))} layouts, steps {begin + 1} to {end}")
            course = self._block(course, list(self.pools[block]), begin, end)
            if course is None:
                return None
        if course is None:
            return None
        self.report("batches and shares")
        settings = Tuner(self.universe, course, self.blocks[1:]).run()
        return None if settings is None else Built(course, settings)

    def _block(self, before: Course | None, pool: list[Layout], begin: int, end: int) -> Course | None:
        """Return the course up to the end of a block, what comes before it as it was."""
        past = [] if before is None else layouts_of(before)
        best: Course | None = None
        for _ in range(_ROUNDS):
            found = path_of_layouts(self.universe, pool, range(begin, end), self.prices, past[-1] if past else None)
            if found is None:
                return best
            course = course_of(found, before)
            counts = [gpu.count for gpu in self.universe.problem.gpu_types]
            course = Improvement(self.universe, course, self.prices, counts, self.enough, begin).run()
            if best is not None and course.cost(self.prices) > best.cost(self.prices) - _GAIN:
                break
            best = course
            pool += layouts_of(course)[begin:]
            if self.enough():
                break
        return best


def drafts_at(course: Course, settings: Settings, step: int, rates: Sequence[float]) -> list[tuple[int, DraftGpu]]:
    """Return the GPUs of a step, each with its slot; `rates` are what workloads are planned for (req/s)."""
    found: dict[int, list[Draft]] = {}
    numbers: Counter[int] = Counter()
    for server in sorted(settings, key=lambda entry: course.servers[entry]):
        workload = course.servers[server][0]
        numbers[workload] += 1
        setting, count = settings[server], int(course.replicas[workload, step])
        slot = int(course.slot[server, step])
        found.setdefault(slot, []).append(
            Draft(workload, numbers[workload], setting.batch, setting.level, rates[workload] / count)
        )
    return [(slot, DraftGpu(course.types[slot], found[slot])) for slot in sorted(found)]


def slot_names(course: Course, types: Sequence[str]) -> list[str]:
    """Name the GPUs of a course's slots: by type, numbered from 1."""
    seen: Counter[str] = Counter()
    names = []
    for kind in course.types:
        seen[types[kind]] += 1
        names.append(f"{types[kind]}-{seen[types[kind]]}")
    return names

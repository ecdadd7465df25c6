"""The order in which a deployment goes from one plan to the next: every state on the way is one that holds.

A step starts as many servers as fit beside what is there, and when they serve, stops what they stand for. What fits is
judged by `states`: shares and memory for old and new side by side, and every promise kept, at the rates of the way.
Which rates those are is found out: both plans' rates if there is such an order, else the running plan's (demand rises
when the way is done), else the new plan's (demand has fallen already), else of every workload the lesser of both, and
at last of every server what its own plan gives it (a workload's demand changes when its servers do).

Where nothing fits and nothing can be spared, a server gives way: one that shall stand for it is started on another GPU
for the time being (a spare one, where that is allowed). Only where there is no such GPU either, a server is stopped
before the one that stands for it is started: one whose workload has others if possible, and such that its own successor
fits at once. The search is greedy, and no order with fewer gaps is proven not to exist.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from igniter_opt.data.migration import MigrationStep, RateSet, SpareGpu
from igniter_opt.data.plan import Plan
from igniter_opt.deploy.differences import ServedPlacement
from igniter_opt.deploy.matching import served_by_gpu
from igniter_opt.replanning.disruption import in_place
from igniter_opt.replanning.states import RATE_SETS, StateJudge, StateServer, servers_of

Level = Literal["both", "running", "next", "lesser", "own"]
# From the strictest, each with the rates at which every state has to hold.
_LEVELS: tuple[tuple[Level, tuple[RateSet, ...]], ...] = (
    ("both", ("running", "next")),
    ("running", ("running",)),
    ("next", ("next",)),
    ("lesser", ("lesser",)),
    ("own", ("own",)),
)


class Order(NamedTuple):
    """Steps, the rates for which they were chosen, and how many of them were made although states do not hold."""

    rates: Level
    steps: tuple[MigrationStep, ...]
    forced: int
    spare: tuple[SpareGpu, ...]

    @property
    def rank(self) -> tuple[int, int, int]:
        """How many workloads lack servers somewhere on the way, how many of them have some, and steps forced."""
        gap = {name for step in self.steps for name in step.gap}
        short = {name for step in self.steps for name in step.short}
        return len(gap | short), len(short), self.forced


def ordered(old: Plan, new: Plan, spare_gpus: int = 0) -> Order:
    """Return the steps from one plan to another whose GPUs have the names of those that they are.

    Parameters
    ----------
    spare_gpus
        How many further GPUs of each type of the new plan may be used on the way.
    """
    judge = StateJudge(old, new)
    best: Order | None = None
    for level, rates in _LEVELS:
        way = _Way(judge, old, new, rates, spare_gpus)
        # What does not hold to begin with cannot hold at all times.
        if way.excused and level != _LEVELS[-1][0]:
            continue
        steps = tuple(way.steps())
        found = Order(level, steps, way.forced, way.spare(steps))
        if best is None or found.rank < best.rank:
            best = found
        if not any(best.rank):
            break
    assert best is not None  # noqa: S101 (there is a last level)
    return best


class _Way:
    """One search for an order, at one set of rates."""

    def __init__(self, judge: StateJudge, old: Plan, new: Plan, rates: Sequence[RateSet], spare_gpus: int) -> None:
        self.judge, self.rates = judge, rates
        before = dict(zip([gpu.name for gpu in old.gpus], served_by_gpu(old), strict=True))
        after = dict(zip([gpu.name for gpu in new.gpus], served_by_gpu(new), strict=True))
        runs, shall = servers_of(old, before), servers_of(new, after)
        stays: dict[tuple[str, int], float] = {}
        stayed = set()
        for name, served in after.items():
            there = before.get(name, [])
            for pair in in_place(there, served):
                if there[pair.old].settings == served[pair.new].settings:
                    stays[name, pair.old] = served[pair.new].rate_rps
                    stayed.add((name, pair.new))
        runs = [
            replace(server, own_rps=min(server.own_rps, stays.get(place, server.own_rps)))
            for server, place in zip(runs, _places(before), strict=True)
        ]
        self.serving = list(runs)
        self.to_stop = [s for s, place in zip(runs, _places(before), strict=True) if place not in stays]
        self.to_start = [s for s, place in zip(shall, _places(after), strict=True) if place not in stayed]
        self.excused = self._at_rates(runs, ())
        self.forced = 0
        self.gpus = {gpu.name: gpu.type for gpu in (*old.gpus, *new.gpus)}
        self._spare = dict(_spare(self.gpus, new, spare_gpus))
        # Servers that stand in for others for the time being.
        self.passing: list[StateServer] = []

    def spare(self, steps: Sequence[MigrationStep]) -> tuple[SpareGpu, ...]:
        """Return the spare GPUs that steps use."""
        used = {server.gpu for step in steps for server in step.start}
        return tuple(SpareGpu(name=name, type=kind) for name, kind in self._spare.items() if name in used)

    def steps(self) -> Iterator[MigrationStep]:
        """Yield the steps in their order."""
        while self.to_start or self.to_stop:
            tolerated = self.excused | self._at_rates(self.serving, ())
            starts = self._startable(tolerated)
            stops = self._stoppable(starts, tolerated)
            given_way = None if starts or stops else self._given_way(tolerated)
            if given_way is not None:
                starts, stops = given_way[1], [given_way[0]]
                self.passing += given_way[1]
            elif not starts and not stops:
                self.forced += 1
                starts, stops = ([], [self._given_up(tolerated)]) if self.to_stop else (list(self.to_start), [])
            before = list(self.serving)
            self.serving = [s for s in (*before, *starts) if not _in(s, stops)]
            self.to_start = [s for s in self.to_start if not _in(s, starts)]
            self.to_stop = [s for s in self.to_stop if not _in(s, stops)]
            self.to_stop += [] if given_way is None else given_way[1]
            served = {server.served.workload for server in self.serving}
            wanted = {server.served.workload for server in self.to_start}
            broken = {rates: self._broken(before, starts, stops, rates) for rates in RATE_SETS}
            short = broken["own"] if all(broken.values()) else frozenset()
            yield MigrationStep(
                start=tuple(server.record for server in starts),
                stop=tuple(server.record for server in stops),
                holds=tuple(rates for rates in RATE_SETS if broken[rates] <= short),
                gap=tuple(sorted(wanted.intersection(self.judge.old_workloads) - served)),
                short=tuple(sorted(short)),
            )

    def _broken(
        self, before: list[StateServer], starts: list[StateServer], stops: list[StateServer], rates: RateSet
    ) -> frozenset[str]:
        """Return what does not hold in one of a step's states."""
        return (
            self.judge.broken(before, starts, rates)
            | self.judge.broken(self.serving, stops, rates)
            | self.judge.broken(self.serving, (), rates)
        )

    def _at_rates(self, serving: Collection[StateServer], idle: Collection[StateServer]) -> frozenset[str]:
        return frozenset(name for rates in self.rates for name in self.judge.broken(serving, idle, rates))

    def _startable(self, tolerated: frozenset[str]) -> list[StateServer]:
        """Return servers that can be started beside all that is there, those with something to take over first."""
        leaving = {server.served.workload for server in self.to_stop}
        starts: list[StateServer] = []
        for server in sorted(self.to_start, key=lambda s: s.served.workload not in leaving):
            more = [*starts, server]
            if self._at_rates(self.serving, more) | self._at_rates([*self.serving, *more], ()) <= tolerated:
                starts.append(server)
        return starts

    def _stoppable(self, starts: list[StateServer], tolerated: frozenset[str]) -> list[StateServer]:
        """Return servers that can be spared once those started serve."""
        stops: list[StateServer] = []
        for server in self.to_stop:
            more = [*stops, server]
            serving = [s for s in (*self.serving, *starts) if not _in(s, more)]
            name = server.served.workload
            served = any(entry.served.workload == name for entry in serving)
            if (served or name not in self.judge.new_workloads) and self._at_rates(serving, more) <= tolerated:
                stops.append(server)
        return stops

    def _given_way(self, tolerated: frozenset[str]) -> tuple[StateServer, list[StateServer]] | None:
        """Return a server that can go if others serve in its stead on some GPUs for the time being, and those.

        One after which a successor of it can be started, if there is any; else one after which anything can.
        """
        best: tuple[tuple[bool, bool], StateServer, list[StateServer]] | None = None
        for server in self.to_stop:
            if _in(server, self.passing):
                continue
            instead = self._instead_of(server, tolerated)
            if not instead:
                continue
            after = [s for s in (*self.serving, *instead) if s is not server]
            able = [s for s in self.to_start if self._at_rates(after, [s]) <= tolerated]
            own = any(s.served.workload == server.served.workload for s in able)
            if best is None or (not own, not able) < best[0]:
                best = (not own, not able), server, instead
            if own:
                break
        return None if best is None else best[1:]

    def _instead_of(self, server: StateServer, tolerated: frozenset[str]) -> list[StateServer]:
        """Return copies of a server's successors, where there is room, that serve in its stead; none where none do."""
        found: list[StateServer] = []
        for successor in self.to_start:
            if successor.served.workload != server.served.workload:
                continue
            for name, kind in (*self.gpus.items(), *self._spare.items()):
                copy = replace(successor, served=replace(successor.served, gpu=name, place=name), gpu_type=kind)
                if self._at_rates(self.serving, [*found, copy]) <= tolerated:
                    found.append(copy)
                    break
            after = [s for s in (*self.serving, *found) if s is not server]
            if found and self._at_rates(after, [server]) <= tolerated:
                return found
        return []

    def _given_up(self, tolerated: frozenset[str]) -> StateServer:
        """Return the server whose stop costs least where nothing fits."""

        def cost(server: StateServer) -> tuple[bool, bool, bool, float]:
            left = [s for s in self.serving if s is not server]
            name = server.served.workload
            alone = name in self.judge.new_workloads and not any(s.served.workload == name for s in left)
            able = [s for s in self.to_start if self._at_rates(left, [s]) <= tolerated | {name}]
            return alone, not any(s.served.workload == name for s in able), not able, -server.served.share_percent

        return min(self.to_stop, key=cost)


def _spare(gpus: Mapping[str, str], new: Plan, number: int) -> Iterator[tuple[str, str]]:
    """Yield names and types of GPUs that may be used on the way only, as many as exist."""
    for gpu_type in new.instance.gpu_types:
        used = sum(kind == gpu_type.name for kind in gpus.values())
        most = number if gpu_type.count is None else min(number, gpu_type.count - used)
        for k in range(1, most + 1 if used else 1):
            yield f"{gpu_type.name[:50]}-spare-{k}", gpu_type.name


def _places(served: Mapping[str, Sequence[ServedPlacement]]) -> list[tuple[str, int]]:
    return [(name, k) for name, entries in served.items() for k in range(len(entries))]


def _in(server: StateServer, others: Collection[StateServer]) -> bool:
    """Whether a server is one of some: two may be alike."""
    return any(server is other for other in others)

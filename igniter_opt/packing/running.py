"""What a set of items means to the servers of a running GPU: which stay as they are, which change, what arrives.

A member of a set *takes over* a server of its workload's class on that GPU. The server stays as it is (same batch,
share and queue delay), is *resized* (another share), or is *restarted* (another batch or queue delay); a member that
takes over none *arrives*. Every choice narrows the member's configurations: to the server's own, to those of its batch,
or not at all. `Takeovers.on` tries the choices by what they disrupt, the least first, and takes the first under which
the set is feasible (`packing.sets`); choices that are neither proven infeasible nor found feasible, or not tried, make
the least disruption that is *proven* smaller than the one found.
"""

import heapq
import math
from collections.abc import Collection, Iterator, Sequence
from itertools import combinations, permutations
from typing import NamedTuple

import numpy as np

from igniter_opt.data.migration import DisruptionWeights
from igniter_opt.packing.items import Catalogue, extended
from igniter_opt.packing.plans import MOST_TRIALS, TRIALS, Pattern, Placer
from igniter_opt.packing.sets import FEASIBLE, INFEASIBLE, UNKNOWN, new_members, place
from igniter_opt.problem.configurations import Configurations

# Ways to pair members and servers of one class; further ones are left out, and nothing is proven then.
_MOST_PAIRINGS = 24
# Choices that are tried for a set, the least first.
_MOST_CHOICES = 200


class RunningServer(NamedTuple):
    """A server that runs: index of its workload in the new problem, batch, share level and queue delay in us."""

    workload: int
    batch: int
    level: int
    queue_delay_us: int


class RunningGpu(NamedTuple):
    """A GPU of the running plan, with those of its servers whose workload and model are still asked for."""

    gpu_type: int
    servers: tuple[RunningServer, ...]


class Takeover(NamedTuple):
    """What becomes of a running GPU that is to carry a set, or of a fresh one.

    Attributes
    ----------
    disruption, least
        Weights of what changes and arrives, as found and as proven: no choice of configurations has less.
    arrivals
        Members that take over no server.
    configurations
        Batch and share level of every member.
    taken
        Which of the GPU's servers every member takes over, by position; -1 for none.
    """

    disruption: float
    least: float
    arrivals: int
    configurations: tuple[tuple[int, int], ...]
    taken: tuple[int, ...]


class Takeovers:
    """Judges sets of a catalogue's items on running GPUs.

    Parameters
    ----------
    gpus
        What runs.
    weights
        What a move, a restart and a resize count.
    named
        Workloads for which it matters which of several like ones a server is of.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        gpus: Sequence[RunningGpu],
        weights: DisruptionWeights,
        named: Collection[int] = (),
    ) -> None:
        self.catalogue, self.gpus, self.weights, self.named = catalogue, gpus, weights, named
        self.class_of = {w: k for k, entry in enumerate(catalogue.classes) for w in entry.workloads}
        self.servers_of = [self._by_class(gpu) for gpu in gpus]
        self._options: dict[tuple[int, int, int], list[tuple[float, int]]] = {}
        more: list[tuple[int, Configurations]] = []
        for number, gpu in enumerate(gpus):
            for position, server in enumerate(gpu.servers):
                for item in catalogue.class_items[self.class_of[server.workload]]:
                    self._options[number, position, item] = self._narrowed(gpu.gpu_type, server, item, more)
        self.packed = extended(catalogue.packed, more)
        self.placer = Placer(catalogue._replace(packed=self.packed))
        self._members = new_members(int(self.packed.cards["most"].max()) + 1)
        self._on: dict[tuple[int, Pattern], Takeover | None] = {}
        # How long a set's check may branch, from attempt to attempt; few for sets that are one of many.
        self.trials: tuple[int, ...] = (TRIALS, MOST_TRIALS)

    def _by_class(self, gpu: RunningGpu) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for position, server in enumerate(gpu.servers):
            found.setdefault(self.class_of[server.workload], []).append(position)
        return found

    def _narrowed(
        self, gpu_type: int, server: RunningServer, item: int, more: list[tuple[int, Configurations]]
    ) -> list[tuple[float, int]]:
        """Return what a member may be to take over a server: weights and items, those added to `more` among them."""
        problem, replicas = self.catalogue.problem, self.catalogue.items[item].replicas
        workload = problem.workloads[server.workload]
        options = [(self.weights.restart, item)]
        delay = problem.rule.queue_delay_us(workload.slo_ms, workload.rate_rps / replicas, server.batch)
        if delay != server.queue_delay_us or not problem.knows(server.workload, gpu_type):
            return options
        every = problem.every_configuration(server.workload, gpu_type, replicas)
        able = (every.limit_ms > 0) & np.isfinite(every.base_ms) & problem.feasible_alone(every, gpu_type)
        able &= every.batch == server.batch
        for weight, chosen in ((self.weights.resize, able), (0.0, able & (every.level == server.level))):
            if chosen.any():
                entry = every.take(chosen)
                options.append((weight, len(self.catalogue.items) + len(more)))
                more.append((gpu_type, entry.take(np.argsort(entry.level, kind="stable"))))
        return sorted(options)

    # ---- sets -----------------------------------------------------------------------------------------

    def answer(self, gpu_type: int, members: Sequence[int]) -> tuple[int, list[int]]:
        """Decide whether a set of items, narrowed ones among them, is feasible; return its configurations, too."""
        size, card = len(members), self.packed.cards[gpu_type]
        if size > card.most:
            return INFEASIBLE, []
        for trials in self.trials:
            for turned in (False, True):
                self._members["index"][:size] = members[::-1] if turned else members
                found = place(self.packed, gpu_type, int(card.units), self._members, size, trials)
                if found != UNKNOWN:
                    chosen = self._members["chosen"][:size].tolist()
                    return found, chosen[::-1] if turned else chosen
        return UNKNOWN, []

    def fresh(self, pattern: Pattern) -> Takeover | None:
        """Return what it takes to begin a GPU with a set; None if the set is not found feasible."""
        found, chosen = self.answer(*pattern)
        if found != FEASIBLE:
            return None
        arrivals = len(pattern[1])
        weight = self.weights.move * arrivals
        return Takeover(weight, weight, arrivals, self._configurations(chosen), (-1,) * arrivals)

    def with_least_share(self, pattern: Pattern, takeover: Takeover) -> Takeover:
        """Return what it takes to begin a GPU with a set, with the least shares that are found for it."""
        chosen = self.placer.least_share(pattern)
        return takeover if chosen is None else takeover._replace(configurations=self._configurations(chosen))

    def on(self, gpu: int, pattern: Pattern) -> Takeover | None:
        """Return the least disruption of a running GPU of this type that is to carry a set; None as for `fresh`."""
        key = gpu, pattern
        if key not in self._on:
            self._on[key] = self._least(gpu, pattern)
        return self._on[key]

    def _least(self, gpu: int, pattern: Pattern) -> Takeover | None:
        gpu_type, members = pattern
        if self.answer(gpu_type, members)[0] == INFEASIBLE:
            return None
        pairings, whole = self._pairings(gpu, members)
        best: Takeover | None = None
        least = math.inf
        for taken in pairings:
            options = [
                [(self.weights.move, item)] if server < 0 else self._options[gpu, server, item]
                for item, server in zip(members, taken, strict=True)
            ]
            found, proven = self._cheapest(gpu_type, members, options)
            least = min(least, proven)
            if found is not None and (best is None or found[0] < best.disruption):
                best = Takeover(found[0], 0.0, taken.count(-1), self._configurations(found[1]), taken)
        return None if best is None else best._replace(least=min(least, best.disruption) if whole else 0.0)

    def _cheapest(
        self, gpu_type: int, members: Sequence[int], options: Sequence[list[tuple[float, int]]]
    ) -> tuple[tuple[float, list[int]] | None, float]:
        """Return weight and configurations of the least choice that is feasible, and the least that is not excluded.

        A choice of one member that is infeasible beside members with all their configurations is so in any company.
        What is left is tried by weight, best first; where that takes too long, members are narrowed one by one.
        """
        able: list[list[tuple[float, int]]] = []
        for position, own in enumerate(options):
            kept = []
            for weight, item in own:
                narrowed = [*members[:position], item, *members[position + 1 :]]
                if item == members[position] or self.answer(gpu_type, narrowed)[0] != INFEASIBLE:
                    kept.append((weight, item))
            able.append(kept)
        first = (0,) * len(able)
        waiting = [(sum(own[0][0] for own in able), first)]
        seen, least = {first}, math.inf
        for _ in range(_MOST_CHOICES):
            if not waiting:
                return None, least
            weight, choice = heapq.heappop(waiting)
            found, chosen = self.answer(gpu_type, [own[k][1] for own, k in zip(able, choice, strict=True)])
            if found == FEASIBLE:
                return (weight, chosen), min(least, weight)
            if found == UNKNOWN:
                least = min(least, weight)
            for position, k in enumerate(choice):
                following = (*choice[:position], k + 1, *choice[position + 1 :])
                if k + 1 < len(able[position]) and following not in seen:
                    seen.add(following)
                    more = able[position][k + 1][0] - able[position][k][0]
                    heapq.heappush(waiting, (weight + more, following))
        return self._narrowed_in_turn(gpu_type, able), min([least, *(weight for weight, _ in waiting)])

    def _narrowed_in_turn(
        self, gpu_type: int, able: Sequence[list[tuple[float, int]]]
    ) -> tuple[float, list[int]] | None:
        """Return a feasible choice that is narrowed as far as members let themselves be, one after the other."""
        choice = [len(own) - 1 for own in able]
        found, chosen = self.answer(gpu_type, [own[k][1] for own, k in zip(able, choice, strict=True)])
        if found != FEASIBLE:
            return None
        for position, own in enumerate(able):
            for k in range(len(own) - 1):
                narrower = [*choice[:position], k, *choice[position + 1 :]]
                answer, rows = self.answer(gpu_type, [entry[j][1] for entry, j in zip(able, narrower, strict=True)])
                if answer == FEASIBLE:
                    choice, chosen = narrower, rows
                    break
        return sum(own[k][0] for own, k in zip(able, choice, strict=True)), chosen

    def _pairings(self, gpu: int, members: Sequence[int]) -> tuple[list[tuple[int, ...]], bool]:
        """Return which servers the members may take over, as many as there are, and whether these are all ways."""
        by_class: dict[int, list[int]] = {}
        for position, item in enumerate(members):
            by_class.setdefault(self.catalogue.items[item].workload_class, []).append(position)
        ways, whole = [[-1] * len(members)], True
        for number, positions in by_class.items():
            servers = self.servers_of[gpu].get(number, [])
            if not servers:
                continue
            pairs = dict.fromkeys(self._pairs(gpu, members, positions, servers))
            if len(pairs) * len(ways) > _MOST_PAIRINGS:
                pairs, whole = dict.fromkeys([next(iter(pairs))]), False
            ways = [_with(way, pair) for way in ways for pair in pairs]
        return [tuple(way) for way in ways], whole

    def _pairs(
        self, gpu: int, members: Sequence[int], positions: list[int], servers: list[int]
    ) -> Iterator[tuple[tuple[int, int], ...]]:
        """Yield pairs of members and servers of one class; of ways that differ in nothing that matters only one."""
        count, seen = min(len(positions), len(servers)), set()
        kinds = {k: self._kind(self.gpus[gpu].servers[k]) for k in servers}
        for some in combinations(positions, count):
            for order in permutations(servers, count):
                alike = tuple(sorted((members[p], kinds[s]) for p, s in zip(some, order, strict=True)))
                if alike not in seen:
                    seen.add(alike)
                    yield tuple(zip(some, order, strict=True))
                if len(seen) > _MOST_PAIRINGS:
                    return

    def _kind(self, server: RunningServer) -> tuple[int, ...]:
        """Return what matters of a server; -1 in place of its workload where that is one of several like it."""
        whose = server.workload if server.workload in self.named else -1
        return whose, server.batch, server.level, server.queue_delay_us

    def _configurations(self, rows: Sequence[int]) -> tuple[tuple[int, int], ...]:
        found = self.packed.rows[list(rows)]
        return tuple((int(batch), int(level)) for batch, level in zip(found["batch"], found["level"], strict=True))


def _with(way: list[int], pair: tuple[tuple[int, int], ...]) -> list[int]:
    found = list(way)
    for position, server in pair:
        found[position] = server
    return found

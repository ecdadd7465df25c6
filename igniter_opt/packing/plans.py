"""Plans as lists of patterns: trimming, least shares, and the way to and from draft plans."""

from collections import Counter
from collections.abc import Sequence

from igniter_opt.base.errors import SolverError
from igniter_opt.packing.items import Catalogue
from igniter_opt.packing.sets import FEASIBLE, new_members, place
from igniter_opt.problem.draft import Draft, DraftGpu

Pattern = tuple[int, tuple[int, ...]]
"""GPU type and items in ascending order; an item occurs as often as copies of it are on the GPU."""

# Limit of the set check's branching over configurations; for sets that are needed, it is raised to MOST_TRIALS.
TRIALS, MOST_TRIALS = 200, 5_000
# Replicas of one workload have equal rates, up to this relative difference.
_SAME_RATE = 1e-9


class Placer:
    """Finds configurations for sets of items, with work space of its own."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.packed = catalogue.packed
        self._members = new_members(int(self.packed.cards["most"].max()) + 1)
        self._least: dict[Pattern, list[int] | None] = {}

    def _first(self, pattern: Pattern) -> list[int] | None:
        """Place a set; whoever found it may have looked at its members in another order, so two orders are tried."""
        gpu, members = pattern
        units = int(self.packed.cards[gpu].units)
        for trials in (TRIALS, MOST_TRIALS):
            found = self._place(pattern, units, trials)
            if found is not None:
                return found
            found = self._place((gpu, members[::-1]), units, trials)
            if found is not None:
                return found[::-1]
        return None

    def _place(self, pattern: Pattern, units: int, trials: int = TRIALS) -> list[int] | None:
        gpu, members = pattern
        size = len(members)
        if size > self.packed.cards[gpu].most:
            return None
        self._members["index"][:size] = members
        answer = place(self.packed, gpu, units, self._members, size, trials)
        return self._members["chosen"][:size].tolist() if answer == FEASIBLE else None

    def feasible(self, pattern: Pattern) -> bool:
        """Whether a set is found feasible."""
        return self._place(pattern, int(self.packed.cards[pattern[0]].units)) is not None

    def least_share(self, pattern: Pattern) -> list[int] | None:
        """Return configurations of a set with the least total share that is found, or None if it is infeasible.

        Asks for one level less until there is no such placement.
        """
        if pattern not in self._least:
            found = self._first(pattern)
            best = found
            while found is not None:
                best = found
                found = self._place(pattern, int(self.packed.rows["level"][found].sum()) - 1)
            self._least[pattern] = best
        return self._least[pattern]

    def levels(self, pattern: Pattern) -> int:
        """Least total share levels that are found for a feasible set."""
        chosen = self.least_share(pattern)
        if chosen is None:
            raise SolverError("a set of items that was found feasible is not; please report this")
        return int(self.packed.rows["level"][chosen].sum())


def trimmed(catalogue: Catalogue, patterns: Sequence[Pattern], demand: Sequence[int]) -> list[Pattern] | None:
    """Drop what is more than the demand (workloads per class) asks for; None if it is not covered.

    Removing items from a set never hurts (monotone models), and a GPU left without items is dropped.
    """
    have = Counter(item for _, members in patterns for item in members)
    keep: Counter[int] = Counter()
    for number, items in enumerate(catalogue.class_items):
        missing = demand[number]
        for item in items:
            replicas = catalogue.items[item].replicas
            served = min(missing, have[item] // replicas)
            keep[item] = served * replicas
            missing -= served
        if missing > 0:
            return None
    result = []
    # Fullest GPUs keep their items first, so that spare ones get emptier.
    for gpu, members in sorted(patterns, key=lambda pattern: -len(pattern[1])):
        kept = []
        for item in members:
            if keep[item] > 0:
                keep[item] -= 1
                kept.append(item)
        if kept:
            result.append((gpu, tuple(kept)))
    return sorted(result)


def drafts_of(catalogue: Catalogue, placer: Placer, patterns: Sequence[Pattern]) -> list[DraftGpu]:
    """Turn patterns that cover every workload exactly into a draft plan, with the least shares found."""
    packed, problem = catalogue.packed, catalogue.problem
    slots = _identities(catalogue, patterns)
    gpus = []
    for pattern in sorted(patterns):
        chosen = placer.least_share(pattern)
        if chosen is None:
            raise SolverError("a set of items that was found feasible is not; please report this")
        placements = []
        for item, configuration in zip(pattern[1], chosen, strict=True):
            workload, replica = slots[item].pop()
            rate = problem.workloads[workload].rate_rps / catalogue.items[item].replicas
            row = packed.rows[configuration]
            placements.append(Draft(workload, replica, int(row.batch), int(row.level), rate))
        gpus.append(DraftGpu(pattern[0], placements))
    return gpus


def _identities(catalogue: Catalogue, patterns: Sequence[Pattern]) -> dict[int, list[tuple[int, int]]]:
    """Name the copies of every item: (workload, replica) pairs, last one first."""
    have = Counter(item for _, members in patterns for item in members)
    slots: dict[int, list[tuple[int, int]]] = {}
    for number, items in enumerate(catalogue.class_items):
        waiting = iter(catalogue.classes[number].workloads)
        for item in items:
            replicas = catalogue.items[item].replicas
            pairs = [
                (workload, replica)
                for workload in (next(waiting) for _ in range(have[item] // replicas))
                for replica in range(1, replicas + 1)
            ]
            slots[item] = pairs[::-1]
    return slots


def patterns_of(catalogue: Catalogue, placer: Placer, gpus: Sequence[DraftGpu]) -> list[Pattern] | None:
    """Turn a draft plan into patterns; None if it lies outside the model or a set is not found feasible."""
    problem = catalogue.problem
    replicas = Counter(draft.workload for gpu in gpus for draft in gpu.placements)
    number_of = {workload: k for k, entry in enumerate(catalogue.classes) for workload in entry.workloads}
    index = {(item.workload_class, item.replicas): t for t, item in enumerate(catalogue.items)}
    patterns = []
    for gpu in gpus:
        members = []
        for draft in gpu.placements:
            count = replicas[draft.workload]
            item = index.get((number_of[draft.workload], count))
            rate = problem.workloads[draft.workload].rate_rps / count
            if item is None or abs(draft.rate_rps - rate) > _SAME_RATE * rate:
                return None
            members.append(item)
        pattern = (gpu.gpu_type, tuple(sorted(members)))
        if not placer.feasible(pattern):
            return None
        patterns.append(pattern)
    return patterns

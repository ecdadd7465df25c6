"""ParvaGPU's two steps, restated from the description of Lee et al. (SC 2024); not one line of their code was read.

*Segments.* For every workload and kind of slice the batch and number of processes with most throughput within its
limit (`SliceProblem.capacity`). The best kind is the one with most of it per seventh of the SMs; the workload gets as
many of these as fit into its rate, and for the rest of it the smallest slice that carries the rest.

*Allocation.* Segments by falling size, each on the first card that it fits on, with slots of all that is there chosen
anew (`physics.sharing.layout`). Then cards with much left free are given up where their segments can be replaced by
small ones, of one or two sevenths, in what is free on others.

What differs from the original, as far as that is described: slots are chosen exactly and not by preference, which can
only help it; loads are in proportion to capacities. With several types that MIG cuts, all workloads go to the one that
makes the cheapest plan.
"""

from collections.abc import Sequence

from igniter_opt.base.errors import InfeasibleError
from igniter_opt.physics.sharing import layout
from igniter_opt.problem.slices import CutGpu, SliceProblem, SliceUse

# Sizes that replace segments of cards which are given up, in sevenths.
_SMALL = 2
_ENOUGH = 1.0 - 1e-9


def place(problem: SliceProblem) -> list[CutGpu]:
    """Return the cards of a plan.

    Raises
    ------
    InfeasibleError
        It finds none.
    """
    problem.refuse([k for k in range(len(problem.workloads)) if not problem.servable(k)])
    plans, reasons = [], []
    for gpu_type, entry in enumerate(problem.gpu_types):
        try:
            cards = _Allocation(problem, gpu_type).cards()
        except InfeasibleError as error:
            reasons.append(str(error))
            continue
        if entry.count is not None and len(cards) > entry.count:
            reasons.append(f"parvagpu takes {len(cards)} {entry.name}, only {entry.count} exist")
            continue
        plans.append((entry.price_per_hour * len(cards), gpu_type, cards))
    if not plans:
        raise InfeasibleError("; ".join(reasons))
    return min(plans, key=lambda plan: plan[:2])[2]


class _Allocation:
    """Segments of all workloads on cards of one type: for every card pairs of workload and kind."""

    def __init__(self, problem: SliceProblem, gpu_type: int) -> None:
        self.problem, self.gpu_type = problem, gpu_type
        self.kinds = problem.of_type(gpu_type)
        self.capacity = problem.capacity
        self.gpus: list[list[tuple[int, int]]] = []

    def cards(self) -> list[CutGpu]:
        """Return the cards with their loads."""
        segments = [pair for workload in range(len(self.problem.workloads)) for pair in self._segments(workload)]
        for segment in sorted(segments, key=lambda pair: (-self._sevenths(pair[1]), pair)):
            self._put(self.gpus, segment)
        while self._give_one_up():
            pass
        return self._with_loads()

    def _sevenths(self, kind: int) -> int:
        return self.problem.kinds[kind].slice.sevenths

    def _size(self, kind: int) -> tuple[int, int]:
        one = self.problem.kinds[kind].slice
        return one.sevenths, one.slots

    def _segments(self, workload: int) -> list[tuple[int, int]]:
        able = [kind for kind in self.kinds if self.capacity[workload, kind] > 0.0]
        demand = self.problem.workloads[workload]
        if not able:
            name = self.problem.gpu_types[self.gpu_type].name
            raise InfeasibleError(f"parvagpu: no slice of {name} serves workload {demand.name}")
        best = max(able, key=lambda kind: (self.capacity[workload, kind] / self._sevenths(kind), -self._size(kind)[1]))
        number = int(demand.rate_rps * _ENOUGH / self.capacity[workload, best])
        rest = demand.rate_rps * _ENOUGH - number * self.capacity[workload, best]
        enough = [kind for kind in able if self.capacity[workload, kind] >= rest]
        found = [(workload, best)] * number + ([(workload, min(enough, key=self._size))] if rest > 0.0 else [])
        if demand.max_replicas is not None and len(found) > demand.max_replicas:
            raise InfeasibleError(f"parvagpu gives workload {demand.name} more slices than it may have replicas")
        return found

    def _fits(self, gpu: Sequence[tuple[int, int]], kind: int) -> bool:
        counts = tuple(sum(other == one for _, other in gpu) + (one == kind) for one in self.kinds)
        return layout(self.problem.cards[self.gpu_type], counts) is not None

    def _put(self, gpus: list[list[tuple[int, int]]], segment: tuple[int, int], *, new: bool = True) -> bool:
        for gpu in gpus:
            if self._fits(gpu, segment[1]):
                gpu.append(segment)
                return True
        if new:
            gpus.append([segment])
        return new

    def _give_one_up(self) -> bool:
        """Replace the segments of one card by small ones on the others; whether one could be given up."""
        order = sorted(range(len(self.gpus)), key=lambda g: (sum(self._sevenths(k) for _, k in self.gpus[g]), -g))
        for number in order:
            others = [list(gpu) for position, gpu in enumerate(self.gpus) if position != number]
            if all(self._replaced(others, workload) for workload in dict.fromkeys(w for w, _ in self.gpus[number])):
                self.gpus = others
                return True
        return False

    def _replaced(self, gpus: list[list[tuple[int, int]]], workload: int) -> bool:
        """Add small segments of a workload until its rate is carried again; whether they fit."""
        small = [k for k in self.kinds if self._sevenths(k) <= _SMALL and self.capacity[workload, k] > 0.0]
        small.sort(key=lambda kind: (-self.capacity[workload, kind] / self._sevenths(kind), self._size(kind)))
        demand = self.problem.workloads[workload]
        while True:
            own = [kind for gpu in gpus for other, kind in gpu if other == workload]
            counts = [own.count(kind) for kind in range(len(self.problem.kinds))]
            if self.problem.suffices(workload, counts):
                return True
            if demand.max_replicas is not None and len(own) >= demand.max_replicas:
                return False
            if not any(self._put(gpus, (workload, kind), new=False) for kind in small):
                return False

    def _with_loads(self) -> list[CutGpu]:
        whole = [0.0] * len(self.problem.workloads)
        for gpu in self.gpus:
            for workload, kind in gpu:
                whole[workload] += float(self.capacity[workload, kind])
        return [
            CutGpu(
                self.gpu_type,
                [
                    SliceUse(w, k, self.problem.workloads[w].rate_rps * (float(self.capacity[w, k]) / whole[w]))
                    for w, k in gpu
                ],
            )
            for gpu in self.gpus
        ]

"""The part of an instance that concerns cards under MIG, compiled for methods: what every kind of slice carries.

A workload has a capacity on every kind of slice: the largest rate up to which every load is carried there, by some
batch and number of processes that keep its SLO rule. It takes one or several slices, of one or of several kinds, whose
capacities together are its rate or more, and each slice carries a part of the rate in proportion to its capacity, and
so no more than that. All the rest is whether the slices fit their cards.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InfeasibleError, SolverError
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.instance import Instance
from igniter_opt.data.plan import Placement, PlanGpu
from igniter_opt.fitting.slice_tables import slice_tables
from igniter_opt.physics.mig_cards import MigCard, Slice
from igniter_opt.physics.sharing import geometries, layout
from igniter_opt.physics.slices import SliceTable, carried_from_zero
from igniter_opt.slo.rule import TOLERANCE
from igniter_opt.slo.rules import rule_of

# Sums of capacities that fall short of a rate by no more than this are enough.
_ENOUGH = 1.0 - TOLERANCE
# Sums are the same up to this, in whatever order.
_ROUNDING = 1e-12


class SliceKind(NamedTuple):
    """A kind of slice of a GPU type: the type's number among `SliceProblem.gpu_types`, and the slice."""

    gpu_type: int
    slice: Slice


class SliceUse(NamedTuple):
    """A workload's slice: numbers of workload and kind, and the rate that it carries."""

    workload: int
    kind: int
    rate_rps: float


class CutGpu(NamedTuple):
    """One card under MIG of a plan in the making: its type, and what runs at which slots."""

    gpu_type: int
    uses: list[SliceUse]


class SliceProblem:
    """An instance's cards under MIG, for methods.

    Attributes
    ----------
    workloads
        The instance's, with the rates that are planned for.
    gpu_types
        Those that MIG cuts, in the instance's order.
    kinds
        All kinds of slices of all of them.
    """

    def __init__(self, instance: Instance, margin: float = 0.0) -> None:
        self.instance, self.margin, self.rule = instance, margin, rule_of(instance)
        self.workloads = instance.planned_workloads
        self.gpu_types: tuple[GpuType, ...] = instance.cut_types
        self.cards: list[MigCard] = [gpu.slice_profile.mig_card for gpu in self.gpu_types]
        self.kinds = [SliceKind(g, kind) for g, card in enumerate(self.cards) for kind in card.slices]
        self._tables = [slice_tables(gpu.slice_profile) for gpu in self.gpu_types]
        self._rates: dict[tuple[object, ...], tuple[FloatArray, FloatArray]] = {}

    # ---- what slices carry --------------------------------------------------------------------------

    def table(self, workload: int, kind: int) -> SliceTable | None:
        """Return the readings of a workload's model on a kind of slice; None where there are none."""
        model, (gpu_type, one) = self.workloads[workload].model, self.kinds[kind]
        return self._tables[gpu_type].get(model, {}).get(one.name)

    def rates(self, workload: int, kind: int) -> tuple[FloatArray, FloatArray] | None:
        """Return the least and the largest rate of every reading that the rule and the slice's memory admit."""
        table = self.table(workload, kind)
        if table is None:
            return None
        demand = self.workloads[workload]
        key = (demand.model, demand.slo_ms, demand.arrivals, kind)
        if key not in self._rates:
            least, most = self.rule.slice_rates(table, demand, self.margin)
            fits = ~(table.memory_mib > self.kinds[kind].slice.memory_mib)
            self._rates[key] = np.where(fits, least, np.inf), most
        return self._rates[key]

    @cached_property
    def capacity(self) -> FloatArray:
        """Largest load in req/s, 0 where there is none; shape (workloads, kinds)."""
        found = np.zeros((len(self.workloads), len(self.kinds)))
        for workload in range(len(self.workloads)):
            for kind in range(len(self.kinds)):
                rates = self.rates(workload, kind)
                if rates is not None:
                    found[workload, kind] = carried_from_zero(*rates)
        return found

    def serving(self, use: SliceUse) -> tuple[SliceTable, int]:
        """Return the reading with which a slice carries its load: of those that do, the one with most throughput.

        Of equal ones the one with fewest processes, then the smallest batch.
        """
        table, rates = self.table(use.workload, use.kind), self.rates(use.workload, use.kind)
        if table is None or rates is None:
            raise SolverError("a slice was given to a workload that it cannot serve; please report this")
        holds = (rates[0] <= use.rate_rps) & (use.rate_rps * _ENOUGH <= rates[1])
        order = np.lexsort((table.batch, table.processes, -np.minimum(rates[1], table.throughput_rps)))
        chosen = next((int(row) for row in order if holds[row]), None)
        if chosen is None:
            raise SolverError("a slice was given more than it carries; please report this")
        return table, chosen

    def most_slices(self, workload: int) -> int | None:
        """Return how many slices a workload may take: as many as it has replicas, any number where it does not say."""
        return self.workloads[workload].max_replicas

    def loads(self, workload: int, counts: Sequence[int]) -> list[SliceUse]:
        """Return the slices of a workload with their loads, given how many of each kind it has."""
        capacity = self.capacity[workload]
        whole = float(np.dot(counts, capacity))
        rate = self.workloads[workload].rate_rps
        return [
            SliceUse(workload, kind, rate * (float(capacity[kind]) / whole))
            for kind, count in enumerate(counts)
            for _ in range(count)
        ]

    def suffices(self, workload: int, counts: Sequence[int]) -> bool:
        """Whether so many slices of each kind carry a workload's rate."""
        enough = self.workloads[workload].rate_rps * (_ENOUGH - _ROUNDING)
        return float(np.dot(counts, self.capacity[workload])) >= enough

    def servable(self, workload: int) -> bool:
        """Whether some number of slices that the workload may take carries its rate."""
        best, most = float(self.capacity[workload].max(initial=0.0)), self.most_slices(workload)
        if best <= 0.0:
            return False
        return most is None or most * best >= self.workloads[workload].rate_rps * _ENOUGH

    def refuse(self, hopeless: Sequence[int]) -> None:
        """Raise InfeasibleError, saying why, if there are workloads that no slices serve."""
        if hopeless:
            raise InfeasibleError("\n".join(self.why_not(workload) for workload in hopeless[:5]), proven=True)

    def why_not(self, workload: int) -> str:
        """Say why no slices serve a workload, and what would help."""
        demand, best = self.workloads[workload], float(self.capacity[workload].max(initial=0.0))
        what = (
            f"workload {demand.name} ({demand.model}, SLO {demand.slo_ms:g} ms, {demand.rate_rps:g} req/s, rule"
            f" {self.rule.name}"
            + (f", margin {self.margin:g}" if self.margin else "")
            + ") cannot be served by slices under MIG: "
        )
        if best > 0.0:
            return (
                f"{what}max_replicas allows {demand.max_replicas}, and the best slice carries {best:.4g} req/s; more"
                " replicas or a lower rate would help"
            )
        tables = [table for kind in range(len(self.kinds)) if (table := self.table(workload, kind)) is not None]
        if not tables:
            names = ", ".join(gpu.slice_profile.name for gpu in self.gpu_types)
            return f"{what}no profile of them has its model ({names})"
        quickest = min(float(table.latency_ms.min()) for table in tables)
        return f"{what}the least latency that was read is {quickest:g} ms; a looser SLO would help"

    # ---- cards --------------------------------------------------------------------------------------

    def of_type(self, gpu_type: int) -> list[int]:
        """Return the numbers of a GPU type's kinds."""
        return [number for number, kind in enumerate(self.kinds) if kind.gpu_type == gpu_type]

    @cached_property
    def geometries(self) -> list[tuple[int, tuple[int, ...]]]:
        """GPU type, and how many slices of every kind one such card yields, for every geometry worth considering."""
        found = []
        for gpu_type, card in enumerate(self.cards):
            own = self.of_type(gpu_type)
            for counts in geometries(card):
                whole = [0] * len(self.kinds)
                for kind, count in zip(own, counts, strict=True):
                    whole[kind] = count
                found.append((gpu_type, tuple(whole)))
        return found

    def cut(self, slices: Sequence[SliceUse], chosen: Sequence[tuple[int, tuple[int, ...]]]) -> list[CutGpu]:
        """Put slices on cards of chosen geometries: largest rates first, cards left empty dropped.

        The cards must yield as many slices of every kind as there are; the rest is left uncut.
        """
        waiting: dict[int, list[SliceUse]] = {kind: [] for kind in range(len(self.kinds))}
        for use in sorted(slices, key=lambda entry: (entry.workload, entry.rate_rps)):
            waiting[use.kind].append(use)
        cards = []
        for gpu_type, counts in sorted(chosen, reverse=True):
            uses = [waiting[kind].pop() for kind, count in enumerate(counts) for _ in range(count) if waiting[kind]]
            if uses:
                cards.append(CutGpu(gpu_type, uses))
        if any(waiting.values()):
            raise SolverError("cards do not yield the slices that are needed; please report this")
        return cards

    def plan_gpus(self, cards: Sequence[CutGpu]) -> tuple[PlanGpu, ...]:
        """Name the cards, give every slice its slot, and number every workload's slices from 1."""
        numbers, seen, named = [0] * len(self.gpu_types), [0] * len(self.workloads), []
        for gpu_type, uses in cards:
            numbers[gpu_type] += 1
            own = self.of_type(gpu_type)
            counts = tuple(sum(use.kind == kind for use in uses) for kind in own)
            slots = layout(self.cards[gpu_type], counts)
            if slots is None:
                raise SolverError("slices of a card do not fit it; please report this")
            left = list(uses)
            placements = []
            for at in slots:
                use = next(entry for entry in left if self.kinds[entry.kind].slice.name == at.slice)
                left.remove(use)
                seen[use.workload] += 1
                placements.append(self._placement(use, seen[use.workload], at.slot))
            name = self.gpu_types[gpu_type].name
            named.append(PlanGpu(name=f"{name}-{numbers[gpu_type]}", type=name, placements=tuple(placements)))
        return tuple(named)

    def _placement(self, use: SliceUse, replica: int, slot: int) -> Placement:
        table, row = self.serving(use)
        workload, batch = self.workloads[use.workload], int(table.batch[row])
        return Placement(
            workload=workload.name,
            replica=replica,
            model=workload.model,
            batch=batch,
            share_percent=table.kind.share_percent,
            rate_rps=use.rate_rps,
            predicted_latency_ms=float(table.latency_ms[row]),
            predicted_throughput_rps=float(table.throughput_rps[row]),
            queue_delay_us=self.rule.queue_delay_us(workload.slo_ms, use.rate_rps, batch),
            slice=table.kind.name,
            slot=slot,
            processes=int(table.processes[row]),
        )

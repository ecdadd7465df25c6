"""Placements on slices under MIG, judged from the readings alone: what cannot be predicted, and predictions."""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.schema import in_short
from igniter_opt.base.text import counted
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.instance import Workload
from igniter_opt.data.plan import Placement, PlanGpu
from igniter_opt.fitting.slice_tables import slice_tables
from igniter_opt.physics.sharing import Cut, MigSlices, Misfit
from igniter_opt.physics.slices import SliceTable
from igniter_opt.slo.rule import TOLERANCE, Rule

# Shares are sevenths in percent, as decimal text of full precision.
_SAME_SHARE = 1e-6


class SlicePredictions(NamedTuple):
    """Predictions for the placements of one card, by position; `judged` is what the SLO rule limits."""

    latency_ms: FloatArray
    judged_ms: FloatArray
    judged_ms_with_margin: FloatArray
    throughput_rps: FloatArray
    throughput_rps_with_margin: FloatArray


class SliceJudge:
    """Judges placements on the slices of one GPU type."""

    def __init__(self, gpu_type: GpuType, rule: Rule) -> None:
        self.profile, self.rule = gpu_type.slice_profile, rule
        self.sharing = MigSlices(self.profile.mig_card)
        self.tables: Mapping[str, Mapping[str, SliceTable]] = slice_tables(self.profile)

    def misfits(self, gpu: PlanGpu) -> Iterator[Misfit]:
        """Yield what makes the placements of a card impossible: slices, slots, processes, memory, readings.

        Their models must be the profile's.
        """
        whole = [p for p in gpu.placements if p.slice is None]
        if whole:
            yield Misfit(
                "slice", gpu.placements.index(whole[0]), f"{gpu.type} is cut by MIG, and the placement has no slice"
            )
            return
        cuts = [Cut(str(p.slice), int(p.slot or 0)) for p in gpu.placements]
        wrong = list(self.sharing.misfits(cuts))
        yield from wrong
        for number, placement in enumerate(gpu.placements):
            kind = self.sharing.card.slice(cuts[number].slice)
            if kind is None:
                continue
            if abs(placement.share_percent - kind.share_percent) > _SAME_SHARE:
                message = f"share {placement.share_percent:g} % is not that of a {kind.name}, {kind.share_percent:g} %"
                yield Misfit("share", number, message)
            if placement.rate_rps <= 0:
                yield Misfit("rate", number, f"rate {placement.rate_rps:g} req/s is not positive")
            yield from (Misfit(why, number, message) for why, message in self._unread(placement, kind.memory_mib))

    def _unread(self, placement: Placement, memory_mib: float) -> Iterator[tuple[str, str]]:
        """Yield why there is no reading of a placement: kind and message."""
        processes, table = int(placement.processes or 0), self.tables[placement.model].get(str(placement.slice))
        if processes < 1:
            yield "processes", f"processes is {processes}; a slice has one at least"
            return
        if table is None:
            yield "slice", f"profile {self.profile.name} has no reading of {placement.model} in a {placement.slice}"
            return
        row = table.row(placement.batch, processes)
        if row is not None:
            if table.memory_mib[row] > memory_mib * (1 + TOLERANCE):
                needed = f"{placement.model} needs {table.memory_mib[row]:g} MiB"
                yield (
                    "memory",
                    f"{needed} for {counted(processes, 'process', 'es')}, the slice has {memory_mib:g}",
                )
            return
        known = sorted(set(table.processes[table.batch == placement.batch].tolist()))
        what = f"{placement.model} in a {placement.slice}"
        if not known:
            batches = in_short(str(entry) for entry in sorted(set(table.batch.tolist())))
            yield "batch", f"batch {placement.batch} of {what} was not read (batches: {batches})"
            return
        yield (
            "processes",
            f"{counted(processes, 'process', 'es')} of {what} with batch {placement.batch} were not read, or did"
            f" not fit its memory (read: {in_short(map(str, known))})",
        )

    def predicted(self, gpu: PlanGpu, workloads: Mapping[str, Workload], margins: list[float]) -> SlicePredictions:
        """Predict the placements of a card on which nothing is a misfit, each with its margin."""
        found = []
        for placement, margin in zip(gpu.placements, margins, strict=True):
            table = self.tables[placement.model][str(placement.slice)]
            row = table.row(placement.batch, int(placement.processes or 0)) or 0
            workload, rate = workloads[placement.workload], placement.rate_rps
            plain = self.rule.slice_latency_ms(table, row, workload, rate)
            inflated = plain if margin == 0.0 else self.rule.slice_latency_ms(table, row, workload, rate, margin)
            throughput = float(table.throughput_rps[row])
            # A slice's load may be any part of its workload's rate: it must be carried at every lower rate, too.
            kind = self.sharing.card.slice(str(placement.slice))
            fits = ~(table.memory_mib > (math.inf if kind is None else kind.memory_mib))
            sure = min(throughput / (1.0 + margin), self.rule.slice_reach_rps(table, fits, workload, margin))
            found.append((float(table.latency_ms[row]), plain, inflated, throughput, sure))
        return SlicePredictions(*np.array(found).T)

    def within_resolution(self, latency_ms: float, limit_ms: float) -> bool:
        """Whether what is left to a limit is less than the readings resolve, so that a truer one might miss it."""
        return latency_ms <= limit_ms < latency_ms + self.profile.latency_resolution_ms

"""Whether a draft holds, for searches: candidates in, booleans out, and each of its GPUs is predicted once.

It asks of a draft what `verify` asks of the plan that is made of it, with the same tolerances. That is for choosing
among candidates: what leaves a solver is judged by `verify`, from the plan alone.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import UnsuitableError
from igniter_opt.physics.interference import no_active_time
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import DraftArrays, DraftGpu, DraftPredictions
from igniter_opt.slo.rule import TOLERANCE, Replicas

_Booleans = npt.NDArray[np.bool_]


class Unbounded(NamedTuple):
    """A GPU of a draft on which some placements have no finite latency: its position, why, and the workloads."""

    gpu: int
    why: str
    workloads: list[str]


class DraftJudge:
    """Judges one draft, whose workloads, models, batches and share levels are the problem's."""

    def __init__(self, problem: Problem, gpus: Sequence[DraftGpu]) -> None:
        self.problem, self.gpus = problem, gpus
        self.arrays = DraftArrays(problem, gpus)

    @cached_property
    def predictions(self) -> DraftPredictions:
        """The predictions without a margin, which are what plans say."""
        return self.arrays.predicted()

    @cached_property
    def bounded(self) -> _Booleans:
        """On which GPUs all latencies are finite (`interference.gpu_latency_ms`); no plan can have another."""
        return self._of_gpus(np.isfinite(self.predictions.latency_ms))

    @cached_property
    def keeps(self) -> _Booleans:
        """Which placements keep their latency limit and their rate, with the margin, beside their neighbours.

        None on a GPU that is not `bounded`.
        """
        problem, drafts, margin = self.problem, self.arrays, self.problem.margin
        found = drafts.predicted(margin) if margin else self.predictions
        rate, batch = drafts.rate_rps, drafts.batch.astype(np.float64)
        latency = np.full(len(rate), np.inf)
        for gpu_type, gpus, slots in drafts.alike():
            here = slots[self.bounded[gpus]]
            if here.size:
                replicas = Replicas(
                    drafts.model[here], batch[here], drafts.share_percent[here], rate[here], drafts.workload[here]
                )
                coefficients = problem.coefficients[gpu_type]
                latency[here] = problem.rule.latencies_ms(coefficients, replicas, found.latency_ms[here], margin)
        limit = problem.rule.latency_limit_ms(self._slo_ms, rate, batch)
        late, short = problem.rule.is_late(latency, limit), problem.rule.is_short(found.throughput_rps, rate)
        return np.asarray(~late & ~short & self.bounded[drafts.gpu])

    @cached_property
    def holds(self) -> bool:
        """Whether `verify` would find nothing wrong with the plan that is made of it."""
        return bool(
            self._on_grid().all()
            and self._covers().all()
            and self._fit().all()
            and self._exist()
            and self.bounded.all()
            and self.keeps.all()
        )

    def gpus_keep(self) -> _Booleans:
        """On which GPUs all placements keep their limits and rates."""
        return self._of_gpus(self.keeps)

    def gpus_hold(self) -> _Booleans:
        """On which GPUs everything holds, side by side: batches, shares, memory, limits and rates.

        Nothing is asked of workloads that are on none of them, so that a plan in the making can be judged.
        """
        return np.asarray(self._of_gpus(self._on_grid() & self.keeps) & self._fit())

    # ---- requirements on a draft's own numbers ----------------------------------------------------------

    def _on_grid(self) -> _Booleans:
        """Which placements have a batch that was profiled, a share that the card grants, and a rate."""
        drafts = self.arrays
        holds = (drafts.batch >= 1) & (drafts.rate_rps > 0)
        for gpu_type, here in drafts.by_type():
            coefficients = self.problem.coefficients[gpu_type]
            largest = np.array([model.max_batch for model in coefficients.models.values()])
            holds[here] &= drafts.batch[here] <= largest[drafts.model[here]]
            holds[here] &= drafts.level[here] >= coefficients.hardware.least_level
        return holds

    def _covers(self) -> _Booleans:
        """Which workloads have their rate carried by replicas numbered from 1, and no more of them than they may."""
        drafts, workloads = self.arrays, self.problem.workloads
        rate, number = np.array([workload.rate_rps for workload in workloads]), len(workloads)
        count = np.bincount(drafts.workload, minlength=number)
        carried = np.bincount(drafts.workload, weights=drafts.rate_rps, minlength=number)
        holds = (count > 0) & (np.abs(carried - rate) <= TOLERANCE * rate * np.maximum(1, count))
        order = np.lexsort([drafts.replica, drafts.workload])
        before = np.cumsum(count) - count
        numbers = np.arange(len(order)) - before[drafts.workload[order]] + 1
        holds[drafts.workload[order][drafts.replica[order] != numbers]] = False
        most, least = np.full(number, -np.inf), np.full(number, np.inf)
        np.maximum.at(most, drafts.workload, drafts.rate_rps)
        np.minimum.at(least, drafts.workload, drafts.rate_rps)
        limited = np.array([workload.max_replicas is not None for workload in workloads])
        limit = np.array([workload.max_replicas or 0 for workload in workloads])
        with np.errstate(invalid="ignore"):
            equal = (count <= limit) & (most - least <= TOLERANCE * most)
        return np.asarray(holds & (~limited | equal))

    def _fit(self) -> _Booleans:
        """On which GPUs shares and memory suffice."""
        drafts, gpus = self.arrays, len(self.arrays.gpu_type)
        needed, limit = np.zeros(len(drafts.gpu)), np.full(len(self.problem.gpu_types), np.inf)
        for gpu_type, here in drafts.by_type():
            models = self.problem.coefficients[gpu_type].models.values()
            memory = np.array([(model.memory_fixed_mib, model.memory_per_item_mib) for model in models])
            fixed, per_item = memory[drafts.model[here]].T
            needed[here] = fixed + per_item * drafts.batch[here]
            most = self.problem.gpu_types[gpu_type].memory_limit_mib
            limit[gpu_type] = np.inf if most is None else most
        share = np.bincount(drafts.gpu, weights=drafts.share_percent, minlength=gpus)
        used = np.bincount(drafts.gpu, weights=needed, minlength=gpus)
        return np.asarray(
            (share <= 100 * (1 + TOLERANCE)) & (used <= limit[drafts.gpu_type] * (1 + TOLERANCE)), dtype=np.bool_
        )

    def _exist(self) -> bool:
        """Whether there are so many GPUs of every type."""
        used = np.bincount(self.arrays.gpu_type, minlength=len(self.problem.gpu_types)).tolist()
        return all(
            gpu.count is None or number <= gpu.count for gpu, number in zip(self.problem.gpu_types, used, strict=True)
        )

    # ---- in words -----------------------------------------------------------------------------------

    def unbounded(self) -> list[Unbounded]:
        """Return the GPUs that are not `bounded`, and say why."""
        drafts, predictions, found = self.arrays, self.predictions, []
        for position in np.flatnonzero(~self.bounded).tolist():
            here = self._placements(position)
            workloads = [self.problem.workloads[k] for k in drafts.workload[here].tolist()]
            finite = np.isfinite(predictions.latency_ms[here]).tolist()
            lost = [entry for entry, bounded in zip(workloads, finite, strict=True) if not bounded]
            gpu_type = int(drafts.gpu_type[position])
            coefficients, name = self.problem.coefficients[gpu_type], self.problem.gpu_types[gpu_type].name
            if predictions.clock_ratio[position] > 0:
                why = f"{lost[0].name} has too small a share of a {name}: {no_active_time(coefficients, lost[0].model)}"
            else:
                power, cap = float(predictions.power_w[position]), coefficients.hardware.max_power_w
                why = (
                    f"one {name} would draw {power:.0f} W, so far beyond its cap of {cap:g} W that by profile"
                    f" {coefficients.profile_name} no clock is left"
                )
            found.append(Unbounded(position, why, list(dict.fromkeys(workload.name for workload in lost))))
        return found

    def refuse_impossible(self) -> None:
        """Raise UnsuitableError where a profile predicts that something takes no time, or less.

        No such plan means anything. Interference that was measured as negative does that, where more neighbours are
        added than were measured; methods multiply by latencies, so that they may take such a placement for one that
        holds or for one that does not.
        """
        for position in np.flatnonzero(~self._of_gpus(self.predictions.gpu_latency_ms > 0)).tolist():
            here = self._placements(position)
            latency = self.predictions.gpu_latency_ms[here]
            names = [self.problem.workloads[k].model for k in self.arrays.workload[here].tolist()]
            worst = int(np.argmin(latency))
            beside = ", ".join(dict.fromkeys(names[:worst] + names[worst + 1 :]))
            profile = self.problem.coefficients[int(self.arrays.gpu_type[position])].profile_name
            raise UnsuitableError(
                f"profile {profile} predicts a GPU latency of {latency[worst]:.4g} ms for {names[worst]}"
                + (f" beside {beside}" if beside else "")
                + ", which nothing can have; judge the profile with `igniter-opt profile check`, and measure it again"
            )

    def over_slo(self, without: Sequence[int]) -> list[str]:
        """Return the names of workloads that some placement does not keep, leaving out some GPUs."""
        broken = ~self.keeps & ~np.isin(self.arrays.gpu, list(without))
        return list(dict.fromkeys(self.problem.workloads[k].name for k in self.arrays.workload[broken].tolist()))

    def _placements(self, gpu: int) -> slice:
        return slice(int(self.arrays.first[gpu]), int(self.arrays.first[gpu + 1]))

    def _of_gpus(self, placements: _Booleans) -> _Booleans:
        """On which GPUs something is so for all placements."""
        return np.asarray(np.bincount(self.arrays.gpu[~placements], minlength=len(self.arrays.gpu_type)) == 0)

    @property
    def _slo_ms(self) -> FloatArray:
        slo = np.array([workload.slo_ms for workload in self.problem.workloads])
        return slo[self.arrays.workload]

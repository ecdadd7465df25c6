"""Configurations (batch, share) of a workload on a GPU type, as the numbers that matter to a solver.

Once a configuration is fixed, both requirements on a placement (latency within its limit, throughput at
least the rate) read ``t_gpu ≤ D``, that is::

    base_ms + kernels Δ(n) + cache_ms (C - cache) + traffic_ms (T - traffic)  ≤  limit_ms φ(P)

which is linear in the GPU's aggregates n, C, T, P. `Problem` computes these numbers for all configurations of a
workload at once; `undominated` drops those that another one can replace in every plan.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.errors import InfeasibleError, UnsuitableError
from igniter_opt.base.threads import threads
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.instance import MOST_REPLICAS, Instance
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.fitting.judging import judging_coefficients, time_factors
from igniter_opt.physics import rows
from igniter_opt.physics.interference import PlacementTerms, clock_ratio, is_monotone, placement_terms
from igniter_opt.physics.parameters import Coefficients
from igniter_opt.slo.rule import BestAlone, ModelAlone
from igniter_opt.slo.rules import rule_of


@dataclass(frozen=True)
class Configurations:
    """Configurations of one workload on one GPU type; arrays of one length.

    Attributes
    ----------
    batch, level
        Batch size, and share in units of the GPU's share unit.
    power_w, cache, traffic
        Contribution to the GPU's total power (W), cache use (percent) and traffic (0 with faithful coefficients).
    base_ms, cache_ms, traffic_ms, limit_ms
        ``A = s + k``, ``E = k γ``, the same for traffic, and ``D`` of the row above (ms; E in ms per percent).
    memory_mib
        GPU memory taken; 0 where the profile does not know it.
    kernels
        Kernels per inference ``K``, one number for the model.
    """

    batch: IntArray
    level: IntArray
    power_w: FloatArray
    cache: FloatArray
    traffic: FloatArray
    base_ms: FloatArray
    cache_ms: FloatArray
    traffic_ms: FloatArray
    limit_ms: FloatArray
    memory_mib: FloatArray
    kernels: float

    def __len__(self) -> int:
        return len(self.batch)

    def take(self, chosen: npt.NDArray[Any]) -> "Configurations":
        """Return the chosen configurations (an index array or a boolean array)."""
        arrays = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "kernels"}
        return Configurations(**{name: array[chosen] for name, array in arrays.items()}, kernels=self.kernels)

    def needed_ms(self, delay: npt.ArrayLike, cache: npt.ArrayLike, traffic: npt.ArrayLike) -> FloatArray:
        """Left sides of the rows, given Δ and what the other placements use (numbers, or one per configuration)."""
        left = rows.needed(self.base_ms, self.kernels, delay, self.cache_ms, cache, self.traffic_ms, traffic)
        return np.asarray(left)

    def linear_rows(self) -> rows.LinearRow:
        """Return the rows divided by D, linear in the aggregates; one array each, of one length."""
        return rows.linear_row(
            self.base_ms, self.kernels, self.cache_ms, self.cache, self.traffic_ms, self.traffic, self.limit_ms
        )

    def undominated(self) -> "Configurations":
        """Drop every configuration that another one can replace in any plan.

        c' replaces c when its share, power, cache use, traffic and memory are no larger (so no neighbour's row gets
        harder) and its own row ``A + K Δ + E (C - c) + E' (T - t) ≤ D φ`` holds wherever c's does, with Δ, C - c and
        T - t non-negative and φ ≤ 1 (φ(P) is no smaller with its power). Over these, c's row holds on a simplex with
        the corners φ = A/D, and φ = 1 with Δ = (D - A)/K, C - c = (D - A)/E or T - t = (D - A)/E'; c' contains it iff
        A/D, K/(D - A), E/(D - A) and E'/(D - A) are no larger. D may be any number per configuration. Needs a monotone
        model (`interference.is_monotone`). Of equal configurations the first stays.
        """
        slack = np.maximum(self.limit_ms - self.base_ms, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            cache_ratio = np.where(self.cache_ms > 0.0, self.cache_ms / slack, 0.0)
            traffic_ratio = np.where(self.traffic_ms > 0.0, self.traffic_ms / slack, 0.0)
            kernel_ratio = self.kernels / slack
        keys = np.column_stack(
            [
                self.level,
                self.power_w,
                self.cache,
                self.memory_mib,
                self.base_ms / self.limit_ms,
                kernel_ratio,
                cache_ratio,
                self.traffic,
                traffic_ratio,
            ]
        )
        # Lexicographic order: a configuration can only be dominated by one that comes before it.
        order = np.lexsort(keys.T[::-1])
        from igniter_opt.problem.dominance import undominated_rows  # compiled: a while to import

        return self.take(order[undominated_rows(keys[order])])


class Problem:
    """An instance compiled for solvers: coefficients per GPU type, configurations per workload.

    Its `workloads` are the instance's with the rates that are planned for.

    Parameters
    ----------
    instance
        The problem.
    margin
        Inflates every predicted GPU latency by ``1 + margin`` in all requirements.
    confidence
        The confidence that the margin was calibrated for, if any; plans say it.

    Attributes
    ----------
    coefficients, plain
        Of every GPU type: those that judge with the margin (`fitting.judging`), and those that predict.
    proposes
        Whether plans for it are proposals, which the predictor may reject: somebody else judges them.
    """

    proposes = False

    def __init__(self, instance: Instance, margin: float = 0.0, confidence: float | None = None) -> None:
        self.instance = instance
        self.rule = rule_of(instance)
        self.workloads = instance.planned_workloads
        self.margin = margin
        self.confidence = confidence
        self.plain: list[Coefficients] = [fit_coefficients(gpu.mps_profile) for gpu in instance.shared_types]
        self.coefficients: list[Coefficients] = self._judging(margin)
        used = dict.fromkeys(workload.model for workload in instance.workloads)
        self.monotone = [
            is_monotone(entry, [model for model in used if model in entry.models]) for entry in self.coefficients
        ]
        if self.rule.needs_monotone:
            self._require_monotone()
        self._grids: dict[tuple[int, str], PlacementTerms] = {}
        self._alone: dict[tuple[int, str], ModelAlone] = {}
        self._configurations: dict[tuple[int, int, int], Configurations | None] = {}
        self._least_levels: dict[tuple[int, int, int], int | None] = {}
        # By workload, GPU type and replica rate, then batch and level: limits that were lowered, and how often.
        self._lowered: dict[tuple[int, int, float], dict[tuple[int, int], tuple[float, int]]] = {}

    def _judging(self, margin: float) -> list[Coefficients]:
        return [judging_coefficients(gpu.mps_profile, margin, self.confidence) for gpu in self.instance.shared_types]

    def time_factor(self, gpu_type: int, model: str) -> float:
        """Return by which factor the model's times in `coefficients` are longer than predicted."""
        return time_factors(self.gpu_types[gpu_type].mps_profile, self.margin, self.confidence)[model]

    def _require_monotone(self) -> None:
        for gpu, monotone in zip(self.gpu_types, self.monotone, strict=True):
            if not monotone:
                raise UnsuitableError(
                    f"rule {self.rule.name}: the profile of GPU type {gpu.name} has negative interference coefficients,"
                    " power or cache use, so that nothing bounds the times of partial batches; mend the measurements,"
                    " or use another rule"
                )

    @property
    def gpu_types(self) -> tuple[GpuType, ...]:
        """The instance's GPU types that are shared by MPS; those that MIG cuts are in `slices.SliceProblem`."""
        return self.instance.shared_types

    def replica_limit(self, workload: int) -> int:
        """Most replicas of a workload that exact methods may use."""
        return self.workloads[workload].max_replicas or 1

    def knows(self, workload: int, gpu_type: int) -> bool:
        """Whether the GPU type's profile has the workload's model."""
        return self.workloads[workload].model in self.gpu_types[gpu_type].profile.models

    def grid(self, model: str, gpu_type: int) -> PlacementTerms:
        """Terms of a model at every (batch, share level); arrays of shape (batches, levels)."""
        key = (gpu_type, model)
        if key not in self._grids:
            coefficients = self.coefficients[gpu_type]
            batches = np.arange(1, coefficients.models[model].max_batch + 1)[:, None]
            shares = coefficients.hardware.shares()[None, :]
            self._grids[key] = PlacementTerms(
                *np.broadcast_arrays(*placement_terms(coefficients, coefficients.index(model), batches, shares))
            )
        return self._grids[key]

    def limits_ms(self, workload: int, gpu_type: int, rate_rps: float) -> FloatArray:
        """Largest admissible GPU latencies D of a replica of this rate, shape (batches, levels).

        They are 0 at shares that the card does not grant, and under rule p99 for configurations that do not hold alone.
        """
        limits = self.rule.limits_ms(self.alone(workload, gpu_type), self.workloads[workload], rate_rps)
        below = self.coefficients[gpu_type].hardware.least_level - 1
        if below:
            limits = np.array(np.broadcast_to(limits, (len(limits), self.coefficients[gpu_type].hardware.share_levels)))
            limits[:, :below] = 0.0
        lowered = self._lowered.get((workload, gpu_type, _rounded(rate_rps)))
        if lowered:
            limits = np.array(limits)
            for (batch, level), (limit, _) in lowered.items():
                limits[batch - 1, level - 1] = min(limit, limits[batch - 1, level - 1])
        return limits

    @property
    def limits_lowered(self) -> bool:
        """Whether any limit was lowered (`lower_limit`)."""
        return bool(self._lowered)

    def lower_limit(
        self, workload: int, gpu_type: int, rate_rps: float, batch: int, level: int, latency_ms: float, step: float
    ) -> None:
        """Lower the limit of a configuration below a GPU latency, by more every time; see `tighten`.

        Parameters
        ----------
        workload
            One of a kind; all of it have the same limits.
        rate_rps
            Of the replica.
        latency_ms, step
            The GPU latency without the margin, and by which part of it the limit is lowered below it first.
        """
        kind = self.instance.demand_of(self.workloads[workload])
        alike = {k for k, other in enumerate(self.workloads) if self.instance.demand_of(other) == kind}
        for member in alike:
            known = self._lowered.setdefault((member, gpu_type, _rounded(rate_rps)), {})
            times = known.get((batch, level), (0.0, 0))[1]
            known[batch, level] = max(0.0, latency_ms * (1.0 - step * 2.0**times)), times + 1
        for key in [key for key in self._configurations if key[0] in alike and key[1] == gpu_type]:
            del self._configurations[key]
        for key in [key for key in self._least_levels if key[0] in alike and key[1] == gpu_type]:
            del self._least_levels[key]
        self.__dict__.pop("least_share_percent", None)

    def alone(self, workload: int, gpu_type: int) -> ModelAlone:
        """A workload's model on an otherwise empty GPU, as SLO rules see it."""
        key = (gpu_type, self.workloads[workload].model)
        if key not in self._alone:
            coefficients, memory = self.coefficients[gpu_type], self.gpu_types[gpu_type].memory_limit_mib
            self._alone[key] = ModelAlone(
                coefficients.models[key[1]], coefficients.hardware, self.grid(key[1], gpu_type), memory, self.margin
            )
        return self._alone[key]

    def largest_rates(self, workload: int, gpu_type: int) -> FloatArray:
        """Largest rates (req/s) that meet the rule alone on a whole GPU, by batch, as far as memory allows."""
        return self.rule.largest_rates(self.alone(workload, gpu_type), self.workloads[workload])

    def every_configuration(self, workload: int, gpu_type: int, replicas: int = 1) -> Configurations:
        """All configurations of one of `replicas` equal replicas, feasible or not, batch-major."""
        demand = self.workloads[workload]
        coefficients = self.coefficients[gpu_type]
        model = coefficients.models[demand.model]
        terms = self.grid(demand.model, gpu_type)
        batch, level = np.indices(terms.active_ms.shape).reshape(2, -1) + 1
        terms = PlacementTerms(*(term.ravel() for term in terms))
        limit = self.limits_ms(workload, gpu_type, demand.rate_rps / replicas).ravel()
        return Configurations(
            batch=batch,
            level=level,
            power_w=terms.power_w,
            cache=terms.cache,
            traffic=terms.traffic,
            base_ms=terms.base_ms,
            cache_ms=terms.cache_ms,
            traffic_ms=terms.traffic_ms,
            limit_ms=limit,
            memory_mib=np.asarray(model.memory_fixed_mib + model.memory_per_item_mib * batch, dtype=np.float64),
            kernels=model.kernels,
        )

    def configurations(self, workload: int, gpu_type: int, replicas: int = 1) -> Configurations | None:
        """Configurations worth considering, or None when the workload cannot be served on the type.

        With a monotone model these are the undominated ones among the possible ones. Otherwise all possible ones
        are kept.
        """
        key = (workload, gpu_type, replicas)
        if key not in self._configurations:
            found = self._possible(*key)
            if found is not None and self.monotone[gpu_type]:
                found = found.undominated()
            self._configurations[key] = found
        return self._configurations[key]

    def _possible(self, workload: int, gpu_type: int, replicas: int) -> Configurations | None:
        """Configurations that may occur in a plan; None if there are none.

        With a monotone model: those feasible alone on a GPU (what is infeasible alone is infeasible in any
        company). Otherwise: those with a positive limit and an active time.
        """
        if not self.knows(workload, gpu_type):
            return None
        every = self.every_configuration(workload, gpu_type, replicas)
        possible = (every.limit_ms > 0) & np.isfinite(every.base_ms)
        memory = self.gpu_types[gpu_type].memory_limit_mib
        if memory is not None:
            possible &= every.memory_mib <= memory
        if self.monotone[gpu_type]:
            possible &= self.feasible_alone(every, gpu_type)
        return every.take(possible) if possible.any() else None

    def least_level(self, workload: int, gpu_type: int, replicas: int = 1) -> int | None:
        """Least share level over the possible configurations, or None if there are none."""
        key = (workload, gpu_type, replicas)
        if key not in self._least_levels:
            # Dominance never removes the least level, and `configurations` keeps its result.
            found = self.configurations(*key) if self.rule.dear_limits else self._possible(*key)
            self._least_levels[key] = None if found is None else int(found.level.min())
        return self._least_levels[key]

    def feasible_alone(self, configurations: Configurations, gpu_type: int) -> npt.NDArray[np.bool_]:
        """Which configurations meet their row on an otherwise empty GPU."""
        hardware = self.coefficients[gpu_type].hardware
        ratio = clock_ratio(hardware, hardware.idle_power_w + configurations.power_w)
        return np.asarray((ratio > 0) & (configurations.base_ms <= configurations.limit_ms * ratio))

    def limits_at_once(self) -> Iterator[int]:
        """Compute the configurations of all workloads on all processors; yield how many workloads are done."""
        places = [
            [(g, count) for g in range(len(self.gpu_types)) for count in range(1, self.replica_limit(workload) + 1)]
            for workload in range(len(self.workloads))
        ]
        # Compiled code lets other threads run.
        with threads() as workers:
            asked = [[workers.submit(self.least_level, w, *place) for place in own] for w, own in enumerate(places)]
            try:
                for done, own in enumerate(asked, 1):
                    for future in own:
                        future.result()
                    yield done
            finally:
                workers.shutdown(wait=True, cancel_futures=True)
                self.rule.keep_limits()

    def replica_counts(self, workload: int) -> list[int]:
        """Replica counts κ within the limit for which some GPU type can serve a replica."""
        return [
            count
            for count in range(1, self.replica_limit(workload) + 1)
            if any(self.least_level(workload, gpu_type, count) for gpu_type in range(len(self.gpu_types)))
        ]

    @cached_property
    def least_share_percent(self) -> FloatArray:
        """Least share of a whole workload (all its replicas) alone, in percent; shape (workloads, GPU types).

        The minimum over the admitted replica counts; infinite where a type cannot serve the workload.
        """
        table = np.full((len(self.workloads), len(self.gpu_types)), np.inf)
        for workload in range(len(self.workloads)):
            for gpu_type, coefficients in enumerate(self.coefficients):
                for count in range(1, self.replica_limit(workload) + 1):
                    level = self.least_level(workload, gpu_type, count)
                    if level is not None:
                        share = count * level * coefficients.hardware.share_unit_percent
                        table[workload, gpu_type] = min(table[workload, gpu_type], share)
        return table

    def require_feasible_workloads(self) -> None:
        """Raise InfeasibleError, saying what would help, if some workload cannot be served at all."""
        self.refuse([k for k in range(len(self.workloads)) if not self.replica_counts(k)])

    def refuse(self, hopeless: list[int]) -> None:
        """Raise InfeasibleError, saying what would help, if there are workloads for which no plan has a place."""
        if hopeless:
            shown = [self.explain_infeasible(workload) for workload in hopeless[:5]]
            if len(hopeless) > 5:
                shown.append(f"... and {len(hopeless) - 5} more workload(s)")
            raise InfeasibleError("\n".join(shown), proven=True)

    def explain_infeasible(self, workload: int) -> str:
        """Say what a workload could get at best, alone on a whole GPU, and what would make it feasible."""
        demand = self.workloads[workload]
        limit = self.replica_limit(workload)
        best = [self._best_alone(workload, g) for g in range(len(self.gpu_types)) if self.knows(workload, g)]
        latency = min(entry.latency_ms for entry in best)
        rate = max(entry.rate_rps for entry in best)
        slo = min(entry.slo_ms for entry in best)
        headroom = self.instance.headroom_of(demand)
        margin = f", margin {self.margin:g}" if self.margin else ""
        text = (
            f"workload {demand.name} ({demand.model}, SLO {demand.slo_ms:g} ms, {demand.rate_rps:g} req/s"
            f"{' with its headroom' if headroom else ''},"
            f" rule {self.rule.name}{margin}) cannot be served by {limit} replica(s) on whole GPUs:"
            f" alone {self._best_latency_text(latency)}, and its best rate within the SLO is {_down(rate)} req/s."
        )
        remedies = []
        if math.isfinite(slo):
            remedies.append(f"slo_ms of {_up(slo)} or more")
        if rate > 0:
            if limit == 1:
                less = "" if self.rule.lower_rates == "not always" else " or less"
                said = self.instance.without_headroom(demand.name, rate)
                remedies.append(f"rate_rps of {_down(said)}{less}")
            replicas = self._least_replicas(workload, limit, rate)
            if replicas is not None:
                remedies.append(f"max_replicas of {replicas} or more")
        remedies += self._other_remedies(workload)
        if not remedies:
            remedies.append("a GPU type with more memory or speed, or a looser SLO together with a lower rate")
        if headroom:
            remedies.append("a smaller headroom")
        if self.margin:
            remedies.append("a smaller margin")
        text += " It becomes feasible with " + ", or ".join(remedies) + "."
        if any(gpu.count is not None for gpu in self.gpu_types):
            text += " (That is for this workload by itself; whether there are GPUs enough for all is another question.)"
        if demand.max_replicas is None and rate > 0:
            text += " (Without max_replicas only --method igniter splits it, by iGniter's own rule.)"
        return text

    def _other_remedies(self, workload: int) -> list[str]:
        """What the rule knows, on the first GPU type for which it knows anything."""
        demand = self.workloads[workload]
        rate = demand.rate_rps / self.replica_limit(workload)
        found = (
            self.rule.other_remedies(self.alone(workload, gpu_type), demand, rate)
            for gpu_type in range(len(self.gpu_types))
            if self.knows(workload, gpu_type)
        )
        return next((remedies for remedies in found if remedies), [])

    def _best_latency_text(self, latency: float) -> str:
        text = None if math.isfinite(latency) else self.rule.without_latency()
        return text or f"its best {self.rule.latency_name} is {_up(latency)} ms"

    def _best_alone(self, workload: int, gpu_type: int) -> BestAlone:
        demand = self.workloads[workload]
        rate = demand.rate_rps / self.replica_limit(workload)
        return self.rule.best_alone(self.alone(workload, gpu_type), demand, rate)

    def _least_replicas(self, workload: int, limit: int, rate: float) -> int | None:
        first = max(limit + 1, math.ceil(self.workloads[workload].rate_rps / rate * (1 - 1e-9)))
        for count in range(first, min(first + 3, MOST_REPLICAS + 1)):
            if any(self.least_level(workload, g, count) for g in range(len(self.gpu_types))):
                return count
        return None


def _rounded(rate_rps: float) -> float:
    return float(f"{rate_rps:.9g}")


def _up(value: float) -> str:
    """Render with 4 significant digits, rounded up."""
    return _round(value, math.ceil)


def _down(value: float) -> str:
    """Render with 4 significant digits, rounded down."""
    return _round(value, math.floor)


def _round(value: float, direction: Any) -> str:
    if not math.isfinite(value) or value <= 0:
        return f"{value:g}"
    scale = 10.0 ** (3 - math.floor(math.log10(value)))
    return f"{direction(value * scale) / scale:.10g}"

"""Why a workload is where it is: what binds it there, what neighbours add, and what other places would do.

Every number comes from the formulas that judge plans: `predict_many` with the plan's margin, and the latencies and
limits of its SLO rule. Batches and shares are tried exhaustively, but one change at a time.
"""

import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import Caution, InputError
from igniter_opt.base.files import StrPath
from igniter_opt.base.schema import one_of
from igniter_opt.data.gpu_type import PRICE_DECIMALS
from igniter_opt.data.plan import Placement, Plan, PlanGpu, as_plan
from igniter_opt.explanation import (
    SAFE_LIMITS,
    Alternative,
    ChangeKind,
    Explanation,
    NeighbourEffect,
    PlacementExplanation,
    Shortfall,
)
from igniter_opt.fitting.judging import judging_coefficients
from igniter_opt.physics.interference import is_monotone, predict_many
from igniter_opt.slo.rule import TOLERANCE, Replicas
from igniter_opt.slo.rules import rule_of
from igniter_opt.verify import PlacementCheck, verify_busy

# Of other GPUs with room, so many are tried, those with the most room first.
MOST_GPUS_TRIED = 20
# Any latency that has a bound is nearer to holding than one that has none.
_WITHOUT_BOUND = 1e6
# In percent, far less than any card's step.
_SAME_SHARE = 1e-6


def explain(
    plan: Plan | StrPath, workload: str | None = None, *, on_progress: Callable[[int, int], object] | None = None
) -> Explanation:
    """Explain a plan's placements, or those of one workload.

    Parameters
    ----------
    plan
        A plan, or the path of one. It need not hold, but every placement must be one that can be predicted.
    workload
        A workload's name, or ``name#2`` for its second replica alone; all of them by default.
    on_progress
        Called after every placement with the number of those explained and of all.

    Raises
    ------
    InputError
        The plan has no such workload, or placements that cannot be predicted.
    """
    plan = as_plan(plan)
    plan.instance.require_shared("explain")
    placed = dict.fromkeys(placement.workload for gpu in plan.gpus for placement in gpu.placements)
    replicas = {
        f"{placement.workload}#{placement.replica}" for gpu in plan.gpus for placement in gpu.placements
    } - placed.keys()
    if workload is not None and workload not in replicas:
        one_of(workload, placed, "the plan has no workload", "its workloads")
    if plan.neighbours is not None and plan.neighbours.simulated:
        text = "explain takes neighbours to be busy all the time; beside them as they are, `verify` says what holds"
        warnings.warn(text, Caution, stacklevel=2)
    checks = verify_busy(plan)
    unpredictable = [check for check in checks.placements if np.isnan(check.limit_ms)]
    if unpredictable:
        first = checks.violations[0]
        raise InputError(f"the plan cannot be explained: {first.where}: {first.message}; `verify` says all")
    judged = {(check.gpu, check.workload, check.replica): check for check in checks.placements}
    study = _Study(plan)
    wanted = [
        (gpu, position, judged[gpu.name, placement.workload, placement.replica])
        for gpu in plan.gpus
        for position, placement in enumerate(gpu.placements)
        if workload in (None, placement.workload)
        or (workload in replicas and workload == f"{placement.workload}#{placement.replica}")
    ]
    explained = []
    for place in wanted:
        explained.append(study.explained(*place))
        if on_progress is not None:
            on_progress(len(explained), len(wanted))
    return Explanation(
        instance=plan.instance.name,
        method=plan.solver.method,
        status=plan.solver.status,
        rule=plan.instance.slo_rule,
        latency_name=study.rule.latency_name,
        margin=plan.solver.margin,
        currency=plan.instance.currency,
        placements=tuple(explained),
    )


class _Judged(NamedTuple):
    """Rows of placements side by side, judged with the plan's margin; arrays of shape (rows, slots)."""

    latency: FloatArray
    limit: FloatArray
    throughput: FloatArray
    needed: FloatArray
    memory: FloatArray
    most_memory: float

    @property
    def holds(self) -> npt.NDArray[np.bool_]:
        """Which rows hold."""
        each = (self.latency <= self.limit * (1 + TOLERANCE)) & (self.throughput >= self.needed * (1 - TOLERANCE))
        return np.asarray(each.all(axis=1) & (self.memory <= self.most_memory * (1 + TOLERANCE)))

    @property
    def used(self) -> FloatArray:
        """How much of what is allowed every row uses, of whatever it uses most; above 1 it misses."""
        with np.errstate(divide="ignore", invalid="ignore"):
            short = (self.needed / self.throughput).max(axis=1)
            # Where filling a batch takes longer than the SLO there is no limit that a latency could keep.
            late = np.where(self.limit > 0, self.latency / self.limit, np.inf).max(axis=1)
        # Where latencies have no bound, rates say how far from holding a row is.
        worst = np.maximum(short, np.where(np.isfinite(late), late, _WITHOUT_BOUND * short))
        return np.asarray(np.maximum(worst, self.memory / self.most_memory))

    def shortfalls(self, row: int, names: Sequence[str]) -> tuple[Shortfall, ...]:
        """Say what a row misses."""
        found = []
        for slot, name in enumerate(names):
            latency, limit = float(self.latency[row, slot]), float(self.limit[row, slot])
            throughput, needed = float(self.throughput[row, slot]), float(self.needed[row, slot])
            if not latency <= limit * (1 + TOLERANCE):
                found.append(Shortfall("latency", name, latency, limit))
            if not throughput >= needed * (1 - TOLERANCE):
                found.append(Shortfall("throughput", name, throughput, needed))
        if self.memory[row] > self.most_memory * (1 + TOLERANCE):
            found.append(Shortfall("memory", None, float(self.memory[row]), self.most_memory))
        return tuple(found)


class _Elsewhere(NamedTuple):
    """What other GPUs of the plan would do; how many could not even empty, are too full, or were not tried."""

    tried: list[Alternative]
    unable: int
    full: int
    unexamined: int


class _Study:
    def __init__(self, plan: Plan) -> None:
        self.plan, self.margin = plan, plan.solver.margin
        self.rule = rule_of(plan.instance)
        solver = plan.solver
        least = solver.total_share_lower_bound_percent
        # With a smaller share the plan would have less than is proven to be least, at the same cost: so that share is
        # not within the limits that the proof is about.
        self.proven_within_limits = (
            not self.rule.exact_limits
            and solver.status == "optimal"
            and least is not None
            and least > solver.total_share_percent - _SAME_SHARE
        )
        self.types = {gpu.name: gpu for gpu in plan.instance.gpu_types}
        self.coefficients = {
            name: judging_coefficients(gpu.mps_profile, self.margin, plan.solver.confidence)
            for name, gpu in self.types.items()
        }
        used = dict.fromkeys(workload.model for workload in plan.instance.workloads)
        self.monotone = {
            name: is_monotone(known, [model for model in used if model in known.models])
            for name, known in self.coefficients.items()
        }
        self._alone: dict[tuple[Hashable, ...], Alternative] = {}
        self.demands = {workload.name: plan.instance.demand_of(workload) for workload in plan.instance.workloads}
        self.slos = {workload.name: workload.slo_ms for workload in plan.instance.workloads}
        self.numbers = {workload.name: number for number, workload in enumerate(plan.instance.workloads)}

    # ---- one placement ------------------------------------------------------------------------------

    def explained(self, gpu: PlanGpu, position: int, check: PlacementCheck) -> PlacementExplanation:
        """Explain one placement."""
        own, others = gpu.placements[position], [*gpu.placements[:position], *gpu.placements[position + 1 :]]
        hardware = self.coefficients[gpu.type].hardware
        unit = hardware.share_unit_percent
        batches = self._batches(gpu.type, own)
        same_share = self._judge(gpu.type, others, own, batches, np.full(len(batches), own.share_percent))
        here = self._judge(gpu.type, others, own, [own.batch], [own.share_percent])
        now = float(here.latency[0, -1])
        alone = float(self._judge(gpu.type, [], own, [own.batch], [own.share_percent]).latency[0, 0])
        smaller = self._smaller_share(gpu, others, own)
        elsewhere = self._other_gpus(gpu, own)
        by_type = [
            replace(entry, none_left=self._none_left(entry.place, gpu))
            for entry in (self._alone_on(name, own) for name in self.types)
        ]
        return PlacementExplanation(
            gpu=gpu.name,
            type=gpu.type,
            workload=_named(own),
            model=own.model,
            batch=own.batch,
            share_percent=own.share_percent,
            share_unit_percent=unit,
            rate_rps=own.rate_rps,
            slo_ms=self.slos[own.workload],
            latency_ms=check.latency_ms,
            latency_with_margin_ms=now,
            limit_ms=check.limit_ms,
            alone_ms=alone,
            predicted_throughput_rps=check.throughput_rps,
            throughput_rps=float(here.throughput[0, -1]),
            holds=check.ok,
            binds=self._binding(smaller),
            batches=tuple(int(b) for b, holds in zip(batches, same_share.holds, strict=True) if holds),
            neighbours=self._neighbours(gpu.type, others, own, now),
            alternatives=(
                *smaller,
                *(
                    self._with_batch(gpu, others, own, batch)
                    for batch in (own.batch - 1, own.batch + 1)
                    if batch in batches
                ),
                *elsewhere.tried,
                *by_type,
            ),
            unable_gpus=elsewhere.unable,
            full_gpus=elsewhere.full,
            unexamined_gpus=elsewhere.unexamined,
            elsewhere_per_hour=self._elsewhere_per_hour(gpu, elsewhere, by_type),
        )

    def _neighbours(
        self, gpu_type: str, others: list[Placement], own: Placement, now: float
    ) -> tuple[NeighbourEffect, ...]:
        """What each neighbour adds to the latency of a placement."""
        found = []
        for position, other in enumerate(others):
            rest = [*others[:position], *others[position + 1 :]]
            without = float(self._judge(gpu_type, rest, own, [own.batch], [own.share_percent]).latency[0, -1])
            found.append(NeighbourEffect(_named(other), other.model, now - without))
        return tuple(found)

    def _with_batch(self, gpu: PlanGpu, others: list[Placement], own: Placement, batch: int) -> Alternative:
        """Try another batch at the same share."""
        found = self._judge(gpu.type, others, own, [batch], [own.share_percent])
        missing = found.shortfalls(0, [_named(entry) for entry in (*others, own)])
        return Alternative("batch", gpu.name, batch, own.share_percent, holds=bool(found.holds[0]), shortfalls=missing)

    def _smaller_share(self, gpu: PlanGpu, others: list[Placement], own: Placement) -> list[Alternative]:
        """Try the next smaller share with every batch; nothing where the card grants none."""
        hardware = self.coefficients[gpu.type].hardware
        level = round(own.share_percent / hardware.share_unit_percent) - 1
        if level < hardware.least_level:
            return []
        shares = hardware.shares()[[level - 1]]
        return [self._best("share", gpu.name, gpu.type, others, own, shares)]

    def _other_gpus(self, gpu: PlanGpu, own: Placement) -> _Elsewhere:
        """Try the other GPUs of the plan, at every batch and free share, those with the most room first."""
        roomy, unable, full = [], 0, 0
        alone = {name: self._alone_on(name, own) for name in self.types}
        for other in self.plan.gpus:
            if other.name == gpu.name:
                continue
            hardware, least = self.coefficients[other.type].hardware, alone[other.type]
            free = 100.0 - other.total_share_percent
            levels = max(0, int(free / hardware.share_unit_percent + 1e-6))
            shares = hardware.shares()[hardware.least_level - 1 : levels]
            if self.monotone[other.type]:
                # Neighbours never help: what does not hold alone does not hold beside them.
                shares = shares[shares >= (least.share_percent or 0.0) - 1e-9]
            if least.batch is None or (self.monotone[other.type] and not least.holds):
                unable += 1
            elif shares.size == 0:
                full += 1
            else:
                roomy.append((free, other, shares))
        roomy.sort(key=lambda entry: -entry[0])
        tried = [
            self._best("gpu", other.name, other.type, list(other.placements), own, shares)
            for _, other, shares in roomy[:MOST_GPUS_TRIED]
        ]
        return _Elsewhere(tried, unable, full, max(0, len(roomy) - len(tried)))

    def _elsewhere_per_hour(self, gpu: PlanGpu, elsewhere: _Elsewhere, by_type: list[Alternative]) -> float | None:
        """Return the least that the plan would cost more with a placement elsewhere; its GPU goes if it is alone."""
        freed = len(gpu.placements) == 1
        saved = self.types[gpu.type].price_per_hour if freed else 0.0
        costs = [0.0] * any(entry.holds for entry in elsewhere.tried)
        for entry in by_type:
            if entry.holds and not entry.none_left:
                costs.append(self.types[entry.place].price_per_hour)
        return round(min(costs) - saved, PRICE_DECIMALS) if costs else None

    def _none_left(self, name: str, gpu: PlanGpu) -> bool:
        """Whether there is no further GPU of a type, nor that of a placement which would leave it empty."""
        count = self.types[name].count
        freed = len(gpu.placements) == 1 and gpu.type == name
        return count is not None and sum(other.type == name for other in self.plan.gpus) - freed >= count

    def _binding(self, smaller: list[Alternative]) -> tuple[str, ...]:
        """What the next smaller share would break; nothing where it holds."""
        if not smaller:
            return ("least share",)
        if self.proven_within_limits and all(entry.holds for entry in smaller):
            return (SAFE_LIMITS,)
        return tuple(dict.fromkeys(entry.kind for alternative in smaller for entry in alternative.shortfalls))

    def _alone_on(self, name: str, own: Placement) -> Alternative:
        """Try an empty GPU of a type, at every batch and share."""
        coefficients, gpu_type = self.coefficients[name], self.types[name]
        if own.model not in coefficients.models:
            return Alternative("type", name, None, None, holds=False, shortfalls=(Shortfall("model", None, 0.0, 0.0),))
        key = (name, own.rate_rps, self.demands[own.workload])
        if key not in self._alone:
            self._alone[key] = self._best("type", name, name, [], own, coefficients.hardware.granted_shares())
        found = self._alone[key]
        shortfalls = tuple(
            entry if entry.workload is None else replace(entry, workload=_named(own)) for entry in found.shortfalls
        )
        price = round(gpu_type.price_per_hour * (found.share_percent or 0.0) / 100.0, PRICE_DECIMALS)
        return replace(found, shortfalls=shortfalls, price_per_hour=price if found.holds else None)

    # ---- candidates ---------------------------------------------------------------------------------

    def _batches(self, gpu_type: str, own: Placement) -> range:
        return range(1, self.coefficients[gpu_type].models[own.model].max_batch + 1)

    def _best(
        self, kind: ChangeKind, place: str, gpu_type: str, others: list[Placement], own: Placement, shares: FloatArray
    ) -> Alternative:
        """Return the candidate that holds at the least share (of several the roomiest), else one that misses by least.

        Candidates are judged by rising share until one holds, so all are where none does.
        """
        batches = np.array(self._batches(gpu_type, own))
        names = [_named(entry) for entry in (*others, own)]
        missing: tuple[float, int, float] | None = None
        for share in shares.tolist():
            found = self._judge(gpu_type, others, own, batches, np.full(len(batches), share))
            used, holds = found.used, found.holds
            row = int(np.argmin(np.where(holds, used, np.inf) if holds.any() else used))
            if holds.any():
                return Alternative(kind, place, int(batches[row]), share, holds=True)
            if missing is None or used[row] < missing[0]:
                missing = float(used[row]), int(batches[row]), share
        assert missing is not None  # noqa: S101 (there is a share at least)
        _, batch, share = missing
        shown = self._judge(gpu_type, others, own, [batch], [share])
        return Alternative(kind, place, batch, share, holds=False, shortfalls=shown.shortfalls(0, names))

    def _judge(
        self, gpu_type: str, others: list[Placement], own: Placement, batches: npt.ArrayLike, shares: npt.ArrayLike
    ) -> _Judged:
        """Judge a placement at some batches and shares (the last slot of each row) beside others as they are."""
        coefficients, gpu = self.coefficients[gpu_type], self.types[gpu_type]
        members = [*others, own]
        shape = (np.size(batches), len(members))
        model = np.broadcast_to([coefficients.index(entry.model) for entry in members], shape)
        whose = np.broadcast_to([self.numbers[entry.workload] for entry in members], shape)
        rate = np.broadcast_to([entry.rate_rps for entry in members], shape)
        slo = np.broadcast_to([self.slos[entry.workload] for entry in members], shape)
        batch = np.tile([float(entry.batch) for entry in members], (shape[0], 1))
        share = np.tile([entry.share_percent for entry in members], (shape[0], 1))
        batch[:, -1], share[:, -1] = batches, shares
        predicted = predict_many(coefficients, model, batch, share, self.margin)
        needed = rate / self.rule.most_utilisation
        # Queues are dear, and of a row that falls short of a rate nothing else matters unless it is shown.
        judged = np.asarray((predicted.throughput_rps >= needed * (1 - TOLERANCE)).all(axis=1))
        if not self.rule.has_percentile or shape[0] == 1:
            judged[:] = True
        latency = np.full(shape, np.inf)
        rows = Replicas(model[judged], batch[judged].astype(int), share[judged], rate[judged], whose[judged])
        latency[judged] = self.rule.latencies_ms(coefficients, rows, predicted.latency_ms[judged], self.margin)
        known = [coefficients.models[entry.model] for entry in members]
        fixed = sum(entry.memory_fixed_mib for entry in known)
        return _Judged(
            latency=latency,
            limit=np.broadcast_to(self.rule.latency_limit_ms(slo, rate, batch), shape),
            throughput=predicted.throughput_rps,
            needed=needed,
            memory=fixed + batch @ np.array([entry.memory_per_item_mib for entry in known]),
            most_memory=np.inf if gpu.memory_limit_mib is None else gpu.memory_limit_mib,
        )


def _named(placement: Placement) -> str:
    return placement.workload if placement.replica == 1 else f"{placement.workload}#{placement.replica}"

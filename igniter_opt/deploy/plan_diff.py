"""What differs between two plans: workloads, placements, GPUs and price."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import Any

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath
from igniter_opt.base.text import rounded
from igniter_opt.data.gpu_type import PRICE_DECIMALS, GpuType
from igniter_opt.data.instance import Workload
from igniter_opt.data.plan import Plan, as_plan
from igniter_opt.deploy.differences import (
    FieldChange,
    Mark,
    PlacementDifference,
    ServedPlacement,
    changed_fields,
    counts,
    successors,
)
from igniter_opt.deploy.matching import match_plans, served_by_gpu
from igniter_opt.deploy.plan_cost import PlanCost, plan_cost

# Costs are sums of prices with at most six decimals.
_SAME_COST = 1e-9


@dataclass(frozen=True)
class WorkloadDifference:
    """A workload that is new, gone, or asks for something else than before."""

    workload: str
    mark: Mark
    changes: tuple[FieldChange, ...]


@dataclass(frozen=True)
class GpuTypeDifference:
    """A GPU type on offer that is new, gone, or has another price, count, memory or profile than before."""

    gpu_type: str
    mark: Mark
    changes: tuple[FieldChange, ...]


@dataclass(frozen=True)
class PlanDiff:
    """The differences between two plans.

    Attributes
    ----------
    settings
        SLO rule, percentile, coefficients and margin, where they differ.
    gpu_types
        Those on offer that differ, in the order of their names, whether plans use them or not.
    workloads
        Those that differ, in the order of their names.
    placements
        All of them, also those that stay.
    old_cost, new_cost
        What the GPUs cost by each plan's own prices.
    old_cost_at_new_prices
        What the old plan's GPUs cost by the new plan's prices, types that it does not offer by the old ones; None
        where the currencies differ.
    gpu_names
        What GPUs of the new plan are called in `placements`: as the GPUs of the old plan that they are.
    """

    settings: tuple[FieldChange, ...]
    gpu_types: tuple[GpuTypeDifference, ...]
    workloads: tuple[WorkloadDifference, ...]
    placements: tuple[PlacementDifference, ...]
    old_cost: PlanCost
    new_cost: PlanCost
    old_cost_at_new_prices: PlanCost | None
    gpu_names: dict[str, str]

    @property
    def same(self) -> bool:
        """Whether nothing differs of what is compared; proofs, predictions and names of GPUs are not."""
        alike = all(entry.mark == "keep" and not entry.changes for entry in self.placements)
        asked = self.settings or self.gpu_types or self.workloads
        return alike and not asked and self.old_cost == self.new_cost

    @property
    def repriced(self) -> bool:
        """Whether the old plan's GPUs cost something else by the new plan's prices."""
        now = self.old_cost_at_new_prices
        return now is not None and abs(now.cost_per_hour - self.old_cost.cost_per_hour) > _SAME_COST

    @property
    def dearer(self) -> bool:
        """Whether the new plan costs more than the old one does by the new plan's prices.

        A price list that changed makes no plan dearer or cheaper than another.

        Raises
        ------
        InputError
            Their prices are in different currencies.
        """
        if self.old_cost_at_new_prices is None:
            raise InputError(
                f"the old plan's prices are in {self.old_cost.currency}, the new one's in {self.new_cost.currency};"
                " give both instances one currency to compare costs"
            )
        return self.new_cost.cost_per_hour > self.old_cost_at_new_prices.cost_per_hour + _SAME_COST

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data (the form of ``diff --json``)."""
        return {
            "same": self.same,
            "counts": counts(self.placements),
            **cost_to_dict(self.old_cost, self.new_cost),
            "old_cost_at_new_prices": None
            if self.old_cost_at_new_prices is None
            else self.old_cost_at_new_prices.cost_per_hour,
            "gpu_names": self.gpu_names,
            "settings": [asdict(change) for change in self.settings],
            "gpu_types": [asdict(entry) for entry in self.gpu_types],
            "workloads": [asdict(entry) for entry in self.workloads],
            "placements": [entry.to_dict() for entry in self.placements],
        }


def cost_to_dict(old: PlanCost | None, new: PlanCost) -> dict[str, Any]:
    """Return costs and numbers of GPUs by type as plain data; None where the old ones are not known."""
    types = sorted({*({} if old is None else old.gpus), *new.gpus})
    return {
        "cost_per_hour": {"old": None if old is None else old.cost_per_hour, "new": new.cost_per_hour},
        "currency": {"old": None if old is None else old.currency, "new": new.currency},
        "gpus": {
            name: {"old": None if old is None else old.gpus.get(name, 0), "new": new.gpus.get(name, 0)}
            for name in types
        },
    }


def diff_plans(old: Plan | StrPath, new: Plan | StrPath) -> PlanDiff:
    """Compare two plans, or the plans at two paths; whether they hold is another question (`verify`).

    GPUs of the new plan are those of the old one with which most placements stay as they are, as `deploy` matches them.

    Raises
    ------
    InputError
        A file is no plan, or a plan names GPU types or workloads that its instance does not have.
    """
    old, new = as_plan(old), as_plan(new)
    old_cost, new_cost = plan_cost(old), plan_cost(new)
    names = _gpu_names(old, new)
    return PlanDiff(
        settings=tuple(_settings(old, new)),
        gpu_types=tuple(_gpu_types(old, new)),
        workloads=tuple(_workloads(old, new)),
        placements=tuple(_placements(old, new, names)),
        old_cost=old_cost,
        new_cost=new_cost,
        old_cost_at_new_prices=plan_cost(old, prices_of=new) if old_cost.currency == new_cost.currency else None,
        gpu_names=names,
    )


def _settings(old: Plan, new: Plan) -> Iterator[FieldChange]:
    one, other = old.instance, new.instance
    yield from changed_fields([("SLO rule", one.slo_rule, other.slo_rule)])
    if one.percentile != other.percentile:
        yield FieldChange("percentile", _optional(one.percentile), _optional(other.percentile))
    yield from changed_fields([("coefficients", one.coefficients, other.coefficients)])
    yield from changed_fields([("margin", old.solver.margin, new.solver.margin)], _number)
    if one.split != other.split:
        yield FieldChange("split", one.split or "random", other.split or "random")
    if one.headroom_words != other.headroom_words:
        yield FieldChange("headroom", one.headroom_words, other.headroom_words)


def _gpu_types(old: Plan, new: Plan) -> Iterator[GpuTypeDifference]:
    before, after = ({gpu.name: gpu for gpu in plan.instance.gpu_types} for plan in (old, new))
    for name in sorted({*before, *after}):
        changes = tuple(_offered(before.get(name), after.get(name)))
        if changes:
            mark: Mark = "start" if name not in before else "stop" if name not in after else "change"
            yield GpuTypeDifference(name, mark, changes)


def _offered(old: GpuType | None, new: GpuType | None) -> Iterator[FieldChange]:
    """Yield what changes of a type's offer; coefficients are among the settings."""
    one, other = (_offer(gpu) for gpu in (old, new))
    for what, before, after in zip(("price", "count", "memory", "profile"), one, other, strict=True):
        if before != after:
            yield FieldChange(what, before, after)


def _offer(gpu: GpuType | None) -> tuple[str | None, ...]:
    if gpu is None:
        return None, None, None, None
    # A name says which profile is meant, but not whether it was measured anew.
    content = gpu.profile.model_dump_json(exclude={"coefficients"})
    return (
        rounded(gpu.price_per_hour, PRICE_DECIMALS),
        "unlimited" if gpu.count is None else str(gpu.count),
        None if gpu.memory_mib is None else f"{_number(gpu.memory_mib)} MiB",
        f"{gpu.profile.name} ({gpu.card}, SHA-256 {hashlib.sha256(content.encode()).hexdigest()[:8]})",
    )


def _workloads(old: Plan, new: Plan) -> Iterator[WorkloadDifference]:
    before, after = (
        {workload.name: (workload, replicas[workload.name]) for workload in plan.instance.workloads}
        for plan, replicas in ((old, _replicas(old)), (new, _replicas(new)))
    )
    for name in sorted({*before, *after}):
        if name not in before:
            yield WorkloadDifference(name, "start", tuple(_asked(None, after[name])))
        elif name not in after:
            yield WorkloadDifference(name, "stop", tuple(_asked(before[name], None)))
        elif changes := tuple(_asked(before[name], after[name])):
            yield WorkloadDifference(name, "change", changes)


def _replicas(plan: Plan) -> Counter[str]:
    return Counter(placement.workload for gpu in plan.gpus for placement in gpu.placements)


def _asked(old: tuple[Workload, int] | None, new: tuple[Workload, int] | None) -> Iterator[FieldChange]:
    """Yield what changes of what a workload asks for, and of its number of replicas."""
    one, other = (
        (None, None, None, None)
        if entry is None
        else (
            entry[0].model,
            f"{_number(entry[0].slo_ms)} ms",
            f"{_number(entry[0].rate_rps)} req/s",
            str(entry[1]),
        )
        for entry in (old, new)
    )
    for what, before, after in zip(("model", "SLO", "rate", "replicas"), one, other, strict=True):
        if before != after:
            yield FieldChange(what, before, after)


def _number(value: float) -> str:
    return f"{value:.10g}"


def _optional(value: float | None) -> str | None:
    return None if value is None else _number(value)


def _gpu_names(old: Plan, new: Plan) -> dict[str, str]:
    """Return how every GPU of the new plan is called: as in the old one, or if it is not there, as nothing else is."""
    known = match_plans(old, new)
    taken = {gpu.name for gpu in old.gpus}
    names = {}
    for gpu in new.gpus:
        name = known.get(gpu.name)
        if name is None:
            free = (f"{gpu.type}-{k}" for k in count(1))
            name = gpu.name if gpu.name not in taken else next(other for other in free if other not in taken)
            taken.add(name)
        names[gpu.name] = name
    return names


def _placements(old: Plan, new: Plan, names: Mapping[str, str]) -> Iterator[PlacementDifference]:
    """Yield what becomes of every placement: those of the new plan in its order, then those that go."""
    before = [entry for entries in served_by_gpu(old) for entry in entries]
    after = [
        replace(entry, gpu=names[entry.gpu], place=names[entry.gpu])
        for entries in served_by_gpu(new)
        for entry in entries
    ]
    kept = _kept(before, after)
    staying = set(kept.values())
    old_left = [k for k in range(len(before)) if k not in staying]
    new_left = [k for k in range(len(after)) if k not in kept]
    pairs = successors([before[k] for k in old_left], [after[k] for k in new_left])
    changed = {new_left[position]: old_left[k] for k, position in pairs}
    for position, entry in enumerate(after):
        if position in kept:
            yield PlacementDifference("keep", before[kept[position]], entry)
        elif position in changed:
            yield PlacementDifference("change", before[changed[position]], entry)
        else:
            yield PlacementDifference("start", None, entry)
    replaced = set(changed.values())
    for position in old_left:
        if position not in replaced:
            yield PlacementDifference("stop", before[position], None)


def _kept(before: list[ServedPlacement], after: list[ServedPlacement]) -> dict[int, int]:
    """Return placements of the new plan, by position, with those of the old one that serve as they are."""
    at: dict[object, list[int]] = {}
    for position, entry in enumerate(before):
        at.setdefault((entry.place, entry.settings), []).append(position)
    kept = {}
    for position, entry in enumerate(after):
        left = at.get((entry.place, entry.settings), [])
        if left:
            best = min(left, key=lambda k: (before[k].rate_rps != entry.rate_rps, before[k].replica != entry.replica))
            left.remove(best)
            kept[position] = best
    return kept

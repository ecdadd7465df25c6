"""Which share, or which GPU, a placement gets next; all judged by `verify`, the observed errors as margins.

Where a server's batches take a factor f of what is predicted, the placement is judged with the margin f - 1 (or the
plan's, if that is larger), its neighbours each with their own. So the next share is not a blind step: it is the least
one, at least `step` points above the present one, at which the placement holds on paper, errors and all, and so does
every neighbour that holds at present. (One that does not is to be repaired itself, and must not keep others from it.)

A cheap plan leaves its placements little: more share for one soon takes another over the plan's margin. If no GPU has
such a share, neighbours are judged by what is observed of them: the plan's margin is for errors that are not known, and
these are, while an SLO is broken. If that leaves none either, any larger share is looked for, in the same order.

Back at the plan's own share, a placement holds at the load observed if it holds with the largest batch that forms at
that load. The batcher waits for a batch to fill for d at most; requests that come at a constant rate λ thus form
batches of k = min(b, 1 + floor(λ d)), wait for d at most and then take the time of a batch of k: the rule's promise
holds if that time, with the margin, is at most SLO - d, and k requests per that time are at least λ. (Rule `p99` has no
delay, and the analysis of its queue holds for any rate and all batches up to b.) So that it is not at the edge, where
it would soon be repaired again, the load is taken to be a tenth more than observed (but no more than planned, unless it
is), and batches that take longer than planned a tenth longer than observed.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.plan import Placement, Plan, PlanGpu
from igniter_opt.fitting.judging import model_margin
from igniter_opt.slo.batcher import queue_delay_us
from igniter_opt.slo.rules import rule_of
from igniter_opt.verify import Verification, verify

Key = tuple[str, int]  # workload and replica
DEFAULT_STEP_PERCENT = 10.0
HEADROOM = 1.1
# Kinds of violations that say that a GPU does not carry its placements, or that nobody can tell; others are about the
# plan as a whole, or about what it claims.
_KINDS = ("latency", "throughput", "share", "memory", "model", "batch", "profile")
_GUARD = 1e-9
# What is relatively that much more is another level.
_MORE = 1e-6


@dataclass(frozen=True)
class Choice:
    """A GPU of the plan and a share in percent for a placement, and why it is this one."""

    gpu: str
    share_percent: float
    why: str


def placement_of(plan: Plan, key: Key) -> tuple[PlanGpu, Placement]:
    """Return a placement and its GPU."""
    return next(
        (gpu, placement)
        for gpu in plan.gpus
        for placement in gpu.placements
        if (placement.workload, placement.replica) == key
    )


def with_place(plan: Plan, key: Key, gpu: str, share_percent: float) -> Plan:
    """Return the plan with a placement at another share, or on another of its GPUs.

    A GPU that nothing is left on stays in the plan without placements. What the plan claims of latencies and shares is
    that of the original.
    """
    moved = placement_of(plan, key)[1].model_copy(update={"share_percent": share_percent})
    gpus = []
    for entry in plan.gpus:
        kept = [p for p in entry.placements if (p.workload, p.replica) != key]
        position = next((k for k, p in enumerate(entry.placements) if (p.workload, p.replica) == key), len(kept))
        if entry.name == gpu:
            kept.insert(position, moved)
        gpus.append(entry.model_copy(update={"placements": tuple(kept)}))
    return plan.model_copy(update={"gpus": tuple(gpus)})


def repair(
    plan: Plan,
    key: Key,
    margins: Mapping[Key, float],
    step_percent: float = DEFAULT_STEP_PERCENT,
    rate_rps: float = 0.0,
) -> Choice | None:
    """Return what a placement gets when its latencies are too long; None if no GPU of the plan has it to give.

    On its own GPU if possible, else on the one with most share left; but what leaves neighbours the plan's margin comes
    first, and a whole step before all else. Old and new server run side by side for a moment, and need memory for both.

    Parameters
    ----------
    plan
        As it runs now.
    margins
        Observed errors, by placement; the plan's margin for others.
    rate_rps
        Observed rate of the placement; what is planned for it counts if that is more.
    """
    home, placement = placement_of(plan, key)
    plan = _with_load(plan, key, placement.batch, max(placement.rate_rps, rate_rps))
    others = [gpu for gpu in plan.gpus if gpu.name != home.name]
    others.sort(key=lambda gpu: gpu.total_share_percent)
    able = [gpu for gpu in (home, *others) if _fits_beside_itself(plan, key, gpu.name)]
    cautious = _with_plans(plan, margins)
    observed = {other: max(0.0, margin) for other, margin in margins.items()} | {
        key: cautious.get(key, _margin_of(plan, key))
    }
    # By the step first, for what was observed of a server that falls behind may be too little.
    for least in (placement.share_percent + step_percent, placement.share_percent * (1.0 + _MORE)):
        for judged, how in ((cautious, ""), (observed, " with the errors observed")):
            for gpu in able:
                broken = _broken(plan, gpu.name, judged) - {_name(gpu.name, key)}
                for share in _levels(plan, gpu, key, least):
                    if _broken(with_place(plan, key, gpu.name, share), gpu.name, judged) <= broken:
                        where = "" if gpu.name == home.name else f"; {home.name} has no such share left"
                        return Choice(gpu.name, share, f"the least share that holds on paper{how}{where}")
    return None


def returns(
    plan: Plan, key: Key, gpu: str, share_percent: float, rate_rps: float, margins: Mapping[Key, float]
) -> bool:
    """Whether a placement would hold at the share that it is planned for (on `gpu`), at the load observed.

    Parameters
    ----------
    plan
        As it runs now.
    rate_rps
        Observed rate of the placement.
    """
    margins = _with_plans(plan, margins)
    home, placement = placement_of(plan, key)
    if home.name != gpu and not _fits_beside_itself(plan, key, gpu):
        return False
    rate = max(rate_rps, min(placement.rate_rps, HEADROOM * rate_rps))
    if rate <= 0.0:
        return False  # nothing was observed
    delay_s = queue_delay_us(plan, placement) / 1e6
    slo_ms = next(workload.slo_ms for workload in plan.instance.workloads if workload.name == key[0])
    batch, left_ms = rule_of(plan.instance).at_load(slo_ms, rate, placement.batch, delay_s)
    moved = with_place(plan, key, gpu, share_percent)
    # The neighbours, and shares and memory, are judged beside full batches.
    beside = _judged(moved, gpu, margins)
    if not _faults(beside, gpu) <= _broken(plan, gpu, margins) | {_name(gpu, key)}:
        return False
    margin = margins.get(key, 0.0)
    cautious = {**margins, key: HEADROOM * (1.0 + margin) - 1.0} if margin > _margin_of(plan, key) else margins
    lighter = _judged(_with_load(moved, key, batch, rate), gpu, cautious)
    check = next(entry for entry in lighter.placements if (entry.workload, entry.replica) == key)
    inflated_ms = check.limit_ms - check.slack_ms
    return check.ok and inflated_ms <= left_ms * (1.0 + _GUARD)


def variants(plan: Plan, key: Key) -> Iterator[Plan]:
    """Return the plan with a placement at every share and GPU that a guard may give it while all else is as planned."""
    for gpu in plan.gpus:
        for share in _levels(plan, gpu, key, 0.0):
            moved = with_place(plan, key, gpu.name, share)
            yield moved.model_copy(update={"gpus": tuple(entry for entry in moved.gpus if entry.placements)})


def _with_load(plan: Plan, key: Key, batch: int, rate_rps: float) -> Plan:
    def changed(placement: Placement) -> Placement:
        if (placement.workload, placement.replica) != key:
            return placement
        return placement.model_copy(update={"batch": batch, "rate_rps": rate_rps})

    gpus = [gpu.model_copy(update={"placements": tuple(map(changed, gpu.placements))}) for gpu in plan.gpus]
    return plan.model_copy(update={"gpus": tuple(gpus)})


def _levels(plan: Plan, gpu: PlanGpu, key: Key, least_percent: float) -> Iterator[float]:
    """Return the shares from `least_percent` up that a GPU has left for a placement, ascending."""
    hardware = _type_of(plan, gpu).mps_profile.hardware
    unit = hardware.share_unit_percent
    least_percent = max(least_percent, hardware.least_share_percent or unit)
    left = 100.0 - sum(p.share_percent for p in gpu.placements if (p.workload, p.replica) != key)
    level = math.ceil(least_percent / unit - _GUARD)
    while level * unit <= left * (1.0 + _GUARD):
        yield level * unit
        level += 1


def _type_of(plan: Plan, gpu: PlanGpu) -> GpuType:
    return next(entry for entry in plan.instance.gpu_types if entry.name == gpu.type)


def _with_plans(plan: Plan, margins: Mapping[Key, float]) -> dict[Key, float]:
    """Return the margins, no less than the plan's."""
    return {key: max(_margin_of(plan, key), margin) for key, margin in margins.items()}


def _margin_of(plan: Plan, key: Key) -> float:
    """Return the margin that a placement is planned with."""
    gpu, placement = placement_of(plan, key)
    profile, solver = _type_of(plan, gpu).mps_profile, plan.solver
    return model_margin(profile, placement.model, solver.margin, solver.confidence)


def _judged(plan: Plan, gpu: str, margins: Mapping[Key, float]) -> Verification:
    """Judge one GPU of a plan."""
    only = tuple(entry for entry in plan.gpus if entry.name == gpu)
    return verify(plan.model_copy(update={"gpus": only}), margins)


def _broken(plan: Plan, gpu: str, margins: Mapping[Key, float]) -> set[str]:
    """Return what does not hold on a GPU of a plan: placements, or the GPU itself."""
    return _faults(_judged(plan, gpu, margins), gpu)


def _faults(verification: Verification, gpu: str) -> set[str]:
    return {
        entry.where
        for entry in verification.violations
        if entry.kind in _KINDS and entry.where.partition("/")[0] == gpu
    }


def _name(gpu: str, key: Key) -> str:
    """Return what `verify` calls a placement."""
    return f"{gpu}/{key[0]}#{key[1]}"


def _fits_beside_itself(plan: Plan, key: Key, gpu: str) -> bool:
    """Whether a GPU has memory for a placement's new server besides all that runs there, the old one included."""
    placement = placement_of(plan, key)[1]
    both = tuple(
        entry.model_copy(update={"placements": (*entry.placements, placement)}) if entry.name == gpu else entry
        for entry in plan.gpus
    )
    found = _judged(plan.model_copy(update={"gpus": both}), gpu, {}).violations
    return not any(entry.kind == "memory" and entry.where == gpu for entry in found)

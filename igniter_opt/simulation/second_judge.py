"""The second judge: placements that do not hold beside ever busy neighbours may hold beside neighbours as they are.

`verify` asks it about plans that say so (`data.neighbours`). A GPU on which everything holds beside neighbours that run
full batches all the time is left to the predictor, for such neighbours slow most. (That is the rule's assumption, not
proven: by the fitted formulas smaller batches of some models use more cache than full ones, on the H100 by up to a half
more. `bench.neighbours` simulates such GPUs, too.) The placements of the other GPUs are served side by side, request by
request, and hold if no more of their requests are late than the rule allows, with `CONFIDENCE` for all of them together
(`lateness`). The sample is this judge's own: no search has seen it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from igniter_opt.base.text import counted
from igniter_opt.data.instance import Instance
from igniter_opt.data.plan import Plan, PlanGpu
from igniter_opt.fitting.judging import judging_coefficients, time_factors
from igniter_opt.simulation.gpu_sample import GpuSample, Tenant
from igniter_opt.simulation.lateness import RUNS, GpuVerdict, judge_gpu
from igniter_opt.slo.rules import rule_of
from igniter_opt.verify import PlacementCheck, Verification, Violation

# That all placements which are said to hold by simulation do.
CONFIDENCE = 0.99
# Samples for different purposes (`gpu_sample.GpuSample`).
JUDGING, SEARCHING, ACCEPTING = range(3)
_DOUBTFUL = ("latency", "throughput")
# What makes it impossible to serve a plan's requests, or to tell its GPUs apart.
_UNSERVABLE = ("gpu-type", "gpu-name", "profile", "workload", "model", "batch", "share", "rate")


def unsuitable(instance: Instance) -> str | None:
    """Say why no plan for an instance can be judged beside neighbours as they are, if so."""
    if not rule_of(instance).has_percentile:
        return (
            f"neighbours as they are can only be judged under a rule on a percentile; the rule is {instance.slo_rule}"
            " (p99 is one)"
        )
    recorded = [w.name for w in instance.workloads if instance.arrivals_of(w).kind == "trace"]
    if recorded:
        return (
            f"neighbours as they are take arrivals that can be drawn anew; those of {recorded[0]} are recorded"
            " (take gamma or mmpp with the recording's variation)"
        )
    return None


def tenants_of(plan: Plan, gpu: PlanGpu) -> list[Tenant]:
    """Return the placements of one of a plan's GPUs; what is not in the plan of a workload's rate is elsewhere."""
    number_of = {workload.name: number for number, workload in enumerate(plan.instance.workloads)}
    rates: dict[str, list[float]] = {placement.workload: [] for placement in gpu.placements}
    places: list[int] = []
    for each in plan.gpus:
        for placement in each.placements:
            if placement.workload in rates:
                if each is gpu:
                    places.append(len(rates[placement.workload]))
                rates[placement.workload].append(placement.rate_rps)
    for name, found in rates.items():
        rest = plan.instance.planned_workloads[number_of[name]].rate_rps - sum(found)
        if rest > 1e-9 * sum(found):
            found.append(rest)
    return [
        Tenant(
            number_of[placement.workload],
            place,
            tuple(rates[placement.workload]),
            placement.batch,
            placement.share_percent,
        )
        for placement, place in zip(gpu.placements, places, strict=True)
    ]


@dataclass(frozen=True)
class SecondJudgement:
    """Verdicts on the GPUs that were simulated, by name."""

    gpus: dict[str, GpuVerdict]

    @property
    def holds(self) -> bool:
        """Whether all placements hold."""
        return all(all(verdict.holds) for verdict in self.gpus.values())

    @property
    def most_late(self) -> float:
        """Largest part of any placement's requests that is late."""
        return max((float(verdict.late.mean.max()) for verdict in self.gpus.values()), default=0.0)

    @property
    def requests(self) -> int:
        """Largest number of requests of a GPU's slowest placement in a run."""
        return max((verdict.requests for verdict in self.gpus.values()), default=0)


def judge_gpus(
    plan: Plan,
    gpus: list[PlanGpu],
    sample: GpuSample,
    *,
    safety: float = 0.0,
    risk: float = 1.0 - CONFIDENCE,
    margins: Mapping[tuple[str, int], float] | None = None,
) -> SecondJudgement:
    """Judge some GPUs of a plan.

    Parameters
    ----------
    safety
        The part of the allowed late requests that must be left over.
    risk
        That anything is said to hold which does not.
    margins
        As in `verify`; the largest on a GPU counts for all that is there.
    """
    types = {gpu.name: gpu for gpu in plan.instance.gpu_types}
    placements = sum(len(gpu.placements) for gpu in gpus)
    allowed = (1.0 - plan.instance.required_percentile) * (1.0 - safety)
    found = {}
    for gpu in gpus:
        known, margin, confidence = types[gpu.type].mps_profile, plan.solver.margin, plan.solver.confidence
        factors = time_factors(known, margin, confidence)
        # What was observed is of what is predicted, not of what is longer by a model's factor.
        seen = {key: (1.0 + value) / (1.0 + margin) for key, value in (margins or {}).items()}
        longer = [seen.get((p.workload, p.replica), factors[p.model]) / factors[p.model] for p in gpu.placements]
        found[gpu.name] = judge_gpu(
            sample,
            judging_coefficients(known, margin, confidence),
            tenants_of(plan, gpu),
            allowed=allowed,
            risk=risk / placements,
            margin=margin if max(longer) == 1.0 else max(longer) * (1.0 + margin) - 1.0,
        )
    return SecondJudgement(found)


def doubtful_gpus(plan: Plan, first: Verification) -> list[PlanGpu]:
    """Return the GPUs on which something does not hold beside ever busy neighbours."""
    named = {entry.where.rpartition("/")[0] for entry in first.violations if entry.kind in _DOUBTFUL}
    return [gpu for gpu in plan.gpus if gpu.name in named]


def judged_beside(plan: Plan, first: Verification, margins: Mapping[tuple[str, int], float]) -> Verification:
    """Judge a plan whose neighbours are taken as they are, from what the predictor says of it."""
    why = unsuitable(plan.instance)
    if why is not None:
        return replace(first, violations=[*first.violations, Violation("neighbours", "solver", why)])
    if any(entry.kind in _UNSERVABLE and entry.where != "solver" for entry in first.violations):
        return first
    doubtful = doubtful_gpus(plan, first)
    judgement = judge_gpus(plan, doubtful, GpuSample(plan.instance, 0, JUDGING), margins=margins)
    kept = [entry for entry in first.violations if entry.kind not in _DOUBTFUL]
    checks = list(first.placements)
    position = {(check.gpu, check.workload, check.replica): k for k, check in enumerate(checks)}
    for gpu in doubtful:
        verdict = judgement.gpus[gpu.name]
        for k, placement in enumerate(gpu.placements):
            at = position[gpu.name, placement.workload, placement.replica]
            checks[at] = _checked(checks[at], verdict, k)
            if not verdict.holds[k]:
                where = f"{gpu.name}/{placement.workload}#{placement.replica}"
                kept.append(Violation("latency", where, _too_late(plan, verdict, k)))
    basis = "; ".join(text for text in (first.basis, _basis(plan, doubtful, judgement)) if text)
    return replace(first, violations=kept, placements=checks, basis=basis)


def _checked(check: PlacementCheck, verdict: GpuVerdict, k: int) -> PlacementCheck:
    latency = float(verdict.percentile_ms[k])
    return replace(check, latency_ms=latency, slack_ms=check.limit_ms - latency, ok=verdict.holds[k])


def _too_late(plan: Plan, verdict: GpuVerdict, k: int) -> str:
    allowed = 100.0 * (1.0 - plan.instance.required_percentile)
    if verdict.requests == 0:
        return "its GPU cannot be judged beside actual neighbours: one of them is too slow for a sample"
    low, mean, high = (100.0 * float(bound[k]) for bound in verdict.late)
    return (
        f"beside actual neighbours {mean:.3g} % of its requests are late by simulation (between {low:.3g} and"
        f" {high:.3g} %), and it is not certain that no more than {allowed:.3g} % are"
    )


def _basis(plan: Plan, doubtful: list[PlanGpu], judgement: SecondJudgement) -> str:
    if not doubtful:
        return "everything holds beside neighbours that are busy all the time"
    allowed = 100.0 * (1.0 - plan.instance.required_percentile)
    told = (
        f"with {100.0 * CONFIDENCE:g} % confidence no more than {allowed:.3g} % of any placement's requests are late;"
        f" at most {100.0 * judgement.most_late:.3g} % were"
        if judgement.holds
        else "not all of them hold"
    )
    return (
        f"neighbours as they are: {counted(len(doubtful), 'GPU')} of {len(plan.gpus)} by simulation, {RUNS} runs of"
        f" {judgement.requests:,} requests at most: {told}"
    )

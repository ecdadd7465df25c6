"""Plans that exact methods begin with: whether they hold, and whether they lie within the formulations."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from igniter_opt.base.errors import InputError
from igniter_opt.data.instance import Instance
from igniter_opt.data.plan import Placement, Plan, PlanGpu
from igniter_opt.physics.interference import added_delay, clock_ratio
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import Draft, DraftGpu, drafts_from_plan, make_plan
from igniter_opt.problem.judge import DraftJudge
from igniter_opt.verify import verify

# Rounding in a row, relative; the limits of rule p99 keep more than this to themselves.
_ROUNDING = 1e-8


def draft_of_start(problem: Problem, start: Plan) -> list[DraftGpu]:
    """Turn a plan into a draft to begin with.

    Raises
    ------
    InputError
        It does not hold for this problem, or splits workloads in a way that exact methods do not.
    """
    gpus = at_rates(problem, drafts_from_plan(problem, start))
    judge = DraftJudge(problem, gpus)
    if not judge.holds:
        for gpu in judge.unbounded():
            raise InputError(f"start plan: it does not hold for this instance: {start.gpus[gpu.gpu].name}: {gpu.why}")
        for entry in verify(make_plan(problem, gpus, method="draft", status="heuristic")).violations:
            raise InputError(f"start plan: it does not hold for this instance: {entry.where}: {entry.message}")
    if not replicas_are_equal(problem, gpus):
        raise InputError("start plan: it splits workloads in a way that exact methods do not (see max_replicas)")
    return gpus


def at_rates(problem: Problem, plan: list[DraftGpu]) -> list[DraftGpu]:
    """Return the plan with the problem's rates, shared by the replicas as they share what they carry."""
    carried = np.zeros(len(problem.workloads))
    for gpu in plan:
        for draft in gpu.placements:
            carried[draft.workload] += draft.rate_rps

    def scaled(draft: Draft) -> Draft:
        rate = problem.workloads[draft.workload].rate_rps
        return draft._replace(rate_rps=rate * (draft.rate_rps / float(carried[draft.workload])))

    return [gpu._replace(placements=[scaled(draft) for draft in gpu.placements]) for gpu in plan]


def replicas_are_equal(problem: Problem, plan: list[DraftGpu]) -> bool:
    """Whether a plan keeps to the exact methods' rule: equal replicas, at most as many as a workload may have."""
    rates: dict[int, list[float]] = {}
    for gpu in plan:
        for draft in gpu.placements:
            rates.setdefault(draft.workload, []).append(draft.rate_rps)
    return all(
        len(found) <= problem.replica_limit(workload) and max(found) - min(found) <= 1e-9 * max(found)
        for workload, found in rates.items()
    )


def within_limits(problem: Problem, plan: list[DraftGpu]) -> bool:
    """Whether a plan that holds is one of those that exact methods compare.

    Rules whose limits are not exact have others: under p99 `verify` judges the queues at the plan's actual
    interference, the formulations by limits on the safe side (`slo.percentile`). A bound from them says nothing about
    plans that keep only to the former.
    """
    if problem.rule.exact_limits:
        return True
    replicas = Counter(draft.workload for gpu in plan for draft in gpu.placements)
    return all(_rows_hold(problem, gpu, replicas) for gpu in plan)


def _rows_hold(problem: Problem, gpu: DraftGpu, replicas: Counter[int]) -> bool:
    """Whether every placement's row ``A + K Δ + E (C - c) + E' (T - t) ≤ D φ(P)`` holds."""
    hardware = problem.coefficients[gpu.gpu_type].hardware
    rows = []
    for draft in gpu.placements:
        every = problem.every_configuration(draft.workload, gpu.gpu_type, replicas[draft.workload])
        rows.append(every.take((every.batch == draft.batch) & (every.level == draft.level)))
    cache, traffic = sum(float(row.cache[0]) for row in rows), sum(float(row.traffic[0]) for row in rows)
    power = hardware.idle_power_w + sum(float(row.power_w[0]) for row in rows)
    ratio, delay = float(clock_ratio(hardware, power)), float(added_delay(hardware, len(rows)))
    return all(
        np.all(row.needed_ms(delay, cache - row.cache, traffic - row.traffic) <= row.limit_ms * ratio * (1 + _ROUNDING))
        for row in rows
    )


def adapted(plan: Plan, instance: Instance) -> Plan:
    """Fit a plan to an instance with fewer workloads or other rates; whether it holds there is another question."""
    rates = {workload.name: workload.rate_rps for workload in instance.workloads}
    before = {workload.name: workload.rate_rps for workload in plan.instance.workloads}

    def kept(placements: Sequence[Placement]) -> tuple[Placement, ...]:
        return tuple(
            entry.model_copy(update={"rate_rps": entry.rate_rps * rates[entry.workload] / before[entry.workload]})
            for entry in placements
            if entry.workload in rates
        )

    gpus: list[PlanGpu] = [gpu.model_copy(update={"placements": kept(gpu.placements)}) for gpu in plan.gpus]
    return plan.model_copy(update={"gpus": tuple(gpu for gpu in gpus if gpu.placements), "instance": instance})

"""The cards that a plan could be made of: what each costs, what it would cost by itself, and whom it suits best."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import UnsuitableError
from igniter_opt.compare import compare
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.plan import Plan
from igniter_opt.problem.bounds import one_gpu_units, price_grid, share_bound_units
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.costs import NO_PLAN

# Quick, and good in company.
METHODS_ALONE = ("igniter", "ffd++", "bestfit")
# With more workloads the page would take minutes.
MOST_WORKLOADS = 300


@dataclass(frozen=True)
class CardConsidered:
    """A GPU type of the instance.

    Attributes
    ----------
    used
        How many the plan has.
    best_for
        Of how many workloads the least share that serves them alone costs least on this type (a tie counts for the
        first).
    cost_alone_per_hour, gpus_alone, method_alone
        The cheapest plan that a heuristic finds with this type alone, with as many cards as it takes, that holds. An
        optimum may be lower. None where none was found, or none was looked for.
    bound_alone_per_hour
        What no plan of this type alone can undercut (`bounds.share_bound_units`, or the price of one GPU where the
        rule's limits are not exact); None where a workload has no place on it.
    message
        Why there is no cost.
    """

    name: str
    gpu: str
    price_per_hour: float
    count: int | None
    used: int
    best_for: int
    cost_alone_per_hour: float | None
    gpus_alone: int | None
    method_alone: str | None
    bound_alone_per_hour: float | None
    message: str | None


def cards_considered(plan: Plan) -> tuple[CardConsidered, ...]:
    """Work out what each type would cost alone; nothing for instances that have one type only."""
    instance = plan.instance
    if len(instance.gpu_types) < 2 or instance.cut_types:
        return ()
    try:
        problem = Problem(instance, plan.solver.margin, plan.solver.confidence)
    except UnsuitableError:  # what else the page says of it is said there
        return ()
    used = Counter(gpu.type for gpu in plan.gpus)
    costs = problem.least_share_percent * np.array([gpu.price_per_hour for gpu in instance.gpu_types])
    best = Counter(int(row.argmin()) for row in costs if np.isfinite(row).any())
    return tuple(
        _considered(plan, gpu, used[gpu.name], best[position], costs[:, position])
        for position, gpu in enumerate(instance.gpu_types)
    )


def _considered(plan: Plan, gpu: GpuType, used: int, best_for: int, costs: FloatArray) -> CardConsidered:
    instance, margin, confidence = plan.instance, plan.solver.margin, plan.solver.confidence
    cost, gpus, method, bound, message = None, None, None, None, None
    unable = [workload.name for workload, own in zip(instance.workloads, costs, strict=True) if not np.isfinite(own)]
    if unable:
        more = f" and {len(unable) - 1:,} more" if len(unable) > 1 else ""
        message = f"cannot serve {unable[0]}{more}"
    else:
        alone = instance.model_copy(update={"gpu_types": (gpu.model_copy(update={"count": None}),)})
        problem = Problem(alone, margin, confidence)
        grid = price_grid(problem)
        # Where plans may hold beyond the limits on the safe side, shares alone within these bound nothing.
        exact = problem.rule.exact_limits
        units = share_bound_units(problem, grid) if exact else one_gpu_units(problem, grid)
        bound = float(grid.cost(grid.round_up(units, NO_PLAN)))
        if len(instance.workloads) > MOST_WORKLOADS:
            message = f"not looked for with more than {MOST_WORKLOADS} workloads"
        else:
            own = margin if confidence is None else None
            rows = compare(
                alone, METHODS_ALONE, margin=own, confidence=confidence, seed=plan.solver.seed, requests=0
            ).rows
            held = [row for row in rows if row.cost_per_hour is not None and row.status == "heuristic"]
            if held:
                found = min(held, key=lambda row: row.cost_per_hour or 0.0)
                cost, gpus, method = found.cost_per_hour, found.gpus, found.method
            else:
                message = "no heuristic finds a plan"
    return CardConsidered(
        name=gpu.name,
        gpu=gpu.card,
        price_per_hour=gpu.price_per_hour,
        count=gpu.count,
        used=used,
        best_for=best_for,
        cost_alone_per_hour=cost,
        gpus_alone=gpus,
        method_alone=method,
        bound_alone_per_hour=bound,
        message=message,
    )

"""Whether a plan exists with given numbers of GPUs, for `patterns` with several GPU types.

Costs are sums of prices, so between the bound and the best plan there are often only a few vectors of GPU counts, each
with a cost of its own; dives begin with promising ones as limits. A vector is excluded, where no plan uses exactly
these GPUs, in one of three ways (`PatternsSolver._excluded`):

- column generation with the vector as count limits proves a bound above the vector's own cost;
- the list of all patterns that matter within these counts (`patterns_integer.patterns_within`) is complete, and the
  integer master over it is infeasible;
- the compact formulation with these GPUs as its slots is infeasible, here. A pattern of a big card may hold a dozen
  items, and there are far more such patterns than anybody could list. With few GPUs that matters less to
  `formulations.assignment`, whose size grows with items and GPUs: with its slots fixed it has one objective value
  left, so HiGHS ends with the first plan it finds, or proves that there is none (up to its feasibility tolerance,
  which only ever admits more).

Every plan has some vector of counts, so the least cost of the vectors that are left, or of the best plan, is a lower
bound.
"""

from collections.abc import Callable, Sequence

from igniter_opt.configurations import Problem
from igniter_opt.draft import DraftGpu, make_plan
from igniter_opt.formulations.assignment import Assignment
from igniter_opt.highs import solve_mip
from igniter_opt.stop import StopRequest
from igniter_opt.verify import verify


def plan_with_counts(
    problem: Problem,
    counts: Sequence[int],
    units: Sequence[int],
    time_left: Callable[[], float],
    check: Callable[[], None],
    *,
    seed: int,
    stop: StopRequest,
) -> tuple[list[DraftGpu] | None, bool]:
    """Look for a plan on GPUs of which all are used.

    Parameters
    ----------
    counts
        GPUs of each type.
    units
        Price of each type in steps of the price grid.
    time_left
        Seconds until to give up.
    check
        Called every now and then; may raise to give up.

    Returns
    -------
    gpus, impossible
        A plan that the predictor accepts, or None; whether it is proven that there is none.
    """
    for workload in range(len(problem.workloads)):
        if not any(
            problem.least_level(workload, gpu_type, replicas) is not None
            for gpu_type, count in enumerate(counts)
            if count
            for replicas in problem.replica_counts(workload)
        ):
            return None, True
    model = Assignment(problem, counts, check)
    cost = sum(unit * count for unit, count in zip(units, counts, strict=True))
    model.minimise_cost(units, cost, cost)
    while True:
        result = solve_mip(model.model, time_limit=time_left(), gap=0.0, seed=seed, stop=stop)
        if result.status == "infeasible":
            return None, True
        if result.values is None:
            return None, False
        chosen = model.chosen(result.values)
        gpus = model.drafts(chosen)
        plan = make_plan(problem, gpus, method="assignment", status="heuristic")
        failed = {entry.gpu for entry in verify(plan).placements if not entry.ok}
        if not failed:
            return gpus, False
        # HiGHS's tolerance let it through; there are only so many such sets.
        for gpu, (slot, pairs) in zip(plan.gpus, chosen, strict=True):
            if gpu.name in failed:
                model.forbid(slot.gpu_type, pairs)
        check()

"""Shadow prices: what every workload adds to a proven bound on the cost, by column generation of `patterns`.

The bound of `generation.lagrangian_bound` is ``s V - Σ_g N_g max(0, s B_g - price_g)`` with V the sum of the
workloads' values and B_g a bound on the worth of any feasible set on type g. Without a workload V is smaller by its
value, and B_g still bounds the worth of every set that is left. So with the workload's price, s times its value,

    bound - price  is a proven lower bound on the cost without the workload.

Unlike `patterns`, which stops proving where the cost of whole GPUs is settled, this goes on to the optimum of the
linear master, as far as time allows: the higher the bound, the more it says about single workloads.
"""

import math
import time
from contextlib import suppress
from typing import NamedTuple

from igniter_opt.formulations.columns.generation import ColumnGeneration
from igniter_opt.heuristics.bestfit import local_search, require_monotone
from igniter_opt.packing.items import catalogue
from igniter_opt.packing.plans import Placer, patterns_of
from igniter_opt.packing.pricing import Pricer
from igniter_opt.packing.warm_up import compile_kernels
from igniter_opt.problem.bounds import price_grid
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import DraftGpu

# Proving the last part of the linear optimum takes longest and says least.
_CLOSE_ENOUGH = 1.0 - 1e-3


class ShadowPrices(NamedTuple):
    """Prices of workloads.

    Attributes
    ----------
    bound
        A proven lower bound on the cost in currency per hour, as linear programming gives it: not rounded up to the
        cost of whole GPUs.
    workloads
        Price of every workload in currency per hour, in the instance's order.
    """

    bound: float
    workloads: tuple[float, ...]


class _TimeIsUpError(Exception):
    """Ends column generation."""


def shadow_prices(problem: Problem, plan: list[DraftGpu], *, time_limit: float, seed: int = 0) -> ShadowPrices | None:
    """Find the shadow prices of all workloads.

    Parameters
    ----------
    problem
        With monotone profiles.
    plan
        A plan to begin with.
    time_limit
        Seconds; when they are over, the best bound so far counts.

    Returns
    -------
    ShadowPrices | None
        None if there was no time for any bound, or the plan splits workloads in another way than the model.

    Raises
    ------
    UnsuitableError
        A profile is not monotone.
    """
    require_monotone(problem, "patterns")
    compile_kernels(problem)
    deadline = time.perf_counter() + time_limit

    def check() -> None:
        if time.perf_counter() > deadline:
            raise _TimeIsUpError

    grid = price_grid(problem)
    columns: ColumnGeneration | None = None
    with suppress(_TimeIsUpError):
        known = catalogue(problem, check)
        start = patterns_of(known, Placer(known), plan)
        if start is None:
            return None
        columns = ColumnGeneration(
            known,
            grid,
            local_search(known),
            Pricer(known, check),
            seed=seed,
            check=check,
            on_plan=lambda _: None,
            on_iteration=lambda _: None,
        )
        columns.run([sorted(start)], lambda value: value * _CLOSE_ENOUGH)
    if columns is None or not 0 < columns.bound.cost < math.inf:
        return None
    bound, unit = columns.bound, float(grid.cost(columns.scale))
    values = [0.0] * len(problem.workloads)
    for entry, items in zip(columns.catalogue.classes, columns.catalogue.class_items, strict=True):
        least = min(columns.catalogue.items[item].replicas * float(bound.values[item]) for item in items)
        for workload in entry.workloads:
            values[workload] = least * bound.scale * unit
    return ShadowPrices(bound.cost * unit, tuple(values))

"""Compile everything before a clock starts."""

import numpy as np

from igniter_opt.packing.items import catalogue
from igniter_opt.packing.local_search import LocalSearch
from igniter_opt.packing.pricing import Pricer
from igniter_opt.problem.configurations import Problem


def compile_kernels(problem: Problem, *, rare: bool = False) -> None:
    """Run the compiled functions that every search needs once, on the problem's first workload.

    The very first run on a machine takes a quarter of a minute to a minute, later ones find the machine code on disk.
    Time limits begin after this; a stop request may end it (`compilation.ended_by`). The problem must be monotone and
    its workloads servable.

    Parameters
    ----------
    rare
        Whether to compile what searches of small instances do without as well; others compile it when they need it.
    """
    small = problem.instance.model_copy(update={"workloads": problem.workloads[:1]})
    known = catalogue(Problem(small, problem.margin))
    types, items = known.packed.items.shape
    search = LocalSearch(known, [1.0] * types, [None] * types)
    goal = np.full(types, 1e-6)
    plan = search.construct(search.items_of_a_plan(fewest=True), 0.0, 0)
    if plan is not None:
        search.improve(plan, np.ones(items), goal, rounds=1, temperature=0.0, seed=0)
    pricer = Pricer(known)
    pricer.explore(np.ones(items), np.zeros(types), goal, splits=int(rare), everywhere=True)
    pricer.price(np.ones(items), np.zeros(types), goal)
    if rare:
        pricer.partition.split(int(pricer.partition.alive[0]))

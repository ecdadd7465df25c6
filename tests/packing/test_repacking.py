from collections import Counter
from itertools import islice

import pytest

from igniter_opt.heuristics.bestfit import best_fit, local_search
from igniter_opt.packing.plans import Placer
from igniter_opt.packing.repacking import Repacking
from tests.packing.small import servable
from tests.support.brute_force import every_plan

EFFORT = {"rounds": 40_000, "hot": 0.5, "cold": 0.1}


@pytest.mark.parametrize("seed", range(6))
def test_plans_are_found_on_the_counts_that_have_one_and_on_no_others(seed):
    for _, problem, known in islice(servable(range(20 * seed, 20 * seed + 20), 5, types=2, counts=False), 3):
        able = {used for used, _, _ in every_plan(problem.instance, problem.margin)}
        search, placer = local_search(known), Placer(known)
        items, repacking = search.items_of_a_plan(fewest=True), Repacking(known, search.prices, search.share_cost)
        for counts in [(1, 0), (0, 1), (1, 1), (2, 0), (0, 2), (2, 1), (1, 2)]:
            within = any(used[0] <= counts[0] and used[1] <= counts[1] for used in able)
            found = repacking.run(counts, items, [], seed=seed, **EFFORT)
            assert (found is not None) == within
            if found is not None:
                used = Counter(gpu for gpu, _ in found)
                assert all(used[gpu] <= count for gpu, count in enumerate(counts))
                assert sorted(item for _, members in found for item in members) == sorted(items)
                assert all(placer.feasible(pattern) for pattern in found)


def test_a_plan_to_begin_with_is_kept_where_it_fits():
    for _, _, known in islice(servable(range(20), 12, unit=12.5), 3):
        search = local_search(known)
        plan = best_fit(known, search, 0)
        assert plan is not None
        items = [item for _, members in plan for item in members]
        repacking = Repacking(known, search.prices, search.share_cost)
        assert repacking.run([len(plan)], items, plan, seed=0, **EFFORT) == plan
        # More of an item than is asked for is left out.
        assert repacking.run([2 * len(plan)], items, [*plan, *plan], seed=0, **EFFORT) == plan


def test_whoever_is_in_a_hurry_gets_nothing_that_is_not_there():
    known = next(servable(range(20), 12, unit=12.5))[2]
    search = local_search(known)
    items = search.items_of_a_plan(fewest=True)
    repacking = Repacking(known, search.prices, search.share_cost)
    assert repacking.run([1], items, [], seed=0, hurry=lambda: True, **EFFORT) is None

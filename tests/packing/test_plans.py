from collections import Counter
from itertools import islice

import pytest

from igniter_opt import read_instance, solve, verify
from igniter_opt.base.errors import SolverError
from igniter_opt.heuristics.bestfit import best_fit, local_search
from igniter_opt.packing.items import catalogue
from igniter_opt.packing.plans import Placer, drafts_of, patterns_of, trimmed
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import Draft, DraftGpu, draft_share_percent, drafts_from_plan, make_plan
from tests.packing.small import servable

TABLE3 = read_instance("igniter-table3")
CASES = [(seed, known) for seed, _, known in islice(servable(range(40), 6, replicas=3, unit=12.5), 12)]


def demand_of(known):
    return [len(entry.workloads) for entry in known.classes]


def served(known, patterns):
    """Workloads of each class that the patterns serve, and whether replicas come in full."""
    have = Counter(item for _, members in patterns for item in members)
    whole = all(count % known.items[item].replicas == 0 for item, count in have.items())
    numbers = [sum(have[item] // known.items[item].replicas for item in items) for items in known.class_items]
    return numbers, whole


def plan_of(known):
    found = best_fit(known, local_search(known), 0)
    assert found is not None
    return found


@pytest.mark.parametrize(("seed", "known"), CASES)
def test_trimmed_serves_exactly_the_demand(seed, known):
    patterns, demand = plan_of(known), demand_of(known)
    assert trimmed(known, patterns, demand) == sorted(patterns)
    assert served(known, patterns) == (demand, True)
    # Everything twice, a stray replica, and another replica count beside.
    stray = (0, (known.class_items[0][-1],))
    for more in ([*patterns, *patterns], [*patterns, stray], [stray, *patterns, *patterns[:2]]):
        kept = trimmed(known, more, demand)
        assert kept is not None
        assert served(known, kept) == (demand, True)
        assert all(members for _, members in kept)
        assert all(members == tuple(sorted(members)) for _, members in kept)
        assert len(kept) <= len(more)


@pytest.mark.parametrize(("seed", "known"), CASES)
def test_too_little_is_not_trimmed(seed, known):
    patterns = plan_of(known)
    for k in range(len(patterns)):
        assert trimmed(known, patterns[:k] + patterns[k + 1 :], demand_of(known)) is None


@pytest.mark.parametrize(("seed", "known"), CASES)
def test_drafts_and_back(seed, known):
    placer, patterns = Placer(known), plan_of(known)
    drafts = drafts_of(known, placer, patterns)
    plan = make_plan(known.problem, drafts, method="test", status="heuristic")
    assert verify(plan).ok
    unit = known.problem.coefficients[0].hardware.share_unit_percent
    levels = sum(placer.levels(pattern) for pattern in patterns)
    assert draft_share_percent(known.problem, drafts) == pytest.approx(unit * levels)
    back = patterns_of(known, placer, drafts)
    assert back is not None
    assert sorted(back) == sorted(patterns)
    assert patterns_of(known, placer, drafts_from_plan(known.problem, plan)) == back


def test_every_replica_is_named_once():
    for _, known in CASES:
        drafts = drafts_of(known, Placer(known), plan_of(known))
        names = [(draft.workload, draft.replica) for gpu in drafts for draft in gpu.placements]
        assert len(names) == len(set(names))
        assert {workload for workload, _ in names} == set(range(len(known.problem.workloads)))


def test_plans_outside_the_model_are_no_patterns():
    problem = Problem(TABLE3)
    known, placer = catalogue(problem), Placer(catalogue(problem))
    good = drafts_from_plan(problem, solve(TABLE3, "igniter").plan)
    assert patterns_of(known, placer, good) is not None
    first = good[0].placements[0]
    slower = DraftGpu(0, [first._replace(rate_rps=first.rate_rps * 0.9), *good[0].placements[1:]])
    assert patterns_of(known, placer, [slower, *good[1:]]) is None
    twice = DraftGpu(0, [first._replace(replica=2)])
    assert patterns_of(known, placer, [*good, twice]) is None
    crowd = DraftGpu(0, [Draft(k, 1, 1, 1, w.rate_rps) for k, w in enumerate(problem.workloads)])
    assert patterns_of(known, placer, [crowd]) is None


def test_infeasible_sets_are_an_error_not_a_plan():
    known = catalogue(Problem(TABLE3))
    crowd = (0, tuple(range(len(known.items))))
    with pytest.raises(SolverError, match="please report"):
        drafts_of(known, Placer(known), [crowd])
    with pytest.raises(SolverError, match="please report"):
        Placer(known).levels(crowd)

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from igniter_opt.heuristics.bestfit import local_search
from igniter_opt.packing import local_search as packing_local_search
from igniter_opt.packing.plans import Placer
from tests.packing.small import likely_values, servable

CASES = [
    *[(0, known) for _, _, known in islice(servable(range(20), 12, unit=12.5), 4)],
    *[(1, known) for _, _, known in islice(servable(range(20, 60), 10, unit=12.5, replicas=3), 4)],
    *[(2, known) for _, _, known in islice(servable(range(60, 100), 12, types=2, replicas=2), 4)],
]


def workloads_served(known, patterns):
    have = Counter(item for _, members in patterns for item in members)
    assert all(count % known.items[item].replicas == 0 for item, count in have.items())
    return [sum(have[item] // known.items[item].replicas for item in items) for items in known.class_items]


def cost(search, patterns):
    return float(sum(search.prices[gpu] for gpu, _ in patterns))


@pytest.mark.parametrize(("kind", "known"), CASES)
@pytest.mark.parametrize("fewest", [True, False])
def test_construction_serves_everyone_on_feasible_gpus(kind, known, fewest):
    search, placer = local_search(known), Placer(known)
    demand = [len(entry.workloads) for entry in known.classes]
    for seed, noise in ((0, 0.0), (1, 0.25), (2, 1.0)):
        found = search.construct(search.items_of_a_plan(fewest=fewest), noise, seed)
        assert found is not None
        assert workloads_served(known, found) == demand
        assert all(placer.feasible(pattern) for pattern in found)
        assert found == search.construct(search.items_of_a_plan(fewest=fewest), noise, seed)


@pytest.mark.parametrize(("kind", "known"), CASES)
@pytest.mark.parametrize("temperature", [0.0, 0.02])
def test_improvement_keeps_demand_and_notes_feasible_sets(kind, known, temperature):
    """Splitting and joining replicas changes how workloads are served, never which."""
    search, placer = local_search(known), Placer(known)
    demand = [len(entry.workloads) for entry in known.classes]
    start = search.construct(search.items_of_a_plan(fewest=True), 0.5, 3)
    assert start is not None
    used = set()
    for seed in range(3):
        value = likely_values(known, seed)
        goal = search.prices * 0.8
        found = search.improve(start, value, goal, rounds=400, temperature=temperature, seed=seed)
        for patterns in (found.best, found.last):
            assert workloads_served(known, patterns) == demand
            assert all(placer.feasible(pattern) for pattern in patterns)
            used |= {item for _, members in patterns for item in members}
        assert len(set(found.noted)) == len(found.noted)
        for gpu, members in found.noted:
            assert placer.feasible((gpu, members))
            assert value[list(members)].sum() > goal[gpu]
        assert found == search.improve(start, value, goal, rounds=400, temperature=temperature, seed=seed)
    if kind == 1 and any(len(items) > 1 for items in known.class_items):
        assert len({known.items[item].replicas for item in used}) > 1


@pytest.mark.parametrize(("kind", "known"), CASES)
def test_improvement_is_never_worse(kind, known):
    """By its own score; with values that are the prices' worth that means no dearer either."""
    search = local_search(known)
    for seed in range(3):
        start = search.construct(search.items_of_a_plan(fewest=True), 0.5, seed)
        assert start is not None
        found = search.improve(start, search.share_cost, search.prices * 10.0, rounds=400, temperature=0.003, seed=seed)

        def score(patterns):
            worth = [search.share_cost[list(members)].sum() for _, members in patterns]
            return cost(search, patterns) - 0.2 * sum(
                w * w / search.prices[gpu] for w, (gpu, _) in zip(worth, patterns, strict=True)
            )

        assert score(found.best) <= score(start) + 1e-9
        assert not found.noted


@pytest.mark.parametrize(("kind", "known"), CASES)
def test_what_comes_of_it_does_not_depend_on_how_often_it_asks_to_hurry(kind, known, monkeypatch):
    search = local_search(known)
    start = search.construct(search.items_of_a_plan(fewest=True), 0.5, 3)
    assert start is not None
    options = {"rounds": 300, "temperature": 0.02, "seed": 5}
    value, goal = likely_values(known, 2), search.prices * 0.8
    at_once = search.improve(start, value, goal, **options)
    monkeypatch.setattr(packing_local_search, "_PLACEMENTS_AT_ONCE", 70)
    asked = []
    assert search.improve(start, value, goal, **options, hurry=lambda: bool(asked.append(None))) == at_once
    assert len(asked) > 5


def test_it_ends_soon_when_told_to_hurry():
    """20,000 rounds with 400 placements would take ten seconds and more."""
    _, known = CASES[0]
    search = local_search(known)
    start = search.construct(search.items_of_a_plan(fewest=True), 0.5, 3)
    assert start is not None
    asked = []

    def third_time():
        asked.append(None)
        return len(asked) == 3

    search.improve(
        start * 50, search.share_cost, search.prices, rounds=10**9, temperature=0.0, seed=0, hurry=third_time
    )
    assert len(asked) == 3


def test_counts_are_respected():
    for _, problem, known in servable(range(120, 150), 8, types=2, counts=True):
        search = local_search(known)
        counts = [gpu.count for gpu in problem.gpu_types]
        for taken in ({}, {0: 1}):
            found = search.construct(search.items_of_a_plan(fewest=True), 0.0, 0, taken)
            if found is None:
                continue
            improved = search.improve(
                found, search.share_cost, search.prices, rounds=300, temperature=0.01, seed=1, taken=taken
            )
            for patterns in (found, improved.best, improved.last):
                used = Counter(gpu for gpu, _ in patterns)
                assert all(used[g] + taken.get(g, 0) <= count for g, count in enumerate(counts))


def test_a_single_gpu_is_left_alone():
    _, known = CASES[0]
    search = local_search(known)
    pattern = (0, (int(np.argmax(known.packed.items["copies"][0])),))
    assert search.improve([pattern], search.share_cost, search.prices, rounds=50, temperature=0.1, seed=0).best == [
        pattern
    ]


@pytest.mark.parametrize(("kind", "known"), CASES)
def test_plans_on_one_type_use_no_other(kind, known):
    search, placer = local_search(known), Placer(known)
    for gpu in range(len(known.packed.cards)):
        found = search.on_one_type(gpu, 0)
        if found is None:
            continue
        assert {kind for kind, _ in found} == {gpu}
        able = [item for item in search.items_of_a_plan(fewest=False) if known.packed.items["copies"][gpu, item] > 0]
        assert Counter(item for _, members in found for item in members) == Counter(able)
        assert all(placer.feasible(pattern) for pattern in found)
        improved = search.improve(
            found, search.share_cost, search.prices, rounds=200, temperature=0.01, seed=1, taken=search.without((gpu,))
        )
        assert {kind for kind, _ in [*improved.last, *improved.noted]} <= {gpu}

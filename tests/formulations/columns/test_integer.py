"""Listing patterns, the integer master over them, and vectors of GPU counts, against exhaustion."""

import numpy as np
import pytest

from igniter_opt.base.stop import StopRequest
from igniter_opt.formulations.columns.generation import ColumnGeneration
from igniter_opt.formulations.columns.integer import Listed, maximal, patterns_within, plan_of, promising_counts
from igniter_opt.heuristics.bestfit import local_search
from igniter_opt.packing.items import Catalogue
from igniter_opt.packing.plans import Pattern, Placer
from igniter_opt.packing.pricing import Pricer
from igniter_opt.problem.bounds import price_grid
from igniter_opt.problem.configurations import Problem
from tests.packing.small import servable
from tests.support.brute_force import cheapest

SEEDS = 40
SAMPLE = 8
CASES = [pytest.param(k, marks=[pytest.mark.slow] if k >= SAMPLE else []) for k in range(SEEDS)]


def columns(known: Catalogue, counts: tuple[int | None, ...] | None = None) -> ColumnGeneration:
    return ColumnGeneration(
        known,
        price_grid(known.problem),
        local_search(known),
        Pricer(known),
        seed=0,
        check=lambda: None,
        on_plan=lambda _: None,
        on_iteration=lambda _: None,
        counts=counts,
    )


def integer_plan(found: ColumnGeneration, listed: Listed, cost: int) -> tuple[list[Pattern] | None, bool]:
    return plan_of(found, listed, cost / found.scale, nodes=100_000, time_limit=60.0, seed=0, stop=StopRequest())


@pytest.mark.parametrize("seed", CASES)
def test_the_patterns_within_a_cost_hold_every_plan_of_that_cost(seed: int) -> None:
    """They give a plan at the least cost, and the proof that there is none below."""
    for _, problem, known in servable(range(seed, seed + 1), 5, types=1 + seed % 2, counts=seed % 3 == 0):
        expected = cheapest(problem.instance, problem.margin)
        if expected is None:
            continue
        found = columns(known)
        units = round(expected[0] / float(found.grid.step))
        found.run([], lambda _, target=units / found.scale: target)
        listed = patterns_within(found, units / found.scale, lambda: None, 10_000)
        assert listed.complete
        plan, _ = integer_plan(found, listed, units)
        assert plan is not None
        assert sum(found.grid.units[gpu] for gpu, _ in plan) == units
        below = found.grid.below(units)
        listed = patterns_within(found, below / found.scale, lambda: None, 10_000)
        assert listed.complete
        assert integer_plan(found, listed, below) == (None, True)


@pytest.mark.parametrize("seed", CASES)
def test_within_counts_as_exhaustion_says(seed: int) -> None:
    """For every vector of counts up to 2 and 2: a plan, or the proof that there is none."""
    for _, problem, known in servable(range(seed, seed + 1), 4, types=2):
        for counts in [(first, second) for first in range(3) for second in range(3) if first + second > 0]:
            gpu_types = [
                gpu.model_copy(update={"count": count})
                for gpu, count in zip(problem.gpu_types, counts, strict=True)
                if count > 0
            ]
            expected = None
            instance = problem.instance.model_copy(update={"gpu_types": tuple(gpu_types)})
            models = {model for gpu in gpu_types for model in gpu.profile.models}
            if all(w.model in models for w in instance.workloads) and serves_all(Problem(instance, problem.margin)):
                expected = cheapest(instance, problem.margin)
            found = columns(known, counts)
            cost = sum(unit * count for unit, count in zip(found.grid.units, counts, strict=True))
            target = (cost + 1e-3) / found.scale
            found.run([], lambda _, target=target: target)
            if found.bound.cost >= target:
                assert expected is None
                continue
            listed = patterns_within(found, cost / found.scale, lambda: None, 10_000)
            assert listed.complete
            plan, impossible = integer_plan(found, listed, cost)
            assert (plan is None) == (expected is None) == impossible
            for gpu, count in enumerate(counts):
                assert sum(used == gpu for used, _ in plan or []) <= count


def serves_all(problem: Problem) -> bool:
    return all(problem.replica_counts(k) for k in range(len(problem.workloads)))


@pytest.mark.parametrize("seed", CASES)
def test_maximal_patterns_contain_all_others(seed: int) -> None:
    for _, _, known in servable(range(seed, seed + 1), 6, types=1 + seed % 2):
        types = len(known.packed.cards)
        listed = Pricer(known).enumerate(np.ones(len(known.items)), np.full(types, 0.5), 100_000)
        assert listed
        kept = maximal(listed)
        assert set(kept) <= set(listed)

        def within(small: Pattern, large: Pattern) -> bool:
            return small[0] == large[0] and all(small[1].count(item) <= large[1].count(item) for item in set(small[1]))

        for pattern in listed:
            assert any(within(pattern, other) for other in kept)
        for pattern in kept:
            assert not any(other != pattern and within(pattern, other) for other in listed)


def test_of_too_many_patterns_only_some_are_listed_and_it_says_so() -> None:
    _, _, known = next(entry for entry in servable(range(50), 10, unit=10.0) if entry[2].packed.cards[0].most >= 4)
    found = columns(known)
    found.run([], lambda _: 1e9)
    target = 1.2 * found.bound.cost
    everything = patterns_within(found, target, lambda: None, 100_000)
    assert everything.complete
    incomplete = 0
    for most in (5, 20, 40, 60, 80, 100):
        some = patterns_within(found, target, lambda: None, most)
        assert not some.complete or some.patterns == everything.patterns
        assert all(Placer(known).feasible(pattern) for pattern in some.patterns)
        incomplete += not some.complete
    assert incomplete >= 2


def test_counts_come_by_what_they_cost_above_the_linear_master() -> None:
    _, _, known = next(entry for entry in servable(range(200), 6, types=2) if len(set(price_grid(entry[1]).units)) == 2)
    found = columns(known)
    found.run([], lambda _: 1e9)
    units = found.grid.units
    vectors = [(a * units[0] + b * units[1], (a, b)) for a in range(5) for b in range(5)]
    # Those that carry most; the first are more than enough.
    order = promising_counts(found, vectors)
    assert order
    assert {entry.counts for entry in order} <= {counts for _, counts in vectors}
    assert promising_counts(found, []) == []
    tight = [entry for entry in vectors if entry[0] <= 1.3 * found.bound.cost * found.scale]
    keys = []
    for entry in promising_counts(found, tight):
        limited = columns(known, entry.counts)
        limited.master.add(found.master.patterns)
        solution = limited.master.solve()
        assert entry.covered == (solution.uncovered < 1e-6)
        assert entry.cost == sum(unit * n for unit, n in zip(units, entry.counts, strict=True))
        keys.append((-min(1.0 - solution.objective * found.scale / max(entry.cost, 1), 0.015), entry.cost))
    assert len({key[0] for key in keys}) > 1
    assert np.allclose([key[0] for key in keys], sorted(key[0] for key in keys), atol=1e-6)

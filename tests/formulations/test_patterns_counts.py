"""Vectors of GPU counts decided by the compact formulation, against exhaustion."""

import itertools
import math
from dataclasses import replace

import pytest

from igniter_opt import InfeasibleError, read_instance, solve
from igniter_opt.bounds import price_grid
from igniter_opt.configurations import Problem
from igniter_opt.draft import make_plan
from igniter_opt.formulations import patterns, patterns_counts
from igniter_opt.formulations.patterns_counts import plan_with_counts
from igniter_opt.highs import MipResult
from igniter_opt.stop import StopRequest
from igniter_opt.verify import verify
from tests.brute_force import cheapest, every_plan
from tests.packing.small import servable

SEEDS = 60
SAMPLE = 10
CASES = [pytest.param(k, marks=[pytest.mark.slow] if k >= SAMPLE else []) for k in range(SEEDS)]


def decided(problem: Problem, counts: tuple[int, ...], seconds: float = 60.0):  # type: ignore[no-untyped-def]
    units = price_grid(problem).units
    return plan_with_counts(problem, counts, units, lambda: seconds, lambda: None, seed=0, stop=StopRequest())


@pytest.mark.parametrize("seed", CASES)
def test_a_plan_is_found_for_exactly_the_vectors_that_have_one(seed: int) -> None:
    for _, problem, _ in servable(range(seed, seed + 1), 5, types=2, counts=False):
        possible = {used for used, _, _ in every_plan(problem.instance, problem.margin)}
        for counts in itertools.product(range(4), repeat=2):
            if not 1 <= sum(counts) <= 3:
                continue
            gpus, impossible = decided(problem, counts)
            assert impossible == (counts not in possible)
            assert (gpus is None) == impossible
            if gpus is not None:
                assert tuple(sum(gpu.gpu_type == g for gpu in gpus) for g in range(2)) == counts
                assert verify(make_plan(problem, gpus, method="assignment", status="heuristic")).ok


@pytest.mark.parametrize("seed", CASES)
def test_plans_are_cheapest_where_nothing_is_listed(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where patterns are too many to list: every vector of few GPUs is left to the compact formulation."""
    asked: list[tuple[int, ...]] = []

    def counted(*arguments: object, **options: object) -> object:
        asked.append(arguments[1])  # type: ignore[arg-type]
        return plan_with_counts(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(patterns, "_SHORT_LIST_PART", -1.0)
    monkeypatch.setattr(patterns, "plan_with_counts", counted)
    for _, problem, _ in servable(range(seed, seed + 1), 5, types=2, counts=False):
        expected = cheapest(problem.instance, problem.margin)
        if expected is None:
            with pytest.raises(InfeasibleError):
                solve(problem.instance, "patterns", margin=problem.margin, time_limit=20.0)
            continue
        result = solve(problem.instance, "patterns", margin=problem.margin, time_limit=20.0)
        assert result.status == "optimal"
        assert result.cost == pytest.approx(expected[0])
    assert all(sum(counts) <= 3 for counts in asked)


def test_big_cards_of_many_small_workloads_are_proven() -> None:
    """Patterns of more than a dozen items, far too many to list."""
    result = solve(read_instance("cards-24-1"), "patterns")
    assert result.status == "optimal"
    assert result.cost == pytest.approx(10.972)


def test_out_of_time_proves_nothing() -> None:
    problem = Problem(read_instance("cards-table3"))
    assert decided(problem, (1, 0, 1), seconds=0.0) == (None, False)


def test_what_the_predictor_rejects_is_excluded_and_the_search_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem(read_instance("cards-table3"))
    solved, looked = [], []

    def watched(*arguments: object, **options: object) -> MipResult:
        solved.append(patterns_counts_solve(*arguments, **options))  # type: ignore[arg-type]
        return solved[-1]

    def strict(plan):  # type: ignore[no-untyped-def]
        found = verify(plan)
        looked.append(plan)
        if len(looked) > 1:
            return found
        return replace(found, placements=[replace(found.placements[0], ok=False)])

    patterns_counts_solve = patterns_counts.solve_mip
    monkeypatch.setattr(patterns_counts, "solve_mip", watched)
    monkeypatch.setattr(patterns_counts, "verify", strict)
    gpus, impossible = decided(problem, (2, 1, 0))
    assert not impossible
    assert gpus is not None
    assert len(solved) == len(looked) == 2
    assert looked[0].gpus != looked[1].gpus
    assert math.isfinite(solved[0].objective)

"""Vectors of GPU counts decided by the compact formulation, against exhaustion."""

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest

from igniter_opt import InfeasibleError, Instance, read_instance, solve
from igniter_opt.base.stop import StopRequest
from igniter_opt.formulations import assignment_solver
from igniter_opt.formulations.columns import generation
from igniter_opt.formulations.columns.counts import Compact
from igniter_opt.formulations.columns.vectors import CountVectors
from igniter_opt.formulations.highs import MipResult
from igniter_opt.options import PatternsTuning
from igniter_opt.packing.items import Catalogue, catalogue
from igniter_opt.packing.plans import Pattern, Placer, drafts_of
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import make_plan
from igniter_opt.problem.judge import DraftJudge
from igniter_opt.verify import verify
from tests.packing.small import servable
from tests.support.brute_force import cheapest, every_plan

SEEDS = 60
SAMPLE = 10
CASES = [pytest.param(k, marks=[pytest.mark.slow] if k >= SAMPLE else []) for k in range(SEEDS)]


def compact(known: Catalogue, seconds: float = 60.0) -> Compact:
    return Compact(
        known, Placer(known), time_left=lambda: seconds, seed=0, stop=StopRequest(), on_progress=lambda: None
    )


def holds(known: Catalogue, found: list[Pattern]) -> bool:
    gpus = drafts_of(known, Placer(known), found)
    return verify(make_plan(known.problem, gpus, method="assignment", status="heuristic")).ok


# With replicas; 25: HiGHS 1.16 claims the optimum and returns the start.
REPLICAS = [pytest.param(k, marks=[pytest.mark.slow] if k not in (1, 3, 25) else []) for k in range(40)]


@pytest.mark.parametrize("seed", CASES)
def test_a_plan_is_found_for_exactly_the_vectors_that_have_one(seed: int) -> None:
    vectors_are_decided(seed, 5, None)


@pytest.mark.parametrize("seed", REPLICAS)
def test_the_same_with_replicas(seed: int) -> None:
    vectors_are_decided(seed, 3, 2)


def vectors_are_decided(seed: int, workloads: int, replicas: int | None) -> None:
    for _, problem, known in servable(range(seed, seed + 1), workloads, types=2, replicas=replicas):
        least: dict[tuple[int, ...], float] = {}
        for used, _, share in every_plan(problem.instance, problem.margin):
            least[used] = min(share, least.get(used, math.inf))
        for counts in itertools.product(range(4), repeat=2):
            if not 1 <= sum(counts) <= 3:
                continue
            found, impossible = compact(known).plan(counts)
            assert impossible == (counts not in least)
            assert (found is None) == impossible
            if found is None:
                continue
            assert tuple(sum(gpu == g for gpu, _ in found) for g in range(2)) == counts
            assert holds(known, found)
            better, bound = compact(known).least_share(found)
            assert better is not None
            assert holds(known, better)
            assert bound == pytest.approx(least[counts], abs=2e-4)
            assert share_of(problem, better) == pytest.approx(least[counts])


def share_of(problem: Problem, found: list[Pattern]) -> float:
    placer = Placer(catalogue(problem))
    unit = [entry.hardware.share_unit_percent for entry in problem.coefficients]
    return sum(unit[pattern[0]] * placer.levels(pattern) for pattern in found)


@pytest.mark.parametrize("seed", CASES)
def test_plans_are_cheapest_where_nothing_is_listed(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where patterns are too many to list, and no bound helps: every vector is left to the compact formulation."""
    asked: list[int] = []
    monkeypatch.setattr(generation, "lagrangian_bound", lambda *_: generation.LagrangianBound(0.0, 0.0))
    monkeypatch.setattr(CountVectors, "cut", lambda *_: None)
    plan = Compact.plan
    monkeypatch.setattr(Compact, "plan", lambda self, counts: (asked.append(sum(counts)), plan(self, counts))[1])
    tuning = PatternsTuning(short_list_part=0.0)
    for _, problem, _ in servable(range(seed, seed + 1), 5, types=2, counts=False):
        expected = cheapest(problem.instance, problem.margin)
        if expected is None:
            with pytest.raises(InfeasibleError):
                solve(problem.instance, "patterns", margin=problem.margin, time_limit=20.0, tuning=tuning)
            continue
        result = solve(problem.instance, "patterns", margin=problem.margin, time_limit=20.0, tuning=tuning)
        assert result.status == "optimal"
        assert result.cost == pytest.approx(expected[0])
    assert all(gpus <= 3 for gpus in asked)
    assert asked


@pytest.fixture(scope="module")
def table3() -> Instance:
    return read_instance("cards-table3")


def test_big_cards_of_many_small_workloads_are_proven() -> None:
    """Patterns of more than a dozen items, far too many to list."""
    result = solve(read_instance("cards-24-1"), "patterns")
    assert result.status == "optimal"
    assert result.cost == pytest.approx(13.0)


def test_out_of_time_proves_nothing(table3: Instance) -> None:
    assert compact(catalogue(Problem(table3)), seconds=0.0).plan((1, 0, 1)) == (None, False)


def test_what_the_predictor_rejects_is_excluded_and_the_search_goes_on(
    table3: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    solved, looked = [], []
    solve_mip = assignment_solver.solve_mip

    def watched(*arguments: object, **options: object) -> MipResult:
        solved.append(solve_mip(*arguments, **options))  # type: ignore[arg-type]
        return solved[-1]

    keep = DraftJudge.gpus_keep

    def strict(judge: DraftJudge) -> npt.NDArray[np.bool_]:
        found = keep(judge)
        looked.append(judge)
        found[0] &= len(looked) > 1
        return found

    monkeypatch.setattr(assignment_solver, "solve_mip", watched)
    monkeypatch.setattr(DraftJudge, "gpus_keep", strict)
    found, impossible = compact(catalogue(Problem(table3))).plan((2, 1, 0))
    assert not impossible
    assert found is not None
    assert len(solved) == len(looked) == 2
    assert looked[0].gpus != looked[1].gpus

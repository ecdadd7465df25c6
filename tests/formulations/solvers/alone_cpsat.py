"""Run by `test_cpsat` in a process of its own: OR-Tools and highspy cannot be loaded into the same one."""

import random
from decimal import Decimal
from functools import cache

import pytest

from igniter_opt import InfeasibleError, InputError, Instance, read_instance, verify
from igniter_opt.formulations.solvers import cpsat_model
from igniter_opt.formulations.solvers.cpsat import CpSatOutcome, solve_cpsat
from igniter_opt.methods import heuristics
from igniter_opt.problem.bounds import price_grid
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import DraftGpu, draft_cost, make_plan
from tests.support.brute_force import cheapest
from tests.support.synthetic import helped_by_company, random_instance, random_profile

FFD = heuristics()["ffd++"].run


def random_case(seed: int) -> tuple[Instance, float]:
    """A random instance of 3 to 6 workloads; features vary with the seed."""
    rng = random.Random(seed)
    replicas = seed % 5 == 4
    profiles = [
        random_profile(
            rng,
            f"p{k}",
            unit=rng.choice([10.0, 12.5, 20.0]),
            max_batch=rng.choice([2, 3]),
            interference=rng.choice([0.0, 1.0, 4.0]),
            power_cap=rng.choice([150.0, 300.0]),
            memory=seed % 4 == 1,
        )
        for k in range(1 + (seed % 3 == 2))
    ]
    instance = random_instance(
        rng,
        profiles,
        3 if replicas else rng.randint(3, 6),
        slo_rule=("half", "deadline")[seed % 2],
        counts=seed % 7 == 3,
        max_replicas=2 if replicas else None,
    )
    return instance, (0.0, 0.1)[seed % 6 == 1]


def hint_for(problem: Problem, kind: int) -> list[DraftGpu] | None:
    """No plan, a greedy one, or one with many GPUs to save: every workload alone."""
    instance = problem.instance
    try:
        if kind == 1:
            return FFD(problem)
        if kind == 2 and all(gpu.count is None for gpu in instance.gpu_types):
            gpus = []
            for number, workload in enumerate(instance.workloads):
                (gpu,) = FFD(Problem(instance.model_copy(update={"workloads": (workload,)})))
                gpus.append(DraftGpu(gpu.gpu_type, [gpu.placements[0]._replace(workload=number)]))
            return gpus if verify(make_plan(problem, gpus, method="alone", status="heuristic")).ok else None
    except (InfeasibleError, ValueError):
        return None
    return None


@cache
def solved_case(seed: int) -> tuple[Instance, float, tuple[float, float] | None]:
    """A case with its cheapest plan by exhaustion."""
    instance, margin = random_case(seed)
    return instance, margin, cheapest(instance, margin)


def assert_equals_brute_force(seed: int) -> CpSatOutcome | None:
    instance, margin, expected = solved_case(seed)
    problem = Problem(instance, margin)
    try:
        outcome = solve_cpsat(problem, hint_for(problem, seed % 3), time_limit=30.0)
    except InfeasibleError:
        assert expected is None
        return None
    if expected is None:
        assert (outcome.status, outcome.gpus) == ("infeasible", None)
        return outcome
    assert outcome.status == "optimal"
    assert outcome.gpus is not None
    assert outcome.proof_s is not None
    assert float(draft_cost(problem, outcome.gpus)) == pytest.approx(expected[0])
    assert float(price_grid(problem).cost(outcome.lower_units)) == pytest.approx(expected[0])
    assert verify(make_plan(problem, outcome.gpus, method="cpsat", status="heuristic")).ok
    return outcome


@pytest.mark.parametrize("seed", range(60))
def test_optimum_equals_brute_force(seed: int) -> None:
    assert_equals_brute_force(seed)


def test_coarse_rounding_costs_time_but_no_exactness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Relaxed rows let wrong plans through; they are rejected, forbidden, and the optimum is still found."""
    for name in ("_CACHE_UNITS", "_POWER_UNITS", "_MEMORY_UNITS", "_ROW_UNITS"):
        monkeypatch.setattr(cpsat_model, name, 8.0)
    outcomes = [assert_equals_brute_force(seed) for seed in range(60)]
    assert sum(outcome.rejected for outcome in outcomes if outcome is not None) > 5


def test_table3_is_proven_from_a_hint() -> None:
    problem = Problem(read_instance("igniter-table3"))
    hint = FFD(problem)
    outcome = solve_cpsat(problem, hint, time_limit=60.0)
    assert (outcome.status, outcome.gpus) == ("optimal", hint)
    assert (outcome.first_plan_s, outcome.best_plan_s) == (None, None)


def test_without_time_the_hint_and_the_share_bound_remain() -> None:
    problem = Problem(read_instance("igniter-table3"))
    hint = FFD(problem)
    outcome = solve_cpsat(problem, hint, time_limit=0.0)
    assert (outcome.status, outcome.gpus, outcome.proof_s) == ("feasible", hint, None)
    assert price_grid(problem).cost(outcome.lower_units) == pytest.approx(Decimal("15.3"))


def test_a_hint_that_is_no_plan_is_refused() -> None:
    problem = Problem(read_instance("igniter-table3"))
    with pytest.raises(InputError, match="hint"):
        solve_cpsat(problem, FFD(problem)[1:], time_limit=1.0)


def test_non_monotone_models_are_refused() -> None:
    rng = random.Random(0)
    instance = random_instance(rng, [helped_by_company(random_profile(rng))], 3)
    with pytest.raises(InputError, match="monotone"):
        solve_cpsat(Problem(instance), None, time_limit=1.0)

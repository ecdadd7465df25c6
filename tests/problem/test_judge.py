"""The judge of drafts says of a candidate what `verify` says of the plan that is made of it."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igniter_opt import solve, verify
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import Draft, DraftArrays, DraftGpu, draft_cost, drafts_from_plan, make_plan
from igniter_opt.problem.judge import DraftJudge
from tests.heuristics.problems import TABLE_3, changed_profile, v100
from tests.heuristics.problems import problem as table_3_problem
from tests.support.synthetic import random_instance, random_profile

EDITS = ("none", "batch", "level", "rate", "replica", "drop", "twice", "move", "count", "unequal")


def loose_problem(rng: random.Random, rule: str, margin: float) -> Problem:
    """Two GPU types, some of limited memory and number, and SLOs that many placements keep."""
    profiles = [
        random_profile(rng, f"p{k}", max_batch=4, interference=rng.uniform(0.5, 4.0), memory=rng.random() < 0.5)
        for k in range(2)
    ]
    instance = random_instance(rng, profiles, rng.randint(1, 5), slo_rule=rule)
    workloads = [
        entry.model_copy(
            update={"slo_ms": entry.slo_ms * rng.uniform(0.8, 6.0), "max_replicas": rng.choice([None, 1, 2, 3])}
        )
        for entry in instance.workloads
    ]
    types = [entry.model_copy(update={"count": rng.choice([None, 2, 4])}) for entry in instance.gpu_types]
    return Problem(instance.model_copy(update={"workloads": tuple(workloads), "gpu_types": tuple(types)}), margin)


def likely_draft(rng: random.Random, problem: Problem) -> list[DraftGpu]:
    """Every workload in equal replicas, on GPUs drawn at random, with shares that fit."""
    gpus = [DraftGpu(rng.randrange(len(problem.gpu_types)), []) for _ in range(rng.randint(1, 4))]
    for workload, demand in enumerate(problem.workloads):
        replicas = rng.randint(1, demand.max_replicas or 2)
        for replica in range(1, replicas + 1):
            gpu = rng.choice(gpus)
            batch = rng.randint(1, problem.coefficients[gpu.gpu_type].models[demand.model].max_batch)
            gpu.placements.append(Draft(workload, replica, batch, 1, demand.rate_rps / replicas))
    gpus = [gpu for gpu in gpus if gpu.placements]
    for gpu in gpus:
        levels = problem.coefficients[gpu.gpu_type].hardware.share_levels
        each = max(1, levels // len(gpu.placements))
        gpu.placements[:] = [draft._replace(level=each) for draft in gpu.placements]
    return gpus


def edited(rng: random.Random, problem: Problem, gpus: list[DraftGpu], edit: str) -> list[DraftGpu]:
    """A draft with one thing changed, which may break it."""
    gpus = [gpu._replace(placements=list(gpu.placements)) for gpu in gpus]
    gpu = rng.choice(gpus)
    position = rng.randrange(len(gpu.placements))
    draft = gpu.placements[position]
    levels = problem.coefficients[gpu.gpu_type].hardware.share_levels
    match edit:
        case "batch":
            gpu.placements[position] = draft._replace(batch=rng.randint(1, 6))
        case "level":
            gpu.placements[position] = draft._replace(level=rng.randint(1, levels))
        case "rate":
            gpu.placements[position] = draft._replace(rate_rps=draft.rate_rps * rng.choice([1 - 1e-6, 1 + 1e-12, 2.0]))
        case "unequal":
            others = [(g, k) for g in gpus for k, entry in enumerate(g.placements) if entry.workload == draft.workload]
            for g, k in others[:2] if len(others) > 1 else []:
                change = 0.01 * draft.rate_rps * (1 if (g, k) == others[0] else -1)
                g.placements[k] = g.placements[k]._replace(rate_rps=g.placements[k].rate_rps + change)
        case "replica":
            gpu.placements[position] = draft._replace(replica=rng.randint(1, 3))
        case "drop" if len(gpu.placements) > 1:
            del gpu.placements[position]
        case "twice":
            gpu.placements.append(draft._replace(replica=draft.replica + 1))
        case "move" if len(gpu.placements) > 1:
            rng.choice(gpus).placements.append(gpu.placements.pop(position))
        case "count":
            gpus += [DraftGpu(gpu.gpu_type, [draft]) for _ in range(3)]
    return gpus


def same_as_verify(problem: Problem, gpus: list[DraftGpu]) -> bool:
    """Judge a draft both ways, compare everything that the judge says, and return whether it holds."""
    judge = DraftJudge(problem, gpus)
    verification = verify(make_plan(problem, gpus, method="test", status="heuristic"))
    assert judge.holds == verification.ok, verification.violations
    if not any(entry.kind == "batch" for entry in verification.violations):
        # What cannot be predicted is not told apart.
        assert judge.keeps.tolist() == [check.ok for check in verification.placements]
        names = [gpu.name for gpu in make_plan(problem, gpus, method="test", status="heuristic").gpus]
        broken = {check.gpu for check in verification.placements if not check.ok}
        assert judge.gpus_keep().tolist() == [name not in broken for name in names]
        assert judge.over_slo(without=[]) == verification.workloads_over_slo
    return judge.holds


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**9),
    rule=st.sampled_from(["half", "deadline", "p99"]),
    margin=st.sampled_from([0.0, 0.07]),
    edit=st.sampled_from(EDITS),
)
def test_the_judge_says_what_verify_says(seed: int, rule: str, margin: float, edit: str) -> None:
    rng = random.Random(seed)
    problem = loose_problem(rng, rule, margin)
    same_as_verify(problem, edited(rng, problem, likely_draft(rng, problem), edit))


def test_both_answers_are_met() -> None:
    """The drafts above are neither all good nor all bad, with and without edits."""
    found = {}
    for seed in range(120):
        rng = random.Random(seed)
        problem = loose_problem(rng, rng.choice(["half", "deadline"]), 0.0)
        for edit in EDITS:
            gpus = edited(rng, problem, likely_draft(rng, problem), edit)
            found.setdefault(edit, set()).add(same_as_verify(problem, gpus))
    assert found["none"] == found["level"] == found["batch"] == found["move"] == {False, True}


@pytest.mark.parametrize("rule", ["half", "deadline", "p99"])
def test_a_plan_at_its_limits_holds(rule: str) -> None:
    """Plans of methods are tight: one level less, and most no longer hold; both judges say so."""
    instance = table_3_problem(slo_rule=rule, max_replicas=2).instance
    wider = [entry.model_copy(update={"slo_ms": 2 * entry.slo_ms}) for entry in instance.workloads]
    instance = instance.model_copy(update={"workloads": tuple(wider)})
    problem = Problem(instance)
    gpus = drafts_from_plan(problem, solve(instance, "igniter").plan)
    assert same_as_verify(problem, gpus)
    answers = []
    for gpu in gpus:
        for position, draft in enumerate(gpu.placements):
            gpu.placements[position] = draft._replace(level=draft.level - 1)
            answers.append(same_as_verify(problem, gpus))
            gpu.placements[position] = draft
    assert not all(answers)


def test_predictions_do_not_depend_on_other_gpus() -> None:
    """What a plan says of a GPU is the same to the last bit, alone or among others of any size."""
    rng = random.Random(5)
    problem = table_3_problem()
    gpus = [
        DraftGpu(0, [Draft(rng.randrange(len(TABLE_3)), 1, rng.randint(1, 8), 4, 100.0) for _ in range(size)])
        for size in (3, 1, 9, 3, 10, 2, 9)
    ]
    together = DraftArrays(problem, gpus).predicted()
    apart = [DraftArrays(problem, [gpu]).predicted() for gpu in gpus]
    for whole, parts in zip(together, zip(*apart, strict=True), strict=True):
        assert np.array_equal(whole, np.concatenate(parts))


def test_gpus_without_bound_are_told_apart() -> None:
    """A GPU that no plan can have does not hold and is named with its workloads; the others are judged all the same."""
    run = v100().profile.hardware.coexecution.model_dump(mode="json")
    run.update(power_w=[88, 132, 198, 220, 220], frequency_mhz=[1530, 1530, 1530, 1400, 300])
    steep = changed_profile(hardware={"max_power_w": 220, "coexecution": run})
    problem = table_3_problem(gpu_types=(v100(profile=steep),))
    hot = DraftGpu(0, [Draft(workload, 1, 8, 8, 100.0) for workload in (0, 1, 2, 3, 6)])
    judge = DraftJudge(problem, [hot, DraftGpu(0, [Draft(4, 1, 1, 2, 1e6)]), DraftGpu(0, [Draft(5, 1, 4, 36, 9.0)])])
    assert judge.bounded.tolist() == [False, True, True]
    assert judge.keeps.tolist() == [*[False] * 6, True]
    assert not judge.holds
    (found,) = judge.unbounded()
    assert (found.gpu, found.workloads) == (0, ["W1", "W2", "W3", "W4", "W7"])
    assert judge.over_slo(without=[0]) == ["W5"]


def test_an_empty_draft_serves_nobody() -> None:
    problem = table_3_problem()
    judge = DraftJudge(problem, [])
    assert not judge.holds
    assert judge.bounded.tolist() == []
    assert draft_cost(problem, []) == 0

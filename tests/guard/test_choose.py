"""Which share comes next, against trying all of them with the whole plan judged."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import igniter_opt as ig
from igniter_opt.data.plan import Plan, PlanGpu
from igniter_opt.data.profile import ModelMemory
from igniter_opt.guard.choose import Choice, Key, placement_of, repair, returns, variants, with_place
from igniter_opt.verify import verify
from tests.deploy.conftest import solve

KINDS = ("latency", "throughput", "share", "memory")
A: Key = ("A", 1)


@cache
def three() -> Plan:
    return solve(ig.read_instance("igniter-three"))


def faults(plan: Plan, margins: dict[Key, float]) -> set[str]:
    found = verify(plan, margins).violations
    return {entry.where for entry in found if entry.kind in KINDS and entry.where != "solver"}


def by_trial(plan: Plan, key: Key, margins: dict[Key, float], step: float) -> float | None:
    """The least share at which it holds, and all that held before: by a step more, or else by less."""
    gpu, placement = placement_of(plan, key)
    for least in (step, 2.5):
        for level in range(1, 41):
            share = 2.5 * level
            after = faults(with_place(plan, key, gpu.name, share), margins)
            new = after - (faults(plan, margins) - {f"{gpu.name}/{key[0]}#1"})
            if share >= placement.share_percent + least and not new:
                return share
    return None


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["A", "R", "S"]),
    st.floats(-0.1, 1.0),
    st.floats(-0.05, 0.02),
    st.sampled_from([2.5, 5.0, 10.0, 40.0]),
)
def test_the_next_share_is_the_least_that_holds(workload: str, error: float, others: float, step: float) -> None:
    plan = three()
    margins = {(name, 1): max(0.0, others) for name in ("A", "R", "S")}
    margins[workload, 1] = max(0.0, error)
    choice = repair(plan, (workload, 1), margins, step)
    assert (None if choice is None else choice.share_percent) == by_trial(plan, (workload, 1), margins, step)


def test_neighbours_must_hold_with_their_own_errors(plan: Plan) -> None:
    assert repair(plan, A, {A: 0.3}) == Choice("V100-1", 30.0, "the least share that holds on paper")
    # R holds with an error of 1.1 %, but not beside A at 30 %: nor at more.
    assert repair(plan, A, {A: 0.3, ("R", 1): 0.011}) is None
    # With 5 % it does not hold as it is, which is its own matter.
    assert repair(plan, A, {A: 0.3, ("R", 1): 0.05}) is not None


def test_the_plans_margin_is_the_least(plan: Plan) -> None:
    cautious = plan.model_copy(update={"solver": plan.solver.model_copy(update={"margin": 0.3})})
    assert repair(cautious, A, {A: 0.1}, 2.5) == repair(plan, A, {A: 0.3}, 2.5)
    assert repair(cautious, A, {A: 0.1}, 2.5) != repair(plan, A, {A: 0.1}, 2.5)


def test_errors_observed_count_where_the_plans_margin_leaves_nothing(plan: Plan) -> None:
    # With a margin of 1.1 %, R holds, but not beside A at any larger share.
    tight = plan.model_copy(update={"solver": plan.solver.model_copy(update={"margin": 0.011})})
    assert repair(tight, A, {A: 0.3}) is None
    assert repair(tight, A, {A: 0.3, ("R", 1): 0.011, ("S", 1): 0.0}) is None
    why = "the least share that holds on paper with the errors observed"
    for error in (-0.1, 0.0):
        assert repair(tight, A, {A: 0.3, ("R", 1): error}) == Choice("V100-1", 30.0, why)


def test_a_whole_step_comes_before_the_plans_margin(plan: Plan) -> None:
    # A little more for A would leave R this margin, a step of 10 points would not.
    tight = plan.model_copy(update={"solver": plan.solver.model_copy(update={"margin": 0.01})})
    little = repair(tight, A, {A: 0.3}, 2.5)
    assert little is not None and little.share_percent < 30.0
    observed = {A: 0.3, ("R", 1): 0.0, ("S", 1): 0.0}
    found = repair(tight, A, observed)
    assert found is not None
    assert found.share_percent >= 30.0 and found.why.endswith("with the errors observed")
    assert repair(tight, A, observed, 2.5) == little


def two_gpus() -> Plan:
    instance = ig.read_instance("igniter-three")
    extra = instance.workloads[1].model_copy(update={"name": "B"})
    return solve(instance.model_copy(update={"workloads": (*instance.workloads, extra)}))


def test_another_gpu_where_the_own_has_no_more() -> None:
    plan = two_gpus()
    assert len(plan.gpus) == 2
    home = next(gpu for gpu in plan.gpus if gpu.total_share_percent > 75)
    other = next(gpu for gpu in plan.gpus if gpu is not home)
    name = next(p.workload for p in home.placements if p.share_percent <= 45)
    full = _filled(plan, home, (name, 1))
    choice = repair(full, (name, 1), {(name, 1): 0.1})
    assert choice is not None and choice.gpu == other.name and "has no such share left" in choice.why
    moved = with_place(full, (name, 1), choice.gpu, choice.share_percent)
    assert not [
        entry
        for entry in verify(moved, {(name, 1): 0.1}).violations
        if entry.kind in KINDS and entry.where.startswith(other.name)
    ]


def _filled(plan: Plan, gpu: PlanGpu, key: Key) -> Plan:
    """Give a GPU's other placements all its share."""
    other = next(p for p in gpu.placements if (p.workload, p.replica) != key)
    share = other.share_percent + 100.0 - gpu.total_share_percent
    return with_place(plan, (other.workload, other.replica), gpu.name, share)


@pytest.mark.parametrize(("memory", "fits"), [(1000.0, True), (2900.0, True), (3100.0, False)])
def test_old_and_new_server_need_memory_side_by_side(plan: Plan, memory: float, fits: bool) -> None:
    (gpu,) = plan.instance.gpu_types
    models = {
        name: model.model_copy(update={"memory": ModelMemory(fixed_mib=1000.0 if name != "alexnet" else memory)})
        for name, model in gpu.profile.models.items()
    }
    card = gpu.model_copy(update={"profile": gpu.profile.model_copy(update={"models": models}), "memory_mib": 8000.0})
    instance = plan.instance.model_copy(update={"gpu_types": (card,)})
    assert (repair(plan.model_copy(update={"instance": instance}), A, {A: 0.3}) is not None) == fits


@pytest.mark.parametrize(
    ("rate", "error", "back"),
    [
        (1200.0, 0.0, True),  # as planned: no error, no need
        (1200.0, 0.3, False),
        (900.0, 0.3, False),
        (600.0, 0.3, False),  # batches of 4 at most: 4.6 ms with the error, and a tenth more is too much
        (400.0, 0.3, True),
        (0.0, 0.0, False),  # nothing is known
        (1300.0, 0.0, True),
        (1400.0, 0.0, False),  # more than the placement can carry at its planned share
    ],
)
def test_going_back_takes_a_load_that_the_planned_share_carries(
    plan: Plan, rate: float, error: float, back: bool
) -> None:
    given_more = with_place(plan, A, "V100-1", 30.0)
    assert returns(given_more, A, "V100-1", 20.0, rate, {A: error}) == back


@settings(max_examples=100, deadline=None)
@given(st.floats(50, 1500), st.floats(0, 0.6), st.floats(1.0, 1.5))
def test_going_back_is_monotone_in_the_load(rate: float, error: float, more: float) -> None:
    given_more = with_place(three(), A, "V100-1", 30.0)
    if returns(given_more, A, "V100-1", 20.0, rate * more, {A: error}):
        assert returns(given_more, A, "V100-1", 20.0, rate, {A: error})


def test_a_gpu_type_whose_profile_lacks_the_model_is_none() -> None:
    """Or whose profile does not go as far as the batch."""
    plan = two_gpus()
    home = next(gpu for gpu in plan.gpus if gpu.total_share_percent > 75)
    other = next(gpu for gpu in plan.gpus if gpu is not home)
    name = next(p.workload for p in home.placements if p.share_percent <= 45)
    full = _filled(plan, home, (name, 1))
    model = placement_of(full, (name, 1))[1].model
    (card,) = full.instance.gpu_types
    models = {key: value for key, value in card.profile.models.items() if key != model}
    less = card.model_copy(
        update={"name": "less", "profile": card.profile.model_copy(update={"models": models, "name": "less"})}
    )
    gpus = tuple(gpu.model_copy(update={"type": "less"}) if gpu.name == other.name else gpu for gpu in full.gpus)
    instance = full.instance.model_copy(update={"gpu_types": (card, less)})
    moved = full.model_copy(update={"gpus": gpus, "instance": instance})
    assert model not in {p.model for p in other.placements}
    assert repair(full, (name, 1), {(name, 1): 0.1}) is not None
    assert repair(moved, (name, 1), {(name, 1): 0.1}) is None
    large = with_place(full, (name, 1), home.name, placement_of(full, (name, 1))[1].share_percent)
    assert repair(_with_batch(large, (name, 1), 1000), (name, 1), {}) is None


def _with_batch(plan: Plan, key: Key, batch: int) -> Plan:
    gpus = []
    for gpu in plan.gpus:
        placements = [
            p.model_copy(update={"batch": batch}) if (p.workload, p.replica) == key else p for p in gpu.placements
        ]
        gpus.append(gpu.model_copy(update={"placements": tuple(placements)}))
    return plan.model_copy(update={"gpus": tuple(gpus)})


def test_under_rule_p99_the_queue_is_judged() -> None:
    plan = ig.solve(ig.read_instance("igniter-three"), "igniter", slo_rule="p99", max_replicas=3).plan
    gpu, placement = next((gpu, p) for gpu in plan.gpus for p in gpu.placements if gpu.total_share_percent < 85)
    key = (placement.workload, placement.replica)
    choice = repair(plan, key, {key: 0.1}, 2.5)
    assert choice is not None
    given_more = with_place(plan, key, choice.gpu, choice.share_percent)
    assert f"{choice.gpu}/{key[0]}#{key[1]}" not in faults(given_more, {key: 0.1})
    assert returns(given_more, key, gpu.name, placement.share_percent, placement.rate_rps, {key: 0.0})
    assert not returns(given_more, key, gpu.name, placement.share_percent, placement.rate_rps, {key: 0.5})
    assert returns(given_more, key, gpu.name, placement.share_percent, 0.01 * placement.rate_rps, {key: 0.01})


def test_variants_are_all_shares_that_are_free(plan: Plan) -> None:
    found = {placement_of(entry, A)[1].share_percent for entry in variants(plan, A)}
    assert found == {2.5 * level for level in range(1, 17)}
    plan = two_gpus()
    places = {(g.name, p.share_percent) for entry in variants(plan, A) for g, p in [placement_of(entry, A)]}
    assert {name for name, _ in places} == {gpu.name for gpu in plan.gpus}

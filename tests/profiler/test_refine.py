"""Measuring where plans are, on made-up cards that differ from their profile."""

import warnings
from pathlib import Path

import pytest

import igniter_opt as ig
from igniter_opt import InputError
from igniter_opt.base.errors import Caution
from igniter_opt.base.stop import StopRequest
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.instance import Instance, Workload
from igniter_opt.data.plan import Plan
from igniter_opt.data.profile import Profile
from igniter_opt.profiler.colocate import _parts, planned_groups
from igniter_opt.profiler.make import make_measurements
from igniter_opt.profiler.refine import Refined, planned_again, refine
from igniter_opt.profiler.runners.runner import Job
from igniter_opt.profiler.runners.synthetic import SyntheticRunner
from igniter_opt.profiler.session import StoppedError
from tests.fitting.test_served import served

MODELS = (("alexnet", 8.0, 3000.0), ("resnet50", 14.0, 1500.0), ("vgg19", 20.0, 700.0))


def planned(card: Profile, scale: float = 1.0) -> Plan:
    instance = Instance(
        name="three",
        slo_rule="half",
        gpu_types=(GpuType(name="GPU", profile=card, price_per_hour=1.0),),
        workloads=tuple(Workload(name=m, model=m, slo_ms=slo, rate_rps=scale * rate) for m, slo, rate in MODELS),
    )
    return ig.solve(instance, "bestfit").plan


@pytest.fixture(scope="module")
def card() -> Profile:
    profile = ig.read_profile("h200")
    models = {name: profile.models[name] for name, _, _ in MODELS}
    # Without what was measured beyond the grid there is something to find out, and fits are quick.
    bare = {"solo_measurements": None, "colocated_measurements": None, "models": models}
    return profile.model_copy(update=bare)


@pytest.fixture(scope="module")
def truth(card: Profile) -> Profile:
    """A card on which everything takes 12 % longer than in the profile."""
    models = {}
    for name, model in card.models.items():
        longer = tuple(tuple(1.12 * value for value in row) for row in model.solo_grid.gpu_latency_ms)
        grid = model.solo_grid.model_copy(update={"gpu_latency_ms": longer})
        models[name] = model.model_copy(update={"solo_grid": grid})
    return card.model_copy(update={"models": models})


@pytest.fixture(scope="module")
def refined(card: Profile, truth: Profile) -> Refined:
    return refine(SyntheticRunner(truth), card, [planned(card)], tolerance=0.0, rounds=1)


def test_what_plans_hold_is_measured_alone_and_together(card: Profile, refined: Refined) -> None:
    plan = planned(card)
    placements = {(p.model, p.batch) for gpu in plan.gpus for p in gpu.placements}
    solo, side = refined.measurements.solo, refined.measurements.colocated
    assert solo is not None and side is not None
    assert set(zip(solo.model, solo.batch, strict=True)) == placements
    assert {tuple(sorted(side.model[k] for k in rows)) for rows in side.members().values()} == {
        tuple(sorted(p.model for p in gpu.placements)) for gpu in plan.gpus if len(gpu.placements) > 1
    }
    assert refined.profile.solo_measurements == solo


def test_predictions_come_closer(refined: Refined) -> None:
    (only,) = refined.rounds
    assert only.groups == 1 and only.readings == 3
    assert only.before.bias == pytest.approx(-0.1, abs=0.03)
    assert only.after.mean < 0.5 * only.before.mean
    assert not refined.foretold(0.03)
    assert refined.agrees(0.03) and not refined.agrees(0.5 * only.after.mean)


def test_it_ends_when_predictions_agree_or_nothing_is_new(card: Profile, truth: Profile) -> None:
    exact = refine(SyntheticRunner(card), card, [planned(card)], tolerance=0.03)
    assert len(exact.rounds) == 1 and exact.agrees(0.03)
    same = refine(SyntheticRunner(truth), card, [planned(card)], tolerance=0.0, solve_again=lambda plan, _: plan)
    assert len(same.rounds) == 1
    asked = []

    def again(plan: Plan, profile: Profile) -> Plan | None:
        asked.append(profile)
        return planned(card, 0.5) if len(asked) == 1 else None

    other = refine(SyntheticRunner(truth), card, [planned(card)], tolerance=0.0, solve_again=again)
    assert len(other.rounds) == 2 and len(asked) == 2
    assert asked[0].solo_measurements is not None  # plans are made with what was measured


def test_plans_are_made_anew_by_their_method_for_the_new_profile(card: Profile, refined: Refined) -> None:
    plan = planned(card)
    again = planned_again(plan, refined.profile, 10.0)
    assert again is not None and again.solver.method == plan.solver.method
    assert again.instance.gpu_types[0].profile.solo_measurements == refined.profile.solo_measurements
    assert again.total_share_percent > plan.total_share_percent
    crowded = plan.model_copy(
        update={
            "instance": plan.instance.with_options(scale=100.0).model_copy(
                update={"gpu_types": (plan.instance.gpu_types[0].model_copy(update={"count": 1}),)}
            )
        }
    )
    assert planned_again(crowded, refined.profile, 10.0) is None


def test_margins_are_kept_and_raised_where_plans_ask_for_more(card: Profile, refined: Refined) -> None:
    """One group of three supports a confidence of a half, at which its worst reading counts."""
    before, after = (entry.calibration["refined"] for entry in (card, refined.profile))  # type: ignore[index]
    assert after.confidence == before.confidence and after.readings == before.readings
    assert after.margin[0] > 0.08 > before.margin[0]
    assert all(new >= old for new, old in zip(after.margin, before.margin, strict=True))
    assert list(after.margin) == sorted(after.margin)


def test_what_serving_adds_stays_and_is_not_counted(card: Profile, truth: Profile, refined: Refined) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Caution)
        found = refine(SyntheticRunner(truth), served(card), [planned(card)], tolerance=0.0, rounds=1)
    assert found.profile.serving == served(card).serving
    assert found.rounds == refined.rounds


def test_it_goes_on_from_its_log(card: Profile, truth: Profile, tmp_path: Path) -> None:
    class Stopping(SyntheticRunner):
        def measure(self, jobs, seconds):  # type: ignore[no-untyped-def]
            if len(self.measured) == 2:
                stop.set()
            return super().measure(jobs, seconds)

    stop, log = StopRequest(), tmp_path / "log.jsonl"
    with pytest.raises(StoppedError):
        refine(Stopping(truth), card, [planned(card)], rounds=1, log=log, stop=stop)
    runner = SyntheticRunner(truth)
    found = refine(runner, card, [planned(card)], rounds=1, log=log, tolerance=0.0)
    assert len(runner.measured) == 1
    assert found.rounds[0].readings == 3


def test_groups_are_measured_once_and_those_of_other_cards_are_left_out(card: Profile, v100: Profile) -> None:
    plan = planned(card)
    assert len(planned_groups([plan, plan], card)) == 1
    with pytest.raises(InputError, match="no plan has a GPU of type"):
        refine(SyntheticRunner(v100), v100, [plan])
    for wrong, says in (({"rounds": 0}, "rounds: must be 1 to"), ({"tolerance": 1.5}, "tolerance: must be")):
        with pytest.raises(InputError, match=says):
            refine(SyntheticRunner(card), card, [plan], **wrong)  # type: ignore[arg-type]


def test_a_placement_that_has_its_gpu_to_itself_is_judged_alone(card: Profile, truth: Profile) -> None:
    plan = planned(card)
    (gpu,) = plan.gpus
    single = plan.model_copy(update={"gpus": (gpu.model_copy(update={"placements": gpu.placements[:1]}),)})
    found = refine(SyntheticRunner(truth), card, [single], rounds=1, tolerance=0.0)
    assert found.measurements.colocated is None
    assert found.rounds[0].readings == 1
    assert found.rounds[0].before.bias < -0.05


def test_many_processes_come_in_parts() -> None:
    groups = [(f"group {n}", [Job("m", 1, 8 + 2 * ((5 * n + k) % 40)) for k in range(5)]) for n in range(12)]
    parts = _parts(groups)
    assert sorted(key for part in parts for key, _ in part) == sorted(key for key, _ in groups)
    assert len(parts) > 1
    for part in parts:
        assert len({job.sms for _, group in part for job in group}) <= 24


def test_colocate_takes_the_gpus_of_plans(card: Profile, tmp_path: Path) -> None:
    plan, runner, log = planned(card), SyntheticRunner(card), tmp_path / "log.jsonl"
    names = list(card.models)
    found = make_measurements(runner, card, names, pairs=2, larger=0, plans=[plan], alone=False, log=log)
    assert found.colocated is not None and found.solo is None
    (*_, last) = found.colocated.members().values()
    assert sorted(found.colocated.model[k] for k in last) == sorted(names)
    assert len(found.colocated.members()) == 3
    again = SyntheticRunner(card)
    make_measurements(again, card, names, pairs=2, larger=0, plans=[plan], alone=False, log=log)
    assert not again.measured


def test_colocate_draws_from_given_batches_and_shares(card: Profile) -> None:
    names = list(card.models)
    found = make_measurements(
        SyntheticRunner(card), card, names, pairs=10, larger=0, batches=[2, 7], shares=[24, 50, 70], alone=False
    )
    assert found.colocated is not None
    assert set(found.colocated.batch) == {2, 7}
    assert len(set(found.colocated.share_percent)) <= 3
    for wrong, says in (
        ({"batches": [0]}, "batches: give at least one"),
        ({"shares": [120]}, "shares: give at least one"),
        ({"shares": [10, 12]}, "shares: no 2 of these fill"),
        ({"shares": [10]}, "shares: groups of 2 need as many"),
    ):
        with pytest.raises(InputError, match=says):
            make_measurements(SyntheticRunner(card), card, names, pairs=10, larger=0, **wrong)  # type: ignore[arg-type]

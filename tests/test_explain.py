"""Explanations say what the judge says: of every placement as it is, and of every change that they name."""

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest

import igniter_opt as ig
from igniter_opt.base.text import rounded
from igniter_opt.data.plan import Placement, PlanGpu
from igniter_opt.explanation import Alternative, PlacementExplanation, room_elsewhere
from tests.cli.helpers import invoke, rejected
from tests.support.synthetic import helped_by_company, random_instance, random_profile

JUDGED = {"latency", "throughput", "memory", "share"}


def cases() -> dict[str, ig.Plan]:
    rng = random.Random(5)
    cards = [random_profile(rng, f"card{k}", unit=10.0, memory=True) for k in range(2)]
    two_cards = random_instance(rng, cards, 6, slo_rule="deadline", max_replicas=2)
    three = ig.read_instance("igniter-three")
    slower = tuple(entry.model_copy(update={"rate_rps": entry.rate_rps / 4}) for entry in three.workloads)
    return {
        "table3": ig.solve("igniter-table3", "igniter").plan,
        "margin": ig.solve("igniter-table3", "ffd++", margin=0.1).plan,
        "two cards": ig.solve(two_cards, "igniter").plan,
        "p99": ig.solve(three.model_copy(update={"workloads": slower}), "igniter", slo_rule="p99").plan,
    }


CASES = cases()


def placement_of(plan: ig.Plan, entry: PlacementExplanation) -> tuple[PlanGpu, Placement]:
    gpu = next(gpu for gpu in plan.gpus if gpu.name == entry.gpu)
    name, _, replica = entry.workload.partition("#")
    return gpu, next(p for p in gpu.placements if (p.workload, p.replica) == (name, int(replica or 1)))


def changed(plan: ig.Plan, entry: PlacementExplanation, other: Alternative) -> PlanGpu:
    """The GPU that an alternative is about, with the placement as it says."""
    _, own = placement_of(plan, entry)
    moved = own.model_copy(update={"batch": other.batch, "share_percent": other.share_percent})
    if other.kind == "type":
        return PlanGpu(name="new", type=other.place, placements=(moved,))
    host = next(host for host in plan.gpus if host.name == other.place)
    return host.model_copy(update={"placements": (*(p for p in host.placements if p is not own), moved)})


def judge_holds(plan: ig.Plan, gpu: PlanGpu) -> bool:
    found = ig.verify(plan.model_copy(update={"gpus": (gpu,)}))
    return not [entry for entry in found.violations if entry.kind in JUDGED and entry.where.startswith(gpu.name)]


def test_progress_counts_placements() -> None:
    told: list[tuple[int, int]] = []
    ig.explain(CASES["table3"], on_progress=lambda done, of_all: told.append((done, of_all)))
    assert told == [(k, 12) for k in range(1, 13)]


@pytest.mark.parametrize("name", CASES)
def test_placements_are_as_the_judge_says(name: str) -> None:
    plan = CASES[name]
    checks = {
        (c.gpu, c.workload if c.replica == 1 else f"{c.workload}#{c.replica}"): c for c in ig.verify(plan).placements
    }
    explanation = ig.explain(plan)
    assert {(entry.gpu, entry.workload) for entry in explanation.placements} == set(checks)
    for entry in explanation.placements:
        check = checks[entry.gpu, entry.workload]
        assert (entry.latency_ms, entry.limit_ms, entry.holds) == (check.latency_ms, check.limit_ms, check.ok)
        assert entry.latency_with_margin_ms == pytest.approx(check.limit_ms - check.slack_ms)
        assert entry.batch in entry.batches
        assert entry.alone_ms <= entry.latency_with_margin_ms * (1 + 1e-12)


@pytest.mark.parametrize("name", CASES)
def test_every_change_does_what_is_said(name: str) -> None:
    plan = CASES[name]
    kinds = set()
    for entry in ig.explain(plan).placements:
        for other in entry.alternatives:
            if other.share_percent is not None:
                assert judge_holds(plan, changed(plan, entry, other)) == other.holds, (entry.workload, other)
                assert bool(other.shortfalls) != other.holds
                kinds.add((other.kind, other.holds))
    assert {("share", False), ("type", True), ("batch", False)} <= kinds


@pytest.mark.parametrize("name", ["table3", "two cards"])
def test_what_is_said_of_all_batches_and_shares_is_found_by_trying_all(name: str) -> None:
    plan = CASES[name]
    for entry in ig.explain(plan).placements:
        gpu, own = placement_of(plan, entry)
        card = next(known for known in plan.instance.gpu_types if known.name == gpu.type).profile
        most = card.models[own.model].max_batch

        def holding(kind: str, place: str, share: float, entry=entry, most=most) -> list[int]:
            tried = [Alternative(kind, place, batch, share, holds=False) for batch in range(1, most + 1)]
            return [other.batch or 0 for other in tried if judge_holds(plan, changed(plan, entry, other))]

        assert list(entry.batches) == holding("batch", entry.gpu, own.share_percent)
        unit = card.hardware.share_unit_percent
        assert bool(entry.of_kind("share")) == (own.share_percent > unit)
        for smaller in entry.of_kind("share"):
            assert smaller.share_percent == pytest.approx(own.share_percent - unit)
            assert bool(holding("share", entry.gpu, own.share_percent - unit)) == smaller.holds
        (alone,) = (other for other in entry.of_kind("type") if other.place == gpu.type)
        if alone.holds and alone.share_percent > unit:
            assert not holding("type", gpu.type, alone.share_percent - unit)


@pytest.mark.parametrize("name", ["table3", "two cards"])
def test_of_what_does_not_hold_that_which_misses_least_is_shown(name: str) -> None:
    plan = CASES[name]

    def misses(gpu: PlanGpu) -> float:
        checks = ig.verify(plan.model_copy(update={"gpus": (gpu,)})).placements
        late = max(check.latency_ms / check.limit_ms if check.limit_ms > 0 else math.inf for check in checks)
        return max(late, *(check.rate_rps / check.throughput_rps for check in checks))

    tried = 0
    for entry in ig.explain(plan).placements:
        for other in entry.alternatives:
            if (
                other.kind in ("share", "gpu")
                and not other.holds
                and {s.kind for s in other.shortfalls} <= JUDGED - {"memory"}
            ):
                shown = misses(changed(plan, entry, other))
                batches = range(1, 5)
                assert (
                    shown <= min(misses(changed(plan, entry, replace(other, batch=batch))) for batch in batches) + 1e-12
                )
                tried += 1
    assert tried > 3


def test_neighbours_that_help_leave_no_gpu_untried() -> None:
    rng = random.Random(3)
    card = helped_by_company(random_profile(rng, unit=20.0))
    plan = ig.solve(random_instance(rng, [card], 4), "ffd++").plan
    for entry in ig.explain(plan).placements:
        own = placement_of(plan, entry)[0]
        free = [gpu for gpu in plan.gpus if gpu is not own and gpu.total_share_percent <= 80.0]
        assert {other.place for other in entry.of_kind("gpu")} == {gpu.name for gpu in free}
        assert entry.unable_gpus == 0


def test_a_gpu_with_more_than_all_of_its_share_is_full() -> None:
    plan = ig.solve("igniter-motivation", "dedicated").plan
    heavy = plan.gpus[0].model_copy(update={"placements": plan.gpus[0].placements * 2})
    found = ig.explain(plan.model_copy(update={"gpus": (heavy, *plan.gpus[1:])})).placements[-1]
    assert found.full_gpus == 2


def test_cards_without_the_model_are_told_apart_from_full_ones() -> None:
    plan = ig.solve("igniter-three", "igniter").plan
    (gpu,) = plan.instance.gpu_types
    models = {name: model for name, model in gpu.profile.models.items() if name != "ssd"}
    other = gpu.model_copy(update={"name": "other", "profile": gpu.profile.model_copy(update={"models": models})})
    instance = plan.instance.model_copy(update={"gpu_types": (gpu, other)})
    alexnet = next(p for p in plan.gpus[0].placements if p.model == "alexnet")
    second = PlanGpu(name="other-1", type="other", placements=(alexnet,))
    rest = tuple(p for p in plan.gpus[0].placements if p is not alexnet)
    first = plan.gpus[0].model_copy(update={"placements": rest})
    changed_plan = plan.model_copy(update={"instance": instance, "gpus": (first, second)})
    entries = {entry.model: entry for entry in ig.explain(changed_plan).placements}
    assert (entries["ssd"].unable_gpus, entries["ssd"].full_gpus) == (1, 0)
    assert [other.words for other in entries["ssd"].of_kind("type")][-1] == "its profile does not have the model"


def test_what_a_neighbour_adds_is_what_goes_with_it() -> None:
    plan = CASES["table3"]
    for entry in ig.explain(plan).placements:
        gpu, own = placement_of(plan, entry)
        assert len(entry.neighbours) == len(gpu.placements) - 1
        for effect in entry.neighbours:
            rest = tuple(p for p in gpu.placements if p.workload != effect.workload)
            without = ig.verify(plan.model_copy(update={"gpus": (gpu.model_copy(update={"placements": rest}),)}))
            (check,) = (check for check in without.placements if check.workload == own.workload)
            assert effect.added_ms == pytest.approx(entry.latency_ms - check.latency_ms)


def test_another_gpu_with_room_costs_nothing_and_one_alone_gives_its_gpu_back() -> None:
    plan = ig.solve("igniter-motivation", "dedicated").plan
    for entry in ig.explain(plan).placements:
        others = [other for other in entry.of_kind("gpu") if other.holds]
        assert entry.elsewhere_per_hour == (-3.06 if others else 0.0)
        assert entry.binds == ()
        assert "would hold, too" in entry.binding


def test_the_least_share_of_a_card_binds() -> None:
    plan = CASES["table3"]
    gpu = plan.instance.gpu_types[0]
    least = min(p.share_percent for g in plan.gpus for p in g.placements)
    hardware = gpu.profile.hardware.model_copy(update={"least_share_percent": least})
    card = gpu.model_copy(update={"profile": gpu.profile.model_copy(update={"hardware": hardware})})
    raised = plan.model_copy(update={"instance": plan.instance.model_copy(update={"gpu_types": (card,)})})
    entries = [entry for entry in ig.explain(raised).placements if entry.share_percent == least]
    assert entries
    assert all(entry.binds == ("least share",) and not entry.of_kind("share") for entry in entries)


def test_one_workload_has_all_its_replicas() -> None:
    plan = ig.solve("igniter-three", "dedicated", slo_rule="p99", max_replicas=3).plan
    names = [(p.workload, p.replica) for gpu in plan.gpus for p in gpu.placements]
    for workload in dict(names):
        found = ig.explain(plan, workload).placements
        assert len(found) == sum(name == workload for name, _ in names)


def test_one_replica_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    crowded = ig.read_instance("igniter-three").with_options(scale=4)
    plan = ig.solve(crowded, "dedicated", slo_rule="deadline", max_replicas=3).plan
    replicas = [f"{p.workload}#{p.replica}" for gpu in plan.gpus for p in gpu.placements]
    assert any(name.endswith("#2") for name in replicas)
    for name in replicas:
        (found,) = ig.explain(plan, name).placements
        assert found.workload == name.removesuffix("#1")
    ig.write_plan(plan, "plan.json")
    rejected("explain", "plan.json", "nobody#2", says=("the plan has no workload 'nobody#2'",))


def test_where_a_proof_within_safe_limits_binds_it_says_so() -> None:
    """By the exact analysis a whole GPU is too much; a proof of the least share says that the limits allow no less."""
    plan = ig.solve("igniter-three", "dedicated", slo_rule="p99", max_replicas=3).plan
    free = [entry for entry in ig.explain(plan).placements if not entry.binds]
    assert free and all(entry.binding.startswith("nothing: ") for entry in free)
    proven = {"status": "optimal", "total_share_lower_bound_percent": plan.solver.total_share_percent}
    claimed = plan.model_copy(update={"solver": plan.solver.model_copy(update=proven)})
    named = {entry.workload: entry for entry in ig.explain(claimed).placements}
    for entry in free:
        assert named[entry.workload].binds == ("safe limits",)
        assert "would hold by the exact analysis, but the limits" in named[entry.workload].binding
    # Rules whose limits are exact have no such excuse.
    table3 = ig.solve("igniter-motivation", "dedicated").plan
    proven["total_share_lower_bound_percent"] = table3.solver.total_share_percent
    exact = table3.model_copy(update={"solver": table3.solver.model_copy(update=proven)})
    assert {entry.binds for entry in ig.explain(exact).placements} == {()}


def test_a_type_of_which_none_is_left_is_no_choice(tmp_path: Path) -> None:
    plan = CASES["margin"]
    (card,) = plan.instance.gpu_types
    scarce = plan.instance.model_copy(update={"gpu_types": (card.model_copy(update={"count": len(plan.gpus)}),)})
    for entry in ig.explain(plan.model_copy(update={"instance": scarce})).placements:
        (alone,) = entry.of_kind("type")
        gpu, _ = placement_of(plan, entry)
        assert alone.none_left == (len(gpu.placements) > 1)
        assert not any(other.none_left for other in ig.explain(plan, entry.workload).placements[0].of_kind("type"))
    ig.write_plan(plan.model_copy(update={"instance": scarce}), tmp_path / "plan.json")
    entry = next(e for e in ig.explain(plan).placements if e.neighbours)
    out = invoke("explain", tmp_path / "plan.json", entry.workload).out
    assert "holds, but none is left" in out
    assert "need not add up" in out
    (check,) = (c for c in ig.verify(plan).placements if c.workload == entry.workload)
    assert f"can carry {rounded(check.throughput_rps)} req/s ({rounded(entry.throughput_rps)} with margin)" in out


def test_as_table_data_and_page() -> None:
    explanation = ig.explain(CASES["table3"])
    table = explanation.to_frame()
    assert list(table["workload"]) == [entry.workload for entry in explanation.placements]
    assert repr(explanation).startswith("Explanation(instance='igniter-table3', method='igniter'")
    html = explanation._repr_html_()
    assert html is not None
    assert html.count("<tr") == 1 + 12
    for entry in explanation.placements:
        assert room_elsewhere(entry).startswith(("of 5, none would hold it", "of 5, V100-"))


def test_what_cannot_be_explained_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ig.write_plan(CASES["table3"], "plan.json")
    rejected("explain", "plan.json", "W13", says=("the plan has no workload 'W13'", "W1"))
    rejected("explain", "nothing.json", says=("nothing.json: no such file",))
    gpu = CASES["table3"].gpus[0].model_copy(update={"type": "A100"})
    ig.write_plan(CASES["table3"].model_copy(update={"gpus": (gpu,)}), "wrong.json")
    rejected("explain", "wrong.json", says=("cannot be explained", "unknown GPU type 'A100'"))


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    ig.write_plan(CASES["margin"], path)
    everything = invoke("explain", path)
    assert everything.code == 0
    assert "with margin 0.1" in everything.out
    one = invoke("explain", path, "W7")
    for text in (
        "what binds:",
        "next smaller share",
        "alone on an empty V100",
        "ffd++",
        "batches that hold at this share",
    ):
        assert text in one.out
    data = invoke("explain", path, "W7", "--json").json()
    assert [entry["workload"] for entry in data["placements"]] == ["W7"]
    assert all(entry["words"] for entry in data["placements"][0]["alternatives"])

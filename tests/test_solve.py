from dataclasses import replace
from typing import Any

import pytest

from igniter_opt import InfeasibleError, InputError, VerificationError, methods, read_instance, solve, verify
from igniter_opt import solve as solve_function
from igniter_opt.base.errors import UnboundedError, UnsuitableError
from igniter_opt.base.files import parse_json
from igniter_opt.compare import compare
from igniter_opt.data.instance import Instance, Workload
from igniter_opt.data.plan import plan_from_data, plan_json
from igniter_opt.data.profile import read_profile
from igniter_opt.heuristics import demand
from igniter_opt.methods import METHODS, Heuristic, SliceHeuristic
from igniter_opt.problem.draft import Draft, DraftGpu
from tests.heuristics.problems import TABLE_3, changed_profile, problem, v100
from tests.support.synthetic import helped_by_company

TABLE3 = read_instance("igniter-table3")

ON_SHARED_CARDS = [name for name, row in METHODS.items() if not isinstance(row, SliceHeuristic)]


def row(name: str, **changes: Any) -> Heuristic:
    """A heuristic's row, changed."""
    found = METHODS[name]
    assert isinstance(found, Heuristic)
    return replace(found, **changes)


def test_auto_is_patterns_for_monotone_profiles() -> None:
    assert solve(read_instance("igniter-motivation")).plan.solver.method == "patterns"
    large = solve(read_instance("uniform-50-1"))
    assert (large.plan.solver.method, large.status) == ("patterns", "optimal")


@pytest.mark.parametrize(("workloads", "methods"), [(6, {"assignment"}), (31, {"igniter", "ffd++"})])
def test_auto_for_other_profiles_picks_by_size(workloads: int, methods: set[str]) -> None:
    """Neighbours that help: `patterns` would prove nothing."""
    gpu = TABLE3.gpu_types[0]
    odd = gpu.model_copy(update={"profile": helped_by_company(gpu.profile)})
    entries = tuple(
        TABLE3.workloads[k % 12].model_copy(update={"name": f"w{k}", "slo_ms": 60.0, "rate_rps": 50.0})
        for k in range(workloads)
    )
    result = solve(TABLE3.model_copy(update={"gpu_types": (odd,), "workloads": entries}), time_limit=5.0)
    assert result.verification.ok
    assert result.plan.solver.method in methods
    assert result.lower_bound is not None
    assert result.lower_bound <= result.cost


def test_a_plan_that_the_predictor_rejects_is_an_error_never_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """All twelve workloads on one GPU at one share unit each: a solver that says so has a bug."""
    broken = [DraftGpu(0, [Draft(k, 1, 1, 1, w.rate_rps) for k, w in enumerate(TABLE3.workloads)])]
    monkeypatch.setitem(methods._table, "igniter", row("igniter", place=lambda _: broken))
    with pytest.raises(VerificationError, match="please report"):
        solve_function(TABLE3, "igniter")


def test_plan_text_round_trip() -> None:
    plan = solve(TABLE3, "igniter").plan
    assert plan_from_data(parse_json(plan_json(plan), "text"), "text") == plan


def test_overrides_are_part_of_the_plan() -> None:
    result = solve(TABLE3, "igniter", slo_rule="deadline", max_replicas=2, margin=0.05)
    assert result.plan.instance.slo_rule == "deadline"
    assert {w.max_replicas for w in result.plan.instance.workloads} == {2}
    assert result.plan.solver.margin == 0.05


@pytest.mark.parametrize(
    "arguments",
    [
        {"method": "asignment"},
        {"time_limit": -1.0},
        {"time_limit": float("nan")},
        {"gap": -0.1},
        {"margin": float("inf")},
        {"max_replicas": 0},
        {"slo_rule": "p42"},
    ],
)
def test_bad_arguments(arguments: dict) -> None:  # type: ignore[type-arg]
    with pytest.raises(InputError):
        solve(TABLE3, **arguments)


def test_compare_goes_on_when_a_method_finds_nothing() -> None:
    short = TABLE3.model_copy(update={"gpu_types": (TABLE3.gpu_types[0].model_copy(update={"count": 5}),)})
    rows = {row.method: row for row in compare([short]).rows}
    assert rows["igniter"].status == "no plan"
    assert rows["ffd"].status == "violates"
    assert rows["bestfit"].status == "no plan"
    assert rows["patterns"].status == "infeasible"
    assert rows["patterns"].message
    assert all(row.saving_percent is None for row in rows.values())


def test_compare_savings_are_for_plans_that_hold() -> None:
    rows = {row.method: row for row in compare([TABLE3], ["ffd", "ffd++", "igniter"], slo_rule="half").rows}
    assert list(rows) == ["igniter", "ffd", "ffd++"]
    assert rows["ffd"].saving_percent is None
    assert rows["ffd++"].saving_percent == 0.0


def test_compare_refuses_equal_names() -> None:
    with pytest.raises(InputError, match="same name"):
        compare([TABLE3, TABLE3])


def test_infeasible_says_what_would_help() -> None:
    workload = TABLE3.workloads[0].model_copy(update={"rate_rps": 20_000.0})
    with pytest.raises(InfeasibleError, match="max_replicas of 3 or more") as caught:
        solve(TABLE3.model_copy(update={"workloads": (workload,)}))
    assert caught.value.proven


@pytest.mark.parametrize("method", ON_SHARED_CARDS)
@pytest.mark.parametrize("rate", [1, 100, 2000])
@pytest.mark.parametrize("model", ["bert_base", "vit_b_16"])
def test_shares_below_a_pole_are_never_sufficient(model: str, rate: float, method: str) -> None:
    """iGniter's formula gives these models negative times below 6 % of an H100: that is no speed."""
    card = v100(name="H100", profile=read_profile("h100", coefficients="igniter"))
    workloads = (Workload(name="W", model=model, slo_ms=50, rate_rps=rate),)
    instance = Instance(name="pole", gpu_types=(card,), workloads=workloads)
    try:
        result = solve(instance, method, time_limit=5)
    except UnsuitableError:
        assert method in ("bestfit", "patterns")
        return
    assert min(p.share_percent for gpu in result.plan.gpus for p in gpu.placements) > 5
    assert verify(result.plan).ok or not METHODS[method].verified


FEW = [("vgg19", 30, 200), ("alexnet", 10, 1200), ("resnet50", 30, 200), ("vgg19", 30, 200), ("ssd", 55, 100)]


def on_a_steep_card(rows: list[tuple[str, float, float]]) -> Instance:
    """Workloads on a V100 whose clock falls to nothing at 340 W or less."""
    power, clock = [88, 132, 198, 220, 220], [1530, 1530, 1530, 1400, 300]
    run = read_profile("v100").hardware.coexecution.model_dump(mode="json")
    run.update(power_w=power, frequency_mhz=clock)
    profile = changed_profile(hardware={"max_power_w": 220, "coexecution": run})
    return problem(rows, gpu_types=(v100(profile=profile),)).instance


def test_a_plan_without_finite_latencies_is_refused() -> None:
    with pytest.raises(
        UnboundedError, match=r"348 W, so far beyond its cap of 220 W .* W8, W1 would be without"
    ) as error:
        solve(on_a_steep_card(TABLE_3), "ffd")
    assert not error.value.proven
    assert error.value.gpus == 5
    # Those without a finite latency come first, the others are over by a finite one.
    assert error.value.workloads_over_slo[:2] == ["W8", "W1"]
    assert len(error.value.workloads_over_slo) == 12


def test_compare_counts_workloads_without_finite_latencies() -> None:
    rows = {row.method: row for row in compare([on_a_steep_card(FEW)], ["igniter", "ffd"], requests=1000).rows}
    row = rows["ffd"]
    assert (row.status, row.gpus, row.cost_per_hour, row.workloads_over_slo) == ("violates", 2, 6.0, 3)
    assert row.message is not None and "without bound" in row.message
    assert row.saving_percent is None and row.simulated_violation_ratio is None
    assert rows["igniter"].status == "heuristic"


def test_one_heuristic_without_finite_latencies_does_not_end_the_solve() -> None:
    """`auto` on a profile that is not monotone looks at every heuristic's plan first."""
    instance = on_a_steep_card(FEW)
    card = instance.gpu_types[0]
    helped = card.model_copy(update={"profile": helped_by_company(card.profile)})
    instance = instance.model_copy(update={"gpu_types": (helped,)})
    with pytest.raises(UnboundedError):
        solve(instance, "ffd")
    assert solve(instance, "auto", time_limit=1).verification.ok


@pytest.mark.parametrize("method", ["igniter", "ffd", "ffd++", "gslice", "gpulets"])
def test_latencies_that_nothing_can_have_are_the_profile_s_fault(method: str) -> None:
    card = v100()
    probes = {
        name: model.interference_probe.model_copy(
            update={"active_time_paired_ms": 0.001 * model.interference_probe.active_time_alone_ms}
        )
        for name, model in card.profile.models.items()
    }
    models = {
        name: model.model_copy(update={"interference_probe": probes[name]})
        for name, model in card.profile.models.items()
    }
    absurd = card.model_copy(update={"profile": card.profile.model_copy(update={"name": "absurd", "models": models})})
    instance = read_instance("igniter-table3").model_copy(update={"gpu_types": (absurd,)})
    with pytest.raises(
        UnsuitableError, match=r"profile absurd predicts a GPU latency of -\d.* ms for \w+ beside \w+.*profile check"
    ):
        solve(instance, method)
    (row,) = compare([instance], [method], requests=0).rows
    assert row.status == "no plan" and row.message is not None and "nothing can have" in row.message


def test_start_plan_without_finite_latencies_is_refused() -> None:
    """A plan that refined coefficients allow can have shares about which iGniter's formula says nothing."""
    profile = read_profile("h100", coefficients="refined")
    hardware = profile.hardware.model_copy(update={"least_share_percent": None})
    card = v100(name="H100", profile=profile.model_copy(update={"hardware": hardware}))
    workloads = (Workload(name="W", model="bert_base", slo_ms=200, rate_rps=1),)
    instance = Instance(name="start", gpu_types=(card,), workloads=workloads)
    start = solve(instance, "igniter").plan
    assert start.gpus[0].placements[0].share_percent < 5
    with pytest.raises(
        InputError, match=r"start plan: it does not hold for this instance: H100-1: W has too small a share"
    ):
        solve(instance, "assignment", coefficients="igniter", start=start)


@pytest.mark.parametrize("method", ["igniter", "ffd", "ffd++", "gpulets", "gslice"])
def test_rates_that_no_plan_can_carry_are_named(method: str) -> None:
    instance = problem([("alexnet", 100, 100), ("vgg19", 100, 1e9)]).instance
    with pytest.raises(UnsuitableError, match=r"workload W2: rate_rps of 1e\+09 needs 1,\d{3},\d{3} replicas or more"):
        solve(instance, method)
    (row,) = compare([instance], [method], requests=0).rows
    assert row.status == "no plan" and row.message is not None and "at most 100,000" in row.message


@pytest.mark.parametrize("method", ["igniter", "ffd++", "gpulets", "gslice"])
def test_replicas_are_counted_over_all_workloads(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demand, "MOST_PARTS", 9)
    assert solve(problem([("vgg19", 100, 2000)]).instance, method).plan
    with pytest.raises(UnsuitableError, match=r"workload W[12]: .* besides the [4-9] of other workloads"):
        solve(problem([("vgg19", 100, 2500), ("vgg19", 100, 2500)]).instance, method)


@pytest.mark.parametrize("method", ON_SHARED_CARDS)
@pytest.mark.parametrize("slo_rule", ["half", "deadline"])
def test_hardly_any_rate_is_a_rate(slo_rule: str, method: str) -> None:
    instance = problem([("vgg19", 100, 1e-6), ("alexnet", 1000, 1e-6)], slo_rule=slo_rule).instance
    result = solve(instance, method, time_limit=5)
    assert {p.workload for gpu in result.plan.gpus for p in gpu.placements} == {"W1", "W2"}
    assert result.verification.ok


def test_a_checked_method_without_finite_latencies_has_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(methods._table, "igniter", row("igniter", place=row("ffd").place))
    with pytest.raises(VerificationError, match=r"rejects \(one V100 would draw 348 W, .* please report"):
        solve(on_a_steep_card(TABLE_3), "igniter")

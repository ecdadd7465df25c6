import pytest

from igniter_opt import InfeasibleError, InputError, VerificationError, read_instance, solve
from igniter_opt import solve as solve_function
from igniter_opt.compare import compare
from igniter_opt.draft import Draft, DraftGpu
from igniter_opt.plan import plan_from_data, plan_json
from igniter_opt.schema import parse_json
from tests.synthetic import helped_by_company

TABLE3 = read_instance("igniter-table3")


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
    import sys

    module = sys.modules["igniter_opt.solve"]
    broken = [DraftGpu(0, [Draft(k, 1, 1, 1, w.rate_rps) for k, w in enumerate(TABLE3.workloads)])]
    monkeypatch.setattr(module, "HEURISTICS", {"igniter": lambda _: broken})
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

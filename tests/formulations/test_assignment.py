import random
import re
import time
from dataclasses import replace

import pytest

from igniter_opt import (
    InfeasibleError,
    InputError,
    Instance,
    methods,
    predict,
    read_instance,
    read_profile,
    solve,
    verify,
)
from igniter_opt.base.stop import StopRequest
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.formulations import assignment_solver
from igniter_opt.formulations.highs import START_ACCEPTED
from igniter_opt.options import AssignmentTuning
from igniter_opt.physics.interference import is_monotone
from igniter_opt.problem.configurations import Problem
from tests.heuristics.problems import problem, v100
from tests.support.brute_force import cheapest
from tests.support.synthetic import helped_by_company, random_instance, random_profile

ALL_SEEDS = 240
SAMPLE = 24


def random_case(seed: int) -> tuple[Instance, float]:
    """A random instance of 3 to 6 workloads; features vary with the seed."""
    rng = random.Random(seed)
    replicas = seed % 6 == 5
    two_types = seed % 4 == 3
    profiles = [
        random_profile(
            rng,
            f"p{k}",
            unit=rng.choice([10.0, 12.5, 20.0]),
            max_batch=rng.choice([2, 3, 4]),
            interference=rng.choice([0.0, 1.0, 1.0, 4.0]),
            power_cap=rng.choice([150.0, 300.0, 300.0]),
            memory=rng.random() < 0.25,
        )
        for k in range(1 + two_types)
    ]
    instance = random_instance(
        rng,
        profiles,
        3 if replicas else rng.randint(3, 6),
        slo_rule=rng.choice(["half", "deadline"]),
        counts=rng.random() < 0.3,
        max_replicas=2 if replicas else None,
    )
    return instance, rng.choice([0.0, 0.0, 0.1])


@pytest.mark.parametrize(
    "seed", [pytest.param(k, marks=[pytest.mark.slow] if k >= SAMPLE else []) for k in range(ALL_SEEDS)]
)
def test_optimum_equals_brute_force(seed: int) -> None:
    instance, margin = random_case(seed)
    expected = cheapest(instance, margin)
    try:
        result = solve(instance, "assignment", margin=margin)
    except InfeasibleError:
        assert expected is None
        return
    assert verify(result.plan).ok
    assert expected is not None
    assert result.status == "optimal"
    assert (result.cost, result.total_share_percent) == pytest.approx(expected)
    assert result.lower_bound == pytest.approx(expected[0])
    assert result.plan.solver.total_share_lower_bound_percent == pytest.approx(expected[1])


TABLE3 = read_instance("igniter-table3")


def test_highs_accepts_the_start() -> None:
    """HiGHS's own log says so, for both objectives."""
    log = solve(TABLE3, "assignment").log
    accepted = [line for line in log if START_ACCEPTED in line]
    assert len(accepted) == 2
    assert "objective value is 6" in accepted[0]


def test_without_warm_start_no_start_is_given() -> None:
    result = solve(read_instance("igniter-motivation"), "assignment", warm_start=False)
    assert result.status == "optimal"
    # The second objective starts from the first one's plan; nothing else has a start.
    assert sum(START_ACCEPTED in line for line in result.log) == 1


def test_motivation_is_proven() -> None:
    result = solve(read_instance("igniter-motivation"), "assignment")
    assert (result.status, len(result.plan.gpus), result.gap) == ("optimal", 1, 0.0)


@pytest.mark.parametrize(("rule", "gpus", "share"), [("half", 6, 465.0), ("deadline", 5, 470.0)])
def test_table3_is_proven(rule: str, gpus: int, share: float) -> None:
    """Known: 6 GPUs under the half rule, 5 under the deadline rule, and 465 % or less at 6."""
    result = solve(TABLE3, "assignment", slo_rule=rule)  # type: ignore[arg-type]
    assert result.status == "optimal"
    assert result.cost == pytest.approx(gpus * 3.06)
    assert result.lower_bound == pytest.approx(gpus * 3.06)
    assert result.total_share_percent == result.plan.solver.total_share_lower_bound_percent == share


@pytest.mark.parametrize("limit", [0.01, 0.3, 2.0])
def test_time_limit_returns_plan_and_valid_bound(limit: float) -> None:
    """The optimum of this instance is 6 GPUs."""
    result = solve(read_instance("uniform-24-1"), "assignment", time_limit=limit)
    assert result.verification.ok
    assert result.lower_bound is not None
    assert result.lower_bound <= 6 * 3.06 + 1e-9 <= result.cost + 2e-9
    assert result.gap == pytest.approx((result.cost - result.lower_bound) / result.cost)
    assert (result.status == "optimal") == (result.gap == 0)


def test_gap_stops_early() -> None:
    result = solve(TABLE3, "assignment", gap=0.2)
    assert result.gap is not None
    assert result.gap <= 0.2


def test_stop_request_keeps_the_best_plan() -> None:
    """Begun with 7 GPUs: the usual start, `bestfit`, has 6, and these are proven at once."""
    instance = read_instance("uniform-24-1")
    stop = StopRequest()
    result = solve(
        instance,
        "assignment",
        warm_start=False,
        start=solve(instance, "igniter").plan,
        stop=stop,
        on_progress=lambda progress: stop.set() if progress.phase == "cost" else None,
    )
    assert result.interrupted
    assert result.verification.ok


def test_highs_is_not_begun_where_the_time_left_does_not_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handing a large model over takes seconds in which nobody looks at the clock."""
    monkeypatch.setattr(assignment_solver, "solve_mip", None)
    tuning, start = AssignmentTuning(handing_over=1e9), solve(TABLE3, "igniter").plan
    result = solve(TABLE3, "assignment", warm_start=False, start=start, time_limit=60.0, tuning=tuning)
    assert (result.status, len(result.plan.gpus)) == ("feasible", 6)


def test_heuristics_for_the_start_end_with_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    known, asked = methods.heuristics(), []

    def counted(name: str, pause: float = 0.0) -> methods.Heuristic:
        """The row of a heuristic that notes when it is asked, and takes its time."""
        return replace(
            known[name],
            seeded=False,
            place=lambda problem: (asked.append(name), time.sleep(pause), known[name].run(problem))[2],
        )

    for name in known:
        monkeypatch.setitem(methods._table, name, counted(name))
    assert len(solve(TABLE3, "assignment", time_limit=0.0).plan.gpus) == 6
    assert asked == ["igniter"]
    # None is begun after a tenth of it, since one may take many times what the others do.
    asked.clear()
    monkeypatch.setitem(methods._table, "bestfit", counted("bestfit", pause=1.1))
    solve(TABLE3, "assignment", time_limit=10.0)
    assert asked == ["igniter", "bestfit"]


def test_counts_that_are_too_small_are_proven_infeasible() -> None:
    short = TABLE3.model_copy(update={"gpu_types": (TABLE3.gpu_types[0].model_copy(update={"count": 5}),)})
    with pytest.raises(InfeasibleError, match="no plan exists") as caught:
        solve(short, "assignment")
    assert caught.value.proven


def test_cheaper_mix_of_types_is_found() -> None:
    """GPUs of equal speed: the cheap one is used first, and the dear one for the rest."""
    v100 = TABLE3.gpu_types[0]
    half = TABLE3.model_copy(update={"workloads": TABLE3.workloads[:7]})
    gpus = len(solve(half, "assignment").plan.gpus)
    cheap = v100.model_copy(update={"name": "cheap", "price_per_hour": 2.0, "count": 1})
    result = solve(half.model_copy(update={"gpu_types": (v100, cheap)}), "assignment")
    assert gpus > 1
    assert result.status == "optimal"
    assert result.cost == pytest.approx(2.0 + (gpus - 1) * 3.06)


def test_non_monotone_model_equals_brute_force() -> None:
    """Neighbours that help: reductions and cuts are off, the rows alone must be exact."""
    for seed in range(4):
        rng = random.Random(seed)
        profile = helped_by_company(random_profile(rng, unit=20.0, max_batch=2))
        assert not is_monotone(fit_coefficients(profile))
        instance = random_instance(rng, [profile], 4)
        expected = cheapest(instance)
        assert expected is not None
        result = solve(instance, "assignment")
        assert (result.cost, result.total_share_percent) == pytest.approx(expected)


def test_three_replicas_on_two_workloads_equal_brute_force() -> None:
    for seed in range(3):
        rng = random.Random(seed)
        instance = random_instance(rng, [random_profile(rng, unit=20.0, max_batch=2)], 2, max_replicas=3)
        expected = cheapest(instance)
        assert expected is not None
        result = solve(instance, "assignment")
        assert (result.cost, result.total_share_percent) == pytest.approx(expected)


def test_too_large_a_model_is_refused() -> None:
    with pytest.raises(InputError, match="too large for this formulation"):
        solve(read_instance("uniform-1000-1"), "assignment")


def test_an_exception_in_the_progress_callback_reaches_the_caller() -> None:
    def fail(progress: object) -> None:
        raise RuntimeError(f"boom at {progress}")

    with pytest.raises(RuntimeError, match="boom"):
        solve(TABLE3, "assignment", on_progress=fail)
    seen: list[object] = []

    def fail_later(progress: object) -> None:
        seen.append(progress)
        if len(seen) == 3:
            raise RuntimeError("boom in the solver's thread")

    with pytest.raises(RuntimeError, match="solver's thread"):
        solve(TABLE3, "assignment", on_progress=fail_later)


@pytest.mark.parametrize("prices", [(12.345678, 2.5), (1.1, 0.333333), (0.3, 1.0), (3060.0, 0.5261)])
def test_odd_prices_are_still_proven(prices: tuple[float, float]) -> None:
    rng = random.Random(3)
    instance = random_instance(rng, [random_profile(rng, f"p{k}", unit=20.0, max_batch=2) for k in range(2)], 4)
    types = tuple(
        gpu.model_copy(update={"price_per_hour": price}) for gpu, price in zip(instance.gpu_types, prices, strict=True)
    )
    instance = instance.model_copy(update={"gpu_types": types})
    expected = cheapest(instance)
    assert expected is not None
    result = solve(instance, "assignment")
    assert result.status == "optimal"
    assert result.cost == pytest.approx(expected[0], rel=2e-6)


def test_a_time_limit_covers_building_the_model() -> None:
    result = solve(read_instance("uniform-100-1"), "assignment", time_limit=1.0)
    assert result.verification.ok
    assert result.lower_bound is not None
    assert result.lower_bound <= 23 * 3.06 + 1e-9
    assert result.plan.solver.runtime_s < 10


def test_slo_at_exactly_twice_the_latency_is_feasible_for_solver_and_judge_alike() -> None:
    gpu = TABLE3.gpu_types[0].model_copy(update={"count": 1})
    for model, batch in (("vgg19", 5), ("ssd", 3), ("resnet50", 9)):
        alone = predict(gpu.profile, [(model, batch, 100.0)])
        workload = TABLE3.workloads[0].model_copy(
            update={
                "model": model,
                "slo_ms": 2 * float(alone.latency_ms[0]) * (1 - 5e-10),
                "rate_rps": float(alone.throughput_rps[0]) * (1 + 5e-10),
            }
        )
        instance = TABLE3.model_copy(update={"gpu_types": (gpu,), "workloads": (workload,)})
        assert solve(instance, "assignment").status == "optimal"


def test_rounding_noise_in_a_coefficient_does_not_matter() -> None:
    """A probe without any slow-down leaves a sensitivity of about -1e-17, which counts as 0."""
    profile = TABLE3.gpu_types[0].profile
    model = profile.models["alexnet"]
    probe = model.interference_probe.model_copy(
        update={"active_time_paired_ms": 3.6833574834926827, "frequency_paired_mhz": 1530.0}
    )
    models = {**profile.models, "alexnet": model.model_copy(update={"interference_probe": probe})}
    fitted = fit_coefficients(profile.model_copy(update={"models": models}))
    assert fitted.models["alexnet"].cache_sensitivity == 0.0
    assert is_monotone(fitted)


def test_only_models_in_use_decide_whether_cuts_are_valid() -> None:
    profile = TABLE3.gpu_types[0].profile
    model = profile.models["ssd"]
    probe = model.interference_probe.model_copy(update={"active_time_paired_ms": 70.0})
    odd = profile.model_copy(
        update={"models": {**profile.models, "ssd": model.model_copy(update={"interference_probe": probe})}}
    )
    assert not is_monotone(fit_coefficients(odd))
    gpu = TABLE3.gpu_types[0].model_copy(update={"profile": odd})
    assert not Problem(TABLE3.model_copy(update={"gpu_types": (gpu,)})).monotone[0]
    assert Problem(TABLE3.model_copy(update={"gpu_types": (gpu,), "workloads": TABLE3.workloads[:9]})).monotone[0]


def helped_v100(rows: list[tuple[str, float, float]]) -> Instance:
    """Workloads on a V100 on which neighbours speed each other up."""
    return problem(rows, gpu_types=(v100(profile=helped_by_company(read_profile("v100"))),)).instance


@pytest.mark.parametrize("method", ["auto", "assignment"])
@pytest.mark.parametrize("warm_start", [True, False])
def test_workload_that_no_company_helps_enough_is_proven_infeasible(warm_start: bool, method: str) -> None:
    """Without a monotone profile that shows only when all possible company is known."""
    hopeless, other = ("vgg19", 30.0, 2000.0), ("alexnet", 20.0, 100.0)
    instance = helped_v100([other, hopeless])
    problem_ = Problem(instance)
    assert not any(problem_.monotone)
    problem_.require_feasible_workloads()  # taken by itself it could be
    with pytest.raises(InfeasibleError, match=r"^workload W2 .* It becomes feasible with ") as error:
        solve(instance, method, warm_start=warm_start)
    assert error.value.proven
    assert "\n" not in str(error.value)
    # What it says would help does.
    rate = float(re.search(r"rate_rps of ([0-9.]+) or less", str(error.value)).group(1))
    replicas = int(re.search(r"max_replicas of (\d+) or more", str(error.value)).group(1))
    assert solve(helped_v100([other, (*hopeless[:2], rate)]), "assignment", time_limit=1).verification.ok
    assert solve(instance, "assignment", max_replicas=replicas, time_limit=1).verification.ok

"""Cards under MIG, exactly: exhaustion at small size, and a peer's scenarios from its own published readings."""

import json
import time

import numpy as np
import pytest

from igniter_opt import InfeasibleError, solve
from igniter_opt.data.plan import plan_json
from igniter_opt.formulations import slice_program
from igniter_opt.formulations.slice_program import bundles
from igniter_opt.problem.slices import SliceProblem
from igniter_opt.profiler.import_mig import import_mig
from tests.support.mig import (
    REFERENCE,
    capacities,
    enough,
    fewest_cards,
    instance_of,
    placements,
    random_profile,
    random_workloads,
    scenarios,
)

PARTS = {"parvagpu": 0.45, "half": 0.5}


def drawn(seed: int, **settings: object):
    rng = np.random.default_rng(seed)
    profile = random_profile(rng)
    workloads = []
    for number in range(int(rng.integers(1, 4))):
        slo, part = float(rng.integers(40, 200)), float(rng.uniform(0.3, 2.2))
        workloads.append({"model": f"m{number}", "slo_ms": slo, "rate_rps": round(60.0 * part, 1)})
    return instance_of(profile, workloads, **settings)


@pytest.mark.parametrize("seed", range(25))
def test_equals_exhaustion(seed: int) -> None:
    rule = "half" if seed % 3 == 0 else "parvagpu"
    instance = drawn(seed, slo_rule=rule)
    if any(not own for own in capacities(instance, PARTS[rule])):
        with pytest.raises(InfeasibleError, match="cannot be served by slices under MIG"):
            solve(instance)
        return
    result = solve(instance, time_limit=20)
    assert result.status == "optimal"
    found = fewest_cards(instance, PARTS[rule])
    if found is None:
        assert len(result.plan.gpus) > 2
        return
    cards, sevenths = found
    assert result.cost == result.lower_bound == 3.0 * cards
    assert result.plan.solver.total_share_percent == pytest.approx(100 * sevenths / 7)
    assert result.plan.solver.total_share_lower_bound_percent == pytest.approx(100 * sevenths / 7)
    assert not list(placements(instance, json.loads(plan_json(result.plan))["gpus"], PARTS[rule]))


@pytest.mark.parametrize("seed", range(4))
def test_bundles_are_all_that_suffice_and_contain_no_other(seed: int) -> None:
    instance = drawn(seed)
    problem = SliceProblem(instance)
    for workload, own in enumerate(capacities(instance, 0.45)):
        found = bundles(problem, workload)
        assert found is not None
        every = [counts for counts in enough(own, instance.workloads[workload].rate_rps) if sum(counts) <= 7]
        # Some kinds are left out, since a smaller one stands in for them.
        assert {counts for counts in found if sum(counts) <= 7} <= set(every)


@pytest.mark.parametrize("seed", [1, 4, 7])
def test_many_slices_are_counted_instead(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = drawn(seed)
    listed = solve(instance, time_limit=20)
    monkeypatch.setattr(slice_program, "bundles", lambda *_: None)
    counted = solve(instance, time_limit=20)
    assert (counted.cost, counted.lower_bound) == (listed.cost, listed.lower_bound)
    assert counted.plan.solver.total_share_percent == pytest.approx(listed.plan.solver.total_share_percent)


def test_a_limit_of_replicas_is_one_of_slices() -> None:
    rng = np.random.default_rng(3)
    profile = random_profile(rng)
    free = instance_of(profile, [{"model": "m0", "slo_ms": 150.0, "rate_rps": 600.0}])
    slices = sum(len(gpu.placements) for gpu in solve(free).plan.gpus)
    assert slices > 1
    with pytest.raises(InfeasibleError, match="max_replicas allows 1"):
        solve(free.with_options(max_replicas=1))
    assert solve(free.with_options(max_replicas=slices)).cost == solve(free).cost


def test_counts_of_cards_hold_or_there_is_no_plan() -> None:
    instance = drawn(5)
    needed = len(solve(instance).plan.gpus)
    gpu = instance.gpu_types[0]
    few = instance.model_copy(update={"gpu_types": (gpu.model_copy(update={"count": needed}),)})
    assert solve(few).status == "optimal"
    if needed > 1:
        fewer = instance.model_copy(update={"gpu_types": (gpu.model_copy(update={"count": needed - 1}),)})
        with pytest.raises(InfeasibleError, match="proven by the slices formulation"):
            solve(fewer)


@pytest.mark.parametrize("seed", [0, 3, 6])
def test_what_is_stopped_early_claims_no_more_than_it_has_proven(seed: int) -> None:
    rng = np.random.default_rng(seed)
    profile = random_profile(rng, models=4)
    workloads = random_workloads(rng, 20, (120, 300), (20, 900))
    instance = instance_of(profile, workloads)
    cheapest = solve(instance, time_limit=20)
    rough = solve(instance, gap=0.99, warm_start=False)
    assert cheapest.cost < rough.cost
    assert rough.status == "feasible"
    assert rough.lower_bound is not None and rough.lower_bound <= cheapest.cost


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the published readings are not at hand")
@pytest.mark.parametrize("number", range(4))
def test_published_scenarios_take_as_many_cards_as_published_and_no_fewer(number: int) -> None:
    scenario = scenarios()[number]
    profile = import_mig(REFERENCE / "a100-80gb.json")
    assert (profile.card, profile.latency_resolution_ms) == ("a100-80gb", 1.0)
    instance = instance_of(profile, scenario["workloads"])
    solve(instance)
    began = time.process_time()
    result = solve(instance)
    took = time.process_time() - began
    assert (len(result.plan.gpus), result.status) == (scenario["parvagpu_gpus"], "optimal")
    assert len(result.plan.gpus) == (2, 3, 5, 7)[number]
    # Of processor time: tests run beside others.
    assert took < 1.0
    assert result.verification.ok
    # Once more from the readings as they were published, without the package.
    raw = json.loads((REFERENCE / "a100-80gb.json").read_text())["models"]
    names = {"1g.10gb": "1", "2g.20gb": "2", "3g.40gb": "3", "4g.40gb": "4", "7g.80gb": "7"}
    carried: dict[str, float] = {}
    for gpu in json.loads(plan_json(result.plan))["gpus"]:
        for place in gpu["placements"]:
            workload = next(entry for entry in instance.workloads if entry.name == place["workload"])
            rows = raw[workload.model][names[place["slice"]]]
            ((rate, latency),) = [
                (row[1] * row[2], row[3]) for row in rows if row[:2] == [place["batch"], place["processes"]]
            ]
            assert latency < 0.45 * workload.slo_ms
            assert rate >= place["rate_rps"] * (1 - 1e-9)
            carried[workload.name] = carried.get(workload.name, 0.0) + place["rate_rps"]
    assert carried == pytest.approx({entry.name: entry.rate_rps for entry in instance.workloads})
    assert not list(placements(instance, json.loads(plan_json(result.plan))["gpus"], 0.45))

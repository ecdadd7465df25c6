"""Plans judged beside neighbours as they are: accepted, refused, and where that cannot be."""

import json
from pathlib import Path

import pytest

from igniter_opt import InputError, predict, simulate, solve, verify
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.neighbours import ActualNeighbours
from igniter_opt.data.plan import Plan, plan_from_data, plan_json, read_plan, write_plan
from igniter_opt.simulation.second_judge import tenants_of
from igniter_opt.verify import verify_busy
from tests.support.rare import rare

NOTE = ActualNeighbours(
    simulated=("V100-1",), confidence=0.99, safety=0.1, requests=1, runs=1, seed=0, busy_cost_per_hour=6.12
)


@pytest.fixture(scope="module")
def pair() -> Plan:
    """Two workloads on one GPU, which hold there because they seldom meet."""
    return side_by_side(0.5)


def side_by_side(rate_rps: float) -> Plan:
    """Half of a GPU each, as a plan would say it that an over-optimistic search made: nothing was simulated."""
    plan = solve(rare(rate_rps), time_limit=60).plan
    first, second = plan.gpus
    shared = first.model_copy(update={"placements": (*first.placements, *second.placements)})
    return with_predictions(
        plan.model_copy(
            update={
                "gpus": (shared,),
                "neighbours": NOTE,
                "solver": plan.solver.model_copy(
                    update={"cost_per_hour": 3.06, "lower_bound_per_hour": 3.06, "status": "optimal", "gap": 0.0}
                ),
            }
        )
    )


def with_predictions(plan: Plan) -> Plan:
    """Say of every placement what the predictor does, at half of a GPU."""
    gpu = plan.gpus[0]
    halves = [placement.model_copy(update={"share_percent": 50.0, "batch": 2}) for placement in gpu.placements]
    found = predict("v100", [(placement.model, placement.batch, 50.0) for placement in halves])
    told = tuple(
        placement.model_copy(
            update={"predicted_latency_ms": float(latency), "predicted_throughput_rps": float(throughput)}
        )
        for placement, latency, throughput in zip(halves, found.latency_ms, found.throughput_rps, strict=True)
    )
    solver = plan.solver.model_copy(update={"total_share_percent": 100.0})
    return plan.model_copy(update={"gpus": (gpu.model_copy(update={"placements": told}),), "solver": solver})


def test_what_seldom_meets_holds(pair: Plan) -> None:
    found = verify(pair)
    assert found.ok, found.violations
    assert found.basis is not None
    assert "1 GPU of 1 by simulation" in found.basis
    assert "with 99 % confidence no more than 1 % of any placement's requests are late" in found.basis
    assert all(check.ok and check.slack_ms > 0 for check in found.placements)
    # The predictor says no, and so does everybody whom the plan does not tell of its neighbours.
    assert not verify_busy(pair).ok
    untold = verify(pair.model_copy(update={"neighbours": None}))
    assert {entry.kind for entry in untold.violations} == {"latency"}


def test_an_over_optimistic_plan_is_refused() -> None:
    """Twice the rate: they meet too often. What the plan's note claims does not matter."""
    found = verify(side_by_side(1.0))
    assert not found.ok
    assert {entry.kind for entry in found.violations} == {"latency"}
    assert "beside actual neighbours" in found.violations[0].message
    assert found.basis is not None
    assert "not all of them hold" in found.basis


def test_the_judge_agrees_with_other_samples(pair: Plan) -> None:
    """What it accepts holds on seeds that it has not seen, and what it refuses does not."""
    assert simulate(pair, requests=20_000, seeds=10, seed=77).ok
    assert not simulate(side_by_side(1.0), requests=20_000, seeds=10, seed=77).ok


def test_simulation_takes_the_plans_neighbours(pair: Plan) -> None:
    assert simulate(pair, requests=200, seeds=2).settings["neighbours"] == "actual"
    assert simulate(pair, requests=200, seeds=2, neighbours="full").settings["neighbours"] == "full"
    untold = pair.model_copy(update={"neighbours": None})
    assert simulate(untold, requests=200, seeds=2).settings["neighbours"] == "full"


def test_margins_are_judged(pair: Plan) -> None:
    """Latencies that are 2 % longer are beyond the SLO alone."""
    assert not verify(pair, {("w0", 1): 0.02}).ok


def test_a_part_of_a_plan_is_judged_by_itself(pair: Plan) -> None:
    """A replica whose siblings are on a GPU that was left out gets its own part of the requests."""
    gpu = pair.gpus[0]
    thirds = tuple(
        placement.model_copy(update={"rate_rps": placement.rate_rps / 3}) if placement.workload == "w0" else placement
        for placement in gpu.placements
    )
    part = pair.model_copy(update={"gpus": (gpu.model_copy(update={"placements": thirds}),)})
    first, second = tenants_of(part, part.gpus[0])
    assert first.rates_rps == pytest.approx((0.5 / 3, 1.0 / 3))
    assert (first.rate_rps, second.rate_rps) == pytest.approx((0.5 / 3, 0.5))
    twice = pair.model_copy(update={"gpus": (gpu.model_copy(update={"placements": (thirds[0], *thirds)}),)})
    assert [entry.replica for entry in tenants_of(twice, twice.gpus[0])] == [0, 1, 0]


def test_headroom_is_part_of_the_rates_that_are_judged() -> None:
    plan = solve(rare(0.4), time_limit=60, headroom=0.25).plan
    tenants = [tenant for gpu in plan.gpus for tenant in tenants_of(plan, gpu)]
    assert [tenant.rates_rps for tenant in tenants] == [pytest.approx((0.5,))] * 2


def test_rules_and_arrivals_that_cannot_be_judged_so(pair: Plan, tmp_path: Path) -> None:
    half = pair.model_copy(update={"instance": pair.instance.with_options("half")})
    assert any(
        entry.kind == "neighbours" and "under a rule on a percentile" in entry.message
        for entry in verify(half).violations
    )
    trace = tmp_path / "trace.csv"
    trace.write_text("timestamp\n" + "\n".join(str(k / 10) for k in range(2000)))
    recorded = pair.instance.with_options(arrivals=Arrivals("trace", file=str(trace)))
    found = verify(pair.model_copy(update={"instance": recorded})).violations
    assert any(entry.kind == "neighbours" and "can be drawn anew" in entry.message for entry in found)


def test_files_carry_it(pair: Plan, tmp_path: Path) -> None:
    write_plan(pair, tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == pair
    without = plan_json(pair.model_copy(update={"neighbours": None}))
    assert '"neighbours"' not in without


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("kind", "some", "actual"),
        ("confidence", 1.0, "less than 1"),
        ("safety", -0.1, "at least 0"),
        ("requests", -1, "at least 0"),
        ("runs", 1.5, "whole number"),
        ("busy_cost_per_hour", "dear", "number"),
        ("speed", 1, "unknown key"),
    ],
)
def test_bad_notes_are_refused(pair: Plan, key: str, value: object, says: str) -> None:
    data = json.loads(plan_json(pair))
    data["neighbours"][key] = value
    with pytest.raises(InputError, match=rf"plan.json: neighbours.*{says}"):
        plan_from_data(data, "plan.json")

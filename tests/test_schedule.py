"""Schedules: against exhaustion at toy size, plans and numbers checked anew, stops, forecasts from the past only."""

import json
import random
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import igniter_opt as ig
from igniter_opt.data.demand import Demand
from igniter_opt.data.migration import DisruptionWeights
from igniter_opt.generate import generate_instance
from igniter_opt.generate_demand import generate_demand
from igniter_opt.options import SolveOptions
from igniter_opt.scheduling.files import write_schedule
from igniter_opt.scheduling.lateness import late_requests
from igniter_opt.scheduling.outcome import Scheduled
from tests.support.brute_force import cheapest
from tests.support.every_schedule import cheapest_schedule
from tests.support.synthetic import random_instance, random_profile

MOVES_ONLY = DisruptionWeights(1.0, 0.0, 0.0)


@cache
def instance(workloads: int = 5, seed: int = 1) -> ig.Instance:
    return generate_instance("toy", workloads, seed, ["v100"], [3.06])


@cache
def demand(workloads: int = 5, seed: int = 1, steps: int = 14) -> Demand:
    curves = generate_demand(instance(workloads, seed), 4.0, seed, scale=1.3).in_steps_of(3600.0)
    return replace(curves, rates=curves.rates[:steps])


@cache
def waves() -> Demand:
    """Twelve steps of ten workloads that rise and fall at their own times: two to four GPUs."""
    wanted = instance(10, 1)
    step, phase = np.arange(12.0)[:, None], np.arange(10.0)[None, :]
    height = 0.7 + 0.5 * np.sin(0.5 * step + 0.3 * phase)
    return Demand(
        tuple(w.name for w in wanted.workloads), height * [w.rate_rps for w in wanted.workloads], 3600.0, 1.7e9
    )


@cache
def scheduled(move_cost: float = 0.3, workers: int = 1) -> Scheduled:
    terms = ig.ScheduleTerms(move_cost=move_cost, startup_s=600.0, billing_s=60.0)
    return ig.schedule(instance(10, 1), waves(), terms, workers=workers)


@pytest.mark.parametrize("seed", range(4))
def test_it_is_between_its_bound_and_the_best_of_all(seed: int) -> None:
    rng = random.Random(seed)
    toy = random_instance(rng, [random_profile(rng)], 4)
    rates = np.array([[w.rate_rps * rng.uniform(0.2, 1.0) for w in toy.workloads] for _ in range(4)])
    curves = Demand(tuple(w.name for w in toy.workloads), rates, 3600.0)
    price = toy.gpu_types[0].price_per_hour
    for move_cost in (0.2 * price, 3.0 * price):
        found = ig.schedule(toy, curves, ig.ScheduleTerms(move_cost=move_cost, weights=MOVES_ONLY), workers=1)
        best = cheapest_schedule(toy, rates, 1.0, move_cost)
        assert found.bound <= best + 1e-9
        assert found.cost >= best - 1e-9
    for plan, bound in zip(found.plans, found.lower_bounds, strict=True):
        assert cheapest(plan.instance)[0] == pytest.approx(bound)  # type: ignore[index]


def test_every_plan_holds_at_its_steps_rates() -> None:
    found, rates = scheduled(), waves().of(instance(10, 1))
    assert found.steps == len(rates) == len(found.plans)
    for plan, row in zip(found.plans, rates, strict=True):
        assert [w.rate_rps for w in plan.instance.workloads] == row.tolist()
        assert ig.verify(plan).ok


def test_its_cost_counted_anew_is_what_it_says() -> None:
    """From the plans alone: meters of GPUs, servers by workload, no function of the package."""
    found, cost = scheduled(), 0.0
    terms, step_s = found.terms, found.demand.step_s
    counted: Counter[str] = Counter()
    meters: dict[str, float] = {}
    for number, plan in enumerate(found.plans):
        names = {gpu.name for gpu in plan.gpus}
        for gone in set(meters) - names:
            cost += 3.06 / 3600.0 * 60.0 * np.ceil(meters.pop(gone) / 60.0 - 1e-9)
        for name in names:
            meters[name] = meters.get(name, terms.startup_s) + step_s
        if number == 0:
            continue
        here, before = (
            {p.workload: (gpu.name, p.batch, p.share_percent) for gpu in entry.gpus for p in gpu.placements}
            for entry in (plan, found.plans[number - 1])
        )
        for workload, (gpu, batch, share) in here.items():
            old = before[workload]
            counted["moves"] += gpu != old[0]
            counted["restarts"] += gpu == old[0] and batch != old[1]
            counted["resizes"] += gpu == old[0] and batch == old[1] and share != old[2]
    cost += sum(3.06 / 3600.0 * 60.0 * np.ceil(meter / 60.0 - 1e-9) for meter in meters.values())
    cost += 0.3 * (counted["moves"] + 0.2 * counted["restarts"] + 0.1 * counted["resizes"])
    totals = found.totals["schedule"]
    assert {"moves": totals.moves, "restarts": totals.restarts, "resizes": totals.resizes} == dict(counted)
    assert found.cost == pytest.approx(cost)
    assert found.bound <= found.cost


def test_it_is_no_dearer_than_what_it_is_compared_with() -> None:
    found = scheduled()
    assert set(found.totals) == {"schedule", "peak", "afresh", "greedy"}
    assert all(found.cost <= entry.cost + 1e-9 for entry in found.totals.values())
    assert found.totals["afresh"].moves > 3 * found.totals["schedule"].moves > 0
    assert found.totals["schedule"].gpu_starts > found.totals["schedule"].most_gpus - 1
    # Afresh has each step's least cost: its GPUs are the bound's, as far as all are proven.
    assert found.proven == found.steps
    per_step = sum(bound for bound in found.lower_bounds)
    assert sum(plan.solver.cost_per_hour for plan in found.plans) >= per_step - 1e-9


def test_it_is_the_same_in_other_processes() -> None:
    one, two = scheduled(), scheduled(workers=2)
    assert [plan.gpus for plan in one.plans] == [plan.gpus for plan in two.plans]
    assert (one.cost, one.bound, one.solved) == (two.cost, two.bound, two.solved)


def test_dear_moves_are_few() -> None:
    cheap, dear = scheduled(0.0), scheduled(30.0)
    assert dear.totals["schedule"].moves < cheap.totals["schedule"].moves or not cheap.totals["schedule"].moves
    assert dear.totals["schedule"].gpu_hours >= cheap.totals["schedule"].gpu_hours


@pytest.mark.parametrize("rule", ["deadline", "p99"])
def test_other_rules_hold_as_well(rule: str) -> None:
    # Under p99 with limits of half the rates, so that all can be served.
    curves = replace(demand(3, 1, 4), rates=demand(3, 1, 4).rates * 0.5)
    terms, options = ig.ScheduleTerms(move_cost=0.3), SolveOptions(slo_rule=rule, max_replicas=2)
    found = ig.schedule(instance(3), curves, terms, options, workers=1)
    assert all(ig.verify(plan).ok for plan in found.plans)
    assert "inherited" not in found.solved
    assert found.bound <= found.cost


def test_a_stop_gives_the_best_so_far() -> None:
    from igniter_opt.base.stop import StopRequest

    stop = StopRequest()
    said: list[str] = []

    def report(moment: object) -> None:
        said.append(str(moment))
        stop.set()

    found = ig.schedule(
        instance(10, 1), waves(), ig.ScheduleTerms(move_cost=0.3), workers=1, on_progress=report, stop=stop
    )
    assert found.interrupted
    assert all(ig.verify(plan).ok for plan in found.plans)
    assert found.bound <= found.cost
    # No step of its own was solved: one plan for the peak.
    assert found.source == "peak"


def test_forecasts_know_the_past_only() -> None:
    toy, curves = instance(3, 1), demand(3, 1, 70)
    changed = curves.rates.copy()
    changed[60:] *= 0.3
    terms = ig.ScheduleTerms(move_cost=0.3, forecast="seasonal", replan_s=6 * 3600.0)
    one, other = (ig.schedule(toy, replace(curves, rates=rates), terms, workers=1) for rates in (curves.rates, changed))
    # Planned from step 48 on; what comes from step 60 on is first known to plans from step 66 on.
    assert one.first == 48
    assert [plan.gpus for plan in one.plans[:18]] == [plan.gpus for plan in other.plans[:18]]
    assert one.planned[:18].tolist() == other.planned[:18].tolist()
    assert one.planned[18:].tolist() != other.planned[18:].tolist()


def test_what_a_forecast_misses_is_counted_and_simulated() -> None:
    toy, curves = instance(3, 1), demand(3, 1, 54)
    terms = ig.ScheduleTerms(move_cost=0.3, forecast="seasonal", quantile=0.5)
    found = ig.schedule(toy, curves, terms, workers=1)
    assert 0 < found.totals["schedule"].violations == sum(map(len, found.over))
    late = late_requests(found, most=2000)
    assert late.steps == sum(map(bool, found.over))
    assert 0.0 <= late.part <= 1.0
    # Where the real rates are no higher than the planned ones, nothing is missed.
    for step, over in enumerate(found.over):
        names = [w.name for w in toy.workloads]
        if (found.real[step] <= found.planned[step]).all():
            assert over == []
        assert all(found.real[step, names.index(name)] > 0 for name in over)


def test_the_folder_has_all_of_it(tmp_path: Path) -> None:
    found = scheduled()
    write_schedule(found, tmp_path / "out")
    data = json.loads((tmp_path / "out" / "schedule.json").read_text())
    assert data["cost"] == found.cost
    steps = (tmp_path / "out" / "steps.csv").read_text().splitlines()
    assert len(steps) == found.steps + 1
    covered = []
    for entry in data["plans"]:
        plan = ig.read_plan(tmp_path / "out" / entry["file"])
        assert ig.verify(plan).ok
        covered += range(entry["first"], entry["first"] + entry["steps"])
        for step in range(entry["first"], entry["first"] + entry["steps"]):
            own = [(gpu.name, [(p.workload, p.batch, p.share_percent) for p in gpu.placements]) for gpu in plan.gpus]
            there = found.plans[step].gpus
            assert own == [(g.name, [(p.workload, p.batch, p.share_percent) for p in g.placements]) for g in there]
    assert covered == list(range(found.steps))
    # Written again, by another schedule: nothing of the first is left.
    other = scheduled(30.0)
    write_schedule(other, tmp_path / "out")
    files = {f"plans/{path.name}" for path in (tmp_path / "out" / "plans").iterdir()}
    assert files == {entry["file"] for entry in json.loads((tmp_path / "out" / "schedule.json").read_text())["plans"]}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ig.InputError, match="a folder with other files"):
        write_schedule(found, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({"move_cost": -1.0}, "the price of a move must be 0 to"),
        ({"startup_s": float("nan")}, "the start-up time"),
        ({"forecast": "crystal"}, "unknown forecast"),
        ({"quantile": 1.0}, "the quantile must be above 0 and below 1"),
        ({"step_s": 0.0}, "the step must be a finite number"),
    ],
)
def test_bad_terms_are_refused(terms: dict[str, float], says: str) -> None:
    with pytest.raises(ig.InputError, match=says):
        ig.ScheduleTerms(**terms)  # type: ignore[arg-type]


def test_bad_calls_are_refused() -> None:
    def refused(says: str, **changes: object) -> None:
        arguments = {"terms": ig.ScheduleTerms(), "options": SolveOptions(), "workers": 1, **changes}
        with pytest.raises(ig.InputError, match=says):
            ig.schedule(instance(), demand(), **arguments)  # type: ignore[arg-type]

    refused("workers must be 1 to 1024", workers=0)
    refused("start, tuning and scale are options of single solves", options=SolveOptions(scale=2.0))
    refused("neighbours count as busy", options=SolveOptions(neighbours="actual"))
    refused("leaves none of the 14 steps", terms=ig.ScheduleTerms(history_s=86400.0))
    refused("a forecast needs a past", terms=ig.ScheduleTerms(forecast="seasonal"))
    refused("must be whole steps of 3600 s", terms=ig.ScheduleTerms(history_s=1000.0))
    with pytest.raises(ig.InfeasibleError, match="cannot be served"):
        ig.schedule(instance(), replace(demand(), rates=demand().rates * 1000.0), workers=1)

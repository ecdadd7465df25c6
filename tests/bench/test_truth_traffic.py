"""The parts of the benchmark on every kind of traffic: recorded streams, one run, the files."""

import csv
from pathlib import Path

import numpy as np
import pytest

from bench.exact.table import ContradictionError
from bench.truth import streams
from bench.truth.streams import Client, as_observed, clients, drawn, hour
from bench.truth.traffic import CASES, DRAWN, RECORDED, Case, Kinds, Table, cell, judged, run, run_all
from bench.truth.traffic_table import Cell, Row, check_bounds
from igniter_opt import InputError, read_instance, simulate, solve
from igniter_opt.base.nanoseconds import NS_PER_S
from igniter_opt.data.arrivals import Arrivals


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Made-up files of the same form: an hour, and one calm, one drifting and one wild client."""
    rng = np.random.default_rng(1)
    times = np.sort(rng.uniform(0.0, 3600.0, 8_000))
    (tmp_path / streams.HOUR).write_text("".join(f"{time:.4f}\n" for time in times))
    rows = ["time_s,calm,drifting,wild"]
    rows += [f"{600 * step},10,{30 if 100 <= step < 118 else 10 if step < 136 else 1},5" for step in range(300)]
    (tmp_path / streams.DEMAND).write_text("\n".join(rows) + "\n")
    (tmp_path / streams.BURSTINESS).write_text(
        "stream,mean_rate_rps,peak_over_mean,gap_cv_median,gap_cv_p90\n"
        "calm,10,1,1.00,1.2\ndrifting,9,3,2.00,3\nwild,5,1,9.00,20\n"
    )
    return tmp_path


def test_halves_of_the_hour(folder: Path) -> None:
    first, second = (hour(folder, half).recorded for half in (0, 1))
    assert first is not None and second is not None and first != second
    counts = [recorded.stream("any").requests for recorded in (first, second)]
    assert sum(counts) == 8_000
    assert first.times_ns("any")[0] == 0.0
    assert first.times_ns("any")[-1] < 1800.0 * NS_PER_S


def test_clients_have_their_busiest_hours_and_none_is_wild(folder: Path) -> None:
    calm, drifting = clients(folder)
    assert (calm.name, calm.burstiness, calm.headroom) == ("calm", 1.0, 0.0)
    assert calm.demand == pytest.approx(np.ones(streams.STEPS))
    # 18 steps of 30 and 18 of 10: a half more than the mean of 20, and a half less.
    assert (drifting.burstiness, drifting.headroom) == (4.0, 0.5)
    assert sorted(set(drifting.demand)) == [0.5, 1.5]


def test_drawn_streams_follow_demand_and_burstiness() -> None:
    known = [Client("even", np.ones(36), 4.0, 0.0), Client("rising", np.repeat([0.5, 1.5], 18), 1.0, 0.5)]
    recorded = drawn(known, ["a", "b", "c"], 3).recorded
    again, other = drawn(known, ["a", "b", "c"], 3).recorded, drawn(known, ["a", "b", "c"], 4).recorded
    assert recorded is not None and recorded == again and recorded != other
    gaps = np.diff(recorded.times_ns("a"))
    assert gaps.var() / gaps.mean() ** 2 == pytest.approx(4.0, rel=0.1)
    rising = recorded.times_ns("b")
    assert np.mean(rising < rising[-1] / 2) == pytest.approx(0.25, abs=0.01)
    assert recorded.stream("c").requests == streams.REQUESTS
    # The same client drawn for two workloads gives two streams.
    assert recorded.stream("a").digest != recorded.stream("c").digest


def test_observed_streams_give_every_workload_its_own_burstiness_and_headroom(folder: Path) -> None:
    instance = as_observed(read_instance("igniter-three").with_options("p99", 3), clients(folder))
    assert [workload.headroom for workload in instance.workloads] == [0.0, 0.5, 0.0]
    assert [instance.arrivals_of(workload).burstiness for workload in instance.workloads] == [1.0, 4.0, 1.0]


def test_missing_files_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        clients(tmp_path)
    with pytest.raises(InputError, match="--traffic"):
        Kinds(None).sent("streams", read_instance("igniter-three"))


def test_plans_hold_what_they_were_made_for_and_not_what_is_burstier() -> None:
    instance, kinds = read_instance("igniter-three"), Kinds(None)
    half = run(instance, Case("`half`", "half"), kinds, 5.0, 20_000)
    poisson = run(instance, Case("p", "p99", "poisson"), kinds, 5.0, 20_000)
    gamma = run(instance, Case("g", "p99", "gamma"), kinds, 5.0, 20_000)
    assert set(half.cells) == set(DRAWN)
    assert half.cells["poisson"].held == 0
    assert poisson.cells["poisson"].surely_over == 0
    assert poisson.cells["gamma"].held == 0
    assert gamma.cells["gamma"].surely_over == gamma.cells["poisson"].surely_over == 0
    costs = [row.cost_per_hour or 0.0 for row in (half, poisson, gamma)]
    assert costs == sorted(costs)
    check_bounds([half, poisson, gamma])


def test_cards_that_are_few_are_no_obstacle_and_what_no_plan_serves_is_said() -> None:
    instance = read_instance("igniter-table3")
    case = Case("p", "p99", "poisson", None, 50.0)
    assert all(gpu.count is None for gpu in Kinds(None).planned(instance, case).gpu_types)
    row = run(instance, case, Kinds(None), 5.0)
    assert (row.status, row.cost_per_hour, row.cells) == ("infeasible", None, {})
    assert "W4" in row.message and "\n" not in row.message


def test_draws_in_a_run_each_are_counted_as_runs_of_one_simulation_are() -> None:
    plan = solve("igniter-three", "igniter", slo_rule="p99", max_replicas=3).plan
    together = cell([simulate(plan, requests=20_000, seeds=3, seed=1000)])
    apart = judged(plan, [Arrivals()] * 3, 20_000)
    assert together.surely_over == apart.surely_over == 0
    assert together.held == apart.held == 3
    assert together.violation_ratio == pytest.approx(apart.violation_ratio, abs=0.003)


def test_files_have_every_row(tmp_path: Path) -> None:
    table = Table(tmp_path, 5.0, Kinds(None))
    good = {kind: Cell(held=4, surely_over=0, violation_ratio=0.005) for kind in DRAWN}
    table.add(Row(instance="a", workloads=4, case="`half`", status="optimal", gpus=2, cost_per_hour=6.0, cells=good))
    row = Row(instance="a", workloads=4, case="p", status="feasible", gpus=3, cost_per_hour=9.0, bound_per_hour=6.0)
    table.add(row)
    table.add(Row(instance="a", workloads=4, case="g", status="infeasible", message="too bursty"))
    text = table.path.read_text()
    assert "| p | feasible | 3 | 9.00 | 6.00 | 1.50 |" in text
    assert "4 (0) | 4 (0) | 4 (0)" in text and "- g: too bursty" in text and "commit:" in text
    with table.path.with_suffix(".csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [line["status"] for line in found] == ["optimal", "feasible", "infeasible"]
    assert found[0]["gamma held"] == "4" and found[2]["gamma held"] == ""
    again = Table(tmp_path, 5.0, Kinds(None), go_on=True)
    assert again.rows == table.rows and "(the first 3 rows of the CSV)" in again.head
    assert again.has(read_instance("igniter-three").model_copy(update={"name": "a"}), CASES[0])
    assert not again.has(read_instance("igniter-three"), CASES[0])
    with pytest.raises(ContradictionError):
        table.add(row.model_copy(update={"bound_per_hour": 9.1}))


def test_every_kind_is_planned_for_and_recorded_ones_need_a_folder(folder: Path, tmp_path: Path) -> None:
    assert {case.traffic for case in CASES if case.traffic} - {"observed"} <= {*DRAWN, *RECORDED}
    assert Kinds(None).judged == DRAWN and Kinds(folder).judged == (*DRAWN, *RECORDED)
    assert {case.traffic for case in CASES if Kinds(None).can_plan(case)} == {None, *DRAWN}
    assert all(Kinds(folder).can_plan(case) for case in CASES)
    table = Table(tmp_path, 1.0, Kinds(None))
    run_all([], table, 1.0)
    assert table.rows == []

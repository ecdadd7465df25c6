"""The parts of the benchmark on plans that survive being wrong: judging, matching settings, the check, the files."""

import csv
from pathlib import Path

import pytest

from bench.exact.table import ContradictionError
from bench.stress.__main__ import SETTINGS, Setting, Table, by_predictor, by_simulation, jobs, matching, planned, run
from bench.stress.figure import draw
from bench.stress.table import PERTURBATIONS, Held, Perturbation, Row, check, least_costs, proven_bound
from igniter_opt import read_instance, solve

MATCHED = {entry.words: matching(entry).words for entry in PERTURBATIONS}


def test_the_predictor_says_what_a_longer_latency_and_a_higher_rate_do() -> None:
    """Against the numbers of an ordinary verification, factor by factor."""
    result = solve("igniter-table3", "igniter", slo_rule="half")
    checks = result.verification.placements
    for latency, rate in ((1.0, 1.0), (1.05, 1.0), (1.0, 1.2), (1.1, 1.1), (1.5, 1.5)):
        over = {
            check.workload
            for check in checks
            # Transfers are not inflated: so much longer an inference is at most, and at least so much slower.
            if check.latency_ms * latency > check.limit_ms or check.throughput_rps < check.rate_rps * rate * latency
        }
        found = by_predictor(result.plan, Perturbation("", latency, rate))
        assert found.held + found.over == 12
        assert found.over <= len(over)
        assert (found.over == 0) == (not over) or latency > 1.0
    assert by_predictor(result.plan, Perturbation("")).over == 0
    assert by_predictor(result.plan, Perturbation("", 3.0, 3.0)).held == 0


@pytest.mark.parametrize("perturbation", [entry for entry in PERTURBATIONS if entry.burstiness == 1.0])
def test_the_matching_setting_survives(perturbation: Perturbation) -> None:
    setting = matching(perturbation)
    assert setting.words in {entry.words for entry in SETTINGS}
    instance = planned(read_instance("igniter-three"), "half", setting)
    plan = solve(instance, "bestfit", margin=setting.margin).plan
    assert by_predictor(plan, perturbation).over == 0
    if setting.margin + setting.headroom > 0.0:
        bare = solve(planned(read_instance("igniter-three"), "half", Setting()), "patterns").plan
        assert by_predictor(bare, perturbation).over > 0


def test_headroom_is_not_sent() -> None:
    instance = planned(read_instance("igniter-three"), "p99", Setting(headroom=0.25))
    plan = solve(instance, "igniter").plan
    assert by_simulation(plan, Perturbation(""), 5_000).over == 0
    assert by_simulation(plan, Perturbation("", rate=1.25), 5_000).over == 0
    assert by_simulation(plan, Perturbation("", latency=1.5, rate=1.5), 5_000).held == 0


def test_plans_against_bursts_hold_under_them() -> None:
    bursts = Perturbation("", burstiness=1.5)
    row = run(read_instance("igniter-three"), "p99", "patterns", matching(bursts), 5.0, 5_000)
    assert row is not None and row.survives("burstiness 1.5") and row.burstiness == 1.5


def test_confidence_needs_a_calibrated_profile() -> None:
    instance = read_instance("igniter-three")
    row = run(instance, "half", "bestfit", Setting(confidence=0.9), 5.0)
    assert row is not None and row.margin == instance.gpu_types[0].profile.margin_at(0.9) > 0.0
    bare = instance.gpu_types[0].profile.model_copy(update={"calibration": None})
    types = (instance.gpu_types[0].model_copy(update={"profile": bare}),)
    without = instance.model_copy(update={"gpu_types": types})
    assert run(without, "half", "bestfit", Setting(confidence=0.9), 5.0) is None


def test_what_no_plan_serves_is_a_row() -> None:
    row = run(read_instance("igniter-three"), "half", "patterns", Setting(margin=50.0), 5.0)
    assert row is not None and (row.status, row.cost_per_hour, row.held) == ("infeasible", None, {})
    assert row.message and "\n" not in row.message


def row_of(method: str, setting: str, cost: float, over: int, **more: object) -> Row:
    held = {"latency 1.1": Held(held=4 - over, over=over)}
    data = {"instance": "a", "workloads": 4, "rule": "half", "method": method, "setting": setting, "gpus": 1}
    return Row.model_validate(data | {"cost_per_hour": cost, "held": held} | more)


def test_no_surviving_plan_is_below_the_bound() -> None:
    proven = row_of("patterns", "margin 0.1", 6.0, 0, bound_per_hour=6.0, status="optimal")
    cheaper = row_of("bestfit", "as predicted", 3.0, 2)
    check([proven, cheaper], MATCHED)
    with pytest.raises(ContradictionError, match="below the bound 6"):
        check([proven, row_of("bestfit", "as predicted", 3.0, 0)], MATCHED)
    with pytest.raises(ContradictionError, match="does not survive"):
        check([row_of("patterns", "margin 0.1", 6.0, 1, bound_per_hour=6.0)], MATCHED)
    check([proven.model_copy(update={"rule": "p99"}), row_of("bestfit", "x", 3.0, 0, rule="p99")], MATCHED)


def test_bounds_of_smaller_perturbations_count() -> None:
    small = row_of("patterns", "margin 0.1", 6.0, 0, bound_per_hour=5.0)
    large = row_of("patterns", "margin 0.25", 9.0, 0, bound_per_hour=3.0)
    apart = row_of("patterns", "headroom 0.1", 9.0, 0, bound_per_hour=8.0)
    rows = [small, large, apart]
    assert proven_bound(rows, MATCHED, "latency 1.25") == 5.0
    assert proven_bound(rows, MATCHED, "both 1.25") == 8.0
    assert proven_bound(rows, MATCHED, "none") is None
    assert proven_bound([row.model_copy(update={"rule": "p99"}) for row in rows], MATCHED, "latency 1.25") == 3.0


def test_files_and_figure(tmp_path: Path) -> None:
    table = Table(tmp_path, 5.0)
    for setting in (Setting(), Setting(margin=0.25, headroom=0.25)):
        for method in ("bestfit", "patterns"):
            row = run(read_instance("igniter-three"), "half", method, setting, 5.0)
            assert row is not None
            table.add(row)
    table.add(row_of("patterns", "margin 0.1", 6.0, 0, bound_per_hour=6.0).model_copy(update={"message": "slow"}))
    text = table.path.read_text()
    assert "| none | 3.06 | 3.06 | 1.00 | yes | `bestfit` 3.06 (as predicted); `patterns` 3.06 (as predicted) |" in text
    assert "| both 1.25 | 6.12 | 6.12 | 2.00 | yes |" in text and "commit:" in text and "slow" in text
    with table.path.with_suffix(".csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 5 and found[3]["both 1.25 held"] == "3" and found[3]["burstiness 1.5 held"] == ""
    again = Table(tmp_path, 5.0, go_on=True)
    assert again.rows == table.rows and "(the first 5 rows of the CSV)" in again.head
    assert again.has(read_instance("igniter-three"), "half", "bestfit", Setting())
    assert not again.has(read_instance("igniter-three"), "p99", "bestfit", Setting())
    assert draw(table.rows, tmp_path / "stress.svg") and (tmp_path / "stress.svg").stat().st_size > 1000
    assert not draw([], tmp_path / "none.svg")
    assert "infeasible" in least_costs(
        [
            Row.model_validate(
                found[0]
                | {
                    "status": "infeasible",
                    "cost_per_hour": None,
                    "gpus": None,
                    "bound_per_hour": None,
                    "method": "patterns",
                }
            )
        ],
        MATCHED,
    )


def test_jobs() -> None:
    found = jobs(("half", "p99"), ("igniter-three",))
    assert len({(rule, method, setting) for _, rule, method, setting in found}) == len(found)
    bursty = {(rule, method) for _, rule, method, setting in found if setting.burstiness > 1.0}
    assert bursty == {("p99", "patterns")}

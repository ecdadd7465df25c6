"""The parts of the benchmark on the cost of truth: one run, rescues, the check of bounds, the files."""

import csv
from pathlib import Path

import pytest

from bench.exact.table import ContradictionError
from bench.truth.__main__ import (
    CASES,
    HUGE,
    POLICIES,
    SMALL,
    Table,
    jobs,
    rebatched,
    rescues,
    run,
    simulated,
    time_limit,
)
from bench.truth.table import Rescue, Row, check_bounds, least_cost_under_half, markdown, summary
from igniter_opt import read_instance, solve
from igniter_opt.data.instance_files import shipped_instances
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.slo.percentile import queues

REQUESTS = 20_000


def test_plans_of_rule_half_fail_under_poisson_arrivals_and_those_of_p99_hold() -> None:
    instance = read_instance("igniter-three")
    half = run(instance.with_options("half", 1), "patterns", 5.0, REQUESTS)
    assert (half.status, half.gpus, half.cost_per_hour, half.bound_per_hour) == ("optimal", 1, 3.06, 3.06)
    assert half.held is not None and half.surely_over is not None and half.held + half.surely_over <= 3
    assert half.held < 3 and half.violation_ratio is not None and half.violation_ratio > 0.1
    assert {entry.policy for entry in half.rescues} == set(POLICIES)
    assert half.rescues[0].held == max(entry.held for entry in half.rescues)
    true = run(instance.with_options("p99", 3), "igniter", 5.0, REQUESTS)
    assert true.cost_per_hour is not None and true.cost_per_hour > 3.06
    assert (true.status, true.replicas, true.surely_over, true.rescues) == ("heuristic", 3, 0, [])
    assert true.violation_ratio is not None and true.violation_ratio < 0.01
    check_bounds([half, true])


@pytest.mark.parametrize("method", ["igniter", "patterns"])
def test_cases_without_a_plan_are_rows_that_say_so(method: str) -> None:
    row = run(read_instance("igniter-table3").with_options("p99", 1), method, 5.0, REQUESTS)
    assert (row.status, row.cost_per_hour, row.held) == ("infeasible", None, None)
    assert "W10" in row.message and "\n" not in row.message
    assert row.message in markdown([row], "")


def test_rescues_change_batches_and_delays_only_and_agree_with_the_queue_analysis() -> None:
    plan = solve(read_instance("igniter-three"), "igniter", slo_rule="half").plan
    coefficients = fit_coefficients(plan.instance.gpu_types[0].profile)
    for factor in POLICIES.values():
        changed = rebatched(plan, factor)
        assert changed.instance == plan.instance
        for old_gpu, new_gpu in zip(plan.gpus, changed.gpus, strict=True):
            for old, new in zip(old_gpu.placements, new_gpu.placements, strict=True):
                most = coefficients.models[old.model].max_batch
                assert new.batch == (most if factor is None else min(most, factor * old.batch))
                assert new == old.model_copy(update={"batch": new.batch, "queue_delay_us": 0})
        simulation = {entry.workload: entry for entry in simulated(changed, 50_000).workloads}
        settled = 0
        for gpu in changed.gpus:
            found_queues = queues(
                coefficients,
                [coefficients.index(entry.model) for entry in gpu.placements],
                [entry.batch for entry in gpu.placements],
                [entry.share_percent for entry in gpu.placements],
                [entry.rate_rps for entry in gpu.placements],
            )
            for entry, queue in zip(gpu.placements, found_queues, strict=True):
                found = simulation[entry.workload].estimates["violation_ratio"].value
                if queue.traffic_intensity < 0.9:  # closer to 1, short runs have not settled
                    settled += 1
                    expected = queue.violation_probability(simulation[entry.workload].slo_ms)
                    assert found == pytest.approx(expected, rel=0.1, abs=0.01)
        assert settled or factor == 1
    ordered = [(-entry.held, entry.violation_ratio) for entry in rescues(plan, 2_000)]
    assert ordered == sorted(ordered)


def row_of(instance: str, rule: str, replicas: int, method: str, cost: float | None, **more: object) -> Row:
    data = {"instance": instance, "workloads": 4, "rule": rule, "replicas": replicas, "method": method}
    return Row.model_validate(data | {"cost_per_hour": cost} | more)


def test_bounds_are_checked_against_plans_of_the_same_rule_with_no_more_replicas() -> None:
    plan = row_of("a", "p99", 1, "igniter", 9.18)
    check_bounds([plan, row_of("a", "half", 1, "patterns", 12.24, bound_per_hour=12.24)])
    check_bounds([row_of("a", "p99", 3, "igniter", 9.18), row_of("a", "p99", 1, "patterns", None, status="infeasible")])
    with pytest.raises(ContradictionError, match=r"bound 12\.24 by patterns for up to 3 replicas"):
        check_bounds([plan, row_of("a", "p99", 3, "patterns", 12.24, bound_per_hour=12.24)])
    with pytest.raises(ContradictionError, match="bound inf"):
        check_bounds([plan, row_of("a", "p99", 1, "patterns", None, status="infeasible")])
    with pytest.raises(ContradictionError, match="instances/results"):
        check_bounds([row_of("igniter-three", "half", 3, "patterns", 6.12, bound_per_hour=6.12)])
    check_bounds([row_of("igniter-three", "deadline", 3, "patterns", 6.12, bound_per_hour=6.12)])


def test_summary_and_files(tmp_path: Path) -> None:
    poor = {"violation_ratio": 0.5, "worst_p99_over_slo": 9.0, "held": 1, "surely_over": 3}
    good = {"violation_ratio": 0.005, "worst_p99_over_slo": 0.9, "held": 4, "surely_over": 0}
    better = [Rescue(policy="doubled", held=4, violation_ratio=0.004, worst_p99_over_slo=0.8)]
    rows = [
        row_of("a", "half", 1, "patterns", 6.0, status="optimal", bound_per_hour=6.0, rescues=better, **poor),
        row_of("a", "deadline", 1, "patterns", 3.0, status="feasible", bound_per_hour=2.0, **poor),
        row_of("a", "p99", 1, "patterns", None, status="infeasible", message="too fast"),
        row_of("a", "p99", 3, "patterns", 9.0, status="optimal", bound_per_hour=9.0, **good),
        row_of("b", "half", 1, "patterns", 3.0, **poor),
    ]
    assert least_cost_under_half("a", rows) == 6.0
    assert least_cost_under_half("igniter-three", rows) == 3.06
    text = summary(rows)
    assert "Means over the 1 instances" in text and "not among them: b" in text and "optimal for 1 of them" in text
    assert "| `half` | 1 | `patterns` | 1 | 0 | 1 | 1.000 | 50.00 | 50.00 | 50.00 | 1 of 4 | 0 of 1 | 3 |" in text
    assert "| `p99` | 3 | `patterns` | 1 | 0 | 1 | 1.500 | 0.50 | 0.50 | 0.50 | 4 of 4 | 1 of 1 | 0 |" in text
    table = Table(tmp_path, 5.0)
    for row in rows:
        table.add(row)
    written = table.path.read_text()
    assert "| `half` | 1 | `patterns` | 1 | 1 | 1 of 4 | 4 of 4 | 50.00 | 0.40 | 0, 1, 0 |" in written
    assert "too fast" in written and "commit:" in written
    with table.path.with_suffix(".csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [line["instance"] for line in found] == ["a", "a", "a", "a", "b"]
    assert (found[0]["doubled_held"], found[1]["doubled_held"], found[1]["gap_percent"][:5]) == ("4", "", "33.33")
    with pytest.raises(ContradictionError):
        table.add(row_of("a", "half", 3, "patterns", 9.0, bound_per_hour=9.0))
    assert "CONTRADICTION" in table.path.read_text()


def test_jobs_and_limits() -> None:
    found = [(instance.name, case) for instance, case in jobs(shipped_instances())]
    assert len(set(found)) == len(found)
    assert {case.rule for name, case in found if name == "uniform-1000-1"} == {"half", "p99"}
    assert [name for name, _ in found[-2:]] == ["uniform-1000-1"] * 2
    assert all(case in CASES for _, case in found)
    sizes = {instance.name: len(instance.workloads) for instance, _ in jobs(shipped_instances())}
    assert all(sizes[name] <= SMALL for name, case in found if case.rule != "p99" and case.replicas == 3)
    assert [time_limit(size, None) for size in (100, HUGE)] == [20.0, 60.0]
    assert time_limit(HUGE, 5.0) == 5.0

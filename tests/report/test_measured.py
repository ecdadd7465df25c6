import json
from pathlib import Path
from typing import Any

import pytest

from igniter_opt import InputError, simulate
from igniter_opt.report.measured import read_measurements
from tests.report.pages import findings_of, result_of

MEASURED: dict[str, Any] = {
    "schema": "igniter-opt/measurement@1",
    "source": "emulated",
    "duration_s": 30.0,
    "arrivals": "poisson",
    "workloads": [
        {
            "workload": "A",
            "model": "alexnet",
            "rate_rps": 500,
            "requests": 15000,
            "completed": 14990,
            "failed": 10,
            "throughput_rps": 499.7,
            "slo_ms": 15,
            "mean_ms": 5.0,
            "p50_ms": 4.5,
            "p90_ms": 7,
            "p95_ms": 8,
            "p99_ms": 12.0,
            "max_ms": 30,
            "late_fraction": 0.004,
            "server": {"queue_ms": 1.0, "compute_ms": 3.5},
            "something_new": [1, 2],
        }
    ],
}


def write(folder: Path, data: object) -> Path:
    path = folder / "m.json"
    path.write_text(json.dumps(data))
    return path


def test_measurements_are_read_leniently(tmp_path: Path) -> None:
    found = read_measurements(write(tmp_path, MEASURED))
    assert found.kind == "measured"
    assert found.traffic == "poisson arrivals, 30 s, measured by emulated"
    row = found.workloads[0]
    assert (row.workload, row.p99_ms, row.compute_ms, row.failed, row.late_fraction) == ("A", 12.0, 3.5, 10.0, 0.004)
    sparse = read_measurements(
        write(
            tmp_path, {"schema": MEASURED["schema"], "workloads": [{"workload": "A", "p99_ms": None, "slo_ms": True}]}
        )
    )
    assert sparse.workloads[0].p99_ms is None
    assert sparse.traffic == ""
    absurd = write(tmp_path, {**MEASURED, "workloads": [{"workload": "A", "p99_ms": 10**400, "rate_rps": 1}]})
    assert read_measurements(absurd).workloads[0].p99_ms is None


def test_a_file_without_a_verdict_is_judged_by_what_it_says(tmp_path: Path) -> None:
    slos = {"A": 15.0}
    found = read_measurements(write(tmp_path, MEASURED)).judged_by(slos).verdict
    assert found is not None and found.text == "P99 is within the SLO for 1 of 1 workload"
    row = {**MEASURED["workloads"][0], "sent_late_ms": 9.0, "holds": True, "percentile": 0.95}
    slow = {**MEASURED, "settings": {"scale": 0.02, "arrivals": "constant"}, "workloads": [row]}
    found = read_measurements(write(tmp_path, slow)).judged_by(slos).verdict
    assert found is not None and found.outcome == "none" and found.judged == "P95"
    assert found.text.startswith("at 0.02 times the plan's rates: no verdict: requests of A were sent up to 9.0 ms")
    broken = {**MEASURED, "verdict": {"outcome": "fine", "judged": "P99", "workloads": 1}}
    with pytest.raises(InputError, match=r"outcome: must be one of holds, violates, none"):
        read_measurements(write(tmp_path, broken))


def test_simulations_are_read(tmp_path: Path) -> None:
    simulation = simulate(result_of("igniter-three", "igniter").plan, requests=1_000, seeds=2)
    found = read_measurements(write(tmp_path, simulation.to_dict()))
    assert found.kind == "simulated"
    for row, entry in zip(found.workloads, simulation.workloads, strict=True):
        assert row.p99_ms == pytest.approx(entry.estimates["p99_ms"].value)
        assert row.late_fraction == pytest.approx(entry.estimates["violation_ratio"].value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([], "not measurements"),
        ({"schema": "igniter-opt/measurement@2", "workloads": [{}]}, "'igniter-opt/measurement@2'"),
        ({"schema": "igniter-opt/plan@1"}, "its schema is"),
        ({"schema": "igniter-opt/measurement@1"}, "workloads: must be a list"),
        ({"schema": "igniter-opt/measurement@1", "workloads": [{"model": "x"}]}, r"workloads\[0\].workload"),
        ({"schema": "igniter-opt/measurement@1", "workloads": [3]}, r"workloads\[0\].workload"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: object, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_measurements(write(tmp_path, data))


def test_measurements_of_another_plan_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of its workloads is in the plan"):
        findings_of(
            tmp_path, result_of("igniter-three", "igniter").plan, measurements=[write(tmp_path, with_name("nobody"))]
        )


def with_name(name: str) -> dict[str, Any]:
    return {**MEASURED, "workloads": [{**MEASURED["workloads"][0], "workload": name}]}

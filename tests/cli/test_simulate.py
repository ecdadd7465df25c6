"""`simulate` and the simulated columns of `compare`: results, exit codes, files, bad input."""

import csv
import io
import os
import pty
import re
import signal
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pytest

from igniter_opt.compare import compare
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.instance_files import read_instance
from igniter_opt.data.plan import plan_json, read_plan
from igniter_opt.simulate import simulate
from igniter_opt.solve import solve
from tests.cli.helpers import SCRIPT, invoke, rejected

QUICK = ("--requests", "2000", "--seeds", "2")


@pytest.fixture(scope="module")
def plan_text() -> str:
    return plan_json(solve(read_instance("igniter-three"), "igniter").plan)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan_text: str) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("plan.json").write_text(plan_text)
    return tmp_path


def test_table_and_exit_codes() -> None:
    run = invoke("simulate", "plan.json", "--arrivals", "constant", *QUICK)
    assert (run.code, run.err) == (0, "")
    lines = run.out.splitlines()
    titles = "workload model GPU rate mean ms P50 P95 P99 P99.9 SLO ms over SLO use batch queue most"
    assert lines[0].split() == titles.split()
    assert [line.split()[0] for line in lines[1:4]] == ["A", "R", "S"]
    assert all(line.endswith("holds") for line in map(str.rstrip, lines[1:4]))
    assert "use: part of the time that servers work; batch: mean and largest batch; queue and most: requests" in run.out
    assert "constant arrivals, 1 run(s) of 2,000 requests per workload, 200 before them not counted" in run.out
    assert "0.00 % of all requests are over their SLO; P99 is within the SLO for 3 of 3 workloads" in run.out
    run = invoke("simulate", "plan.json", *QUICK, "--percentile", "0.9", "--noise", "0.2")
    assert (run.code, run.err) == (1, "")
    assert " P90 " in run.out.splitlines()[0]
    assert "violates" in run.out
    assert "±: 95 % interval over runs (Student t)" in run.out
    assert "noise 0.2" in run.out
    run = invoke("simulate", "plan.json", *QUICK, "--neighbours", "actual")
    assert "2,000 requests per workload on average, 200 before them not counted, random split, actual neighb" in run.out


def test_json_and_csv_are_the_api() -> None:
    options = ["--arrivals", "gamma", "--burstiness", "2", *QUICK, "--seed", "5", "--json", "-o", "out.csv"]
    run = invoke("simulate", "plan.json", *options)
    expected = simulate(read_plan("plan.json"), Arrivals("gamma", burstiness=2.0), requests=2000, seeds=2, seed=5)
    assert run.json() == expected.to_dict()
    assert run.code == 1
    assert (run.json()["arrivals"], run.json()["burstiness"], run.json()["runs"]) == ("gamma", 2.0, 2)
    assert run.json()["ok"] is False
    rows = list(csv.DictReader(io.StringIO(Path("out.csv").read_text())))
    for row, entry in zip(rows, run.json()["workloads"], strict=True):
        assert row["workload"] == entry["workload"]
        for key in ("p99_ms", "p99_ms_low", "violation_ratio", "max_queue", "batch"):
            assert float(row[key]) == pytest.approx(entry[key])
        assert sum(entry["batch_histogram"].values()) > 0


def test_traces() -> None:
    for name, rate in (("R", 600), ("A", 1200), ("S", 50)):
        Path(f"{name}.csv").write_text("timestamp\n" + "".join(f"{k / rate}\n" for k in range(500)))
    traces = [word for name in "RAS" for word in ("--trace", f"{name}={name}.csv")]
    run = invoke("simulate", "plan.json", *traces, "--json")
    assert (run.code, run.json()["arrivals"]) == (0, "trace")
    assert [entry["requests"] for entry in run.json()["workloads"]] == [500, 500, 500]
    assert "trace arrivals, 1 run(s) of all requests of the trace" in invoke("simulate", "plan.json", *traces).out
    Path("a=b.csv").write_text("timestamp,workload\n0,R\n0,A\n0,S\n")
    assert invoke("simulate", "plan.json", "--trace", "a=b.csv", "--arrivals", "trace").code == 0


def test_traces_that_are_refused() -> None:
    Path("t.csv").write_text("timestamp,workload\n3,R\n1,R\n")
    rejected("simulate", "plan.json", "--trace", "t.csv", says=("t.csv: row 2: the time 1.0 of workload R is before",))
    rejected("simulate", "plan.json", "--trace", "Q=t.csv", says=("the plan has no workload 'Q'",))
    rejected("simulate", "plan.json", "--trace", "u.csv", says=("u.csv: no such file",))
    rejected("simulate", "plan.json", "--trace", "t.csv", "-o", "t.csv", says=("--output would overwrite an input",))
    rejected("simulate", "plan.json", "--arrivals", "trace", says=("give a trace file",))
    rejected("simulate", "plan.json", "--trace", "t.csv", "--arrivals", "poisson", says=("the arrivals are poisson",))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ("--arrivals", "posson"),
            "--arrivals: unknown kind 'posson'; did you mean 'poisson'? (kinds: constant, poisson",
        ),
        (("--split", "rr"), "--split: unknown way 'rr'"),
        (("--neighbours", "ful"), "--neighbours: unknown kind 'ful'; did you mean 'full'? (kinds: full, actual)"),
        (("--burstiness", "2"), "--burstiness goes with --arrivals gamma"),
        (("--requests", "0"), "requests must be between 1 and 10,000,000; found 0"),
        (("--requests", "many"), "--requests"),
        (("--seeds", "-1"), "seeds must be between 1 and 1,000; found -1"),
        (("--seed", "-1"), "seed must be at least 0"),
        (("--noise", "nan"), "noise must be between 0 and 10; found nan"),
        (("--margin", "-1"), "margin must be"),
        (("--scale", "inf"), "scale must be between"),
        (("--percentile", "99"), "percentile must be a probability above 0, such as 0.99"),
        (("--plot", "cdf.txt"), "a plot's file name must end in .png, .svg, .pdf"),
        (("--plot", "plan.json"), "would overwrite an input"),
    ],
)
def test_options_out_of_range(options: tuple[str, ...], says: str) -> None:
    rejected("simulate", "plan.json", *options, says=(says,))


def test_plans_that_are_refused(plan_text: str) -> None:
    Path("edited.json").write_text(plan_text.replace('"batch": 9', '"batch": 90'))
    rejected("simulate", "edited.json", says=("the plan cannot be served: V100-1/R#1: batch 90 is not in 1..32",))
    rejected("simulate", "nowhere.json", says=("no such file",))
    Path("other.json").write_text("{}")
    rejected("simulate", "other.json", says=("not a plan",))


@pytest.mark.parametrize("workloads", [3, 30])
def test_plot_shows_the_worst_first(workloads: int) -> None:
    instance = read_instance("igniter-three")
    text = read_instance("uniform-50-1")
    instance = instance if workloads == 3 else text.model_copy(update={"workloads": text.workloads[:workloads]})
    Path("plan.json").write_text(plan_json(solve(instance, "igniter").plan))
    invoke("simulate", "plan.json", *QUICK, "--plot", "cdf.svg")
    invoke("simulate", "plan.json", *QUICK, "--plot", "cdf.png")
    assert Path("cdf.png").read_bytes().startswith(b"\x89PNG")
    svg = Path("cdf.svg").read_text()
    drawn = re.findall(r"<!--  ?P99 (\S+) ms, SLO (\S+) ms -->", svg) or re.findall(r"P99 (\S+) ms, SLO (\S+) ms", svg)
    ratios = [float(late) / float(slo) for late, slo in drawn]
    assert len(ratios) == min(workloads, 24)
    assert all(one >= other * 0.99 for one, other in pairwise(ratios))
    assert ("the 24 worst shown" in svg) == (workloads > 24)


def test_large_plans_show_the_worst_workloads() -> None:
    instance = read_instance("uniform-100-1")
    Path("plan.json").write_text(plan_json(solve(instance, "igniter").plan))
    run = invoke("simulate", "plan.json", "--requests", "500", "--seeds", "1")
    assert "... and 40 more workloads" in run.out
    assert re.search(r"P99 is within the SLO for \d+ of 100 workloads", run.out)


def test_replicas_have_rows_of_their_own() -> None:
    instance = read_instance("igniter-table3")
    large = tuple(
        w.model_copy(update={"rate_rps": 2 * w.rate_rps}) if w.name == "W8" else w for w in instance.workloads
    )
    plan = solve(instance.model_copy(update={"workloads": large}).with_options(None, 2), "bestfit").plan
    Path("plan.json").write_text(plan_json(plan))
    run = invoke("simulate", "plan.json", "--arrivals", "constant", "--requests", "2000")
    assert "2 replicas" in run.out
    names = [line.split()[0] for line in run.out.splitlines()]
    at = names.index("W8")
    assert names[at + 1 : at + 3] == ["#1", "#2"]


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_progress_on_a_terminal_only_and_ctrl_c(by: signal.Signals) -> None:
    """The script under a terminal counts what is done; Ctrl-C or SIGTERM ends it with 130 and no traceback."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [SCRIPT, "simulate", "plan.json", "--requests", "10000000", "--seeds", "1000", "-o", "out.csv"],
        stdout=subprocess.DEVNULL,
        stderr=child,
        stdin=subprocess.DEVNULL,
    )
    os.close(child)
    said = b""
    began = time.monotonic()
    while b"runs of a workload" not in said and time.monotonic() - began < 60:
        said += os.read(parent, 1000)
    process.send_signal(by)
    while True:  # until the terminal has no writer any more
        try:
            more = os.read(parent, 10_000)
        except OSError:
            break
        if not more:
            break
        said += more
    code = process.wait(timeout=60)
    os.close(parent)
    assert re.search(rb"\d+ of 3,000 runs of a workload", said)
    assert code == 130
    assert b"interrupted" in said
    assert b"Traceback" not in said
    assert not Path("out.csv").exists()


def test_too_few_requests_are_said() -> None:
    assert "note: 3 workload(s) had fewer than 10" in invoke("simulate", "plan.json", "--requests", "1").err
    assert "note" not in invoke("simulate", "plan.json", "--requests", "20000", "--seeds", "1").err
    assert "note" not in invoke("simulate", "plan.json", "--requests", "5", "--arrivals", "constant").err


# compare


def test_compare_simulates_every_plan_with_the_same_requests() -> None:
    run = invoke("compare", "igniter-table3", "--methods", "igniter,ffd", "--json", "-o", "rows.csv")
    rows = {row["method"]: row for row in run.json()}
    for method, row in rows.items():
        plan = solve(read_instance("igniter-table3"), method).plan
        found = simulate(plan, requests=20_000, seeds=1)
        assert row["simulated_violation_ratio"] == pytest.approx(found.violation_ratio)
        assert row["simulated_worst_p99_over_slo"] == pytest.approx(found.worst_p99_over_slo)
    assert rows["ffd"]["status"] == "violates"
    assert rows["ffd"]["simulated_violation_ratio"] > rows["igniter"]["simulated_violation_ratio"] > 0.3
    assert "simulated_worst_p99_over_slo" in Path("rows.csv").read_text().splitlines()[0]
    run = invoke("compare", "igniter-table3", "--methods", "igniter,ffd")
    assert "late, P99/SLO: requests over their SLO, and the worst workload" in run.out
    assert f"{100 * rows['ffd']['simulated_violation_ratio']:.2f} %" in run.out


def test_compare_without_simulation() -> None:
    run = invoke("compare", "igniter-three", "--methods", "igniter", "--requests", "0", "--json")
    assert run.json()[0]["simulated_violation_ratio"] is None
    assert "simulated" not in invoke("compare", "igniter-three", "--methods", "igniter", "--requests", "0").out
    rejected(
        "compare", "igniter-three", "--requests", "-1", says=("requests must be between 0 and 10,000,000; found -1",)
    )
    assert compare([read_instance("igniter-three")], ["igniter"], requests=0).rows[0].simulated_violation_ratio is None

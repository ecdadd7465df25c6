"""Arrivals in instances and plans: what files say, what plans carry, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from igniter_opt import Arrivals, InputError, Instance, read_instance, read_plan, solve, verify, write_plan
from igniter_opt.data import recorded as module
from igniter_opt.data.instance_files import instance_yaml, parse_instance
from igniter_opt.data.plan import plan_json

BASE = instance_yaml(read_instance("igniter-three")).replace("slo_rule: half\n", "slo_rule: p99\n")


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    times = np.cumsum(np.random.default_rng(0).exponential(0.01, 3000)) + 1.7e9
    path = tmp_path / "requests.csv"
    path.write_text("timestamp\n" + "\n".join(f"{time:.6f}" for time in times))
    return path


def parsed(tmp_path: Path, arrivals: str, base: str = BASE) -> Instance:
    return parse_instance(f"{base}arrivals: {arrivals}\n", "mine.yaml", tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{kind: gamma, burstiness: 4}", Arrivals("gamma", burstiness=4.0)),
        ("{kind: mmpp, burst_ratio: 5, burst_seconds: 0.5}", Arrivals("mmpp", burst_ratio=5.0, burst_seconds=0.5)),
        ("{kind: poisson}", None),
        ("null", None),
    ],
)
def test_what_files_say(tmp_path: Path, text: str, expected: Arrivals | None) -> None:
    instance = parsed(tmp_path, text)
    assert instance.arrivals == expected
    assert parse_instance(instance_yaml(instance), "again.yaml", tmp_path) == instance


def test_poisson_plans_are_as_before(tmp_path: Path) -> None:
    instance = read_instance("igniter-three").with_options(slo_rule="p99", arrivals=Arrivals("poisson"))
    assert instance == read_instance("igniter-three").with_options(slo_rule="p99")
    assert "arrivals" not in instance_yaml(instance)


def test_workloads_may_differ(tmp_path: Path) -> None:
    own = BASE.replace("rate_rps: 600}", "rate_rps: 600, arrivals: {kind: poisson}}")
    instance = parsed(tmp_path, "{kind: gamma}", own)
    kinds = [instance.arrivals_of(workload).kind for workload in instance.workloads]
    assert kinds == ["gamma", "poisson", "gamma"]
    everywhere = instance.with_options(arrivals=Arrivals("mmpp"))
    assert {everywhere.arrivals_of(workload).kind for workload in everywhere.workloads} == {"mmpp"}


def test_a_trace_is_carried_and_its_rate_taken_where_none_is_given(tmp_path: Path, trace: Path) -> None:
    instance = parsed(tmp_path, "{kind: trace, file: requests.csv}", BASE.replace(", rate_rps: 50", ""))
    recorded = instance.arrivals.recorded  # type: ignore[union-attr]
    assert recorded is not None
    assert instance.workloads[2].rate_rps == recorded.stream("S").rate_rps == pytest.approx(100.0, rel=0.1)
    assert instance.workloads[0].rate_rps == 1200.0
    trace.unlink()
    again = parse_instance(instance_yaml(instance), "again.yaml", tmp_path / "elsewhere")
    assert again == instance
    kept = again.arrivals.recorded.times_ns("S")  # type: ignore[union-attr]
    assert (kept == recorded.times_ns("S")).all()


def test_a_column_names_workloads(tmp_path: Path) -> None:
    rows = [f"{k * 0.001 * (1 + number)},{name}" for number, name in enumerate("ARS") for k in range(1500)]
    rows.sort(key=lambda row: float(row.split(",")[0]))
    (tmp_path / "all.csv").write_text("timestamp,workload\n" + "\n".join(rows))
    recorded = parsed(tmp_path, "{kind: trace, file: all.csv}").arrivals.recorded  # type: ignore[union-attr]
    assert recorded is not None
    assert [recorded.stream(name).rate_rps for name in "ARS"] == pytest.approx([1000.0, 500.0, 1000 / 3])


def test_long_traces_stay_in_their_file(tmp_path: Path, trace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CARRIED", 2999)
    instance = parsed(tmp_path, "{kind: trace, file: requests.csv}")
    text = instance_yaml(instance)
    assert "gaps_ns" not in text
    again = parse_instance(text, "again.yaml", tmp_path)
    assert again == instance
    assert (again.arrivals.recorded.times_ns("A")[:2] >= 0).all()  # type: ignore[union-attr]
    trace.write_text(trace.read_text().replace("\n17", "\n16", 1))
    with pytest.raises(InputError, match="its times have changed"):
        parse_instance(text, "again.yaml", tmp_path).arrivals.recorded.times_ns("A")  # type: ignore[union-attr]
    trace.unlink()
    with pytest.raises(InputError, match="no such file"):
        parse_instance(text, "again.yaml", tmp_path).arrivals.recorded.times_ns("A")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{kind: constant}", "constant arrivals cannot be planned for by a percentile"),
        ("{kind: possion}", "unknown kind 'possion'; did you mean 'poisson'?"),
        ("{kind: gamma, burst: 4}", "unknown key 'burst'; did you mean 'burstiness'"),
        ("{kind: gamma, burstiness: 1e9}", "burstiness must be between"),
        ("{kind: gamma, burstiness: .inf}", "burstiness must be between"),
        ("{burstiness: 4}", "the key 'kind' is missing"),
        ("gamma", "must be a mapping such as {kind: gamma, burstiness: 4}; found 'gamma'"),
        ("{kind: trace}", "trace arrivals need a file of times"),
        ("{kind: trace, file: 5}", "file must be text; found 5"),
        ("{kind: gamma, file: requests.csv}", "a trace file belongs to trace arrivals"),
        ("{kind: trace, file: nowhere.csv}", "nowhere.csv: no such file"),
        (
            "{kind: trace, recorded: {source: x, streams: {'': {requests: 5}}}}",
            "must have requests, rate_rps and digest",
        ),
        (
            "{kind: trace, recorded: {source: x, streams: {'': {requests: 5, rate_rps: 1, digest: a, gaps_ns: '!'}}}}",
            "gaps_ns is damaged",
        ),
    ],
)
def test_bad_arrivals(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        parsed(tmp_path, text)
    assert "arrivals: " in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("timestamp\n", "the trace is empty"),
        ("5\n", "one request only; it takes two at least to have a rate"),
        ("5\n5\n5\n", "all requests come at one time"),
        ("2\n1\n", "row 2: the time 1.0 is before 2.0 above it; sort the rows by time"),
        ("1\nnan\n", "not a number"),
        ("1\ninf\n", "must be a finite number"),
        ("\n".join(map(str, range(999))), "has 999 requests of workload A, too few to read P99 from; it takes 1,000"),
        ("timestamp,workload\n1,A\n2,A\n2,R\n3,R\n4,S\n", "one request of workload S only"),
        ("timestamp,workload\n1,A\n2,A\n", "no requests of workload R, S"),
        ("timestamp,workload\n1,A\n3,R\n2,A\n2,R\n", "the time 2.0 of workload R is before 3.0 above it"),
        ("timestamp\n1\n-2\n", "the timestamp -2.0 is negative"),
        ("timestamp\n1\n1e12\n", "give seconds, not milliseconds"),
    ],
)
def test_bad_traces(tmp_path: Path, rows: str, says: str) -> None:
    (tmp_path / "bad.csv").write_text(rows)
    with pytest.raises(InputError) as caught:
        parsed(tmp_path, "{kind: trace, file: bad.csv}")
    assert says in str(caught.value)


@pytest.mark.parametrize(("percentile", "needed"), [("0.9", "100"), ("0.999", "10,000"), ("0.9999", "100,000")])
def test_traces_too_short_for_a_percentile(tmp_path: Path, percentile: str, needed: str) -> None:
    (tmp_path / "short.csv").write_text("\n".join(map(str, range(99))))
    base = BASE.replace("slo_rule: p99\n", f"slo_rule: p99\npercentile: {percentile}\n")
    with pytest.raises(InputError, match=f"too few to read .* from; it takes {needed}"):
        parsed(tmp_path, "{kind: trace, file: short.csv}", base)


@pytest.mark.slow
def test_ten_million_rows_in_an_instance(tmp_path: Path) -> None:
    """They stay in their file, and the rate is theirs."""
    times = np.arange(10_000_000) * 1e-3 + 1.7e9
    np.savetxt(tmp_path / "long.csv", times, fmt="%.3f", header="timestamp", comments="")
    instance = parsed(tmp_path, "{kind: trace, file: long.csv}", BASE.replace(", rate_rps: 50", ""))
    assert instance.workloads[2].rate_rps == pytest.approx(1000.0)
    assert len(instance_yaml(instance)) < 10_000


def test_a_plan_for_a_trace_is_judged_without_the_file(tmp_path: Path, trace: Path) -> None:
    arrivals = Arrivals("trace", file=str(trace))
    result = solve("igniter-three", "bestfit", slo_rule="p99", arrivals=arrivals, max_replicas=2)
    assert result.verification.ok
    assert "as recorded" in str(result.verification.basis)
    write_plan(result.plan, tmp_path / "plan.json")
    trace.unlink()
    again = read_plan(tmp_path / "plan.json")
    assert plan_json(again) == plan_json(result.plan)
    assert verify(again).ok
    data = json.loads((tmp_path / "plan.json").read_text())
    data["instance"]["arrivals"]["recorded"]["streams"][""]["digest"] = "0"
    (tmp_path / "plan.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match="does not have the digest"):
        read_plan(tmp_path / "plan.json")

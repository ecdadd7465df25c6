"""``measure`` and ``rehearse``: bad input, exit codes, and what is written, on a server whose behaviour is known."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import igniter_opt as ig
from igniter_opt.data import verdict
from igniter_opt.data.instance_files import parse_instance
from igniter_opt.deploy.approval import plan_digest
from igniter_opt.measure import results
from igniter_opt.measure.machine import Machine, MachineLoad
from tests.cli.helpers import assert_rejected, files, invoke, rejected
from tests.measure.fake_server import Behaviour, endpoints_of, serving

QUICK = ["--duration", "0.5", "--warm-up", "0", "--arrivals", "constant"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(verdict, "LATE_MS", 2000.0)  # however busy this machine is with other work
    return tmp_path


@pytest.fixture(scope="module")
def plan() -> ig.Plan:
    text = (
        "{name: one, gpu_types: [{name: V100, profile: v100, price_per_hour: 3.06}],"
        " workloads: [{name: W, model: alexnet, slo_ms: 200, rate_rps: 40}]}"
    )
    return ig.solve(parse_instance(text, "one", Path()), "igniter").plan


@pytest.fixture
def behaviour() -> Behaviour:
    return Behaviour()


@pytest.fixture
def endpoints(folder: Path, behaviour: Behaviour) -> Iterator[Path]:
    """An endpoints file of a server that runs."""
    path = folder / "endpoints.json"
    with serving(behaviour) as place:
        write(path, endpoints_of(place, rate=40).model_dump(mode="json", by_alias=True))
        yield path


def write(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data))
    return path


DEAD = {
    "schema": "igniter-opt/endpoints@1",
    "workloads": {
        "W": {
            "model": "double",
            "replicas": [{"rate_rps": 40.0, "http": "http://127.0.0.1:9", "grpc": "127.0.0.1:9"}],
        }
    },
}


def test_without_a_plan_nothing_is_judged(endpoints: Path) -> None:
    run = invoke("measure", endpoints, *QUICK, "-o", "m.json")
    assert run.code == 0, run.err
    assert "W" in run.out and "within the SLO" not in run.out
    found = json.loads(Path("m.json").read_text())
    assert found["workloads"][0]["answered"] == 20
    assert invoke("measure", endpoints, *QUICK, "--json").json()["workloads"][0]["holds"] is None


def test_the_plan_gives_the_exit_code(endpoints: Path, behaviour: Behaviour, plan: ig.Plan) -> None:
    ig.write_plan(plan, Path("plan.json"))
    run = invoke("measure", endpoints, "--plan", "plan.json", *QUICK, "-o", "m.csv")
    assert run.code == 0, run.err
    assert "P99 is within the SLO for 1 of 1 workload" in run.out
    assert "not the plan that was deployed" not in run.err  # the file does not say which was
    (row,) = csv.DictReader(Path("m.csv").read_text().splitlines())
    assert (row["workload"], row["holds"], row["slo_ms"]) == ("W", "True", "200.0")
    behaviour.service_s = 0.3
    run = invoke("measure", endpoints, "--plan", "plan.json", *QUICK)
    assert run.code == 1
    assert "within the SLO for 0 of 1 workload" in run.out


@pytest.mark.parametrize(("stolen_s", "noted"), [(None, False), (0.0, False), (0.001, False), (2.0, True)])
def test_a_host_that_takes_the_machine_away_is_named(
    stolen_s: float | None, noted: bool, endpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Machine, "load", lambda _: MachineLoad(50.0, stolen_s))
    run = invoke("measure", endpoints, *QUICK, "-o", "m.json")
    assert run.code == 0, run.err
    assert ("the host took" in run.err) == noted
    assert json.loads(Path("m.json").read_text()).get("stolen_s") == stolen_s


def test_another_plan_judges_with_a_note(endpoints: Path, plan: ig.Plan) -> None:
    ig.write_plan(plan, Path("plan.json"))
    data = json.loads(endpoints.read_text())
    for digest, noted in (("0" * 64, True), (plan_digest(plan), False)):
        write(endpoints, data | {"plan_digest": digest})
        run = invoke("measure", endpoints, "--plan", "plan.json", *QUICK)
        assert run.code == 0, run.err
        assert ("plan.json is not the plan that was deployed" in run.err) == noted


def test_a_server_that_died_is_no_verdict(
    endpoints: Path, behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    behaviour.fail, behaviour.good = True, 1
    monkeypatch.setattr("igniter_opt.measure.run._DOUBT_S", 0.1)
    monkeypatch.setattr("igniter_opt.measure.run.server.is_alive", lambda _: False)
    run = invoke("measure", endpoints, *QUICK)
    assert run.code == 2, run.err
    assert "does not answer since" in run.err


def test_failures_are_exit_code_1_and_said(endpoints: Path, behaviour: Behaviour) -> None:
    behaviour.fail, behaviour.good = True, 1
    run = invoke("measure", endpoints, *QUICK)
    assert run.code == 1
    assert "failed requests: W: INTERNAL: made to fail" in run.err


def test_a_machine_that_cannot_send_in_time_gives_no_verdict(
    endpoints: Path, plan: ig.Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the SLOs say then: exit code 2."""
    from igniter_opt.cli.commands import measure as command

    def late(*arguments: Any, **options: Any) -> Any:
        found = measured(*arguments, **options)
        workloads = tuple(w.model_copy(update={"sent_late_ms": 5000.0, "holds": False}) for w in found.workloads)
        return results.with_verdict(found.model_copy(update={"workloads": workloads}))

    measured = command.measure
    monkeypatch.setattr(command, "measure", late)
    ig.write_plan(plan, Path("plan.json"))
    run = invoke("measure", endpoints, "--plan", "plan.json", *QUICK, "--scale", "2", "-o", "m.json")
    assert run.code == 2
    assert "no verdict: requests of W were sent up to 5000.0 ms too late" in run.err
    assert "at 2 times the plan's rates: no verdict: requests of W" in run.out
    assert "holds" not in run.out and "violates" not in run.out and "within the SLO" not in run.out
    run = invoke("report", "plan.json", "--measurements", "m.json", "--what-if-time", "0", "-o", "r.html")
    assert run.code == 0
    assert "m.json (measured): at 2 times the plan's rates: no verdict: requests of W" in run.out
    page = Path("r.html").read_text()
    assert "At 2 times the plan&#39;s rates: no verdict: requests of W were sent up to 5000.0 ms too late" in page
    assert "within the SLO for" not in page


def test_the_verdict_says_under_which_load_and_on_what(endpoints: Path, plan: ig.Plan) -> None:
    ig.write_plan(plan, Path("plan.json"))
    write(endpoints, json.loads(endpoints.read_text()) | {"cpu": True})
    run = invoke("measure", endpoints, "--plan", "plan.json", *QUICK, "--scale", "0.5", "-o", "m.json")
    assert run.code == 0, run.err
    said = (
        "at 0.5 times the plan's rates, on servers without GPUs and shares: P99 is within the SLO for 1 of 1 workload"
    )
    assert said in run.out
    assert json.loads(Path("m.json").read_text())["verdict"]["outcome"] == "holds"
    report = invoke("report", "plan.json", "--measurements", "m.json", "--what-if-time", "0", "-o", "r.html")
    assert said in report.out


def test_dead_endpoints_and_wrong_models(folder: Path, endpoints: Path) -> None:
    write(folder / "dead.json", DEAD)
    rejected("measure", "dead.json", says=("W replica 1: nobody answers at 127.0.0.1:9",))
    data = json.loads(endpoints.read_text())
    data["workloads"]["W"]["model"] = "bert"
    write(folder / "other.json", data)
    rejected("measure", "other.json", says=("has no model 'bert'",))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("[]", "endpoints.json"),
        ('{"schema": "igniter-opt/endpoints@2", "workloads": {}}', "igniter-opt/endpoints@2"),
        ('{"schema": "igniter-opt/endpoints@1", "workloads": {}}', "there are no endpoints"),
        ('{"schema": "igniter-opt/endpoints@1"}', "workloads"),
        (json.dumps(DEAD).replace("127.0.0.1:9", "nowhere"), "grpc"),
        (json.dumps(DEAD).replace("127.0.0.1:9", "$(touch hacked):9"), "grpc"),
        (json.dumps(DEAD).replace("40.0", "-1"), "rate_rps"),
        (json.dumps(DEAD).replace("rate_rps", "rate"), "rate_rps"),
    ],
)
def test_damaged_endpoints_files(folder: Path, text: str, says: str) -> None:
    (folder / "endpoints.json").write_text(text)
    rejected("measure", "endpoints.json", says=(says,))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--duration", "0"], "duration must be between"),
        (["--duration", "nan"], "duration must be between"),
        (["--warm-up", "-1"], "warm-up must be between"),
        (["--timeout", "0"], "timeout must be between"),
        (["--processes", "0"], "processes must be between"),
        (["--seed", "-1"], "seed must be between"),
        (["--percentile", "99"], "percentile must be a probability"),
        (["--arrivals", "possion"], "did you mean 'poisson'?"),
        (["--arrivals", "trace"], "arrivals trace: give a trace file"),
        (["--split", "robin"], "--split"),
        (["--burstiness", "3"], "--burstiness goes with --arrivals gamma"),
        (["--trace", "nowhere.csv"], "nowhere.csv: no such file"),
        (["-o", "nowhere/m.json"], "nowhere"),
    ],
)
@pytest.mark.parametrize("command", ["measure", "rehearse"])
def test_options_out_of_range(folder: Path, plan: ig.Plan, command: str, options: list[str], says: str) -> None:
    ig.write_plan(plan, folder / "plan.json")
    write(folder / "dead.json", DEAD)
    rejected(command, "dead.json" if command == "measure" else "plan.json", *options, says=(says,))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--scale", "-1"], "scale must be between"),
        (["--only", "V"], "no workload 'V'"),
        (["--name", "x"], "--name goes with a plan"),
        (["--input", "double=nowhere.json"], "nowhere.json: no such file"),
        (["--input", "bert=dead.json"], "no such model is deployed"),
        (["--plan", "nowhere.json"], "nowhere.json: no such file"),
    ],
)
def test_options_of_measure(folder: Path, options: list[str], says: str) -> None:
    write(folder / "dead.json", DEAD)
    rejected("measure", "dead.json", *options, says=(says,))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--scale", "2"], "must be between 0.001 and 1"),
        (["--scale", "0"], "must be between 0.001 and 1"),
        (["--base-port", "80"], "--base-port: must be 1024 to 65533"),
        (["--ready-timeout", "-1"], "--ready-timeout"),
        (["--tritonserver", "nowhere"], "is no executable file"),
        (["--duration", "0.1", "--warm-up", "0", "--scale", "0.01"], "no requests of workload W"),
    ],
)
def test_options_of_rehearse(folder: Path, plan: ig.Plan, options: list[str], says: str) -> None:
    ig.write_plan(plan, folder / "plan.json")
    rejected("rehearse", "plan.json", *options, says=(says,))


def test_a_rehearsal_needs_a_server_to_start(folder: Path, plan: ig.Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    ig.write_plan(plan, folder / "plan.json")
    monkeypatch.setenv("PATH", "/nonexistent")
    rejected("rehearse", "plan.json", says=("`igniter-opt triton install` fetches one",))


def test_plans_that_are_not_deployed_or_make_no_sense(folder: Path, plan: ig.Plan) -> None:
    ig.write_plan(plan, folder / "plan.json")
    rejected("measure", "plan.json", says=("no deployment 'one'", "deploy the plan first"))
    rejected("measure", "plan.json", "--name", "../x", says=("must be 1 to 63 letters",))
    rejected("measure", "plan.json", "--plan", "plan.json", says=("--plan goes with an endpoints file",))
    for command in ("measure", "rehearse"):
        rejected(command, "nowhere.json", says=("nowhere.json: no such file",))
        rejected(command, ".", says=("folder",))
        rejected(command, says=("Missing argument",))
    data = json.loads((folder / "plan.json").read_text())
    data["gpus"][0]["placements"][0]["share_percent"] = 300
    write(folder / "odd.json", data)
    rejected("rehearse", "odd.json", says=("the plan cannot be served",))


def test_outputs_never_overwrite_inputs(folder: Path, plan: ig.Plan) -> None:
    write(folder / "dead.json", DEAD)
    write(folder / "data.json", {"data": [{"x": [1, 2, 3]}]})
    ig.write_plan(plan, folder / "plan.json")
    shutil.copy("data.json", "trace.csv")
    before = files()
    for name in ("dead.json", "plan.json", "trace.csv", "data.json"):
        run = invoke(
            "measure", "dead.json", "--plan", "plan.json", "--trace", "trace.csv", "--input", "data.json", "-o", name
        )
        assert_rejected(run, before, f"{name}: --output would overwrite an input")
        run = invoke("measure", "dead.json", "--plan", "plan.json", "--input", "double=data.json", "-o", "data.json")
        assert_rejected(run, before, "data.json: --output would overwrite an input")
    assert_rejected(invoke("rehearse", "plan.json", "-o", "plan.json"), before, "would overwrite an input")


def test_unreadable_traces(folder: Path, endpoints: Path) -> None:
    for text, says in (
        ("", "the trace is empty"),
        ("timestamp,workload\n1.0,V\n", "V"),
        ("timestamp,workload\n-1.0,W\n", "row 1"),
        ("time,workload\n1.0,W\n", "timestamp"),
        ("timestamp,workload\nsoon,W\n", "row 1"),
    ):
        (folder / "trace.csv").write_text(text)
        rejected("measure", endpoints, "--trace", "trace.csv", says=("trace", says))
    (folder / "trace.csv").write_text("timestamp,workload\n0.5,W\n1.0,W\n")
    rejected("measure", endpoints, "--trace", "trace.csv", "--warm-up", "2", says=("the trace ends after 0.5 s",))
    run = invoke("measure", endpoints, "--trace", "trace.csv", "--warm-up", "0", "--json")
    assert run.code == 0, run.err
    assert run.json()["workloads"][0]["answered"] == 2

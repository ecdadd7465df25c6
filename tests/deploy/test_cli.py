"""The launching commands: messages, exit codes, hostile names; nothing starts on bad input."""

import json
import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest

import igniter_opt as ig
from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import parse_record
from igniter_opt.data.plan import plan_json
from igniter_opt.deploy.inventory import ListedGpu
from igniter_opt.deploy.state import Store
from tests.cli.helpers import SCRIPT, Run, invoke, rejected, script
from tests.deploy.conftest import Site, solve, write_server
from tests.deploy.conftest import approved as approved_plan
from tests.deploy.models import write_models

HOSTILE = [
    "../x",
    "a;rm -rf",
    "$(touch hacked)",
    "`x`",
    "a b",
    "-rf",
    "",
    "a" * 200,
    "größe",
    "a\n",
    "..",
    "a/b",
    "a\0b",
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def approved(folder: Path, plan: ig.Plan) -> Path:
    path = folder / "plan.json"
    ig.write_plan(plan, path)
    assert invoke("approve", path, "--yes").code == 0
    return path


def arguments(plan: Path, *more: str | Path) -> list[str | Path]:
    return ["deploy", plan, "--models", "models", "--cpu", *more]


def test_approve_shows_what_it_is_about_and_asks(folder: Path, plan: ig.Plan) -> None:
    ig.write_plan(plan, folder / "plan.json")
    assert "needs a terminal" in rejected("approve", "plan.json")
    run = invoke("approve", "plan.json", "--yes")
    assert run.code == 0
    for text in ("tightest placements", "3 Triton servers", "3.06 USD per hour", "alexnet, resnet50, ssd"):
        assert text in run.out
    assert json.loads((folder / "plan.approval.json").read_text())["margin"] == 0


def test_approve_prints_json_and_nothing_else(folder: Path, plan: ig.Plan) -> None:
    ig.write_plan(plan, folder / "plan.json")
    assert "--json shows nothing to decide on" in rejected("approve", "plan.json", "--json")
    found = invoke("approve", "plan.json", "--yes", "--json").json()
    assert found.pop("path") == "plan.approval.json"
    assert found == json.loads((folder / "plan.approval.json").read_text())
    assert found["verification"]["cost_per_hour"] == 3.06


def test_deploy_refuses_with_exit_code_1(folder: Path, plan: ig.Plan) -> None:
    ig.write_plan(plan, folder / "plan.json")
    run = invoke(*arguments(folder / "plan.json"))
    assert (run.code, run.out) == (1, "")
    assert run.err.endswith("`igniter-opt approve " + str(folder / "plan.json") + "`\n")
    invoke("approve", "plan.json", "--yes")
    text = plan_json(plan).replace('"rate_rps": 50', '"rate_rps": 49')
    (folder / "plan.json").write_text(text)
    run = invoke(*arguments(folder / "plan.json"))
    assert run.code == 1
    assert "is not the plan that" in run.err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--backend", "dockr"], "did you mean 'docker'?"),
        (["--backend", "docker"], "needs --image"),
        (["--image", "x"], "goes with --backend docker or kubernetes"),
        (["--gpu", "V100-1"], "expected PLAN-GPU=UUID"),
        (["--gpu", "V100-1=a", "--gpu", "V100-1=b"], "given twice"),
        (["--base-port", "80"], "--base-port: must be 1024 to 65533"),
        (["--ready-timeout", "-1"], "--ready-timeout"),
        (["--tritonserver", "nowhere"], "is no executable file"),
        (["--models", "nowhere"], "nowhere: no such folder"),
        (["--backend", "docker", "--image", "x", "--inventory", "hosts.yaml"], "hosts.yaml: no such file"),
        (["--backend", "docker", "--image", "x", "--docker-host", "unix:///nowhere/docker.sock"], "unix:///nowhere"),
        (["--backend", "docker", "--image", "x", "--docker-host", "nonsense"], "does not answer at nonsense"),
    ],
)
def test_bad_options(approved: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], says: str) -> None:
    write_models(Path("models"))
    monkeypatch.setenv("PATH", "/nonexistent")
    before = {str(path) for path in Path().rglob("*")}
    run = invoke(*arguments(approved, *more))
    assert run.code == 2, run.err
    assert says in run.err
    assert run.err.count("error: ") == 1
    assert {str(path) for path in Path().rglob("*")} == before


def test_no_server_to_start(approved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_models(Path("models"))
    monkeypatch.setenv("PATH", "/nonexistent")
    run = invoke(*arguments(approved))
    assert run.code == 2
    assert "`igniter-opt triton install` fetches one" in run.err


def test_no_gpu_names_the_way_out(approved: Path) -> None:
    write_models(Path("models"))
    run = invoke("deploy", approved, "--models", "models", "--tritonserver", write_server(Path()))
    assert run.code == 2
    assert "--cpu" in run.err


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_deployment_names(approved: Path, name: str) -> None:
    write_models(Path("models"))
    server = write_server(Path())
    before = {str(path) for path in Path().rglob("*")}
    for command in (arguments(approved, "--tritonserver", server), ["teardown"], ["status"]):
        run = invoke(*command, f"--name={name}")
        assert run.code == 2, (command, run.err)
    assert {str(path) for path in Path().rglob("*")} == before


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("field", ["workload", "model", "gpu"])
def test_hostile_names_in_a_plan(approved: Path, field: str, name: str) -> None:
    data = json.loads(approved.read_text())
    if field == "gpu":
        data["gpus"][0]["name"] = name
    else:
        data["gpus"][0]["placements"][0][field] = name
    approved.write_text(json.dumps(data))
    for command in (["approve", approved, "--yes"], arguments(approved)):
        message = rejected(*command)
        assert "must be 1 to 63 letters" in message
    assert not Path("hacked").exists()


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != "a" * 200])
def test_hostile_uuids(name: str) -> None:
    with pytest.raises(InputError):
        parse_record(ListedGpu, {"uuid": name, "name": "x"}, "hosts.yaml")


def test_status_and_teardown_of_nothing(folder: Path) -> None:
    for command in ("status", "teardown"):
        run = invoke(command)
        assert (run.code, run.out) == (0, "")
        assert "nothing is deployed" in run.err
    assert invoke("status", "--json").json() == []
    assert invoke("teardown", "--json").json() == {"deployment": None, "stopped": 0}
    assert "no deployment 'x'" in rejected("status", "--name", "x")
    run = invoke("teardown", "--name", "x")
    assert (run.code, run.out) == (0, "")
    assert "nothing to stop: no deployment 'x'" in run.err
    assert invoke("teardown", "--name", "x", "--json").json() == {"deployment": "x", "stopped": 0}
    assert "--endpoints: nothing is deployed" in rejected("status", "--endpoints", "json")
    assert "nowhere: no such folder" in rejected("status", "--state", "nowhere")


def on(site: Site, command: str, *more: str | Path) -> Run:
    options: list[str | Path] = ["--name", "test", "--state", site.folder / "state", *more]
    if command == "deploy":
        options = [site.plan, "--models", site.models, "--cpu", "--tritonserver", site.server, *options]
        options += ["--base-port", str(site.base_port)]
    return script(command, *options)


def test_from_deploy_to_teardown(site: Site) -> None:
    run = on(site, "deploy")
    assert run.code == 0, run.err
    assert "shares are not enforced" in run.err
    assert "nothing to change" in on(site, "deploy").err
    assert not on(site, "deploy", "--json").json()["changed"]
    run = on(site, "status")
    assert run.code == 0
    assert run.out.count(" yes ") == 3
    assert json.loads(on(site, "status", "--endpoints", "json").out)["workloads"]["A"]["model"] == "alexnet"
    assert 'upstream "test--A-http"' in on(site, "status", "--endpoints", "nginx").out
    assert "did you mean 'nginx'?" in on(site, "status", "--endpoints", "nginy").err
    site.kill()
    run = on(site, "status")
    assert run.code == 1
    assert run.out.count("gone: its server does not run") == 3
    assert "did you mean 'test'?" in on(site, "teardown", "--name", "tets").err
    assert on(site, "teardown").code == 0
    site.assert_clean()
    run = on(site, "teardown")
    assert (run.code, run.out) == (0, "")
    assert run.err.startswith("nothing to stop: no deployment 'test'")


def on_a_terminal(answer: str, *arguments: str | Path) -> tuple[int, str]:
    """Run the script with a terminal to answer on; return its exit code and what it said there."""
    ours, theirs = pty.openpty()
    try:
        child = subprocess.Popen(
            [SCRIPT, *map(str, arguments)], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        os.write(ours, answer.encode())
        said, _ = child.communicate(timeout=60)
        return child.returncode, said
    finally:
        os.close(ours)
        os.close(theirs)


def test_teardown_asks_on_a_terminal_and_only_there(site: Site) -> None:
    where = ["teardown", "--name", "test", "--state", site.folder / "state"]
    assert on(site, "deploy").code == 0
    code, said = on_a_terminal("n\n", *where)
    assert code == 1
    assert "Tear down test, which stops 3 servers?" in said
    assert "refused: nothing was torn down" in said
    assert len(site.processes()) == 6
    code, said = on_a_terminal("y\n", *where)
    assert (code, "nothing of it runs any more" in said) == (0, True)
    site.assert_clean()
    assert on(site, "deploy").code == 0
    code, said = on_a_terminal("", *where, "--yes", "--json")
    assert code == 0
    assert "?" not in said
    assert '"stopped": 3' in said
    site.assert_clean()
    # A script has nobody to ask, and is not held up.
    assert on(site, "deploy").code == 0
    assert on(site, "teardown", "--json").json() == {"deployment": "test", "stopped": 3}
    site.assert_clean()


def test_a_dry_run_shows_marks_numbers_and_prices(site: Site, plan: ig.Plan) -> None:
    run = on(site, "deploy", "--dry-run")
    lines = run.out.splitlines()
    assert [line[:1] for line in lines[1:4]] == ["+"] * 3
    assert "+ 3 to start, ~ 0 to change, - 0 to stop, = 0 kept" in lines
    assert lines[-1] == "price per hour: 0 → 3.06 USD (+3.06); GPUs: V100 0 → 1"
    assert "+ 3 started, ~ 0 changed, - 0 stopped, = 0 kept" in on(site, "deploy").out

    # One workload is gone, one needs less, one stays; the plan's GPU costs more by now.
    workloads = [entry.model_dump() for entry in plan.instance.workloads if entry.name != "A"]
    lower = [entry | ({"rate_rps": 300} if entry["name"] == "R" else {}) for entry in workloads]
    dearer = [plan.instance.gpu_types[0].model_copy(update={"price_per_hour": 4.5})]
    instance = ig.Instance(name="test", gpu_types=dearer, workloads=lower)
    approved_plan(solve(instance), site.plan)
    run = on(site, "deploy", "--dry-run")
    assert run.code == 0, run.err
    assert "+ 0 to start, ~ 1 to change, - 1 to stop, = 1 kept" in run.out
    assert "price per hour: 3.06 → 4.5 USD (+1.44, +47.1 %); GPUs: V100 1" in run.out
    marks = {line.split()[1].split("/")[1]: line for line in run.out.splitlines() if "/" in line.split()[1]}
    assert {name: line[0] for name, line in marks.items()} == {"A#1": "-", "R#1": "~", "S#1": "="}
    assert "share" in marks["R#1"] and "rate 600 req/s to 300 req/s" in marks["R#1"]
    found = on(site, "deploy", "--dry-run", "--json").json()
    assert found["counts"] == {"start": 0, "change": 1, "stop": 1, "keep": 1}
    assert found["cost_per_hour"] == {"old": 3.06, "new": 4.5}
    assert found["gpus"] == {"V100": {"old": 1, "new": 1}}
    assert {entry["mark"] for entry in found["placements"]} == {"change", "stop", "keep"}


def test_a_lost_state_is_no_reason_to_leave_servers_running(site: Site) -> None:
    assert on(site, "deploy").code == 0
    site.store.file.unlink()
    run = on(site, "teardown")
    assert run.code == 0
    assert "nothing of it runs any more" in run.err
    assert "its state was lost; a file of targets for Prometheus" in run.err
    site.assert_clean()


@pytest.mark.parametrize("content", [{"a.txt": "hello"}, {"lock": "of somebody else's"}, {"servers/x/log": "theirs"}])
def test_somebody_s_folder_is_no_deployment(folder: Path, content: dict[str, str]) -> None:
    """The state folder may be any; what is in it under the name asked for is not ours for that."""
    for name, text in content.items():
        path = folder / "home" / "documents" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    says = ("documents: is no deployment's folder, and is left alone",)
    rejected("teardown", "--state", folder / "home", "--name", "documents", says=says)


def test_what_a_failed_deployment_left_is_torn_down(site: Site) -> None:
    site.misbehave("ssd", "exit")
    assert on(site, "deploy").code == 1
    run = on(site, "teardown")
    assert run.code == 0
    assert f"test: nothing of it was running; removed what was left in {site.store.folder}" in run.err
    assert not site.store.folder.exists()


def test_a_server_that_exits_is_exit_code_1(site: Site) -> None:
    site.misbehave("ssd", "exit")
    run = on(site, "deploy")
    assert run.code == 1
    assert "not deployed: V100-1/S#1: its server exited before it was ready" in run.err
    assert "failed to load all models" in run.err
    kept = site.store.folder / "failed"
    assert run.err.endswith(f"whole logs: {kept}\n")
    (log,) = kept.glob("*-V100-1-S#1-*.log")
    assert "failed to load all models" in log.read_text()
    site.assert_clean()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupting_the_program_is_exit_code_130(site: Site, number: signal.Signals) -> None:
    site.misbehave("ssd", "hang")
    command = [SCRIPT, "deploy", site.plan, "--models", site.models, "--cpu", "--tritonserver", site.server]
    command += ["--name", "test", "--state", site.folder / "state", "--base-port", str(site.base_port)]
    child = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    deadline = time.monotonic() + 20
    while len(site.processes()) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(number)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "everything that this run started was stopped again" in err
    assert f"whole logs: {site.store.folder / 'failed'}\n" in err
    assert "Traceback" not in err
    site.assert_clean()


def test_nobody_reads_what_deploy_and_teardown_say(site: Site) -> None:
    """Standard output and error are pipes whose readers have gone: servers are started and stopped all the same."""
    options = ["--name", "test", "--state", site.folder / "state"]
    launching = [site.plan, "--models", site.models, "--cpu", "--tritonserver", site.server]
    launching += ["--base-port", str(site.base_port)]
    for command, count in ((["deploy", *launching, *options], 6), (["teardown", *options], 0)):
        ours, theirs = os.pipe()
        os.close(ours)
        done = subprocess.run([SCRIPT, *map(str, command)], stdout=theirs, stderr=theirs, timeout=60, check=False)
        os.close(theirs)
        assert done.returncode == 0
        assert len(site.processes()) == count
    site.assert_clean()


def test_the_default_name_is_the_instances(site: Site, folder: Path) -> None:
    run = script("deploy", site.plan, "--models", site.models, "--cpu", "--tritonserver", site.server, "--dry-run")
    assert run.code == 0, run.err
    assert "dry run: nothing was done" in run.err
    assert not Store(folder / "home/igniter-opt/deployments", "igniter-three").folder.exists()

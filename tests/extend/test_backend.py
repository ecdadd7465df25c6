"""A deployment backend is one file and one row: a toy one, from outside the package, deploys and ends a plan."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import igniter_opt as ig
from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import parse_record
from igniter_opt.deploy.backends.registry import BACKENDS
from igniter_opt.deploy.state import Deployment, Store
from tests.cli.helpers import Run, invoke
from tests.deploy.conftest import PORTS, approved, solve, write_server
from tests.deploy.models import write_models
from tests.extend.toy_backend import RUNNING, TOY


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(BACKENDS, TOY.name, TOY)
    approved(solve(ig.read_instance("igniter-three")), tmp_path / "plan.json")
    write_models(tmp_path / "models")
    yield tmp_path
    for _, child in RUNNING.values():
        child.kill()
        child.wait()
    RUNNING.clear()


def on(command: str, *more: str | Path) -> Run:
    return invoke(command, *more, "--state", "state")


def deploy(*more: str | Path) -> Run:
    port = ["--base-port", str(next(PORTS))]
    return on("deploy", "plan.json", "--models", "models", "--backend", "toy", "--cpu", "--name", "test", *port, *more)


def test_a_toy_backend_deploys_shows_status_and_tears_down(folder: Path) -> None:
    run = deploy("--tritonserver", write_server(folder))
    assert run.code == 0, run.err
    assert len(RUNNING) == 3
    assert json.loads((folder / "state/test/state.json").read_text())["backend"] == "toy"
    (status,) = on("status", "--json").json()
    assert (status["backend"], len(status["servers"])) == ("toy", 3)
    assert {server["ready"] for server in status["servers"]} == {True}
    children = [child for _, child in RUNNING.values()]
    assert on("teardown").code == 0
    assert not RUNNING
    assert all(child.poll() is not None for child in children)
    assert on("status", "--json").json() == []


def test_its_options_are_asked_for_and_refused_by_its_row(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert deploy().err == "error: --backend toy needs --tritonserver, such as a stand-in\n"
    assert "--image goes with --backend docker or kubernetes\n" in deploy("--image", "x").err
    process = on("deploy", "plan.json", "--models", "models", "--cpu", "--docker-host", "x")
    assert (process.code, process.err) == (2, "error: --docker-host goes with --backend docker or toy\n")
    monkeypatch.setitem(BACKENDS, "toy", replace(TOY, packages=("no_such_package",), extra="toys", needs={}))
    assert "'no_such_package' of the extra 'toys'; in the clone: pip install '.[toys]'" in deploy().err


def test_a_state_of_a_backend_that_is_no_longer_there_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(folder / "state", "test")
    fields = {"name": "test", "owner": store.owner, "machine": "m", "cpu": True, "created_at": "then"}
    state = parse_record(Deployment, {**fields, "backend": "toy", "hosts": [{"name": "local"}]}, "here")
    assert state.backend == "toy"
    monkeypatch.delitem(BACKENDS, "toy")
    with pytest.raises(InputError, match="backend: must be one of process, docker; found 'toy'"):
        parse_record(Deployment, state.model_dump(by_alias=True), "here")

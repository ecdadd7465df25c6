"""The examples of commands that need a real server, as typed in their help."""

import shlex
from pathlib import Path

import pytest

import igniter_opt as ig
from igniter_opt.deploy.approval import approval_path, make_approval, write_approval
from igniter_opt.deploy.triton.install import Installation
from igniter_opt.rehearse.emulation import write_emulated_models
from tests.cli.helpers import script
from tests.cli.test_help_examples import examples


@pytest.mark.slow
def test_measure_rehearse_and_guard(triton: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    plan = ig.solve(ig.read_instance("igniter-three"), "igniter").plan
    ig.write_plan(plan, tmp_path / "plan.json")
    write_approval(make_approval(plan), approval_path(tmp_path / "plan.json"))
    write_emulated_models(plan, tmp_path / "models")
    for command in ("rehearse", "measure", "guard"):
        (line,) = examples(command)
        if command != "rehearse":
            assert script("deploy", "plan.json", "--models", "models", "--cpu", "--base-port", "27000").code == 0
        try:
            run = script(*shlex.split(line))
        finally:
            script("teardown")
        if command == "guard":  # nobody sends requests, so there is nothing to do, and nothing to judge
            assert run.code == 2 and "watching: 3 placement(s), by their servers" in run.out, run.err
            assert "no verdict: no request was seen of any placement" in run.out
            continue
        # Poisson arrivals break the plan's SLOs, as its rule says nothing about them; a loaded machine cannot tell.
        assert run.code == (2 if "no verdict: " in run.err else 1), run.err
        assert ("no verdict: " if run.code == 2 else "within the SLO for 0 of 3 workloads") in run.out
    assert (tmp_path / "measured.json").stat().st_size > 0

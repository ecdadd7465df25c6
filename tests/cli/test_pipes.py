"""Instances and plans come from standard input for ``-``, and plans go to standard output."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from igniter_opt.cli import inputs
from igniter_opt.cli.main import app
from igniter_opt.data.plan import read_plan
from igniter_opt.data.profile import read_profile, write_profile
from tests.cli.helpers import INSTANCE, Run, with_value

TEXT = yaml.safe_dump(INSTANCE)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def piped(content: str | bytes, *arguments: str) -> Run:
    found = CliRunner().invoke(app, list(arguments), input=content)
    assert found.exception is None or isinstance(found.exception, SystemExit)
    return Run(found.exit_code, found.stdout, found.stderr)


def test_a_plan_goes_from_command_to_command() -> None:
    solved = piped(TEXT, "solve", "-", "--method", "igniter", "-o", "-")
    assert solved.code == 0
    Path("plan.json").write_text(solved.out)
    assert [workload.name for workload in read_plan("plan.json").instance.workloads] == ["A", "B"]
    assert not Path("-").exists()
    assert piped(TEXT, "solve", "-", "--method", "igniter", "--json").json()["gpus"] == solved.json()["gpus"]
    assert piped(solved.out, "verify", "-").out.endswith("the plan holds\n")
    assert piped(solved.out, "explain", "-", "--json").json()["instance"] == "test"
    assert (
        piped(solved.out, "simulate", "-", "--requests", "200", "--seeds", "1", "--json").json()["instance"] == "test"
    )
    assert piped(TEXT, "compare", "-", "--methods", "igniter", "--requests", "0", "--json").json()[0]["gpus"] == 1


def test_profile_paths_start_from_the_current_folder() -> None:
    write_profile(read_profile("v100"), "card.json")
    text = yaml.safe_dump(with_value("card.json", "gpu_types", 0, "profile"))
    assert piped(text, "solve", "-", "--method", "igniter").code == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "standard input: expected a mapping"),
        (b"\xff\xfe", "standard input: is not UTF-8 text"),
        ("name: x", "standard input: gpu_types: this key is required"),
        ("a: b: c", "standard input: line 1, column 5: not YAML"),
    ],
)
def test_what_is_no_instance_is_refused(content: str | bytes, says: str) -> None:
    run = piped(content, "solve", "-")
    assert (run.code, run.out) == (2, "")
    assert says in run.err


def test_what_is_no_plan_is_refused() -> None:
    for content, says in (("{}", "not a plan"), ("", "is empty"), (TEXT, "not JSON")):
        run = piped(content, "verify", "-")
        assert run.code == 2
        assert f"standard input: {says}" in run.err or says in run.err


def test_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MOST_YAML_BYTES", 100)
    run = piped(TEXT, "solve", "-")
    assert run.code == 2
    assert "standard input: is larger than" in run.err

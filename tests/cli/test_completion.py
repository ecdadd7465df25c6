"""What a shell proposes: what the package knows, and files of the kind that is meant."""

import os
import subprocess
from pathlib import Path

import pytest

from igniter_opt.cli import completion
from igniter_opt.data.instance_files import shipped_instances
from igniter_opt.data.profile import shipped_profiles, shipped_slice_profiles
from igniter_opt.methods import METHODS
from igniter_opt.profiler.models.catalogue import BUILT_IN
from igniter_opt.slo.rules import RULES
from tests.cli.helpers import SCRIPT, invoke


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_everything_that_is_known_is_proposed() -> None:
    assert completion.instances("") == sorted(shipped_instances())
    assert completion.profiles("") == [*shipped_profiles(), *shipped_slice_profiles()]
    assert completion.methods("") == [(name, row.words) for name, row in METHODS.items()]
    assert [name for name, _ in completion.rules("")] == list(RULES)
    assert completion.models("") == list(BUILT_IN)


def test_only_what_continues_the_word() -> None:
    assert completion.instances("igniter-t") == ["igniter-table3", "igniter-three"]
    assert completion.profiles("h") == ["h100", "h200"]
    assert [name for name, _ in completion.methods("ffd")] == ["ffd", "ffd++"]
    assert completion.coefficients("r") == ["refined"]
    assert completion.method_lists("igniter,ffd,ff") == ["igniter,ffd,ffd++"]
    assert completion.model_lists("resnet50,al") == ["resnet50,alexnet"]
    assert completion.words(["a1", "b1"])("b") == ["b1"]


def test_files_of_the_kind_and_folders(folder: Path) -> None:
    for name in ("mine.yaml", "more.yml", "card.json", "notes.txt", ".hidden.yaml"):
        (folder / name).touch()
    (folder / "models").mkdir()
    (folder / "models" / "inner.yaml").touch()
    assert completion.instances("m") == [
        *(n for n in shipped_instances() if n[0] == "m"),
        "mine.yaml",
        "models/",
        "more.yml",
    ]
    assert completion.instances("models/") == ["models/inner.yaml"]
    assert completion.profiles("c") == ["card.json"]
    assert completion.instances(".h") == [".hidden.yaml"]
    assert completion.instances("nowhere/x") == []


def test_workloads_of_the_plan(folder: Path) -> None:
    plan = folder / "plan.json"
    assert invoke("solve", "igniter-table3", "--method", "igniter", "-o", plan).code == 0
    environment = {"_IGNITER_OPT_COMPLETE": "complete_bash", "COMP_WORDS": "igniter-opt explain plan.json W1"}
    done = subprocess.run(
        [SCRIPT], env={**os.environ, **environment, "COMP_CWORD": "3"}, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["W1", "W10", "W11", "W12"]
    plan.write_text("{}")
    done = subprocess.run(
        [SCRIPT], env={**os.environ, **environment, "COMP_CWORD": "3"}, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("", "")


@pytest.mark.parametrize(
    ("typed", "proposed"),
    [
        ("igniter-opt solve igniter-m", "igniter-motivation"),
        ("igniter-opt solve x --method best", "bestfit"),
        ("igniter-opt solve x --slo-rule dead", "deadline"),
        ("igniter-opt predict v", "v100"),
        ("igniter-opt expl", "explain"),
    ],
)
def test_the_shell_gets_it(typed: str, proposed: str) -> None:
    words = typed.split()
    environment = {
        **os.environ,
        "_IGNITER_OPT_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run([SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [proposed]

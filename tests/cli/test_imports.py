"""What a command does not need it does not import: most of a short command's time would be imports."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import igniter_opt as ig

SLOW = {"scipy", "pandas", "pyomo", "numba", "matplotlib", "highspy"}
# Which modules a command has loaded when it ends, however it does.
PROGRAM = """
import atexit, json, pathlib, sys
atexit.register(lambda: pathlib.Path("loaded.json").write_text(json.dumps(list(sys.modules))))
from igniter_opt.cli.main import run
run()
"""


def loaded(folder: Path, program: str, *words: str) -> tuple[int, set[str]]:
    """Exit code of a program, and the modules that it loaded."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder / "cache")}
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    return done.returncode, set(json.loads((folder / "loaded.json").read_text()))


@pytest.fixture
def plan(tmp_path: Path) -> str:
    ig.write_plan(ig.solve("igniter-motivation", "igniter").plan, tmp_path / "plan.json")
    return "plan.json"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        ([], 2),
        (["--bogus"], 2),
        (["slove"], 2),
        (["solve", "--help"], 0),
        (["solve", "igniter-table3", "--bogus"], 2),
        (["solve", "nowhere.yaml"], 2),
        (["verify", "nowhere.json"], 2),
        (["predict", "nowhere.json", "resnet50:1:50"], 2),
    ],
)
def test_help_and_errors_import_nothing_slow(tmp_path: Path, words: list[str], code: int) -> None:
    found, modules = loaded(tmp_path, PROGRAM, *words)
    assert found == code
    assert "igniter_opt.cli.main" in modules
    assert not SLOW & modules


def test_help_and_version_import_no_data(tmp_path: Path) -> None:
    """Not even what all other commands need."""
    for words in (["--help"], ["--version"], ["--bogus"]):
        assert not {"numpy", "pydantic", "rich", "igniter_opt.data"} & loaded(tmp_path, PROGRAM, *words)[1]


def test_the_package_imports_nothing_slow(tmp_path: Path) -> None:
    program = PROGRAM.replace("from igniter_opt.cli.main import run\nrun()", "import igniter_opt")
    code, modules = loaded(tmp_path, program)
    assert (code, "igniter_opt" in modules) == (0, True)
    assert not (SLOW | {"numpy", "pydantic"}) & modules


def test_judging_and_predicting_import_no_solver(tmp_path: Path, plan: str) -> None:
    """In the first run SciPy fits coefficients, later ones read them."""
    for words in (
        ["verify", plan],
        ["predict", "v100", "resnet50:4:50"],
        ["solve", "igniter-table3", "--method", "igniter"],
    ):
        for others in (SLOW - {"scipy"}, SLOW):
            code, modules = loaded(tmp_path, PROGRAM, *words)
            assert code == 0
            assert not others & modules


@pytest.mark.parametrize(
    "command", ["approve", "deploy", "measure", "guard", "metrics", "simulate", "compare", "report", "profile", "serve"]
)
def test_no_command_imports_what_only_its_work_needs(tmp_path: Path, command: str) -> None:
    code, modules = loaded(tmp_path, PROGRAM, command, "--help")
    assert code == 0
    assert f"igniter_opt.cli.commands.{command}" in modules or command == "approve"
    assert (
        not {"docker", "fastapi", "grpc", "matplotlib", "pandas", "pyomo", "scipy.optimize", "scipy.stats", "torch"}
        & modules
    )

"""The recipes for CI do what the page says: their commands run as they stand there, on pull requests."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import igniter_opt as ig
from igniter_opt.data.plan import Plan, plan_json
from tests.docs.blocks import ROOT, sections

FOUND = sections(ROOT / "docs" / "ci.md")
INSTALL = "pip install wheels/igniter_opt-*.whl"


def github() -> list[str]:
    (block,) = FOUND["GitHub Actions"]
    job = yaml.safe_load(block.text)["jobs"]["plan"]
    return [step["run"] for step in job["steps"] if "run" in step]


def gitlab() -> list[str]:
    (block,) = FOUND["GitLab"]
    return ["\n".join(yaml.safe_load(block.text)["plan"]["script"])]


RECIPES = {"github": (github(), "GITHUB_BASE_REF"), "gitlab": (gitlab(), "CI_MERGE_REQUEST_TARGET_BRANCH_NAME")}


def git(folder: Path, *arguments: str) -> None:
    own = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", *own, *arguments], cwd=folder, check=True, capture_output=True)


def run_recipe(recipe: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a recipe's steps as runners do, a shell each until one fails; the program is installed already."""
    steps, branch = RECIPES[recipe]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        branch: "main",
    }
    lines = "\n".join(steps).splitlines()
    assert lines.count(INSTALL) == 1
    done = subprocess.CompletedProcess([], 0, "", "")
    for step in steps:
        script = "\n".join(line for line in step.splitlines() if line != INSTALL)
        done = subprocess.run(
            ["bash", "-e", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            break
    return done


@pytest.fixture(scope="module")
def plans() -> dict[str, Plan]:
    instance = ig.read_instance("igniter-table3")
    dear = ig.solve(instance, "igniter").plan
    return {"dear": dear, "cheap": ig.solve(instance.with_options(scale=0.7), "igniter").plan}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone of a repository whose branch ``main`` has nothing but a README yet."""
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    origin.mkdir()
    git(origin, "init", "--initial-branch=main")
    (origin / "README").write_text("plans\n")
    git(origin, "add", ".")
    git(origin, "commit", "-m", "first")
    git(tmp_path, "clone", "--depth=1", f"file://{origin}", str(clone))
    return clone


def on_main(checkout: Path, text: str) -> None:
    origin = checkout.parent / "origin"
    (origin / "plan.json").write_text(text)
    git(origin, "add", ".")
    git(origin, "commit", "-m", "plan")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_pull_request_is_judged(recipe: str, checkout: Path, plans: dict[str, Plan]) -> None:
    proposed = checkout / "plan.json"
    proposed.write_text(plan_json(plans["dear"]))
    assert run_recipe(recipe, checkout).returncode == 0  # the first plan

    on_main(checkout, plan_json(plans["dear"]))
    same = run_recipe(recipe, checkout)
    assert same.returncode == 0, same.stderr
    assert "= 12 kept" in same.stdout

    proposed.write_text(plan_json(plans["cheap"]))
    cheaper = run_recipe(recipe, checkout)
    assert cheaper.returncode == 0, cheaper.stderr
    assert "price per hour: 18.36 → 15.3" in cheaper.stdout

    on_main(checkout, plan_json(plans["cheap"]))
    proposed.write_text(plan_json(plans["dear"]))
    dearer = run_recipe(recipe, checkout)
    assert dearer.returncode == 1
    assert "plan.json costs 3.06 USD per hour more than base.json" in dearer.stderr

    broken: Any = json.loads(plan_json(plans["cheap"]))
    broken["gpus"][0]["placements"][0]["share_percent"] = 10.0
    proposed.write_text(json.dumps(broken))
    slow = run_recipe(recipe, checkout)
    assert slow.returncode == 1
    assert "the plan does not hold" in slow.stdout


def test_both_recipes_run_the_same_commands() -> None:
    assert len(RECIPES["github"][0]) == 3
    lines = {
        name: [
            line.partition("  #")[0].rstrip().replace(f"${branch}", "$TARGET")
            for step in steps
            for line in step.splitlines()
        ]
        for name, (steps, branch) in RECIPES.items()
    }
    assert lines["github"] == lines["gitlab"]

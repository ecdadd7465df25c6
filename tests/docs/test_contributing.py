"""What is written for those who carry on agrees with the code: rooms, modules, paths, checks, the citation."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.docs.blocks import ROOT
from tests.test_structure import MODULES, ROOMS, room

HOUSE = (ROOT / "docs" / "house.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_every_room_is_described() -> None:
    described = set(re.findall(r"\*\*`(\w+)`\*\*", HOUSE))
    assert described == set(ROOMS) - {"__main__"}


def test_the_value_walks_upwards_through_modules_that_exist() -> None:
    steps = HOUSE.split("## One value on its way")[1]
    modules = [name for name in re.findall(r"`([a-z_]+\.[a-z_]+)`", steps) if room(name) in ROOMS]
    assert len(modules) > 6
    assert [
        name for name in modules if name not in MODULES and not any(m.startswith(name + ".") for m in MODULES)
    ] == []


@pytest.mark.parametrize("text", [HOUSE, CONTRIBUTING], ids=["house", "contributing"])
def test_paths_named_exist(text: str) -> None:
    named = re.findall(r"`((?:igniter_opt|tests|bench|docs|formulations|\.ci)/[\w./-]*)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_checks_are_those_of_ci() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    checks = [
        f".venv/bin/{tool} {rest}" for tool, rest in re.findall(r'^ *"\$bin/(ruff|mypy)" (.*)$', CI, re.MULTILINE)
    ]
    assert len(checks) == 3
    assert [hook["entry"] for hook in hooks] == checks
    for hook in hooks:
        assert hook["entry"] in CONTRIBUTING


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load(Path(ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    assert (cited["title"], cited["version"], cited["license"]) == (project["name"], project["version"], "MIT")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for reference in cited["references"]:
        assert reference["doi"] in readme
        assert {"type", "title", "authors"} <= set(reference)
    assert f"What will be {project['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

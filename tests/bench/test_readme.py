"""bench/README.md: one row per command, every file of results has its place, and none lies about forgotten."""

import importlib.util
import re
import sys
from importlib.machinery import ModuleSpec

import pytest

from bench.provenance import RESULTS, header
from tests.docs.blocks import PAGES, ROOT

README = (ROOT / "bench" / "README.md").read_text(encoding="utf-8")
TABLE = README.split("\n## ")[0]
COMMANDS = re.findall(r"^\| [^|]+ \| `python -m (bench[\w.]*)[^`]*` \|", TABLE, flags=re.MULTILINE)


def runs(module: str) -> bool:
    """Whether `python -m` runs this module, or this package."""
    found = importlib.util.find_spec(module)
    return found is not None and (
        found.submodule_search_locations is None or importlib.util.find_spec(f"{module}.__main__") is not None
    )


def test_commands_run() -> None:
    assert len(COMMANDS) == TABLE.count("\n| ") - 2, "a row without a command"
    assert [module for module in COMMANDS if not runs(module)] == []
    assert not runs("bench.accuracy_cards")


def test_every_script_that_writes_results_has_a_row() -> None:
    scripts = set()
    for path in (ROOT / "bench").rglob("*.py"):
        if re.search(r"RESULTS|\bwrite\(", text := path.read_text(encoding="utf-8")) and "def main" in text:
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            scripts.add(name.removesuffix(".__main__"))
    assert len(scripts) > 10
    assert scripts <= set(COMMANDS)


def test_results_are_cited() -> None:
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    texts += [path.read_text(encoding="utf-8") for path in RESULTS.glob("*.md")]
    cited = set(re.findall(r"([\w-]+-\d{4}-\d\d-\d\d[\w-]*)\.", " ".join(texts)))
    assert {path.name for path in RESULTS.iterdir() if path.stem not in cited} == set()


@pytest.mark.parametrize(
    ("module", "command"), [("bench.exact.__main__", "bench.exact"), ("bench.accuracy.confidence",) * 2]
)
def test_a_table_names_its_command(module: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", ModuleSpec(module, None))
    monkeypatch.setattr(sys, "argv", ["any/__main__.py", "--sets", "small"])
    assert f"- command: `python -m {command} --sets small`\n" in header("Title", ())

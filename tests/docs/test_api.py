"""The page on Python: no public name is missing, and its examples print what it shows."""

import doctest
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

import igniter_opt as ig
from tests.docs.blocks import ROOT, blocks

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
DOCUMENTED = " ".join(re.findall(r"<!-- python: (.*?) -->", PAGE, flags=re.DOTALL)).split()


def found(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def test_every_public_name_is_documented() -> None:
    documented = [found(name) for name in DOCUMENTED]
    assert [name for name in ig.__all__ if not any(getattr(ig, name) is entry for entry in documented)] == []


def test_no_name_stands_there_twice() -> None:
    assert len(set(DOCUMENTED)) == len(DOCUMENTED)


def test_public_names_are_documented_as_they_are_used() -> None:
    # Only of METHODS the description is found where it is made.
    inside = [name for name in DOCUMENTED if name.count(".") > 1 and name != "igniter_opt.methods.METHODS"]
    public = [getattr(ig, name) for name in ig.__all__]
    assert [name for name in inside if any(found(name) is entry for entry in public)] == []


@pytest.mark.parametrize("name", DOCUMENTED)
def test_what_is_documented_has_a_description(name: str) -> None:
    # A constant's stands below it, where only the documentation's build finds it.
    assert name == "igniter_opt.methods.METHODS" or (found(name).__doc__ or "").strip()


def test_examples_print_what_they_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    examples = "\n".join(block.text for block in blocks(PAGE) if block.language == "python")
    assert examples.count(">>>") > 20
    test = doctest.DocTestParser().get_doctest(examples, {}, "docs/api.md", None, 0)
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    assert "".join(said) == ""

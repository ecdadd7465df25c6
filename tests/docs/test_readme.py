"""The README's first screen: its commands print what it shows, and its sentences are short."""

import re
from pathlib import Path

from tests.docs.blocks import ROOT, run_section, sections

README = ROOT / "README.md"
LONGEST_ON_AVERAGE = 20


def test_its_commands_and_its_python_print_what_it_shows(tmp_path: Path) -> None:
    found = sections(README)[""]
    assert [block.language for block in found] == ["", "bash", "text", "bash", "text", "python", "text"]
    assert not any(block.varies for block in found)
    run_section(found, tmp_path)
    assert (tmp_path / "plan.json").is_file()


def test_both_ways_to_set_up_stand_there_once() -> None:
    commands = re.findall(r"^python3 -m venv .*$", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    install = "python3 -m venv .venv && .venv/bin/pip install --quiet"
    assert commands == [
        f"{install} . && .venv/bin/igniter-opt compare igniter-table3",
        f"{install} -e '.[test,bench,deploy]' && .venv/bin/pytest",
    ]


# Blocks, tables, headings, the picture, and where numbers come from.
NO_SENTENCE = r"^```.*?^```$|^\|.*?$|^#.*?$|<picture>.*?</picture>|\(`.*?\)\.\)"


def test_its_sentences_are_short() -> None:
    text = README.read_text(encoding="utf-8").split("## Cite")[0]
    text = re.sub(NO_SENTENCE, "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    lengths = [len(part.split()) for part in re.split(r"[.:;](?:\s|$)|\n\n|\n- ", text)]
    lengths = [length for length in lengths if length > 2]
    assert len(lengths) > 15
    assert sum(lengths) / len(lengths) <= LONGEST_ON_AVERAGE

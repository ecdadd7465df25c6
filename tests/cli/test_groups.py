"""The help has every command once, in groups and in the order of use."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from igniter_opt import cli
from igniter_opt.cli.main import Program, app
from tests.cli.helpers import invoke


def sections() -> dict[str, list[str]]:
    """Titles of the help's sections with the names below them."""
    found: dict[str, list[str]] = {}
    for line in invoke("--help").out.splitlines():
        if title := re.fullmatch(r"(\w*[Cc]ommands.*):", line):
            found[title[1]] = []
        elif found and (name := re.match(r"  (\S+)", line)):
            found[list(found)[-1]].append(name[1])
    return found


def test_every_command_stands_once_where_it_belongs() -> None:
    shown = sections()
    names = [name for group in shown.values() for name in group]
    command = typer.main.get_command(app)
    assert sorted(names) == sorted(command.commands)  # type: ignore[attr-defined]
    for title, group in Program().groups.items():
        assert shown[title] == list(group)
    assert list(shown)[: len(Program().groups)] == list(Program().groups)


def test_descriptions_stand_below_each_other() -> None:
    lines = [line for line in invoke("--help").out.splitlines() if re.match(r"  [a-z]+  +\S", line)]
    assert len(lines) > 15
    assert len({re.match(r"  [a-z]+  +", line).end() for line in lines}) == 1  # type: ignore[union-attr]


def commands(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All commands below one, with the words that call them."""
    yield path, command
    if hasattr(command, "list_commands"):
        for name in command.list_commands(None):
            below = command.get_command(None, name)
            if below is not None:
                yield from commands(below, f"{path} {name}".strip())


def test_no_option_depends_on_what_stands_for_its_value() -> None:
    """Typer 0.27 calls an option without a name of its own by a metavar that is its name in capitals."""
    shown = [(path, option) for path, command in commands(typer.main.get_command(app)) for option in command.params]
    assert len(shown) > 300
    for path, option in shown:
        assert all(name == name.lower() or len(name) == 2 for name in option.opts if name.startswith("-")), path
    source = "\n".join(file.read_text("utf-8") for file in Path(cli.__file__).parent.rglob("*.py"))
    unnamed = re.findall(
        r"(\w+): Annotated\[\s*[^\[\]]*(?:\[[^\[\]]*\])?[^\[\]]*,\s*typer\.Option\(\s*metavar=\"(\w+)\"", source
    )
    assert len(unnamed) > 100
    assert [name for name, metavar in unnamed if metavar.lower() == name] == []

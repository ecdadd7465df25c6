"""The help has every command once, in groups and in the order of use."""

import re

import typer.main

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

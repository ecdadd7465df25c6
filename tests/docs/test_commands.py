"""Every command that the README and the documentation show exists, with the options shown."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from igniter_opt.cli.main import app
from tests.docs.blocks import PAGES, blocks

PROGRAM = "igniter-opt"


def shown(text: str) -> Iterator[list[str]]:
    """Words of every command shown in blocks or between backticks."""
    lines = [line for block in blocks(text) if block.language in ("", "bash") for line in block.text.splitlines()]
    lines += [" ".join(code.split()) for code in re.findall(r"`(igniter-opt [^`]*)`", text)]
    for line in lines:
        for part in re.split(r"&& |\|\| |\$\(|[|;)] ", line):
            command = part.strip().removeprefix(".venv/bin/")
            if command.startswith(f"{PROGRAM} "):
                yield shlex.split(command.split(" > ")[0], comments=True)[1:]


def problem(words: list[str]) -> str | None:
    """What is wrong with a command; its arguments are not looked at."""
    command: Any = typer.main.get_command(app)
    while words and hasattr(command, "commands"):
        if words[0].startswith("-"):
            break
        if words[0] not in command.commands:
            return f"no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in words if re.match(r"--?[a-z]", word) and word.split("=")[0] not in known | {"--help"}]
    return f"no option {unknown[0]}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_shown_exist(page: Any) -> None:
    for words in shown(page.read_text(encoding="utf-8")):
        assert problem(words) is None, f"{' '.join(words)}: {problem(words)}"


def test_commands_are_found_and_judged() -> None:
    block = "igniter-opt solve x --gup 1 -o y  # why\n. a && igniter-opt profile check y\n"
    text = f"Use `igniter-opt slove x`.\n\n```\n{block}```\n"
    assert [problem(words) for words in shown(text)] == ["no option --gup", None, "no command slove"]

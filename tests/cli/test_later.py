"""Commands that are imported when they are called are what the program's help says of them."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from igniter_opt.cli import commands
from igniter_opt.cli.main import app

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_is_that_of_the_command_itself(name: str) -> None:
    later = COMMANDS[name]
    loaded = later._command
    assert later.help == loaded.help
    assert later.get_short_help_str(60) == loaded.get_short_help_str(60)
    assert (later.hidden, later.deprecated) == (loaded.hidden, loaded.deprecated)


def test_every_command_of_a_module_is_in_the_program() -> None:
    """A command that only its module registers could not be called."""
    registered = set()
    for path in Path(commands.__file__).parent.glob("*.py"):
        module = importlib.import_module(f"{commands.__name__}.{path.stem}")
        if hasattr(module, "register"):
            inner = typer.Typer()
            module.register(inner)
            registered |= set(typer.main.get_group(inner).commands)
    assert registered == set(COMMANDS)


def test_help_imports_no_command() -> None:
    program = (
        "import sys; from igniter_opt.cli.main import app; app(['--help'], standalone_mode=False); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    *_, loaded = done.stdout.splitlines()
    assert "approve" in done.stdout
    assert not [name for name in loaded.split() if name.startswith("igniter_opt.cli.commands.")]

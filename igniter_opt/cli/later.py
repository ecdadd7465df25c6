"""Commands that are imported when they are called: help and typing errors need none, and a command no other."""

import ast
import importlib
from functools import cached_property, lru_cache
from importlib.util import find_spec
from typing import Any

import typer
import typer.core
import typer.main

from igniter_opt.base import command

_ROOM = "igniter_opt.cli.commands"


class Later:
    """A command of the program, or a group of them; its module is imported when more than its help is asked for.

    Parameters
    ----------
    name
        What the command is called by; the module's ``register`` adds it to a program.
    module
        The module's name, below `cli.commands`.
    function
        The function in it whose docstring is the help: that of the command, or the callback of the group.
    """

    hidden, deprecated = False, False

    def __init__(self, name: str, module: str, function: str) -> None:
        self.name, self._module, self._function = name, f"{_ROOM}.{module}", function

    @cached_property
    def help(self) -> str:
        """The help, read from the module's source."""
        return _docstrings(self._module)[self._function]

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the first sentence of the help, or as much as there is room for."""
        return typer.core.TyperCommand(self.name, help=self.help).get_short_help_str(limit)

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._command, attribute)

    @cached_property
    def _command(self) -> Any:
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        importlib.import_module(self._module).register(app)
        made = typer.main.get_group(app).commands[self.name]
        command.has_begun()
        return made


@lru_cache
def _docstrings(module: str) -> dict[str, str]:
    """Docstrings of the functions of a module, which is not imported."""
    loader: Any = getattr(find_spec(module), "loader", None)
    tree = ast.parse(loader.get_source(module))
    return {node.name: ast.get_docstring(node) or "" for node in tree.body if isinstance(node, ast.FunctionDef)}

"""The commands in the help: in groups, and in the order in which they are used."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import typer.core


class GroupedCommands(typer.core.TyperGroup):
    """A group of commands whose help shows them in sections.

    Attributes
    ----------
    groups
        Title of every section, and the names below it in their order; other commands come last, by themselves.
    """

    groups: Mapping[str, Sequence[str]] = MappingProxyType({})

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands in the order of the help."""
        known = super().list_commands(ctx)
        grouped = [name for names in self.groups.values() for name in names if name in known]
        return [*grouped, *(name for name in known if name not in grouped)]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each group."""
        names = self.list_commands(ctx)
        grouped = {name for group in self.groups.values() for name in group}
        # As wide for every section, so that descriptions stand below each other.
        width = max(map(len, names), default=0)
        for title, group in {**self.groups, "More commands": [name for name in names if name not in grouped]}.items():
            found = [(name, self.get_command(ctx, name)) for name in group if name in names]
            rows = [
                (name.ljust(width), command.get_short_help_str(formatter.width - 6 - width))
                for name, command in found
                if command is not None and not command.hidden
            ]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

"""What notebooks show in place of a value's repr.

Pictures and tables are drawn by modules that know the values, so these cannot know them: `report.notebook` registers
its functions here, and is loaded when a notebook first asks.
"""

from functools import singledispatch
from importlib import import_module


@singledispatch
def html_of(value: object) -> str | None:
    """Return a value as HTML; None where its repr has to do."""
    return None


class Shown:
    """Of values that notebooks show as HTML."""

    __slots__ = ()

    def _repr_html_(self) -> str | None:
        import_module("igniter_opt.report.notebook")
        return html_of(self)

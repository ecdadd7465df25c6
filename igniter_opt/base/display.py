"""What notebooks show in place of a value's repr.

Pictures and tables are drawn by modules that know the values, so these cannot know them: `report.notebook` registers
its functions here when the package is imported.
"""

from functools import singledispatch


@singledispatch
def html_of(value: object) -> str | None:
    """Return a value as HTML; None where its repr has to do."""
    return None


class Shown:
    """Of values that notebooks show as HTML."""

    __slots__ = ()

    def _repr_html_(self) -> str | None:
        return html_of(self)

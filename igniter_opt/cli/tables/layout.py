"""Tables that fit where they are printed: names fold, numbers never do, and what is left over goes below."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Column, Table
from rich.text import Text

# Names are folded to no less than this, which the words of statuses and of what binds fit into.
_LEAST_NAME = 10
_GAP = 2


def new_table() -> Table:
    """Return an empty table in the house style."""
    return Table(box=None, pad_edge=False)


def print_table(console: Console, table: Table, keys: int = 1) -> None:
    """Print a table: at its full width into a pipe, else as `fitted`."""
    if not console.is_terminal:
        console.width = max(console.width, _total([_natural(column) for column in table.columns]))
    for part in fitted(table, console.width, keys):
        console.print(part)


def fitted(table: Table, width: int, keys: int = 1) -> list[RenderableType]:
    """Return a table as one, or as several below each other, that fit into a width.

    Columns that are flush left hold names, and may fold; the others keep their numbers whole.

    Parameters
    ----------
    keys
        How many columns on the left say what a row is about; they are repeated.
    """
    columns = table.columns
    least = [_least(column) for column in columns]
    if _total(least) <= width:
        return [_part(table, range(len(columns)), width)]
    parts: list[RenderableType] = []
    own, chosen = list(range(keys)), list(range(keys))
    for position in range(keys, len(columns)):
        if len(chosen) > keys and _total([least[k] for k in (*chosen, position)]) > width:
            parts.append(_part(table, chosen, width))
            chosen = list(own)
        chosen.append(position)
    return [*parts, _part(table, chosen, width)]


def _part(table: Table, chosen: Sequence[int], width: int) -> Table:
    """Return some columns, names as wide as there is room."""
    columns = [table.columns[k] for k in chosen]
    widths = [_natural(column) for column in columns]
    least = [_least(column) for column in columns]
    while _total(widths) > width and widths != least:
        widest = max((k for k in range(len(widths)) if widths[k] > least[k]), key=lambda k: widths[k])
        widths[widest] -= 1
    part = new_table()
    part.title, part.title_justify = table.title, table.title_justify
    for column, size in zip(columns, widths, strict=True):
        part.add_column(column.header, justify=column.justify, width=size, overflow="fold")
    for row, cells in zip(table.rows, zip(*(column.cells for column in columns), strict=True), strict=True):
        part.add_row(*cells, end_section=row.end_section)
    return part


def _natural(column: Column) -> int:
    return max([_length(column.header), *map(_length, column.cells)])


def _least(column: Column) -> int:
    """Width below which a column loses something: a number, or a word of its title."""
    words = _plain(column.header).split() or [""]
    if column.justify == "left":
        return min(_natural(column), max(_LEAST_NAME, *map(cell_len, words)))
    return max([*map(cell_len, words), *map(_length, column.cells)])


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _length(cell: RenderableType) -> int:
    return max(map(cell_len, _plain(cell).split("\n")))


def _plain(cell: RenderableType) -> str:
    return Text.from_markup(cell).plain if isinstance(cell, str) else str(cell)

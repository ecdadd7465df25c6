"""What tables of results share: rows of Markdown, and CSV files of rows that have a group of columns per condition."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from igniter_opt.base.files import write_bytes_atomically

RowT = TypeVar("RowT", bound=BaseModel)


def markdown_row(cells: Sequence[str]) -> str:
    """Render a row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def write_grouped_csv(
    rows: Sequence[BaseModel], kind: type[BaseModel], group: str, cell: type[BaseModel], keys: Sequence[str], path: Path
) -> None:
    """Write rows of a kind whose field `group` maps some of these keys to cells; each in columns of its own.

    A field ``message`` comes last.
    """
    fields = [name for name in kind.model_fields if name not in {group, "message"}]
    cells = [f"{key} {name}" for key in keys for name in cell.model_fields]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*fields, *cells, "message"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        data = row.model_dump(exclude={group})
        data |= {f"{key} {name}": value for key, entry in getattr(row, group).items() for name, value in entry}
        writer.writerow(data)
    write_bytes_atomically(path, text.getvalue().encode())


def read_grouped_csv(kind: type[RowT], group: str, cell: type[BaseModel], path: Path) -> list[RowT]:
    """Read what `write_grouped_csv` wrote; a key without a value in the cell's first field is none of the row's."""
    first, *_ = cell.model_fields
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    rows = []
    for entry in lines:
        own = {name: entry[name] for name in kind.model_fields if name != group and entry[name]}
        keys = [name.removesuffix(f" {first}") for name in entry if name.endswith(f" {first}") and entry[name]]
        cells = {key: {name: entry[f"{key} {name}"] for name in cell.model_fields} for key in keys}
        rows.append(kind.model_validate({**own, group: cells}))
    return rows

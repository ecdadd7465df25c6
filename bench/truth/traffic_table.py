"""The rows of `bench.truth.traffic` as Markdown and CSV."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from bench.exact.table import ContradictionError
from bench.tables import markdown_row, read_grouped_csv, write_grouped_csv

# Costs are sums of prices with few decimals; bounds are such costs, too.
_COST_TOLERANCE = 1e-6


class Cell(BaseModel):
    """One plan under one kind of traffic.

    Attributes
    ----------
    held, surely_over
        Number of workloads whose P99 is within the SLO, and of those that are over for certain.
    violation_ratio
        Part of all requests over their SLO.
    """

    held: int
    surely_over: int
    violation_ratio: float


class Row(BaseModel):
    """One way to plan an instance, and what its plan is worth.

    Attributes
    ----------
    case
        How it was planned, in words.
    status
        ``optimal`` (proven), ``feasible`` (bound known), ``no plan`` or ``infeasible`` (proven); `message` says why.
    seconds
        Of the whole solve.
    cells
        By kind of traffic.
    """

    instance: str
    workloads: int
    case: str
    status: str = "failed"
    gpus: int | None = None
    cost_per_hour: float | None = None
    bound_per_hour: float | None = None
    seconds: float = 0.0
    cells: dict[str, Cell] = {}
    message: str = ""


def check_bounds(rows: Sequence[Row]) -> None:
    """Raise ContradictionError if a bound is above its plan."""
    for row in rows:
        if row.cost_per_hour is not None and (row.bound_per_hour or 0.0) > row.cost_per_hour + _COST_TOLERANCE:
            raise ContradictionError(f"{row.instance}, {row.case}: bound {row.bound_per_hour:g} is above the plan")


def columns(kinds: Sequence[str]) -> str:
    """Return the head of a table of plans."""
    names = ("planned for", "status", "GPUs", "cost/h", "bound/h", "price", *kinds, "s")
    return markdown_row(names) + "\n" + markdown_row(["---"] * len(names))


def line(row: Row, kinds: Sequence[str], reference: float | None = None) -> str:
    """Render one plan's row; its price is relative to a cost, where there is one."""
    cost = row.cost_per_hour
    return markdown_row(
        [
            row.case,
            row.status,
            "-" if row.gpus is None else str(row.gpus),
            "-" if cost is None else f"{cost:,.2f}",
            "-" if row.bound_per_hour is None else f"{row.bound_per_hour:,.2f}",
            "-" if cost is None or not reference else f"{cost / reference:.2f}",
            *(_cell(row.cells.get(kind)) for kind in kinds),
            f"{row.seconds:.0f}",
        ]
    )


def markdown(rows: Sequence[Row], kinds: Sequence[str], notes: str) -> str:
    """Render everything below the header: a table for each instance, then how it was done."""
    parts = [
        "\nWorkloads whose P99 holds, under the traffic of each column, and in brackets how many are surely over."
        " *Price*: cost over that of `half`.\n"
    ]
    for instance in dict.fromkeys(row.instance for row in rows):
        mine = [row for row in rows if row.instance == instance]
        reference = next((row.cost_per_hour for row in mine if row.case == "`half`"), None)
        lines = "\n".join(line(row, kinds, reference) for row in mine)
        said = "".join(f"\n- {row.case}: {row.message}" for row in mine if row.message)
        parts.append(
            f"\n## {instance} ({mine[0].workloads} workloads)\n\n{columns(kinds)}\n{lines}\n"
            + (f"\nWithout a plan:\n{said}\n" if said else "")
        )
    return "".join(parts) + "\n## How it was done\n" + notes


def write_csv(rows: Sequence[Row], kinds: Sequence[str], path: Path) -> None:
    """Write all rows, every kind of traffic in columns of its own."""
    write_grouped_csv(rows, Row, "cells", Cell, kinds, path)


def read_rows(path: Path) -> list[Row]:
    """Read what `write_csv` wrote."""
    return read_grouped_csv(Row, "cells", Cell, path)


def _cell(cell: Cell | None) -> str:
    return "-" if cell is None else f"{cell.held} ({cell.surely_over})"

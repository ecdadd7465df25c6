"""The rows of `bench.exact` as Markdown, CSV and histories, and the check that no bound contradicts a plan."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from bench.exact.run import Event, Row
from igniter_opt.base.files import write_bytes_atomically
from igniter_opt.data.instance_files import shipped_instances
from igniter_opt.data.known_results import best_known
from igniter_opt.methods import REFERENCE_METHOD

# Costs are sums of prices with few decimals; bounds are such costs, too.
_COST_TOLERANCE = 1e-6
COLUMNS = (
    "instance",
    "workloads",
    "method",
    "status",
    "GPUs",
    "cost/h",
    "proven bound/h",
    "gap %",
    "saving vs igniter %",
    "first plan s",
    "best plan s",
    "proof s",
    "total s",
    "peak MiB",
)


class ContradictionError(AssertionError):
    """A proven lower bound is above the cost of a verified plan: one of the two is wrong."""


def check_bounds(rows: Sequence[Row]) -> None:
    """Compare every bound with every plan of the same instance: those of this run and the best known ones.

    Raises
    ------
    ContradictionError
        Some bound is above some plan's cost, or a method calls an instance infeasible that has a plan.
    """
    for instance in dict.fromkeys(row.instance for row in rows):
        mine = [row for row in rows if row.instance == instance]
        plans = [(row.cost_per_hour, row.method) for row in mine if row.searched and row.cost_per_hour is not None]
        bounds = [(row.bound_per_hour, row.method) for row in mine if row.bound_per_hour is not None]
        bounds += [(float("inf"), f"{row.method} (infeasible)") for row in mine if row.status == "infeasible"]
        known = best_known(instance) if instance in shipped_instances() else None
        if known is not None:
            plans.append((known.best_cost.cost_per_hour, f"instances/results ({known.best_cost.command})"))
            bounds.append((known.best_bound.cost_per_hour, f"instances/results ({known.best_bound.command})"))
        if plans and bounds:
            (cost, planner), (bound, prover) = min(plans), max(bounds)
            if bound > cost + _COST_TOLERANCE:
                raise ContradictionError(
                    f"{instance}: the bound {bound:g} by {prover} is above the plan of {cost:g} by {planner}"
                )


def saving_percent(row: Row, rows: Sequence[Row]) -> float | None:
    """Return the cost saved against iGniter's greedy on the same instance, if both have a plan."""
    found = [
        other.cost_per_hour for other in rows if (other.instance, other.method) == (row.instance, REFERENCE_METHOD)
    ]
    if row.cost_per_hour is None or not found or not found[0]:
        return None
    return 100.0 * (1.0 - row.cost_per_hour / found[0]) + 0.0


def markdown(rows: Sequence[Row]) -> str:
    """Render the table."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "| " + " | ".join("---" for _ in COLUMNS) + " |"]
    lines += [line(row, rows) for row in rows]
    said = [
        f"- {row.instance}, `{row.method}`: {row.message}" for row in rows if row.message and row.status != "skipped"
    ]
    skipped = [f"{row.instance}, `{row.method}` ({row.message})" for row in rows if row.status == "skipped"]
    if skipped:
        said.append(f"- not run: {'; '.join(skipped)}")
    return "\n".join(lines) + "\n" + ("\nRemarks:\n\n" + "\n".join(said) + "\n" if said else "")


def line(row: Row, rows: Sequence[Row]) -> str:
    """Render one row of the table; the others are needed for the saving."""
    cells = [
        row.instance,
        f"{row.workloads:,}",
        f"`{row.method}`",
        row.status,
        "-" if row.gpus is None else f"{row.gpus:,}",
        _number(row.cost_per_hour, ",.2f"),
        _number(row.bound_per_hour, ",.2f"),
        _number(row.gap_percent, ".2f"),
        _number(saving_percent(row, rows), ".2f"),
        _number(row.first_s, ".2f"),
        _number(row.best_s, ".2f"),
        _number(row.proof_s, ".2f"),
        _number(row.total_s, ".2f"),
        _number(row.peak_mib, ",.0f"),
    ]
    return "| " + " | ".join(cells) + " |"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def csv_fields() -> list[str]:
    """Return the columns of the CSV file: all fields of a row but its history, and what follows from them."""
    return [*(name for name in Row.model_fields if name != "history"), "gap_percent", "saving_percent"]


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write all rows."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, csv_fields())
        writer.writeheader()
        for row in rows:
            data = row.model_dump(exclude={"history"})
            writer.writerow(data | {"gap_percent": row.gap_percent, "saving_percent": saving_percent(row, rows)})


def write_histories(rows: Sequence[Row], path: Path) -> None:
    """Write cost and bound over time of all rows: ``[seconds, cost, bound]`` at every change."""
    found = [
        {
            "instance": row.instance,
            "method": row.method,
            "history": [[round(entry.seconds, 3), entry.cost, entry.bound] for entry in row.history],
        }
        for row in rows
        if row.history
    ]
    text = "[\n" + ",\n".join(json.dumps(entry) for entry in found) + "\n]\n"
    write_bytes_atomically(path, text.encode())


def read_rows(path: Path) -> list[Row]:
    """Read a CSV file of `write_csv` back, with the histories beside it where they are."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [
            Row.model_validate({key: value for key, value in line.items() if key in Row.model_fields and value != ""})
            for line in csv.DictReader(file)
        ]
    histories = histories_path(path)
    if histories.exists():
        for entry in json.loads(histories.read_text("utf-8")):
            for row in rows:
                if (row.instance, row.method) == (entry["instance"], entry["method"]):
                    row.history = [Event(seconds=s, cost=cost, bound=bound) for s, cost, bound in entry["history"]]
    return rows


def histories_path(table: Path) -> Path:
    """Return the histories' file beside a table's."""
    return table.with_name(f"{table.stem}-history.json")

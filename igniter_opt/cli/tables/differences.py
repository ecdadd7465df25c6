"""Tables of what differs: between plans, and between what runs and what shall."""

from collections.abc import Iterable, Sequence

from rich.markup import escape

from igniter_opt.base.schema import in_short
from igniter_opt.base.text import rounded
from igniter_opt.cli import console
from igniter_opt.cli.tables.layout import new_table, print_table
from igniter_opt.data.gpu_type import PRICE_DECIMALS
from igniter_opt.deploy.differences import MARKS, FieldChange, Mark, PlacementDifference, counts
from igniter_opt.deploy.plan_cost import PlanCost
from igniter_opt.deploy.plan_diff import PlanDiff

SIGNS: dict[Mark, str] = {"start": "+", "change": "~", "stop": "-", "keep": "="}
_COLOURS: dict[Mark, str] = {"start": "green", "change": "yellow", "stop": "red", "keep": "default"}
_DONE: dict[Mark, str] = {"start": "started", "change": "changed", "stop": "stopped", "keep": "kept"}

# The first cell is a sign.
Row = tuple[str, ...]


def sign(mark: Mark) -> str:
    """Return the mark of a line, in its colour."""
    return f"[{_COLOURS[mark]}]{SIGNS[mark]}[/]"


def difference_rows(differences: Iterable[PlacementDifference]) -> list[Row]:
    """Return a line for every placement: sign, name, what about it."""
    rows: list[Row] = []
    for entry in differences:
        about = list(map(str, entry.changes))
        if entry.new is not None and entry.old is None:
            new = entry.new
            about.insert(0, f"{new.model}, batch {new.batch}, {rounded(new.share_percent)} %")
        about += [entry.why] if entry.why else []
        rows.append((sign(entry.mark), entry.placement, "; ".join(about)))
    return rows


def print_rows(rows: Sequence[Row], *titles: str) -> None:
    """Print lines that begin with a sign."""
    table = new_table()
    for title in ("", *titles):
        table.add_column(title)
    for mark, *cells in rows:
        table.add_row(mark, *map(escape, cells))
    print_table(console.stdout(), table, keys=2)


def counts_line(differences: Sequence[PlacementDifference], *, done: bool = False) -> str:
    """Return how many placements have which mark: ``+ 6 to start, ~ 1 to change, - 2 to stop, = 3 kept``."""
    numbers = counts(differences)
    said = _DONE if done else {**{mark: f"to {mark}" for mark in MARKS}, "keep": "kept"}
    return ", ".join(f"{SIGNS[mark]} {numbers[mark]} {said[mark]}" for mark in MARKS)


def price_line(old: PlanCost | None, new: PlanCost) -> str:
    """Return what the GPUs cost before and after, and how many of each type there are."""
    after = f"{rounded(new.cost_per_hour, PRICE_DECIMALS)} {escape(new.currency)}"
    if old is None:
        return f"price per hour: not known before, {after} now; GPUs: {_gpus({}, new.gpus)}"
    more = new.cost_per_hour - old.cost_per_hour
    part = f", {100 * more / old.cost_per_hour:+.1f} %" if old.cost_per_hour and more else ""
    change = f" ({'+' if more > 0 else '-'}{rounded(abs(more), PRICE_DECIMALS)}{part})" if more else " (unchanged)"
    before = rounded(old.cost_per_hour, PRICE_DECIMALS)
    # What ran before cost nothing in any currency, or so much in one that need not be the new plan's.
    if old.gpus and old.currency != new.currency:
        before, change = f"{before} {escape(old.currency)}", " (another currency)"
    return f"price per hour: {before} → {after}{change}; GPUs: {_gpus(old.gpus, new.gpus)}"


def _gpus(old: dict[str, int], new: dict[str, int]) -> str:
    return ", ".join(
        f"{escape(name)} {new[name]}" if old.get(name) == new.get(name)
        else f"{escape(name)} {old.get(name, 0)} → {new.get(name, 0)}"
        for name in sorted({*old, *new})
    ) or "none"  # fmt: skip


def print_plan_diff(diff: PlanDiff) -> None:
    """Print what differs between two plans; placements that stay as they are only count."""
    out = console.stdout()
    if diff.settings:
        out.print(f"{sign('change')} {escape(_joined(diff.settings))}")
    if diff.gpu_types:
        rows = [(sign(entry.mark), entry.gpu_type, _joined(entry.changes)) for entry in diff.gpu_types]
        print_rows(rows, "GPU type", "what")
    if diff.workloads:
        rows = [(sign(entry.mark), entry.workload, _joined(entry.changes)) for entry in diff.workloads]
        print_rows(rows, "workload", "what")
    differing = [entry for entry in diff.placements if entry.mark != "keep" or entry.changes]
    if differing:
        print_rows(difference_rows(differing), "placement", "what")
        renamed = [f"{new} is {old}" for new, old in diff.gpu_names.items() if new != old]
        if renamed:
            out.print(f"GPUs go by their old names; in the new plan {escape(in_short(renamed))}", soft_wrap=True)
    out.print(counts_line(diff.placements))
    out.print(price_line(diff.old_cost, diff.new_cost))
    now = diff.old_cost_at_new_prices
    if diff.repriced and now is not None:
        words = f"{rounded(now.cost_per_hour, PRICE_DECIMALS)} {escape(now.currency)}"
        out.print(f"prices changed: by the new ones the old plan costs {words} per hour", soft_wrap=True)


def _joined(changes: Iterable[FieldChange]) -> str:
    return ", ".join(map(str, changes))

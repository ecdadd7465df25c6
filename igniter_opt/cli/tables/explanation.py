"""What `explain` found, on the terminal: a line on each placement, or all about one workload."""

from rich.console import Console
from rich.markup import escape

from igniter_opt.base.text import rounded
from igniter_opt.cli.console import stdout
from igniter_opt.cli.tables.layout import new_table, print_table
from igniter_opt.explanation import CONDITIONS, Alternative, Explanation, PlacementExplanation, room_elsewhere
from igniter_opt.report.tables import number

_TITLES = {"share": "next smaller share", "batch": "other batch", "gpu": "on GPU", "type": "alone on an empty"}


def print_explanation(explanation: Explanation, *, in_full: bool) -> None:
    """Print one line per placement, or everything about each."""
    console = stdout()
    if in_full:
        for entry in explanation.placements:
            _print_one(console, explanation, entry)
    else:
        _print_all(console, explanation)
    console.print(escape(explanation.origin), soft_wrap=True)
    console.print(CONDITIONS, soft_wrap=True)


def _print_all(console: Console, explanation: Explanation) -> None:
    table = new_table()
    for title in ("GPU", "workload"):
        table.add_column(title)
    for title in ("batch", "share %", "ms", "limit", "alone", "GPUs that hold it", "cost elsewhere"):
        table.add_column(title, justify="right")
    table.add_column("what binds")
    last = None
    for entry in explanation.placements:
        others = entry.of_kind("gpu")
        gpus = len(others) + entry.full_gpus + entry.unable_gpus + entry.unexamined_gpus
        table.add_row(
            entry.gpu if entry.gpu != last else "",
            entry.workload,
            str(entry.batch),
            rounded(entry.share_percent),
            number(entry.latency_with_margin_ms, 2),
            number(entry.limit_ms, 2),
            number(entry.alone_ms, 2),
            f"{sum(other.holds for other in others)} of {gpus}",
            _elsewhere(entry),
            ", ".join(entry.binds) or ("nothing" if entry.holds else "does not hold"),
        )
        last = entry.gpu
    print_table(console, table, keys=2)
    margin = f" with margin {explanation.margin:g}" if explanation.margin else ""
    console.print(
        f"ms: {explanation.latency_name}{margin} beside its neighbours; alone: without them. What binds is what one"
        " step of share less would break. Name a workload to be told all about it.",
        soft_wrap=True,
    )


def _print_one(console: Console, explanation: Explanation, entry: PlacementExplanation) -> None:
    name = explanation.latency_name
    inflated = ""
    if explanation.margin:
        inflated = f", {number(entry.latency_with_margin_ms, 2)} with margin {explanation.margin:g}"
    lines = [
        f"{entry.workload} ({entry.model}) is on {entry.gpu} ({entry.type}) with batch {entry.batch} and"
        f" {rounded(entry.share_percent)} %",
        f"  {name} {number(entry.latency_ms, 2)} ms{inflated}, limit {number(entry.limit_ms, 2)} ms (SLO"
        f" {rounded(entry.slo_ms)} ms); can carry {_carried(explanation, entry)}, and {rounded(entry.rate_rps)} come",
        f"  alone it would take {number(entry.alone_ms, 2)} ms",
        f"  what binds: {entry.binding}",
        f"  batches that hold at this share: {_ranges(entry.batches) or 'none'}",
        f"  other GPUs of the plan: {room_elsewhere(entry)}",
        "  nowhere else: no other GPU of the plan holds it, and no further one is to be had that does"
        if entry.elsewhere_per_hour is None
        else f"  elsewhere the plan would cost {_elsewhere(entry)} {explanation.currency} more per hour",
    ]
    for line in lines:
        console.print(escape(line), soft_wrap=True)
    if entry.neighbours:
        neighbours = new_table()
        for title in ("neighbour", "model"):
            neighbours.add_column(title)
        neighbours.add_column("adds ms", justify="right")
        for effect in sorted(entry.neighbours, key=lambda effect: -effect.added_ms):
            neighbours.add_row(effect.workload, effect.model, number(effect.added_ms, 3))
        print_table(console, neighbours)
        console.print("adds: what goes with that neighbour alone; the parts need not add up", soft_wrap=True)
    console.print("instead:")
    for other in entry.alternatives:
        console.print(escape(f"  {_alternative(other, explanation.currency)}"), soft_wrap=True)


def _alternative(other: Alternative, currency: str) -> str:
    """One change in a line: where, with what, and what comes of it."""
    where = _TITLES[other.kind] + (f" {other.place}" if other.kind in ("gpu", "type") else "")
    if other.batch is None or other.share_percent is None:
        return f"{where}: {other.words}"
    worth = (
        "" if other.price_per_hour is None else f", a share worth {number(other.price_per_hour, 2)} {currency} per hour"
    )
    if other.holds and other.none_left:
        worth = ", but none is left: the plan has all there are"
    return f"{where}, batch {other.batch}, {rounded(other.share_percent)} %: {other.words}{worth}"


def _carried(explanation: Explanation, entry: PlacementExplanation) -> str:
    """The throughput as `solve` shows it, and with the plan's margin where it has one."""
    plain = f"{rounded(entry.predicted_throughput_rps)} req/s"
    return f"{plain} ({rounded(entry.throughput_rps)} with margin)" if explanation.margin else plain


def _elsewhere(entry: PlacementExplanation) -> str:
    return "-" if entry.elsewhere_per_hour is None else number(entry.elsewhere_per_hour, 2)


def _ranges(batches: tuple[int, ...]) -> str:
    """Write ascending numbers as ranges: 1, 3 to 7."""
    found: list[list[int]] = []
    for batch in batches:
        if found and found[-1][-1] == batch - 1:
            found[-1].append(batch)
        else:
            found.append([batch])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in found)

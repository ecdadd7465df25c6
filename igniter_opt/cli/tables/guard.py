"""Rendering of a guard: its events on stdout, what it watches as a live table on stderr."""

from rich.console import Group
from rich.markup import escape

from igniter_opt.base.text import rounded
from igniter_opt.cli.console import stdout
from igniter_opt.cli.tables.layout import fitted, new_table
from igniter_opt.cli.tables.measure import LiveTable
from igniter_opt.data.instance import percentile_name
from igniter_opt.guard.decide import Watched
from igniter_opt.guard.journal import Event

_MOST_SHOWN = 30


class Printer(LiveTable):
    """Prints events, as lines of text or of JSON; and where stderr is a terminal, what is watched.

    Parameters
    ----------
    json
        Whether events are printed as in the log.
    quiet
        Whether nothing is printed at all.
    """

    def __init__(self, *, json: bool, quiet: bool) -> None:
        self._json, self._quiet = json, quiet
        super().__init__(shown=not quiet)

    def event(self, event: Event) -> None:
        """Print an event."""
        if self._quiet:
            return
        if self._json:
            print(event.line(), flush=True)
        else:
            stdout().print(_text(event), soft_wrap=True)

    def status(self, watched: list[Watched]) -> None:
        """Show what is watched."""
        if self._display is None:
            return
        table = new_table()
        for title in ("placement", "requests", "late", "P", "SLO ms", "factor", "share %", ""):
            table.add_column(title, justify="left" if title in ("placement", "") else "right")
        for entry in watched[:_MOST_SHOWN]:
            found = f"{entry.look.percentile_ms:.2f}" if entry.look.requests else "-"
            share = rounded(entry.share_percent)
            if entry.share_percent != entry.plan_share_percent:
                share += f" (plan: {rounded(entry.plan_share_percent)})"
            state = "changing" if entry.changing else "[red]violated[/red]" if entry.look.sustained else ""
            table.add_row(
                f"{escape(entry.gpu)}/{escape(entry.key[0])}#{entry.key[1]}",
                f"{entry.look.requests:,}",
                f"{entry.look.late:,}",
                f"[red]{found}[/red]" if entry.look.violated else found,
                rounded(entry.slo_ms),
                "-" if entry.factor is None else f"{entry.factor:.2f}",
                share,
                state,
            )
        self._display.update(Group(*fitted(table, self._display.console.width)), refresh=True)


def _text(event: Event) -> str:
    """Render an event in words."""
    time = event.at[11:23]
    if event.workload is None:
        return f"{time} {event.event}" + (f": {escape(event.why)}" if event.why else "")
    parts = [f"{time} {event.event} {escape(event.workload)}#{event.replica}"]
    if event.to_gpu is not None:
        where = "" if event.to_gpu == event.gpu else f" on {escape(event.to_gpu)}"
        parts.append(f"{rounded(event.share_percent or 0.0)} % -> {rounded(event.to_share_percent or 0.0)} %{where}")
    if event.requests:
        if event.percentile is not None:
            found = "infinite" if event.percentile_ms is None else f"{event.percentile_ms:.2f} ms"
            seen = f"{percentile_name(event.percentile)} {found} of {rounded(event.slo_ms or 0.0)} ms"
            seen += f", {event.late} of {event.requests} late"
        else:
            found = "-" if event.mean_ms is None else f"{event.mean_ms:.2f} ms"
            seen = f"mean {found} of {rounded(event.slo_ms or 0.0)} ms ({event.requests} requests)"
        parts.append(seen + ("" if event.factor is None else f", batches take {event.factor:.2f} times as long"))
    if event.dry_run:
        parts.append("not done (dry run)")
    return ": ".join([parts[0], "; ".join([*parts[1:], *([escape(event.why)] if event.why else [])])])

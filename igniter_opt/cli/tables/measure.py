"""Rendering of measurements and rehearsals: a live table on stderr, tables on stdout."""

import math
import sys
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live as LiveDisplay
from rich.markup import escape
from rich.table import Table

from igniter_opt.base.text import rounded
from igniter_opt.cli.console import stdout
from igniter_opt.cli.tables.layout import fitted, new_table, print_table
from igniter_opt.data.instance import percentile_name
from igniter_opt.data.verdict import Verdict
from igniter_opt.measure.records import Live
from igniter_opt.measure.results import LoadStatistics, Measurement
from igniter_opt.rehearse.results import Rehearsal
from igniter_opt.simulation.traffic import arrivals_words

_MOST_SHOWN = 60
_MOST_LIVE = 30


class LiveTable:
    """A table on stderr that renews itself and vanishes at the end; only where stderr is a terminal."""

    def __init__(self, *, shown: bool = True) -> None:
        self._display = (
            LiveDisplay(console=Console(stderr=True), auto_refresh=False, transient=True)
            if sys.stderr.isatty() and shown
            else None
        )

    def __enter__(self) -> Self:
        if self._display is not None:
            self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._display is not None:
            self._display.stop()


class LivePrinter(LiveTable):
    """Every workload's state while it is measured, as a table that renews itself; only where stderr is a terminal."""

    def __call__(self, elapsed: float, whole: float, workloads: list[Live]) -> None:
        """Show the state after `elapsed` of `whole` seconds."""
        if self._display is None:
            return
        table = _table(("workload",), ("rate", "now/s", "answered", "failed", "P50 ms", "P99 ms", "SLO", "sent late"))
        for entry in workloads[:_MOST_LIVE]:
            over = entry.slo_ms is not None and entry.p99_ms > entry.slo_ms
            p99 = _ms(entry.p99_ms)
            table.add_row(
                entry.workload,
                rounded(entry.rate_rps),
                f"{entry.throughput_rps:.1f}",
                f"{entry.answered:,}",
                f"[red]{entry.failed:,}[/red]" if entry.failed else "0",
                _ms(entry.p50_ms),
                f"[red]{p99}[/red]" if over else p99,
                "-" if entry.slo_ms is None else rounded(entry.slo_ms),
                _ms(entry.sent_late_ms),
            )
        table.title = f"{elapsed:.0f} of {whole:.0f} s"
        table.title_justify = "left"
        self._display.update(Group(*fitted(table, self._display.console.width)), refresh=True)


def print_measurement(measurement: Measurement) -> None:
    """Print every workload's latencies, its replicas' below it, and the verdict."""
    console = stdout()
    entries = list(measurement.workloads)
    left_out = max(0, len(entries) - _MOST_SHOWN)
    if left_out:
        entries = sorted(entries, key=lambda entry: -_over(entry))[:_MOST_SHOWN]
    right = ["rate", "req/s", "failed", "mean ms", "P50", "P90", "P95", "P99", "P99.9", "max", "SLO ms", "over SLO"]
    right += ["queue ms", "compute ms", "batch", "sent late"]
    table = _table(("workload", "model", "GPU"), right, ("",))
    for workload in entries:
        for entry in (workload, *(workload.replicas if len(workload.replicas) > 1 else ())):
            table.add_row(*_measured(entry, measurement.verdict, within=entry is not workload))
    print_table(console, table)
    if left_out:
        console.print(f"... and {left_out} more workloads, nearer to their SLOs or within them")
    settings = measurement.settings
    extra = "".join(f", {name} {settings[name]:g}" for name in ("scale", "pace") if settings.get(name, 1) != 1)
    busy = (
        "" if measurement.cpu_percent is None else f"; this machine's processors {measurement.cpu_percent:.0f} % busy"
    )
    console.print(
        f"{escape(measurement.source)}: {escape(arrivals_words(settings))} for {measurement.duration_s:g} s after"
        f" {settings.get('warm_up_s', 0):g} s of warm-up{extra}{busy}",
        soft_wrap=True,
    )
    if measurement.verdict is not None:
        console.print(escape(measurement.verdict.text), soft_wrap=True)


def _measured(entry: LoadStatistics, whole: Verdict | None, *, within: bool) -> list[str]:
    server = entry.server
    verdict = "" if entry.holds is None else _verdict(entry.holds, whole)
    if entry.holds is not None:
        verdict += _unsure(certain=entry.certain and not entry.too_few, whole=whole)
    return [
        f"  #{entry.replica}" if within else entry.workload,
        entry.model,
        entry.gpu or (f"{len(entry.replicas)} replicas" if entry.replicas else ""),
        rounded(entry.rate_rps),
        f"{entry.throughput_rps:.1f}",
        f"[red]{entry.failed:,}[/red]" if entry.failed else "0",
        *(_ms(getattr(entry, f"{name}_ms")) for name in ("mean", "p50", "p90", "p95", "p99", "p999", "max")),
        "-" if entry.slo_ms is None else rounded(entry.slo_ms),
        "-" if entry.late_fraction is None else f"{100 * entry.late_fraction:.2f} %",
        _ms(None if server is None else server.queue_ms),
        _ms(None if server is None else server.compute_ms),
        _ms(None if server is None else server.mean_batch),
        _ms(entry.sent_late_ms),
        verdict,
    ]


def print_rehearsal(rehearsal: Rehearsal) -> None:
    """Print every workload's rehearsed beside its simulated latency, and the verdict."""
    console = stdout()
    right = ["SLO ms", "mean", "simulated", "P", "simulated", "overhead", "difference", "over SLO"]
    if rehearsal.workloads:
        right[3] = percentile_name(rehearsal.workloads[0].percentile)
    table = _table(("workload", "model"), right, ("rehearsal", "simulation"))
    pairs = list(zip(rehearsal.workloads, rehearsal.measurement.workloads, strict=True))
    for entry, measured in pairs[:_MOST_SHOWN]:
        late = measured.late_fraction
        table.add_row(
            entry.workload,
            measured.model,
            rounded(entry.slo_ms),
            _ms(entry.rehearsed_mean_ms),
            _ms(entry.simulated_mean_ms),
            _ms(entry.rehearsed_ms),
            _ms(entry.simulated_ms),
            _ms(entry.overhead_ms),
            "-" if entry.difference is None else f"{100 * entry.difference:+.1f} %",
            "-" if late is None else f"{100 * late:.2f} %",
            _verdict(entry.holds, rehearsal.verdict) + _unsure(certain=not measured.too_few, whole=rehearsal.verdict),
            _verdict(entry.simulated_holds),
        )
    print_table(console, table)
    if len(pairs) > _MOST_SHOWN:
        console.print(f"... and {len(pairs) - _MOST_SHOWN} more workloads")
    console.print(
        "ms of the plan's time; the simulation served the same requests; verdict and difference are without the"
        " overhead that these servers and this machine add to a single request",
        soft_wrap=True,
    )
    said = ""
    if not _is_none(rehearsal.verdict):
        said = f"; the simulation says otherwise of {', '.join(rehearsal.disagreements) or 'none'}"
    console.print(escape(rehearsal.verdict.text + said), soft_wrap=True)


def _is_none(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict.outcome == "none"


def _verdict(holds: bool, whole: Verdict | None = None) -> str:
    """The word for one workload; none where there is no verdict on the whole."""
    if _is_none(whole):
        return "-"
    return "holds" if holds else "[red]violates[/red]"


def _unsure(*, certain: bool, whole: Verdict | None) -> str:
    """The mark of a word that chance may have made."""
    return "" if certain or _is_none(whole) else " ?"


def _over(entry: LoadStatistics) -> float:
    if entry.percentile_ms is None:
        return float("inf")
    return entry.percentile_ms / (entry.slo_ms or 1.0)


def _ms(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.2f}"


def _table(left: tuple[str, ...], right: tuple[str, ...] | list[str], end: tuple[str, ...] = ()) -> Table:
    table = new_table()
    for title in left:
        table.add_column(title)
    for title in right:
        table.add_column(title, justify="right")
    for title in end:
        table.add_column(title)
    return table

"""Instances from what Prometheus has observed: rates, headroom for their drift, and how bursty they are.

The time looked back on is cut into steps, whole ones at multiples of their length. The headroom is the percentile of
the steps' rates over the mean rate, less 1, as for recorded requests (`data.from_trace`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Literal, NamedTuple, get_args

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath
from igniter_opt.base.schema import checked_number, one_of, parse_record
from igniter_opt.base.text import counted, rounded, time_words
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.asked import Asked, filled, first_of, lacks, placeholders_caution, read_asked
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.instance import LEAST_RATE, Instance
from igniter_opt.data.instance_files import write_instance
from igniter_opt.observe.client import Progress, Prometheus
from igniter_opt.observe.counters import step_edges
from igniter_opt.observe.demand import ObservedDemand, time_text
from igniter_opt.observe.sources import (
    RATE_QUERY,
    REQUESTS,
    SOURCE_KEYS,
    Wanted,
    WorkloadServers,
    check_sources,
    servers_by_workload,
)
from igniter_opt.observe.streams import (
    Latencies,
    ObservedStream,
    Period,
    known_models,
    observed_from_counters,
    observed_from_query,
    own_values,
    read_latencies,
)

RateKind = Literal["headroom", "mean", "peak"]
RATE_KINDS: tuple[RateKind, ...] = get_args(RateKind)
ObservedArrivals = Literal["gamma", "poisson"]
OBSERVED_ARRIVALS: tuple[ObservedArrivals, ...] = get_args(ObservedArrivals)
DEFAULT_WINDOW_S, DEFAULT_STEP_S, DEFAULT_PERCENTILE = 7 * 86400.0, 600.0, 95.0
_MOST_STEPS = 200_000
_MOST_AROUND_S = 300.0
# Notes begin where so much of the time is not known, so many requests failed, or nothing was seen for so many steps.
_UNKNOWN, _FAILED, _SILENT_STEPS = 0.05, 0.01, 1.5


@dataclass(frozen=True)
class FromPrometheus:
    """An instance made of what was observed.

    Attributes
    ----------
    streams
        What each workload's traffic is like, in the instance's order.
    demand
        Their rates in steps of time.
    placeholders
        Workloads of which nobody said model or SLO, so that the instance has placeholders.
    notes
        What was left out and why, and what the server said.
    origin
        Where it came from and when, a line each.
    percentile
        Of the steps' rates, in percent.
    """

    instance: Instance
    streams: tuple[ObservedStream, ...]
    demand: ObservedDemand
    placeholders: tuple[str, ...]
    notes: tuple[str, ...]
    origin: tuple[str, ...]
    percentile: float

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return what the streams are like as plain data, arrivals in words."""
        return [entry.to_dict() for entry in self.streams]

    def write(self, path: StrPath) -> None:
        """Write the instance's file, whose first lines say where it came from."""
        write_instance(self.instance, path, comment=self.origin)

    def cautions(self) -> list[str]:
        """Return what a user should know before planning for it."""
        found = [*self.notes]
        if self.placeholders:
            found.append(placeholders_caution(self.instance, self.placeholders))
        beyond = 1.0 - self.percentile / 100.0
        short = [entry for entry in self.streams if 0.0 < entry.steps * beyond < 1.0 - 1e-9]
        if short:
            least = min(entry.steps for entry in short)
            others = "" if len(short) == 1 else f" ({len(short)} workloads have so few)"
            found.append(
                f"P{self.percentile:g} of {counted(least, 'step')} is the busiest one{others}; a longer --window or a"
                " shorter --step has more"
            )
        end = float(self.demand.times[-1])
        step = float(self.demand.times[1] - self.demand.times[0])
        for entry in self.streams:
            found += _of_stream(entry, end + step, step)
        return found


def _of_stream(entry: ObservedStream, end: float, step_s: float) -> list[str]:
    name, found = entry.workload, []
    if entry.unknown > _UNKNOWN:
        found.append(
            f"{name}: {rounded(100.0 * entry.unknown, 0)} % of the time is not known (no server yet, none any more, or"
            " gaps between scrapes); what is said is of the rest"
        )
    if entry.failed > _FAILED:
        found.append(f"{name}: {rounded(100.0 * entry.failed, 1)} % of its requests failed; they are not in its rate")
    if end - entry.last_s > _SILENT_STEPS * step_s:
        found.append(f"{name}: last seen {time_words(end - entry.last_s)} before the end; it may not run any more")
    if entry.burstiness is None:
        found.append(f"{name}: too few counts to see how bursty it is; taken for Poisson")
    index = entry.dispersion
    if index is not None and index.is_clustered:
        found.append(
            f"{name}: requests come in clusters longer than {time_words(index.bin_s)} (variance over mean"
            f" {rounded(index.index)}, {rounded(index.longer or 0.0)} over four times as long), which gamma arrivals do"
            " not have; recorded requests tell more (instances from-trace)"
        )
    return found


class _Options(NamedTuple):
    percentile: float
    rates: RateKind
    arrivals: ObservedArrivals
    window_s: float
    step_s: float


def instance_from_prometheus(
    source: str | Prometheus,
    gpu_types: Sequence[GpuType],
    name: str,
    *,
    window_s: float = DEFAULT_WINDOW_S,
    step_s: float = DEFAULT_STEP_S,
    until: float | None = None,
    percentile: float = DEFAULT_PERCENTILE,
    rates: RateKind = "headroom",
    arrivals: ObservedArrivals = "gamma",
    select: str = "",
    label: str | None = None,
    asked: Asked = None,
    model: str | None = None,
    slo_ms: float | None = None,
    max_replicas: int | None = None,
    on_progress: Progress | None = None,
) -> FromPrometheus:
    """Make an instance, under rule p99, of what a Prometheus has observed of Triton servers.

    Parameters
    ----------
    source
        The server's address, or a `Prometheus`, which may have a token.
    gpu_types
        What can be had.
    window_s, until
        Look at so many seconds, up to this Unix time; by default up to now, by the server's clock.
    step_s, percentile
        The time is cut into steps so many seconds long; the percentile (in percent) is that of their rates.
    rates
        ``headroom``: the mean as rate, with headroom up to the percentile. ``mean``: no headroom. ``peak``: the
        percentile itself as rate.
    arrivals
        ``gamma`` with the burstiness that counts show, or ``poisson``.
    select
        Matchers of series, such as ``{job="triton"}``.
    label
        The label that names a series' workload; by default `workload`, and where there is none, `model`.
    asked
        What each workload asks for: keys ``model``, ``slo_ms`` and ``max_replicas`` by name, or a YAML file of that.
        Also where its numbers are: ``series`` (labels and values that its series have), or queries: ``rate_query``
        (req/s), ``burstiness_query``, ``p99_query`` (ms), in which ``$step`` and ``$window`` are times.
    model, slo_ms, max_replicas
        For workloads of which neither `asked` nor, for the model, a label says it. Without them model and SLO are
        placeholders.
    on_progress
        Called with what is done, how far it is, and out of how much.

    Raises
    ------
    InputError
        An argument out of range, a server that does not answer or answers something else, no series, steps too short
        for its scrapes, or workloads that no instance can have.
    """
    options = _checked(percentile, rates, arrivals, window_s, step_s, gpu_types)
    server = source if isinstance(source, Prometheus) else Prometheus(source)
    wishes, where = read_asked(asked, SOURCE_KEYS)
    wanted = Wanted(wishes, label, select, where)
    check_sources(wanted)
    asked_at = server.now()
    end = asked_at if until is None else checked_number("the end", until)
    period = Period(step_edges(end - options.window_s, end, options.step_s), options.step_s, percentile)
    if len(period.edges) < 3:
        raise InputError(
            f"{time_words(options.window_s)} are not two whole steps of {time_words(options.step_s)}; give a longer"
            " --window or a shorter --step"
        )
    notes: list[str] = []
    servers = _servers(server, wanted, period, notes, on_progress)
    streams, demand = _streams(server, wanted, servers, period, notes)
    notes += [f"Prometheus says: {text}" for text in server.warnings]
    models = [known for gpu in gpu_types for known in gpu.profile.models]
    defaults = {"slo_ms": slo_ms, "max_replicas": max_replicas}
    workloads, placeholders = [], []
    given = {entry.workload: Arrivals() if options.arrivals == "poisson" else entry.arrivals for entry in streams}
    common = next(iter(given.values())) if len(set(given.values())) == 1 else None
    for entry in streams:
        own = servers.get(entry.workload, WorkloadServers())
        ours = {**defaults, "model": known_models(sorted(own.models), models) or model}
        wish = wanted.wishes.get(entry.workload, {})
        if lacks(wish, ours):
            placeholders.append(entry.workload)
        rate = entry.peak_rps if options.rates == "peak" else entry.rate_rps
        extra = entry.headroom if options.rates == "headroom" else 0.0
        arrival = given[entry.workload]
        workloads.append(
            {
                "name": entry.workload,
                **filled(wish, ours, gpu_types),
                "rate_rps": max(LEAST_RATE, float(f"{rate:.6g}")),
                **({"headroom": extra} if extra else {}),
                **({"arrivals": arrival} if common is None and arrival != Arrivals() else {}),
            }
        )
    origin = _origin(server.address, period, asked_at, options)
    text = f"{origin[1]} {origin[2]}"
    if placeholders:
        text += f" Placeholders: model and SLO of {first_of(placeholders)}."
    content = {
        "name": name,
        "description": text,
        "slo_rule": "p99",
        **({"arrivals": common} if common not in {None, Arrivals()} else {}),
        "gpu_types": list(gpu_types),
        "workloads": workloads,
    }
    instance = parse_record(Instance, content, where)
    return FromPrometheus(instance, tuple(streams), demand, tuple(placeholders), tuple(notes), origin, percentile)


def _checked(
    percentile: float,
    rates: RateKind,
    arrivals: ObservedArrivals,
    window_s: float,
    step_s: float,
    gpu_types: Sequence[GpuType],
) -> _Options:
    one_of(rates, RATE_KINDS, "rates: unknown kind", "kinds")
    one_of(arrivals, OBSERVED_ARRIVALS, "arrivals: unknown kind", "kinds")
    if not 50.0 <= checked_number("the percentile", percentile) <= 100.0:
        raise InputError(f"the percentile of steps must be in 50..100 (95 is 95 %); found {percentile:g}")
    for what, value in (("window", window_s), ("step", step_s)):
        if not 0.1 <= checked_number(f"the {what}", value) <= 1e9:
            raise InputError(f"the {what} must be 0.1 to 1e9 seconds; found {value:g}")
    if window_s / step_s > _MOST_STEPS:
        raise InputError(f"the window has {window_s / step_s:,.0f} steps; give a longer --step")
    if not gpu_types:
        raise InputError("give at least one GPU type")
    return _Options(percentile, rates, arrivals, window_s, step_s)


def _servers(
    source: Prometheus, wanted: Wanted, period: Period, notes: list[str], on_progress: Progress | None
) -> dict[str, WorkloadServers]:
    """Read the counters of requests, unless every workload has a query of its own."""
    start, end = float(period.edges[0]), float(period.edges[-1])
    # A little more at both ends, so that scrapes lie around the first and last edge.
    more = min(period.step_s, _MOST_AROUND_S)
    series = source.samples(wanted.selector(REQUESTS), start - more, end + more, on_progress)
    queried = [name for name, wish in wanted.wishes.items() if RATE_QUERY in wish]
    if not series and not queried:
        raise InputError(
            f"{source.address}: there is no series {wanted.selector(REQUESTS)} from {time_text(start)} to"
            f" {time_text(end)}; have your Triton servers scraped (deploy --file-sd), look further back (--window), or"
            " say 'rate_query' in a file of --workloads"
        )
    servers, strangers = servers_by_workload(series, wanted)
    if strangers:
        what = "workload or model" if wanted.label is None else wanted.label
        notes.append(f"{strangers} series without a label {what}: left out")
    for name, own in servers.items():
        for instance, jobs in own.twice.items():
            notes.append(
                f"{name}: the server at {instance} is scraped more than once (jobs {first_of(sorted(jobs))}), so that"
                " its requests count more than once; --select chooses"
            )
    return servers


def _streams(
    source: Prometheus, wanted: Wanted, servers: dict[str, WorkloadServers], period: Period, notes: list[str]
) -> tuple[list[ObservedStream], ObservedDemand]:
    queried = [name for name, wish in wanted.wishes.items() if RATE_QUERY in wish]
    latencies = read_latencies(source, wanted, period) if servers else Latencies({}, {}, {}, {})
    streams: list[ObservedStream] = []
    demand: dict[str, FloatArray] = {}
    for name in sorted([*servers, *queried]):
        if name in queried:
            query = wanted.wishes[name][RATE_QUERY]
            found, rates = observed_from_query(source, name, query, period, latencies)
        else:
            found, rates = observed_from_counters(name, servers[name], period, latencies)
        if found is None:
            why = f"{name}: no requests, or fewer than two steps of {time_words(period.step_s)} that are known"
            if name in wanted.wishes:
                raise InputError(f"{why}; leave it out of {wanted.where}, or look at another --window or --step")
            notes.append(f"{why}: left out")
            continue
        streams.append(replace(found, **own_values(source, wanted, name, period)))  # type: ignore[arg-type]
        demand[name] = rates
    if not streams:
        raise InputError(f"nothing is known of any workload: {'; '.join(notes)}")
    return streams, ObservedDemand(period.edges[:-1], demand)


def _origin(address: str, period: Period, asked_at: float, options: _Options) -> tuple[str, ...]:
    """Say where an instance came from, and when, a line each."""
    begin, end = time_text(float(period.edges[0])), time_text(float(period.edges[-1]))
    what = {
        "headroom": f"mean rates, with headroom up to P{options.percentile:g}",
        "mean": "mean rates, without headroom",
        "peak": f"rates at P{options.percentile:g}",
    }[options.rates]
    return (
        f"Made by igniter-opt {version('igniter-opt')} on {time_text(round(asked_at))} (instances from-prometheus).",
        f"From Prometheus at {address}: {begin} to {end}.",
        f"In steps of {time_words(options.step_s)}: {what}.",
    )

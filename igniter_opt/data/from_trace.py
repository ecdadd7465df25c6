"""Instances from recorded requests: each stream's rate, how bursty it is, and the headroom that its drift needs.

*Rate.* Requests less one over the time from the first to the last, as for a trace in an instance.

*Headroom.* The stream is cut into windows, whole ones only, from its first request on. The headroom is the percentile
of the windows' rates over the rate, less 1, and 0 at least: a plan for the rate with this headroom is one for all but
the busiest windows. Windows hold a finite number of requests, and chance is in their rates, too.

*Burstiness.* The squared variation of the gaps, for `gamma` arrivals. Gaps are measured in mean gaps of their own
window, so that drift, which the headroom is for, is not counted again. Within two standard errors of 1 the stream is
taken for Poisson: the error of n gaps of a Poisson stream is ``2 / √n``, by the delta method from the first four
moments of an exponential distribution.

*Clusters.* Gamma arrivals have independent gaps. Real ones may come in clusters, which gaps alone do not show, but the
counts do: their variance over their mean, within windows, would be the burstiness if gaps were independent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath, as_path
from igniter_opt.base.nanoseconds import NS_PER_S
from igniter_opt.base.schema import checked_number, name_from, one_of, parse_record
from igniter_opt.base.text import counted, rounded, time_words
from igniter_opt.data.arrivals import BURSTINESS_RANGE, Arrivals
from igniter_opt.data.asked import Asked, filled, first_of, lacks, placeholders_caution, read_asked
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.instance import Instance
from igniter_opt.data.traces import names_workloads, read_traces

TracedArrivals = Literal["gamma", "poisson", "trace"]
TRACED_ARRIVALS: tuple[TracedArrivals, ...] = get_args(TracedArrivals)
DEFAULT_WINDOW_S = 600.0
DEFAULT_WINDOW_PERCENTILE = 95.0
# A squared variation of fewer gaps than this is guesswork.
FEWEST_REQUESTS = 100
# Of a window or a bin of counts, so that its own mean is known well enough.
_FEWEST_GAPS, _FEWEST_BINS, _MEAN_COUNT = 30, 10, 10.0
_CLUSTERED = 1.5
# More would not fit the memory.
_MOST_WINDOWS = 20_000_000


@dataclass(frozen=True)
class Observed:
    """What one recorded stream is like.

    Attributes
    ----------
    requests, seconds, rate_rps
        How many, from the first to the last, and so how many per second.
    windows, busiest_rps, headroom
        How many windows there are, the largest rate of one in req/s, and the headroom for the percentile asked for.
    burstiness
        Squared variation of the gaps within windows; None where there are too few.
    dispersion
        Variance over mean of counts within windows; None where windows are too short for it.
    arrivals
        What the workload has been given.
    """

    workload: str
    requests: int
    seconds: float
    rate_rps: float
    windows: int
    busiest_rps: float
    headroom: float
    burstiness: float | None
    dispersion: float | None
    arrivals: Arrivals

    @property
    def is_clustered(self) -> bool:
        """Whether counts vary far more than independent gaps would make them."""
        known = self.burstiness is not None and self.dispersion is not None
        return known and (self.dispersion or 0.0) > _CLUSTERED * max(1.0, self.burstiness or 0.0)


@dataclass(frozen=True)
class FromTrace:
    """An instance made from recorded requests.

    Attributes
    ----------
    streams
        What each workload's stream is like, in the instance's order.
    placeholders
        Workloads of which nobody said model or SLO, so that the instance has `PLACEHOLDER_SLO_MS` or the first model.
    percentile
        The one of the windows, in percent.
    """

    instance: Instance
    streams: tuple[Observed, ...]
    placeholders: tuple[str, ...]
    percentile: float

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return what the streams are like as plain data, arrivals in words."""
        return [{**vars(entry), "arrivals": entry.arrivals.words} for entry in self.streams]

    def cautions(self) -> list[str]:
        """Return what a user should know before planning for it."""
        found = []
        if self.placeholders:
            found.append(placeholders_caution(self.instance, self.placeholders))
        beyond = 1.0 - self.percentile / 100.0
        drawn = [entry for entry in self.streams if entry.arrivals.kind != "trace"]
        short = [entry for entry in drawn if 0.0 < entry.windows * beyond < 1.0 - 1e-9]
        if short:
            least = min(entry.windows for entry in short)
            others = "" if len(short) == 1 else f" ({len(short)} streams have so few)"
            found.append(
                f"P{self.percentile:g} of {counted(least, 'window')} is the busiest one{others}; a longer trace or a"
                " shorter --window has more"
            )
        found += [
            f"{entry.workload}: requests come in clusters that gamma arrivals do not have (variance over mean of counts"
            f" {rounded(entry.dispersion or 0.0)}, burstiness {rounded(entry.burstiness or 0.0)}); arrivals as"
            " recorded plan for them as they came (--arrivals trace)"
            for entry in drawn
            if entry.is_clustered
        ]
        return found


def instance_from_trace(
    traces: Sequence[tuple[str | None, StrPath]],
    gpu_types: Sequence[GpuType],
    name: str,
    *,
    percentile: float = DEFAULT_WINDOW_PERCENTILE,
    window_s: float = DEFAULT_WINDOW_S,
    arrivals: TracedArrivals = "gamma",
    asked: Asked = None,
    model: str | None = None,
    slo_ms: float | None = None,
    max_replicas: int | None = None,
) -> FromTrace:
    """Make an instance of recorded requests, under rule p99.

    Parameters
    ----------
    traces
        Pairs of a workload's name and a file (`data.traces`). Without a name the file's column ``workload`` says whose
        requests these are, or where it has none the file's own name.
    gpu_types
        What can be had.
    percentile, window_s
        Plan for this percentile (in percent) of the rates of windows so many seconds long.
    arrivals
        ``gamma`` with the burstiness observed, ``poisson``, or ``trace``, as recorded. A record has its drift in it
        already, so that with ``trace`` there is no headroom.
    asked
        What each workload asks for: keys ``model``, ``slo_ms`` and ``max_replicas`` by name, or a YAML file of that.
    model, slo_ms, max_replicas
        For workloads of which `asked` does not say it. Without them model and SLO are placeholders.

    Raises
    ------
    InputError
        An argument out of range, files that are no traces, streams too short for a window or with too few requests,
        or workloads that no instance can have.
    """
    one_of(arrivals, TRACED_ARRIVALS, "arrivals: unknown kind", "kinds")
    if not 50.0 <= checked_number("the percentile", percentile) <= 100.0:
        raise InputError(f"the percentile of windows must be in 50..100 (95 is 95 %); found {percentile:g}")
    if not 0.001 <= checked_number("the window", window_s) <= 1e9:
        raise InputError(f"the window must be 0.001 to 1e9 seconds; found {window_s:g}")
    if not traces or not gpu_types:
        raise InputError(f"give at least one {'trace' if not traces else 'GPU type'}")
    sources = [_named(*entry) for entry in traces]
    times = read_traces(sources, None)
    wishes, where = read_asked(asked, names=list(times))
    streams = tuple(
        _observed(name, own - own[0], percentile, window_s, None if arrivals == "trace" else arrivals)
        for name, own in times.items()
    )
    recorded = {} if arrivals != "trace" else _recorded(sources, list(times))
    streams = tuple(
        replace(entry, headroom=0.0, arrivals=recorded[entry.workload]) if recorded else entry for entry in streams
    )
    # One for all stands in the instance, not in every workload.
    common = streams[0].arrivals if len({entry.arrivals for entry in streams}) == 1 else None
    defaults = {"model": model, "slo_ms": slo_ms, "max_replicas": max_replicas}
    workloads, placeholders = [], []
    for entry in streams:
        wish = wishes.get(entry.workload, {})
        if lacks(wish, defaults):
            placeholders.append(entry.workload)
        other = common is None and entry.arrivals != Arrivals()
        workloads.append(
            {
                "name": entry.workload,
                **filled(wish, defaults, gpu_types),
                # Recorded times are taken as they are at exactly their own rate.
                "rate_rps": entry.rate_rps if recorded else float(f"{entry.rate_rps:.6g}"),
                **({"headroom": entry.headroom} if entry.headroom else {}),
                **({"arrivals": entry.arrivals} if other else {}),
            }
        )
    content = {
        "name": name,
        "description": _described(sources, streams, percentile, window_s, arrivals, placeholders),
        "slo_rule": "p99",
        **({"arrivals": common} if common not in {None, Arrivals()} else {}),
        "gpu_types": list(gpu_types),
        "workloads": workloads,
    }
    return FromTrace(parse_record(Instance, content, where), streams, tuple(placeholders), percentile)


def _named(name: str | None, path: StrPath) -> tuple[str | None, Path]:
    """Name the workload of a file that neither option nor column does."""
    file = as_path(path)
    return (name_from(file.stem) if name is None and not names_workloads(file) else name), file


def _recorded(sources: Sequence[tuple[str | None, Path]], names: Sequence[str]) -> dict[str, Arrivals]:
    """Return arrivals as recorded, by workload."""
    found: dict[str, Arrivals] = {}
    several = [name for name in names if name not in {own for own, _ in sources}]
    for name, path in sources:
        own = [name] if name is not None else several
        found |= dict.fromkeys(own, Arrivals("trace", file=str(path.absolute())).planned(own))
    return found


def _observed(
    workload: str, times_ns: FloatArray, percentile: float, window_s: float, kind: TracedArrivals | None
) -> Observed:
    """Look at one stream, whose first request is at 0; arrivals of kind None are not settled here."""
    requests, seconds = len(times_ns), float(times_ns[-1]) / NS_PER_S
    whose = f"the trace's stream of workload {workload}"
    if requests < 2 or seconds <= 0.0:
        raise InputError(
            f"{whose} has {counted(requests, 'request')} at one time, so that it has no rate; leave it out"
        )
    windows = math.floor(seconds / window_s)
    if windows < 2:
        raise InputError(
            f"{whose} goes on for {time_words(seconds)}, which is not two windows of {time_words(window_s)}; give a"
            f" --window of {time_words(seconds / 20)} or so"
        )
    if windows > _MOST_WINDOWS:
        raise InputError(f"{whose} has {windows:,} windows of {time_words(window_s)}; give a longer --window")
    rate = (requests - 1) / seconds
    bounds = np.searchsorted(times_ns, np.arange(windows + 1) * (window_s * NS_PER_S), side="left")
    rates = np.sort(np.diff(bounds) / window_s)
    rank = max(1, math.ceil(percentile / 100.0 * windows * (1.0 - 1e-12)))
    headroom = max(0.0, math.ceil((float(rates[rank - 1]) / rate - 1.0) * 1000.0 - 1e-6) / 1000.0)
    burstiness = _burstiness(times_ns, bounds)
    if kind == "gamma" and (requests < FEWEST_REQUESTS or burstiness is None):
        raise InputError(
            f"{whose} has {counted(requests, 'request')}, too few to see how bursty it is: it takes"
            f" {FEWEST_REQUESTS}; leave it out, or take arrivals poisson"
        )
    found = Arrivals()
    if kind == "gamma" and burstiness is not None and abs(burstiness - 1.0) > 4.0 / math.sqrt(requests):
        low, high = BURSTINESS_RANGE
        found = Arrivals("gamma", burstiness=min(high, max(low, float(f"{burstiness:.3g}"))))
    return Observed(
        workload=workload,
        requests=requests,
        seconds=seconds,
        rate_rps=float(f"{rate:.12g}"),
        windows=windows,
        busiest_rps=float(rates[-1]),
        headroom=headroom,
        burstiness=burstiness,
        dispersion=_dispersion(times_ns, windows, window_s, rate),
        arrivals=found,
    )


def _burstiness(times_ns: FloatArray, bounds: IntArray) -> float | None:
    """Return the squared variation of the gaps, each in mean gaps of its window."""
    squares, gaps = 0.0, 0
    full = np.flatnonzero(np.diff(bounds) > _FEWEST_GAPS)
    pairs = np.column_stack([bounds[full], bounds[full + 1]]).tolist() or [[0, len(times_ns)]]
    for begin, end in pairs:
        own = np.diff(times_ns[begin:end])
        if own.sum() > 0.0:
            # The mean of few gaps follows them, and makes their variation look smaller: unbiased for a Poisson stream.
            unbiased = (len(own) + 1) / max(1, len(own) - 1)
            squares += unbiased * float(np.square(own / own.mean() - 1.0).sum())
            gaps += len(own)
    return squares / gaps if gaps else None


def _dispersion(times_ns: FloatArray, windows: int, window_s: float, rate: float) -> float | None:
    """Return the variance over the mean of counts in bins of about ten requests or a second, within windows."""
    each = math.floor(window_s / max(1.0, _MEAN_COUNT / rate))
    if each < _FEWEST_BINS or windows * each > _MOST_WINDOWS:
        return None
    bins = np.searchsorted(times_ns, np.arange(windows * each + 1) * (window_s / each * NS_PER_S), side="left")
    counts = np.diff(bins).reshape(windows, each)
    return float(counts.var(axis=1, ddof=1).mean() / counts.mean())


def _described(
    sources: Sequence[tuple[str | None, Path]],
    streams: Sequence[Observed],
    percentile: float,
    window_s: float,
    arrivals: TracedArrivals,
    placeholders: Sequence[str],
) -> str:
    files = ", ".join(path.name for _, path in sources[:3]) + (", ..." if len(sources) > 3 else "")
    longest = max(entry.seconds for entry in streams)
    drift = (
        "arrivals as recorded, drift included"
        if arrivals == "trace"
        else f"headroom for P{percentile:g} of the rates of windows of {time_words(window_s)}"
    )
    requests = counted(sum(entry.requests for entry in streams), "request")
    text = f"From {files}: {requests} in {time_words(longest)}; {drift}."
    if placeholders:
        text += f" Placeholders: model and SLO of {first_of(placeholders)}."
    return text

"""What a measurement says: statistics per workload and replica, the verdict, and their tables (latencies in ms)."""

import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath, as_path, parse_json, read_text
from igniter_opt.base.frames import frame
from igniter_opt.base.kinds import MEASUREMENT, write_output
from igniter_opt.base.nanoseconds import NS_PER_MS, NS_PER_S
from igniter_opt.base.schema import Integer, Name, NonNegative, Number, Positive, Record, parse_record
from igniter_opt.data.instance import percentile_name
from igniter_opt.data.verdict import Verdict, judge, late_reason, load_conditions, sent_too_late, too_few
from igniter_opt.measure.client import OK, OUTCOMES
from igniter_opt.simulation.statistics import Estimate, estimate, percentile

if TYPE_CHECKING:
    import pandas as pd

MEASUREMENT_SCHEMA: Final = "igniter-opt/measurement@1"
INTERRUPTED: Final = "interrupted"
PERCENTILES = {"p50_ms": 0.5, "p90_ms": 0.9, "p95_ms": 0.95, "p99_ms": 0.99, "p999_ms": 0.999}
# Relative, as for predictions.
_TOLERANCE = 1e-9
# Processor time that others got, per second: 0.001 to 0.015 where nothing was to be seen of it, 0.06 where it was.
STOLEN_PART = 0.03


class ServerSplit(Record):
    """Where time went inside the servers, by their own statistics: means per request in ms.

    `batches` says how many executions had each batch size, `batch_ms` how long they took on average.
    """

    requests: Integer
    executions: Integer
    mean_batch: NonNegative | None
    queue_ms: NonNegative | None
    input_ms: NonNegative | None
    compute_ms: NonNegative | None
    output_ms: NonNegative | None
    batches: dict[str, Integer] = Field(default_factory=dict)
    batch_ms: dict[str, NonNegative] = Field(default_factory=dict)


class Switch(Record):
    """A replica's requests went to another server from some time on, in s after counting began."""

    at_s: Number
    workload: Name
    replica: Integer
    before: str
    after: str


class LoadStatistics(Record):
    """What was measured of a workload, or of one of its replicas.

    A request that failed counts as one without an answer: later than any SLO. So percentiles beyond the answered
    part are None (infinite); `mean_ms` and `max_ms` are those of the answered requests. Where a measurement ended
    early, requests that had waited for the SLO without an answer count so too; the first one whose fate was still
    open ends the count.

    Attributes
    ----------
    rate_rps
        The rate that was asked for; `offered_rps` is the one of the requests that were due, and `throughput_rps`
        that of the answers.
    slo_ms, late_fraction, late_fraction_low, late_fraction_high, holds
        None without a plan. `late_fraction` is the part of requests over the SLO, with its 95 % interval (Student t
        over ten consecutive parts of the window, since neighbouring latencies resemble each other); `holds` whether
        `percentile_ms` is within the SLO.
    percentile
        The judged percentile as a probability.
    sent_late_ms
        How late the generator sent requests, at the judged percentile.
    """

    workload: Name
    model: Name
    gpu: Name | None = None
    replica: Integer | None = None
    rate_rps: Positive
    slo_ms: Positive | None = None
    percentile: Positive
    requests: Integer
    answered: Integer
    failed: Integer
    failures: dict[str, Integer] = Field(default_factory=dict)
    offered_rps: NonNegative
    throughput_rps: NonNegative
    mean_ms: Number | None
    p50_ms: Number | None
    p90_ms: Number | None
    p95_ms: Number | None
    p99_ms: Number | None
    p999_ms: Number | None
    max_ms: Number | None
    percentile_ms: Number | None
    late_fraction: NonNegative | None = None
    late_fraction_low: NonNegative | None = None
    late_fraction_high: NonNegative | None = None
    holds: bool | None = None
    sent_late_ms: Number | None
    growing: bool = False
    server: ServerSplit | None = None
    replicas: tuple["LoadStatistics", ...] = ()

    @property
    def certain(self) -> bool:
        """Whether the interval of the late fraction lies on one side of what the percentile allows altogether."""
        low, high = self.late_fraction_low, self.late_fraction_high
        if low is None or high is None:
            return False
        allowed = 1.0 - self.percentile
        return (low <= allowed) == (high <= allowed)

    @property
    def sent_too_late(self) -> bool:
        """Whether the generator, not the server, is to blame for part of the latencies."""
        return sent_too_late(self.sent_late_ms, self.slo_ms, self.p50_ms)

    @property
    def too_few(self) -> bool:
        """Whether too few requests lie beyond the judged percentile to say much about it."""
        return too_few(self.requests, self.percentile)

    def row(self) -> dict[str, Any]:
        """Return all numbers as a flat row."""
        skipped = {"server", "replicas", "failures"}
        server = {} if self.server is None else self.server.model_dump(exclude={"batches", "batch_ms"})
        split = {name: server.get(name) for name in ServerSplit.model_fields if name not in ("batches", "batch_ms")}
        return self.model_dump(exclude=skipped) | {f"server_{name}": value for name, value in split.items()}


class Measurement(Record):
    """The outcome of a measurement; read and written as JSON.

    Attributes
    ----------
    settings
        How it was measured: arrivals and their parameters, seed, scale, durations in seconds.
    partial
        Why it ended early (`INTERRUPTED` if on request); None if it did not.
    cpu_percent
        How busy this machine's processors were meanwhile, on average; None if not known.
    stolen_s
        Processor time that the host of this virtual machine gave to others meanwhile; None if not known.
    switches
        When servers took over from others meanwhile, as the endpoints file said.
    verdict
        Whether the plan's SLOs were kept (`with_verdict`); None without a plan, in a rehearsal, which has its own, and
        in files of older versions.
    """

    schema_: Literal["igniter-opt/measurement@1"] = Field(default=MEASUREMENT_SCHEMA, alias="schema")
    source: str
    plan_digest: str | None = None
    started_at: str
    duration_s: NonNegative
    settings: dict[str, Any] = Field(default_factory=dict)
    partial: str | None = None
    cpu_percent: NonNegative | None = None
    stolen_s: NonNegative | None = None
    switches: tuple[Switch, ...] = ()
    workloads: tuple[LoadStatistics, ...]
    verdict: Verdict | None = None

    @property
    def workloads_over_slo(self) -> list[str]:
        """Names of the workloads that do not hold."""
        return [entry.workload for entry in self.workloads if entry.holds is False]

    @property
    def sent_too_late(self) -> list[str]:
        """Names of the workloads whose requests the generator sent too late to judge them."""
        return [entry.workload for entry in self.workloads if entry.sent_too_late]

    @property
    def disturbed(self) -> bool:
        """Whether the host kept this machine from running for long enough to show in latencies."""
        return self.stolen_s is not None and self.stolen_s > STOLEN_PART * self.duration_s

    @property
    def too_few(self) -> list[str]:
        """Names of the workloads with too few requests for their percentile."""
        return [entry.workload for entry in self.workloads if entry.too_few]

    @property
    def growing(self) -> list[str]:
        """Names of the workloads whose queues grew all the time: their servers cannot keep up."""
        return [entry.workload for entry in self.workloads if entry.growing]

    @property
    def failed(self) -> int:
        """Number of requests without a good answer."""
        return sum(entry.failed for entry in self.workloads)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data (the form of ``measure --json``)."""
        return self.model_dump(mode="json", by_alias=True)

    def to_frame(self) -> "pd.DataFrame":
        """Return a row per workload, and after it its replicas' if there are several."""
        rows = [
            entry.row()
            for workload in self.workloads
            for entry in (workload, *(workload.replicas if len(workload.replicas) > 1 else ()))
        ]
        return frame(rows)


def with_verdict(measurement: Measurement) -> Measurement:
    """Return the measurement with its verdict."""
    late, settings = measurement.sent_too_late, measurement.settings
    held = {entry.workload: entry.holds for entry in measurement.workloads if entry.holds is not None}
    reasons = []
    if late:
        worst = max(entry.sent_late_ms or 0.0 for entry in measurement.workloads if entry.sent_too_late)
        reasons.append(f"{late_reason(late, worst)}: this machine cannot generate that load")
    few = [name for name in measurement.too_few if name in held]
    scale, cpu = settings.get("scale", 1), settings.get("cpu", False)
    conditions = load_conditions(scale, cpu=cpu, partial=measurement.partial)
    name = percentile_name(measurement.workloads[0].percentile) if measurement.workloads else ""
    return measurement.model_copy(update={"verdict": judge(held, name, reasons, conditions, few)})


def write_measurement(measurement: Measurement, path: StrPath) -> None:
    """Write a measurement: CSV where the name ends so, else JSON; raise InputError where something else is."""
    path = as_path(path)
    if path.suffix == ".csv":
        outcome = None if measurement.verdict is None else measurement.verdict.outcome
        text = str(measurement.to_frame().assign(verdict=outcome).to_csv(index=False))
    else:
        text = json.dumps(measurement.to_dict(), indent=1, allow_nan=False) + "\n"
    write_output(path, text.encode(), MEASUREMENT)


def measurement_from_data(data: Any, source: str) -> Measurement:
    """Validate a measurement's parsed JSON."""
    if not isinstance(data, dict) or data.get("schema") != MEASUREMENT_SCHEMA:
        raise InputError(f"{source}: not a measurement (`igniter-opt measure -o` writes them)")
    return parse_record(Measurement, data, source)


def read_measurement(path: StrPath) -> Measurement:
    """Read a measurement; raise InputError where the file is none."""
    return measurement_from_data(parse_json(read_text(path), str(path)), str(path))


class Head(Record):
    """What is known of a workload or replica beforehand."""

    workload: Name
    model: Name
    gpu: Name | None = None
    replica: Integer | None = None
    rate_rps: Positive
    slo_ms: Positive | None = None
    percentile: Positive


def statistics(
    head: Head,
    records: npt.NDArray[Any],
    window_ns: tuple[float, float],
    server: ServerSplit | None = None,
    replicas: tuple[LoadStatistics, ...] = (),
) -> LoadStatistics:
    """Summarize the records (`client.RECORD`) of a workload or replica.

    Parameters
    ----------
    records
        Of all its requests, warm-up and all.
    window_ns
        Requests that were due in it count.
    """
    begin, end = window_ns
    counted = records[(records["due"] >= begin) & (records["due"] < end)]
    counted = counted[np.argsort(counted["due"], kind="stable")]
    seconds = max(0.0, end - begin) / NS_PER_S
    good = counted["outcome"] == OK
    latency = np.where(good, counted["done"] - counted["due"], np.inf) / NS_PER_MS
    ascending = np.sort(latency)
    answered = int(good.sum())
    within = (records["outcome"] == OK) & (records["done"] >= begin) & (records["done"] < end)
    judged = _finite(percentile(ascending, head.percentile))
    late, holds = Estimate(math.nan), None
    if head.slo_ms is not None and len(counted):
        over = latency > head.slo_ms * (1.0 + _TOLERANCE)
        late = _late_fraction(over, counted["due"], begin, end)
        holds = judged is not None and judged <= head.slo_ms * (1.0 + _TOLERANCE)
    failures = Counter(OUTCOMES[code] for code in counted["outcome"].tolist() if code != OK)
    sent = np.sort((counted["sent"] - counted["due"]) / NS_PER_MS)
    percentiles: dict[str, Any] = {name: _finite(percentile(ascending, at)) for name, at in PERCENTILES.items()}
    return LoadStatistics(
        **dict(head),
        **percentiles,
        requests=len(counted),
        answered=answered,
        failed=len(counted) - answered,
        failures=dict(failures),
        offered_rps=len(counted) / seconds if seconds else 0.0,
        throughput_rps=int(within.sum()) / seconds if seconds else 0.0,
        mean_ms=float(latency[good].mean()) if answered else None,
        max_ms=float(latency[good].max()) if answered else None,
        percentile_ms=judged,
        late_fraction=_finite(late.value),
        late_fraction_low=late.low,
        late_fraction_high=late.high,
        holds=holds,
        sent_late_ms=_finite(percentile(sent, head.percentile)),
        growing=_grows(counted, begin, end),
        server=server,
        replicas=replicas,
    )


_PARTS = 10


def _late_fraction(over: npt.NDArray[np.bool_], due: FloatArray, begin: float, end: float) -> Estimate:
    """Part of the requests over the SLO, with an interval from equally long parts of the window."""
    edges = np.searchsorted(due, np.linspace(begin, end, _PARTS + 1)[1:-1])
    parts = [float(part.mean()) for part in np.split(over, edges) if len(part)]
    interval = estimate(parts)
    return Estimate(float(over.mean()), interval.low, None if interval.high is None else min(1.0, interval.high))


# A queue grows if so many requests wait at the end, and so many times more than in the middle.
_MANY, _TIMES_MORE = 50, 1.5


def _grows(counted: npt.NDArray[Any], begin: float, end: float) -> bool:
    """Whether the number of requests under way rises throughout: at thirds of the window."""
    waiting = [
        int(np.count_nonzero((counted["due"] < at) & ((counted["done"] >= at) | (counted["outcome"] != OK))))
        for at in begin + (end - begin) * np.array([1 / 3, 2 / 3, 1.0])
    ]
    first, second, third = waiting
    return third >= _MANY and third >= _TIMES_MORE * max(second, 1) and second >= first


def _finite(value: float | FloatArray) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None

"""What a plan did under load, as the report needs it, from the files of `measure`, `rehearse` and `simulate --json`.

It reads them by itself, not by their writers' records: those refuse files of older versions and missing numbers.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import parse_json, read_bytes, read_text
from igniter_opt.base.schema import describe, parse_record
from igniter_opt.data.instance import percentile_name
from igniter_opt.data.plan import Plan, plan_json
from igniter_opt.data.verdict import Verdict, judge, late_reason, load_conditions, sent_too_late, too_few
from igniter_opt.simulation.traffic import arrivals_words

MEASUREMENT_SCHEMA: Final = "igniter-opt/measurement@1"
REHEARSAL_SCHEMA: Final = "igniter-opt/rehearsal@1"
# Relative, as for predictions.
_TOLERANCE = 1e-9
Kind = Literal["measured", "rehearsed", "simulated"]


@dataclass(frozen=True)
class SourceFile:
    """A file that numbers come from: its name as given, and the SHA-256 of its content."""

    name: str
    sha256: str


@dataclass(frozen=True)
class MeasuredWorkload:
    """One workload under traffic (latencies in ms, rates in req/s; None: not in the file).

    `compute_ms` is the server's own mean time of a request in the model, its waiting left out; `sent_late_ms` how late
    requests were sent; `holds` what the file says of the SLO at its percentile; `overhead_ms` what the servers of a
    rehearsal add to a request.
    """

    workload: str
    rate_rps: float | None
    requests: float | None
    failed: float | None
    throughput_rps: float | None
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    late_fraction: float | None
    compute_ms: float | None
    sent_late_ms: float | None = None
    holds: bool | None = None
    percentile: float | None = None
    overhead_ms: float | None = None

    @property
    def few(self) -> bool:
        """Whether its P99, or the percentile that the file judges, was read from too few requests."""
        return self.requests is not None and too_few(self.requests, self.percentile or 0.99)


@dataclass(frozen=True)
class MeasuredFile:
    """One file of measurements or simulation results.

    Attributes
    ----------
    traffic
        What arrived, for how long or in how many runs, in words; what the file says of it.
    verdict
        The file's own; for files that have none (`judged_by` a plan), what its numbers say.
    reasons, conditions
        Of such a file: why there can be no verdict, and under what load there is one.
    """

    source: SourceFile
    kind: Kind
    traffic: str
    workloads: tuple[MeasuredWorkload, ...]
    verdict: Verdict | None = None
    reasons: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()

    def judged_by(self, slos_ms: Mapping[str, float]) -> "MeasuredFile":
        """Return them with a verdict: their own, or what their P99 and these SLOs say."""
        few = [row.workload for row in self.workloads if row.few]
        if self.verdict is not None:
            # Files of older versions do not say it.
            return replace(self, verdict=self.verdict.model_copy(update={"few": tuple(few)}))
        known = [row for row in self.workloads if row.workload in slos_ms]
        few = [row.workload for row in known if row.few]
        late = [row for row in known if sent_too_late(row.sent_late_ms, slos_ms[row.workload], row.p50_ms)]
        reasons = list(self.reasons)
        if late and not reasons:
            worst = max(row.sent_late_ms or 0.0 for row in late)
            reasons.append(late_reason([row.workload for row in late], worst))
        own = {row.workload: row.holds for row in known if row.holds is not None}
        if own:
            percentiles = {row.percentile for row in known if row.percentile is not None} or {0.99}
            name = percentile_name(min(percentiles)) + (" less the overhead" if self.kind == "rehearsed" else "")
            return replace(self, verdict=judge(own, name, reasons, self.conditions, few))
        by_p99 = {
            row.workload: row.p99_ms <= slos_ms[row.workload] * (1.0 + _TOLERANCE)
            for row in known
            if row.p99_ms is not None
        }
        return replace(self, verdict=judge(by_p99, "P99", reasons, self.conditions, few))


def source_of_plan(plan: Plan) -> SourceFile:
    """Return what stands for the file of a plan that is in none: the instance's name, and the SHA-256 it would have."""
    return SourceFile(f"plan of {plan.instance.name}", hashlib.sha256(plan_json(plan).encode()).hexdigest())


def source_file(path: Path) -> SourceFile:
    """Return a file's name as given and the SHA-256 of its content."""
    return SourceFile(str(path), hashlib.sha256(read_bytes(path)).hexdigest())


def read_measurements(path: Path) -> MeasuredFile:
    """Read a file of `measure` or `simulate --json`; numbers that are missing or not finite are None.

    Raises
    ------
    InputError
        The file is neither.
    """
    data = parse_json(read_text(path), str(path))
    kind = _kind(data)
    if kind is None:
        schema = data.get("schema") if isinstance(data, dict) else None
        found = "" if schema is None else f" (its schema is {describe(schema)})"
        raise InputError(
            f"{path}: not measurements{found}; --measurements takes files of {MEASUREMENT_SCHEMA!r} and"
            f" {REHEARSAL_SCHEMA!r}, and the output of `igniter-opt simulate --json`"
        )
    where, inner = str(path), data
    if kind == "rehearsed":
        where, inner = f"{path}: measurement", data.get("measurement")
        if not isinstance(inner, dict):
            raise InputError(f"{where}: must be what was measured")
    workloads = [_workload(row) for row in _rows(inner, where)]
    if kind == "rehearsed":
        own = {row["workload"]: row for row in _rows(data, str(path))}
        workloads = [_rehearsed(row, own.get(row.workload, {})) for row in workloads]
    verdict = data.get("verdict")
    settings = inner["settings"] if isinstance(inner.get("settings"), dict) else {}
    too_small = data.get("too_small")  # of older rehearsals, which have no verdict
    return MeasuredFile(
        source_file(path),
        kind,
        _traffic(data if kind != "rehearsed" else inner, kind),
        tuple(workloads),
        parse_record(Verdict, verdict, f"{path}: verdict") if isinstance(verdict, dict) else None,
        tuple(map(str, too_small)) if isinstance(too_small, list) else (),
        tuple(_conditions(data if kind == "simulated" else settings, inner)),
    )


def _rehearsed(row: MeasuredWorkload, own: Mapping[str, Any]) -> MeasuredWorkload:
    """A measured row with what the rehearsal itself says of the workload."""
    return replace(row, holds=_truth(own, "holds"), overhead_ms=_number(own, "overhead_ms"))


def _truth(row: Mapping[str, Any], name: str) -> bool | None:
    value = row.get(name)
    return value if isinstance(value, bool) else None


def _kind(data: Any) -> Kind | None:
    if not isinstance(data, dict):
        return None
    schema = data.get("schema")
    if schema is None and {"arrivals", "runs", "workloads"} <= set(data):
        return "simulated"
    kinds: dict[Any, Kind] = {MEASUREMENT_SCHEMA: "measured", REHEARSAL_SCHEMA: "rehearsed"}
    return kinds.get(schema) if isinstance(schema, str) else None


def _rows(data: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    rows = data.get("workloads")
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{where}: workloads: must be a list of at least one workload")
    for position, row in enumerate(rows):
        if not isinstance(row, dict) or not isinstance(row.get("workload"), str):
            raise InputError(f"{where}: workloads[{position}].workload: the workload's name is missing")
    return rows


def _conditions(settings: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
    partial, scale, pace = data.get("partial"), _number(settings, "scale"), _number(settings, "pace")
    return load_conditions(
        1.0 if scale is None else scale,
        pace=1.0 if pace is None else pace,
        cpu=settings.get("cpu") is True,
        partial=partial if isinstance(partial, str) else None,
    )


def _workload(row: Mapping[str, Any]) -> MeasuredWorkload:
    server = row.get("server")
    return MeasuredWorkload(
        workload=row["workload"],
        rate_rps=_number(row, "rate_rps"),
        requests=_number(row, "requests"),
        failed=_number(row, "failed"),
        throughput_rps=_number(row, "throughput_rps"),
        mean_ms=_number(row, "mean_ms"),
        p50_ms=_number(row, "p50_ms"),
        p95_ms=_number(row, "p95_ms"),
        p99_ms=_number(row, "p99_ms"),
        late_fraction=_number(row, "late_fraction", "violation_ratio"),
        compute_ms=_number(server, "compute_ms") if isinstance(server, dict) else None,
        sent_late_ms=_number(row, "sent_late_ms"),
        holds=_truth(row, "holds"),
        percentile=_number(row, "percentile"),
    )


def _number(row: Mapping[str, Any], *names: str) -> float | None:
    for name in names:
        value = row.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                number = float(value)
            except OverflowError:  # a whole number of hundreds of digits
                continue
            if math.isfinite(number):
                return number
    return None


def _traffic(data: Mapping[str, Any], kind: Kind) -> str:
    own = data.get("settings")
    settings = data if "arrivals" in data else own if isinstance(own, dict) else {}
    parts = [arrivals_words(settings)] if isinstance(settings.get("arrivals"), str) else []
    if kind == "simulated":
        parts.append(f"{data['runs']} simulated run(s)")
    elif (duration := _number(data, "duration_s")) is not None:
        parts.append(f"{duration:g} s")
    if isinstance(data.get("source"), str):
        parts.append(f"{kind} by {data['source']}")
    return ", ".join(parts)

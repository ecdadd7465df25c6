"""What a deployed or simulated plan did, as the report needs it, from the files of `measure` and `simulate --json`."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from igniter_opt.errors import InputError
from igniter_opt.schema import describe, parse_json, read_bytes, read_text

MEASUREMENT_SCHEMA: Final = "igniter-opt/measurement@1"


@dataclass(frozen=True)
class SourceFile:
    """A file that numbers come from: its name as given, and the SHA-256 of its content."""

    name: str
    sha256: str


@dataclass(frozen=True)
class MeasuredWorkload:
    """One workload under traffic (latencies in ms, rates in req/s; None: not in the file).

    `compute_ms` is the server's own mean time of a request in the model, its waiting left out.
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


@dataclass(frozen=True)
class Measurements:
    """One file of measurements or simulation results.

    Attributes
    ----------
    traffic
        What arrived, for how long or in how many runs, in words; what the file says of it.
    """

    source: SourceFile
    kind: Literal["measured", "simulated"]
    traffic: str
    workloads: tuple[MeasuredWorkload, ...]


def source_file(path: Path) -> SourceFile:
    """Return a file's name as given and the SHA-256 of its content."""
    return SourceFile(str(path), hashlib.sha256(read_bytes(path)).hexdigest())


def read_measurements(path: Path) -> Measurements:
    """Read a file of `measure` or `simulate --json`; numbers that are missing or not finite are None.

    Raises
    ------
    InputError
        The file is neither.
    """
    data = parse_json(read_text(path), str(path))
    schema = data.get("schema") if isinstance(data, dict) else None
    simulated = schema is None and isinstance(data, dict) and {"arrivals", "runs", "workloads"} <= set(data)
    if not simulated and schema != MEASUREMENT_SCHEMA:
        found = "" if schema is None else f" (its schema is {describe(schema)})"
        raise InputError(
            f"{path}: not measurements{found}; --measurements takes files of {MEASUREMENT_SCHEMA!r} and the output of"
            " `igniter-opt simulate --json`"
        )
    rows = data.get("workloads")
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path}: workloads: must be a list of at least one workload")
    workloads = []
    for position, row in enumerate(rows):
        if not isinstance(row, dict) or not isinstance(row.get("workload"), str):
            raise InputError(f"{path}: workloads[{position}].workload: the workload's name is missing")
        workloads.append(_workload(row))
    return Measurements(
        source_file(path), "simulated" if simulated else "measured", _traffic(data, simulated), tuple(workloads)
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


def _traffic(data: Mapping[str, Any], simulated: bool) -> str:
    parts = [f"{data['arrivals']} arrivals"] if isinstance(data.get("arrivals"), str) else []
    if simulated:
        parts.append(f"{data['runs']} simulated run(s)")
    elif (duration := _number(data, "duration_s")) is not None:
        parts.append(f"{duration:g} s")
    if isinstance(data.get("source"), str):
        parts.append(f"measured by {data['source']}")
    return ", ".join(parts)

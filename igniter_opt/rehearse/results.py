"""What a rehearsal says: measured beside simulated latencies of the same requests, and whether to trust it."""

import json
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field

from igniter_opt.base.kinds import REHEARSAL, write_output
from igniter_opt.base.schema import Name, Number, Positive, Record
from igniter_opt.data.instance import percentile_name
from igniter_opt.data.verdict import Verdict, judge, late_reason, load_conditions, named
from igniter_opt.measure.results import LoadStatistics, Measurement
from igniter_opt.measure.server import batch_times
from igniter_opt.simulation.results import ServiceStatistics
from igniter_opt.simulation.servers import Server

REHEARSAL_SCHEMA: Final = "igniter-opt/rehearsal@1"
# Servers whose batches take so much longer than they were told to do not say anything about the plan.
MOST_EXCESS = 0.1
_TOLERANCE = 1e-9


class Rehearsed(Record):
    """One workload, all latencies in ms of the plan's time.

    Attributes
    ----------
    overhead_ms
        What the servers and the way to them add to a request's latency on this machine, measured with single
        requests before the load; the plan knows nothing of it.
    rehearsed_ms, simulated_ms
        The judged percentile, measured (overhead and all) and simulated with the same requests; None where it is
        infinite, because requests failed.
    difference
        ``(rehearsed_ms - overhead_ms) / simulated_ms - 1``.
    holds, simulated_holds
        Whether the percentile, less the overhead, is within the SLO.
    excess
        By how much longer than predicted, relatively, the emulated batches took on average; None if not known.
    """

    workload: Name
    slo_ms: Positive
    percentile: Positive
    overhead_ms: Number
    rehearsed_mean_ms: Number | None
    simulated_mean_ms: Number
    rehearsed_ms: Number | None
    simulated_ms: Number
    difference: Number | None
    holds: bool
    simulated_holds: bool
    excess: Number | None


class Rehearsal(Record):
    """The outcome of a rehearsal; written as JSON.

    Attributes
    ----------
    pace
        How fast time went: at 0.1, ten seconds on the wall were one of the plan's.
    verdict
        Whether the plan's SLOs were kept, less the overhead; none where this machine cannot judge it at this pace.
    """

    schema_: Literal["igniter-opt/rehearsal@1"] = Field(default=REHEARSAL_SCHEMA, alias="schema")
    instance: str
    pace: Positive
    verdict: Verdict
    workloads: tuple[Rehearsed, ...]
    measurement: Measurement

    @property
    def workloads_over_slo(self) -> list[str]:
        """Names of the workloads that do not hold."""
        return [entry.workload for entry in self.workloads if not entry.holds]

    @property
    def disagreements(self) -> list[str]:
        """Names of the workloads on which rehearsal and simulation come to different verdicts."""
        return [entry.workload for entry in self.workloads if entry.holds != entry.simulated_holds]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data (the form of ``rehearse --json``)."""
        return self.model_dump(mode="json", by_alias=True)


def write_rehearsal(rehearsal: Rehearsal, path: Path) -> None:
    """Write a rehearsal as JSON; raise InputError where something else is."""
    write_output(path, (json.dumps(rehearsal.to_dict(), indent=1, allow_nan=False) + "\n").encode(), REHEARSAL)


def compared(
    measured: LoadStatistics, simulated: ServiceStatistics, overhead_ms: float, excess: float | None
) -> Rehearsed:
    """Put a workload's measurement beside its simulation."""
    limit = simulated.slo_ms * (1.0 + _TOLERANCE)
    expected = simulated.estimates["percentile_ms"].value
    found = measured.percentile_ms
    return Rehearsed(
        workload=measured.workload,
        slo_ms=simulated.slo_ms,
        percentile=simulated.percentile,
        overhead_ms=overhead_ms,
        rehearsed_mean_ms=measured.mean_ms,
        simulated_mean_ms=simulated.estimates["mean_ms"].value,
        rehearsed_ms=found,
        simulated_ms=expected,
        difference=None if found is None else (found - overhead_ms) / expected - 1.0,
        holds=found is not None and found - overhead_ms <= limit,
        simulated_holds=simulated.holds,
        excess=excess,
    )


def service_excess(parts: list[LoadStatistics], servers: list[Server]) -> float | None:
    """Return by how much longer than told the servers' batches took, relatively; None if they do not say.

    Parameters
    ----------
    parts, servers
        Measured and planned replicas of one workload, in the same order.
    """
    asked = taken = 0.0
    for part, server in zip(parts, servers, strict=True):
        if part.server is None:
            return None
        times = batch_times(part.server, server)
        asked, taken = asked + times.predicted, taken + times.taken
    return taken / asked - 1.0 if asked else None


def judged(measurement: Measurement, workloads: list[Rehearsed], pace: float) -> Verdict:
    """Make a rehearsal's verdict; none where the machine, not the plan, may be to blame."""
    conditions = load_conditions(pace=pace, partial=measurement.partial)
    name = f"{percentile_name(workloads[0].percentile)} less the overhead"
    held = {entry.workload: entry.holds for entry in workloads}
    verdict = judge(held, name, _reasons(measurement, workloads), conditions, measurement.too_few)
    assert verdict is not None  # noqa: S101 (a plan has workloads)
    return verdict


def _reasons(measurement: Measurement, workloads: list[Rehearsed]) -> list[str]:
    found = []
    late = measurement.sent_too_late
    if late:
        worst = max(entry.sent_late_ms or 0.0 for entry in measurement.workloads)
        found.append(late_reason(late, worst, "of the plan's time, "))
    slow = [entry.workload for entry in workloads if entry.excess is not None and entry.excess > MOST_EXCESS]
    if slow:
        worst = max(entry.excess or 0.0 for entry in workloads)
        found.append(f"batches of {named(slow)} took up to {worst:.0%} longer than they were told to")
    return found

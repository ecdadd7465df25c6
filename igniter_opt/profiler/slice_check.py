"""Judging a profile of slices: do its readings behave as those of slices must."""

from itertools import pairwise

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.data.slice_profile import SliceProfile
from igniter_opt.fitting.slice_tables import slice_tables
from igniter_opt.physics.slices import SliceTable
from igniter_opt.profiler.plausible import Finding, Level

# How much longer or shorter than its latency a batch keeps its process busy, relatively, beyond what readings resolve.
BUSY_OFF = (0.25, 1.0)
# By how much a latency may fall although the batch or the number of processes grows, relatively.
MONOTONE_NOISE = (0.05, 0.5)
# By how much the best throughput of a slice may fall below that of a smaller one, relatively.
SMALLER_IS_BETTER = (0.05, 0.5)


def slice_findings(profile: SliceProfile) -> list[Finding]:
    """Return faults (measure again) and warnings (know about them) of the readings of every model."""
    found: list[Finding] = []
    for model, tables in slice_tables(profile).items():
        for kind, table in tables.items():
            found += _table(f"{model}.{kind}", table, profile.latency_resolution_ms)
        found += _sizes(model, list(tables.values()))
    return found


def _graded(value: float, limits: tuple[float, float], where: str, message: str) -> list[Finding]:
    if value <= limits[0]:
        return []
    level: Level = "warning" if value <= limits[1] else "fault"
    return [Finding(level, where, message)]


def _table(where: str, table: SliceTable, resolution_ms: float) -> list[Finding]:
    off = np.maximum(np.abs(table.busy_ms - table.latency_ms) - resolution_ms, 0.0) / table.latency_ms
    worst = int(np.argmax(off))
    found = _graded(
        float(off[worst]),
        BUSY_OFF,
        where,
        f"batch {table.batch[worst]} with {table.processes[worst]} process(es): the throughput says"
        f" {table.busy_ms[worst]:.4g} ms a batch, the latency {table.latency_ms[worst]:.4g} ms",
    )
    for what, own, other in (
        ("batch", table.batch, table.processes),
        ("number of processes", table.processes, table.batch),
    ):
        fall, at = _largest_fall(own, other, table.latency_ms, resolution_ms)
        message = f"latency falls by up to {100 * fall:.0f} % although the {what} grows (at {at})"
        found += _graded(fall, MONOTONE_NOISE, where, message)
    rows = np.column_stack([table.batch, table.latency_ms, table.busy_ms])
    _, first, times = np.unique(rows, axis=0, return_index=True, return_counts=True)
    for position in first[times > 1].tolist():
        message = f"batch {table.batch[position]} has the same reading for several numbers of processes: one was copied"
        found.append(Finding("warning", where, message))
    return found


def _largest_fall(axis: IntArray, fixed: IntArray, latency: FloatArray, resolution_ms: float) -> tuple[float, str]:
    """Return by how much a latency falls from one point of an axis to the next, relatively, and where."""
    worst, at = 0.0, ""
    for value in np.unique(fixed).tolist():
        here = np.flatnonzero(fixed == value)
        here = here[np.argsort(axis[here], kind="stable")]
        for before, after in pairwise(here.tolist()):
            fall = max(0.0, float(latency[before] - latency[after]) - resolution_ms) / float(latency[before])
            if fall > worst:
                worst, at = fall, f"{axis[before]} to {axis[after]}, the other at {value}"
    return worst, at


def _sizes(model: str, tables: list[SliceTable]) -> list[Finding]:
    """Compare the best throughputs of slices by their SMs."""
    found: list[Finding] = []
    best = sorted(((t.kind.sms, float(t.throughput_rps.max()), t.kind.name) for t in tables), key=lambda row: row[:2])
    for small, large in pairwise(best):
        if large[0] > small[0]:
            found += _graded(
                1.0 - large[1] / small[1],
                SMALLER_IS_BETTER,
                model,
                f"a {large[2]} serves {large[1]:.4g} req/s at best, the smaller {small[2]} {small[1]:.4g}",
            )
    return found

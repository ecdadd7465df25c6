"""Demand over time: the rate of every workload in every step, from a CSV file."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath, as_path, read_text
from igniter_opt.base.kinds import DEMAND, write_output
from igniter_opt.base.schema import describe, in_short, nearest
from igniter_opt.base.text import cut, rounded
from igniter_opt.data.instance import LARGEST_RATE, Instance

TIME_COLUMN = "time_s"
MOST_STEPS = 20_000
# Two times differ from whole steps by no more than this, relative to a step.
_EVEN = 1e-6
# Below this a workload is planned at this rate: it keeps a server, for a request may come at any time.
LEAST_PLANNED_RPS = 1e-3


@dataclass(frozen=True)
class Demand:
    """Rates over time.

    Attributes
    ----------
    names
        Workloads.
    rates
        Rate of each in req/s, shape (steps, workloads).
    step_s
        Length of a step in s.
    start_s
        When the first step begins, in s; as the file has it.
    """

    names: tuple[str, ...]
    rates: FloatArray
    step_s: float
    start_s: float = 0.0

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return len(self.rates)

    def time_s(self, step: int) -> float:
        """Return when a step begins."""
        return self.start_s + step * self.step_s

    def when(self, step: int) -> str:
        """Name a step for people: its date where times are of this century, else hours from the first."""
        at = self.time_s(step)
        if at >= 9e8:
            return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
        return f"{rounded((at - self.start_s) / 3600.0)} h"

    def in_steps_of(self, step_s: float) -> "Demand":
        """Return the demand in longer steps, each with the highest rates of those in it.

        Raises
        ------
        InputError
            The new step is no whole multiple of this one.
        """
        ratio = step_s / self.step_s
        size = round(ratio)
        if size < 1 or abs(ratio - size) > _EVEN * size:
            raise InputError(
                f"a step of {rounded(step_s)} s is no whole multiple of the demand's own, {rounded(self.step_s)} s"
            )
        if self.steps < size:
            raise InputError(
                f"the demand has {self.steps} rows of {rounded(self.step_s)} s, less than a step of {rounded(step_s)} s"
            )
        starts = np.arange(0, self.steps, size)
        return replace(self, rates=np.maximum.reduceat(self.rates, starts, axis=0), step_s=step_s)

    def of(self, instance: Instance) -> FloatArray:
        """Return the rates of an instance's workloads, shape (steps, workloads).

        Raises
        ------
        InputError
            The demand lacks a workload, or has one that the instance has not.
        """
        names = [workload.name for workload in instance.workloads]
        missing = [name for name in names if name not in self.names]
        if missing:
            raise InputError(f"the demand has no column for {in_short(missing)}; every workload needs one")
        unknown = [name for name in self.names if name not in names]
        if unknown:
            raise InputError(
                f"the demand has a column {unknown[0]!r}, and the instance no such workload{nearest(unknown[0], names)}"
            )
        return np.maximum(self.rates[:, [self.names.index(name) for name in names]], LEAST_PLANNED_RPS)


def read_demand(path: StrPath) -> Demand:
    """Read a demand file: a column ``time_s``, and one per workload with its rate in req/s; a row per step.

    Raises
    ------
    InputError
        It is none; the message says where.
    """
    path = as_path(path, "a demand, or the path of one")
    return demand_of_text(read_text(path), str(path))


def demand_of_text(text: str, source: str) -> Demand:
    """Read a demand from the text of its file."""
    try:
        rows = [row for row in csv.reader(io.StringIO(text), strict=True) if row]
    except csv.Error as error:
        raise InputError(f"{source}: not a CSV file ({error})") from None
    if not rows or rows[0][0].strip() != TIME_COLUMN or len(rows[0]) < 2:
        found = cut(",".join(rows[0])) if rows else ""
        raise InputError(
            f"{source}: the first line must be {TIME_COLUMN!r} and the names of workloads, separated by commas;"
            f" found {found!r}"
        )
    names = tuple(name.strip() for name in rows[0][1:])
    twice = [name for position, name in enumerate(names) if name in names[:position]]
    if twice:
        raise InputError(f"{source}: two columns are called {twice[0]!r}")
    if len(rows) < 3:
        raise InputError(f"{source}: has {len(rows) - 1} rows; two at least say how long a step is")
    if len(rows) - 1 > MOST_STEPS:
        raise InputError(f"{source}: has {len(rows) - 1:,} rows; {MOST_STEPS:,} at most are planned for")
    values = np.array([_numbers(row, line, names, source) for line, row in enumerate(rows[1:], 2)])
    return Demand(names, values[:, 1:], *_even(values[:, 0], source))


def _numbers(row: Sequence[str], line: int, names: Sequence[str], source: str) -> list[float]:
    where = f"{source}: line {line}"
    if len(row) != len(names) + 1:
        raise InputError(f"{where}: has {len(row)} cells, the first line {len(names) + 1}")
    found = []
    for cell, name in zip(row, (TIME_COLUMN, *names), strict=True):
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f"{where}: {name} must be a number; found {describe(cell)}")
        if name != TIME_COLUMN and not 0 <= value <= LARGEST_RATE:
            raise InputError(f"{where}: the rate of {name} must be 0 to {LARGEST_RATE:g} req/s; found {describe(cell)}")
        found.append(value)
    return found


def _even(times: FloatArray, source: str) -> tuple[float, float]:
    """Return the length of a step and the first time."""
    step = float(times[1] - times[0])
    gaps = np.diff(times)
    for position, gap in enumerate(gaps.tolist()):
        line = position + 3
        if gap <= 0:
            what = "is there twice" if gap == 0 else "is before the one above it"
            raise InputError(
                f"{source}: line {line}: the time {rounded(float(times[position + 1]))} s {what}; times must rise"
            )
        if abs(gap - step) > _EVEN * step:
            raise InputError(
                f"{source}: line {line}: is {rounded(gap)} s after the one above it, the first two are"
                f" {rounded(step)} s apart; rows must be equally far apart, without gaps"
            )
    return step, float(times[0])


def as_demand(demand: "Demand | StrPath") -> Demand:
    """Return a demand as it is, or read the one at this path."""
    return demand if isinstance(demand, Demand) else read_demand(demand)


def demand_csv(demand: Demand) -> str:
    """Render a demand as the text of its file."""
    lines = [",".join((TIME_COLUMN, *demand.names))]
    for step, row in enumerate(demand.rates.tolist()):
        lines.append(",".join([f"{demand.time_s(step):.12g}", *(f"{rate:.6g}" for rate in row)]))
    return "\n".join(lines) + "\n"


def write_demand(demand: Demand, path: StrPath) -> None:
    """Write a demand file atomically."""
    write_output(path, demand_csv(demand).encode(), DEMAND)


def scaled_to(demand: Demand, instance: Instance, percentile: float = 99.9, scale: float = 1.0) -> Demand:
    """Give an instance's workloads the shapes of a demand's streams, one each, in their order.

    A stream is scaled such that this percentile of its rates is the workload's rate, times `scale`.

    Raises
    ------
    InputError
        There are fewer streams than workloads, or a stream is 0 at that percentile.
    """
    names = tuple(workload.name for workload in instance.workloads)
    if len(demand.names) < len(names):
        raise InputError(f"the demand has {len(demand.names)} streams, fewer than the {len(names)} workloads")
    if not 0 < percentile <= 100:
        raise InputError(f"the percentile must be above 0 and at most 100; found {percentile!r}")
    if not (math.isfinite(scale) and scale > 0):
        raise InputError(f"the scale must be a number above 0; found {scale!r}")
    shapes = demand.rates[:, : len(names)]
    tops = np.percentile(shapes, percentile, axis=0)
    for name, top in zip(demand.names, tops.tolist(), strict=False):
        if top <= 0:
            raise InputError(f"the stream {name} is 0 at percentile {percentile:g}, so that it has no scale")
    rates = np.array([workload.rate_rps for workload in instance.workloads])
    return replace(demand, names=names, rates=shapes * (scale * rates / tops))

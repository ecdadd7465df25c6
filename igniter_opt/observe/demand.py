"""Demand over time as it was observed, and without holes, as `schedule` takes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InputError
from igniter_opt.base.frames import frame
from igniter_opt.data.demand import MOST_STEPS, TIME_COLUMN, Demand

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class ObservedDemand:
    """Rates in steps of one length, one after the other.

    Attributes
    ----------
    times
        Where steps begin, in s since 1970, shape (steps,).
    rates_rps
        By workload, shape (steps,); NaN where nothing is known.
    """

    times: FloatArray
    rates_rps: Mapping[str, FloatArray]

    def to_frame(self) -> "pd.DataFrame":
        """Return a row for each step, and a column for each workload."""
        return frame(
            (
                {TIME_COLUMN: time, **{name: rates[k] for name, rates in self.rates_rps.items()}}
                for k, time in enumerate(self.times.tolist())
            ),
            [TIME_COLUMN, *self.rates_rps],
        )

    def complete(self) -> tuple[Demand, int]:
        """Return the demand without holes, and how many rates were filled in.

        Steps at both ends of which nothing at all is known are left out. A workload has no requests before the first of
        its steps that is known, and after the last; in between it has the larger of the rates before and after a hole.

        Raises
        ------
        InputError
            There are more steps than a demand has, or fewer than two.
        """
        rates = np.column_stack(list(self.rates_rps.values()))
        known = np.flatnonzero(~np.isnan(rates).all(axis=1))
        if len(known) < 2 or known[-1] - known[0] >= MOST_STEPS:
            raise InputError(
                f"the demand has {len(known):,} steps, and must have 2 to {MOST_STEPS:,}; give another --step or"
                " --window"
            )
        rates = rates[known[0] : known[-1] + 1]
        holes = int(np.isnan(rates).sum())
        columns = [_filled(rates[:, k]) for k in range(rates.shape[1])]
        step = float(self.times[1] - self.times[0])
        return Demand(tuple(self.rates_rps), np.column_stack(columns), step, float(self.times[known[0]])), holes


def _filled(rates: FloatArray) -> FloatArray:
    known = np.flatnonzero(~np.isnan(rates))
    steps = np.arange(len(rates))
    # Of each step, the known one before (or itself) and after it; beyond the ends there is none.
    before = np.searchsorted(known, steps, side="right") - 1
    after = np.searchsorted(known, steps, side="left")
    inside = (before >= 0) & (after < len(known))
    filled = np.zeros(len(rates))
    filled[inside] = np.maximum(rates[known[before[inside]]], rates[known[after[inside]]])
    return filled


def time_text(seconds: float) -> str:
    """Return a Unix time in the form of ISO 8601, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()

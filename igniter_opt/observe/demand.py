"""Demand over time, as a table: a row for each step, a column of requests per second for each workload."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.files import StrPath
from igniter_opt.base.frames import frame
from igniter_opt.base.kinds import DEMAND, write_output

if TYPE_CHECKING:
    import pandas as pd

TIME_COLUMN = "time"


@dataclass(frozen=True)
class ObservedDemand:
    """Rates in steps of one length.

    Attributes
    ----------
    times
        Where steps begin, in s since 1970, shape (steps,).
    rates_rps
        By workload, shape (steps,); NaN where nothing is known.
    """

    times: FloatArray
    rates_rps: Mapping[str, FloatArray]

    @property
    def unknown(self) -> int:
        """How many cells of the table are empty."""
        return sum(int(np.isnan(rates).sum()) for rates in self.rates_rps.values())

    def to_frame(self) -> "pd.DataFrame":
        """Return the table, times as texts."""
        columns = [TIME_COLUMN, *self.rates_rps]
        return frame(
            (
                {TIME_COLUMN: time_text(time), **{name: rates[k] for name, rates in self.rates_rps.items()}}
                for k, time in enumerate(self.times.tolist())
            ),
            columns,
        )


def time_text(seconds: float) -> str:
    """Return a Unix time in the form of ISO 8601, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def write_demand(demand: ObservedDemand, path: StrPath) -> None:
    """Write the table as CSV, atomically; what is not known is an empty cell.

    Raises
    ------
    InputError
        What is at the path is no such table, or nothing can be written there.
    """
    lines = [",".join([TIME_COLUMN, *demand.rates_rps])]  # names need no quotes
    for k, time in enumerate(demand.times.tolist()):
        rates = [float(own[k]) for own in demand.rates_rps.values()]
        lines.append(",".join([time_text(time), *("" if np.isnan(rate) else f"{rate:.6g}" for rate in rates)]))
    write_output(path, ("\n".join(lines) + "\n").encode(), DEMAND)

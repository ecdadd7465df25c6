"""Random demand curves with the features of real ones, the same for the same arguments.

A stream's rate is a product: a daily wave (with its half-day part) of the stream's own strength and hour, a drift with
a memory of hours, and a jump from row to row. Strengths are drawn per stream; what they are drawn from is fitted to 24
streams of a production inference service over two weeks (Alibaba's ServeGen, arXiv 2505.09999), by the features that
docs/schedule.md compares: peak over mean, daily share of the variance, correlation from hour to hour and from day to
day, jumps from row to row. Real streams have outages, too, which these have not.
"""

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import checked_number
from igniter_opt.data.demand import MOST_STEPS, Demand, scaled_to
from igniter_opt.data.instance import Instance

# Of the logarithm of a rate: medians over streams, and how much streams differ (as a factor's logarithm).
_WAVE, _DRIFT, _JUMP = (0.75, 0.8), (0.65, 0.6), (0.34, 0.25)
# The half-day part of the wave, hours until drift forgets, and the hour about which most streams peak.
_HALF_DAY, _MEMORY_H, _PEAK_H, _PEAK_SPREAD_H = 0.3, 9.0, 15.0, 5.0
_DAY_S = 86400.0
# Weekends: by this part less, at most.
_WEEKEND = 0.15
# What no rate is above, as the logarithm of a multiple of the middle one: median, and how streams differ.
_CEILING = (1.9, 0.4)


def generate_demand(instance: Instance, days: float, seed: int, *, row_s: float = 600.0, scale: float = 1.0) -> Demand:
    """Draw a demand for an instance's workloads.

    Parameters
    ----------
    days
        How long.
    row_s
        Seconds of a step.
    scale
        The 99.9th percentile of a workload's rates is its rate in the instance, times this.

    Raises
    ------
    InputError
        Arguments out of range.
    """
    for name, value in (("the number of days", days), ("the length of a row", row_s)):
        if not 0 < checked_number(name, value) < 1e9:
            raise InputError(f"{name} must be above 0; found {value!r}")
    rows = round(days * _DAY_S / row_s)
    if not 2 <= rows <= MOST_STEPS:
        raise InputError(f"{days:g} days in rows of {row_s:g} s are {rows:,} rows; they must be 2 to {MOST_STEPS:,}")
    checked_number("the seed", seed, whole=True)
    rng = np.random.default_rng([seed, 0x64656D])
    streams = [_stream(rng, rows, row_s) for _ in instance.workloads]
    names = tuple(workload.name for workload in instance.workloads)
    drawn = scaled_to(Demand(names, np.stack(streams, axis=1), row_s), instance, scale=scale)
    # As a file has it.
    return Demand(names, np.array([[float(f"{rate:.6g}") for rate in row] for row in drawn.rates.tolist()]), row_s)


def _stream(rng: np.random.Generator, rows: int, row_s: float) -> FloatArray:
    """Draw one stream, in any unit."""
    hour = np.arange(rows) * row_s / 3600.0
    wave, drift, jump = (median * np.exp(spread * rng.standard_normal()) for median, spread in (_WAVE, _DRIFT, _JUMP))
    phase = 2.0 * np.pi * (hour - rng.normal(_PEAK_H, _PEAK_SPREAD_H)) / 24.0
    log_rate = wave * (np.cos(phase) + _HALF_DAY * np.cos(2.0 * phase + rng.uniform(0.0, 2.0 * np.pi)))
    weekend = (hour // 24.0) % 7 >= 5
    log_rate += np.log1p(-_WEEKEND * rng.uniform() * weekend)
    keep = np.exp(-row_s / 3600.0 / _MEMORY_H)
    noise = rng.standard_normal(rows) * np.sqrt(1.0 - keep**2)
    at = rng.standard_normal()
    drifted = np.empty(rows)
    for row, step in enumerate(noise.tolist()):
        at = keep * at + step
        drifted[row] = at
    log_rate += drift * drifted + jump * rng.standard_normal(rows)
    # Clients have their limits: the higher, the less it rises.
    ceiling = _CEILING[0] * np.exp(_CEILING[1] * rng.standard_normal())
    return np.asarray(np.exp(np.where(log_rate > 0.0, ceiling * np.tanh(log_rate / ceiling), log_rate)))

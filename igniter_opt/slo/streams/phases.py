"""Streams whose arrivals have phases: Markovian arrival processes, judged by `markovian_queue`."""

from collections.abc import Sequence

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.slo.arrival_counts import CountTable, count_table
from igniter_opt.slo.queueing import MOST_INTENSITY
from igniter_opt.slo.streams.stream import Lateness, Stream, percentile_by

# The largest batch that is judged so.
LARGEST_BATCH = 64


class PhaseStream(Stream):
    """A Markovian arrival process.

    Parameters
    ----------
    counts
        Of the process, per mean gap of this stream; the first whose number is no smaller serves a largest batch.
    """

    basis = "the exact chain of each queue"

    def __init__(self, rate_rps: float, counts: Sequence[tuple[int, CountTable]]) -> None:
        from igniter_opt.slo.markovian_queue import phase_lateness

        self.rate_rps, self.counts = rate_rps, counts
        self._judge = phase_lateness

    def _counts(self, batch: int) -> CountTable:
        return next(table for most, table in self.counts if batch <= most)

    def fresh_memory(self, batch: int) -> FloatArray:
        """Return any stochastic descents."""
        phases = len(self._counts(batch).idle)
        down = np.zeros((batch + 1, phases, phases))
        down[batch] = 1.0 / phases
        return down

    def settles(self, busy_ms: FloatArray, latency_ms: FloatArray) -> bool:
        """Whether it does, and the batch is one that there are counts for."""
        return len(busy_ms) <= self.counts[-1][0] and super().settles(busy_ms, latency_ms)

    def lateness(
        self, busy_ms: FloatArray, latency_ms: FloatArray, slo_ms: float, memory: FloatArray | None
    ) -> Lateness:
        """Return them exactly."""
        down = self.fresh_memory(len(busy_ms)) if memory is None else memory
        rate = self.rate_rps / 1000.0
        counts = self._counts(len(busy_ms))
        return Lateness(*self._judge(*counts, busy_ms * rate, latency_ms * rate, down, slo_ms * rate))

    def percentile_ms(self, busy_ms: FloatArray, latency_ms: FloatArray, q: float) -> float:
        """Return it exactly."""
        if not self.settles(busy_ms, latency_ms):
            return np.inf
        from igniter_opt.slo.markovian_queue import phase_fraction_above, phase_states

        rate, down, counts = self.rate_rps / 1000.0, self.fresh_memory(len(busy_ms)), self._counts(len(busy_ms))
        busy, latency, known = busy_ms * rate, latency_ms * rate, [0.0]
        states = np.empty(0)

        def late(x: float) -> float:
            nonlocal states
            if x > known[0]:
                known[0] = x
                states = phase_states(*counts, busy, latency, down, x * rate)
            return float(phase_fraction_above(counts.values, counts.first, busy, latency, states, x * rate))

        return percentile_by(late, float(latency_ms[0]), float(latency_ms.max()), q)


def part_counts(
    d0: FloatArray, d1: FloatArray, part: float, rate_rps: float, horizon_ms: float, most_batch: int
) -> CountTable | None:
    """Return the counts of a part of a process, or None where they would take too large tables.

    What is passed on at random of a Markovian process is one: ``D0 + (1 - p) D1`` and ``p D1`` (Neuts 1979).

    Parameters
    ----------
    d0, d1
        Rates of changes of phase without and with an arrival, per mean gap of the whole.
    part, rate_rps
        The part p, and its rate.
    horizon_ms, most_batch
        The longest time of interest, such as the SLO, and the largest batch.
    """
    own0, own1 = (d0 + (1.0 - part) * d1) / part, d1
    rows = tuple(tuple(tuple(row) for row in matrix.tolist()) for matrix in (own0, own1))
    horizon = max(horizon_ms * rate_rps / 1000.0, 4.0)
    # Whole octaves, so that streams of nearly one rate share a table where their processes are equal.
    return count_table(rows, float(2.0 ** np.ceil(np.log2(horizon))), MOST_INTENSITY * most_batch)

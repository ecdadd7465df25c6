"""Streams whose arrivals have phases: Markovian arrival processes, judged by `markovian_queue`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.slo.arrival_counts import CountTable, Process, count_table, is_small
from igniter_opt.slo.limit_search import BATCH, MOST_EXCESS, Cells, Search, advance
from igniter_opt.slo.markovian_latency import phase_fraction_above, phase_lateness, phase_states, search_phases
from igniter_opt.slo.markovian_queue import SETTLED, any_descents
from igniter_opt.slo.queueing import MOST_INTENSITY
from igniter_opt.slo.streams.stream import Lateness, ReplicaStream, percentile_by

# Largest batches that have a table of their own: smaller ones need fewer counts.
LARGEST_BATCHES = (4, 8, 16, 32, 128)


class PhaseStream(ReplicaStream):
    """A Markovian arrival process.

    Parameters
    ----------
    counts
        By largest batch, in ascending order: what tables of counts are made from when they are first needed.
    allowance
        By how much more late requests there may be than the chain has, relative, where the process is approximate.
    """

    basis = "the exact chain of each queue"

    def __init__(self, rate_rps: float, counts: Sequence["PartCounts"], allowance: float = 0.0) -> None:
        self.rate_rps, self.counts, self.allowance = rate_rps, counts, allowance

    def _counts(self, batch: int) -> CountTable:
        return next(entry.table for entry in self.counts if batch <= entry.most_batch)

    def settles(self, busy_ms: FloatArray, latency_ms: FloatArray) -> bool:
        """Whether it does, and the batch is one that there are counts for."""
        return len(busy_ms) <= self.counts[-1].most_batch and super().settles(busy_ms, latency_ms)

    def search(self, cells: Cells, search: Search) -> None:
        """Judge all points that a search asks for, in compiled code."""
        more = advance(cells, search, 0.0, 0.0)
        for entry in self.counts:
            if more and search.place[BATCH] < entry.most_batch:
                more = search_phases(cells, search, *entry.table, entry.most_batch, self.allowance)
        while more:  # batches that there are no counts for
            more = advance(cells, search, MOST_EXCESS, 1.0)

    def lateness(self, busy_ms: FloatArray, latency_ms: FloatArray, slo_ms: float) -> Lateness:
        """Return them exactly, but for the allowance."""
        rate, counts = self.rate_rps / 1000.0, self._counts(len(busy_ms))
        down = any_descents(len(busy_ms), len(counts.idle))
        late, full = phase_lateness(*counts, busy_ms * rate, latency_ms * rate, down, slo_ms * rate, SETTLED)
        return Lateness(late * (1.0 + self.allowance), full)

    def percentile_ms(self, busy_ms: FloatArray, latency_ms: FloatArray, q: float) -> float:
        """Return it exactly."""
        if not self.settles(busy_ms, latency_ms):
            return np.inf
        rate, counts = self.rate_rps / 1000.0, self._counts(len(busy_ms))
        down = any_descents(len(busy_ms), len(counts.idle))
        busy, latency, known = busy_ms * rate, latency_ms * rate, [0.0]
        states = np.empty(0)

        def late(x: float) -> float:
            nonlocal states
            if x > known[0]:
                known[0] = x
                states = phase_states(*counts, busy, latency, down, x * rate, SETTLED)
            return float(phase_fraction_above(counts.values, counts.first, busy, latency, states, x * rate))

        return percentile_by(late, float(latency_ms[0]), float(latency_ms.max()), q)


@dataclass(frozen=True)
class PartCounts:
    """What a table of counts is made from: a part of a process, for times up to a horizon and batches up to a largest.

    Attributes
    ----------
    process, horizon
        Of the part, in its own mean gaps.
    """

    process: Process
    horizon: float
    most_batch: int

    @property
    def is_small(self) -> bool:
        """Whether the table is small enough to be made."""
        return is_small(self.process, self.horizon, MOST_INTENSITY * self.most_batch)

    @property
    def table(self) -> CountTable:
        """The table; tables used of late are kept."""
        return count_table(self.process, self.horizon, MOST_INTENSITY * self.most_batch)


def part_counts(
    d0: FloatArray, d1: FloatArray, part: float, rate_rps: float, horizon_ms: float, most_batch: int
) -> PartCounts:
    """Return the counts of a part of a process.

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
    # In steps of 8, so that nearly all streams share a table where their processes are equal.
    horizon = max(horizon_ms * rate_rps / 1000.0, 64.0)
    return PartCounts(rows, float(8.0 ** np.ceil(np.log2(horizon) / 3.0 - 1e-9)), most_batch)

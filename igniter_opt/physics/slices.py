"""One model on one kind of slice: how long batches take there, by the number of equal processes side by side.

What was read is taken as it is: there is no formula, and nothing between the readings is planned. A batch smaller than
those that were read takes as long as the next larger one (a server may pad it to that).
"""

from dataclasses import dataclass

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.physics.mig_cards import Slice


@dataclass(frozen=True)
class SliceTable:
    """Readings of one model on one kind of slice; arrays of one length.

    Attributes
    ----------
    kind
        The slice.
    batch, processes
        Batch size, and how many processes run side by side, each with batches of this size.
    latency_ms, busy_ms
        Latency of a batch, and for how long it keeps its process busy (batch over the process's throughput).
    memory_mib
        What all processes take together; NaN where unknown.
    """

    kind: Slice
    batch: IntArray
    processes: IntArray
    latency_ms: FloatArray
    busy_ms: FloatArray
    memory_mib: FloatArray

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def throughput_rps(self) -> FloatArray:
        """Of all processes together, by reading."""
        return np.asarray(self.processes * self.batch * 1000.0 / self.busy_ms)

    def row(self, batch: int, processes: int) -> int | None:
        """Return which reading is of this batch and so many processes; None if none is."""
        found = np.flatnonzero((self.batch == batch) & (self.processes == processes))
        return int(found[0]) if found.size else None

    def times_up_to(self, row: int) -> tuple[FloatArray, FloatArray]:
        """Return how long batches of 1, 2, ... up to a reading's keep one process busy, and their latencies, in ms.

        Among as many processes as that reading's, all of which are busy all the time.
        """
        alike = np.flatnonzero((self.processes == self.processes[row]) & (self.batch <= self.batch[row]))
        alike = alike[np.argsort(self.batch[alike], kind="stable")]
        sizes = np.arange(1, int(self.batch[row]) + 1)
        step = np.searchsorted(self.batch[alike], sizes)
        return np.ascontiguousarray(self.busy_ms[alike][step]), np.ascontiguousarray(self.latency_ms[alike][step])


def carried_from_zero(least_rps: FloatArray, most_rps: FloatArray) -> float:
    """Return the largest rate up to which every rate lies within one of some ranges; 0 if small ones do not.

    A slice's load is a part of its workload's rate, and may be any number up to the slice's capacity, so that its
    capacity is what can be carried at every smaller load, too, be it with another batch.
    """
    reach = 0.0
    for position in np.argsort(least_rps, kind="stable").tolist():
        if least_rps[position] > reach:
            break
        reach = max(reach, float(most_rps[position]))
    return reach

"""Splitting a stream of requests over replicas in turn; one compiled pass."""

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.compiled import compiled


@compiled
def in_turn(rates: FloatArray, chosen: IntArray) -> None:
    """Give every request to the replica whose next one is due first if they shared the stream evenly over time."""
    given = np.zeros(rates.size)
    for k in range(chosen.size):
        best = 0
        for replica in range(1, rates.size):
            if (given[replica] + 1.0) * rates[best] < (given[best] + 1.0) * rates[replica]:
                best = replica
        chosen[k] = best
        given[best] += 1.0

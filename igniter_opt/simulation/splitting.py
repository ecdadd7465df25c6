"""Splitting one stream of requests over replicas."""

from typing import Literal, get_args

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.compiled import compiled

Split = Literal["random", "round-robin"]
SPLITS: tuple[Split, ...] = get_args(Split)


def split(how: Split, rates: FloatArray, requests: int, rng: np.random.Generator) -> IntArray:
    """Say which replica serves each request of a stream.

    Parameters
    ----------
    how
        ``random``: independently, in proportion to the rates, so that Poisson streams stay Poisson.
        ``round-robin``: in turn; with unequal rates the replica that is furthest behind its part.
    rates
        The replicas' rates, shape (replicas,).

    Returns
    -------
    IntArray
        Replica indices, shape (requests,).
    """
    if len(rates) == 1:
        return np.zeros(requests, dtype=np.int64)
    if how == "random":
        bounds = np.cumsum(rates) / np.sum(rates)
        return np.searchsorted(bounds[:-1], rng.random(requests), side="right")
    chosen = np.empty(requests, dtype=np.int64)
    _in_turn(rates, chosen)
    return chosen


@compiled
def _in_turn(rates: FloatArray, chosen: IntArray) -> None:
    """Give every request to the replica whose next one is due first if they shared the stream evenly over time."""
    given = np.zeros(rates.size)
    for k in range(chosen.size):
        best = 0
        for replica in range(1, rates.size):
            if (given[replica] + 1.0) * rates[best] < (given[best] + 1.0) * rates[replica]:
                best = replica
        chosen[k] = best
        given[best] += 1.0

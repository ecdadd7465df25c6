"""Splitting one stream of requests over replicas."""

from typing import TYPE_CHECKING

from igniter_opt.data.split import Split

# The names of the ways are wanted where nothing is split, as in help.
if TYPE_CHECKING:
    import numpy as np

    from igniter_opt.base.arrays import FloatArray, IntArray


def split(how: Split, rates: "FloatArray", requests: int, rng: "np.random.Generator") -> "IntArray":
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
    import numpy as np

    if len(rates) == 1:
        return np.zeros(requests, dtype=np.int64)
    if how == "random":
        bounds = np.cumsum(rates) / np.sum(rates)
        return np.searchsorted(bounds[:-1], rng.random(requests), side="right")
    from igniter_opt.simulation.round_robin import in_turn  # compiled: a while to import

    chosen = np.empty(requests, dtype=np.int64)
    in_turn(rates, chosen)
    return chosen

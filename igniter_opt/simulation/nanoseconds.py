"""Simulated time: nanoseconds, as floating-point numbers with whole values (see `engine`)."""

import numpy as np

from igniter_opt.base.arrays import FloatArray

NS_PER_MS = 1e6
NS_PER_S = 1e9


def whole_ns(times: FloatArray) -> FloatArray:
    """Round times in nanoseconds to whole ones, halves up, so that a shift by whole nanoseconds changes nothing."""
    return np.floor(times + 0.5)

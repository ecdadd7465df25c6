"""Times of requests: floating-point numbers of whole nanoseconds.

Sums are exact (up to 2^53 ns, 104 days), so that requests which arrive together do so in computations too.
"""

import numpy as np

from igniter_opt.base.arrays import FloatArray

NS_PER_MS = 1e6
NS_PER_S = 1e9


def whole_ns(times: FloatArray) -> FloatArray:
    """Round times in nanoseconds to whole ones, halves up, so that a shift by whole nanoseconds changes nothing."""
    return np.floor(times + 0.5)

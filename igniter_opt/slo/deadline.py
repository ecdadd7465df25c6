"""The rule ``deadline``: the time that a batch takes to fill at a constant rate, and inference, are within the SLO."""

import math

import numpy as np
import numpy.typing as npt

from igniter_opt.base.arrays import FloatArray
from igniter_opt.slo.constant_rate import ConstantRate
from igniter_opt.slo.rule import GUARD


class Deadline(ConstantRate):
    """The first request of a batch waits (b - 1) / R for the last one. At a lower rate that is longer."""

    name = "deadline"
    words = "filling a batch at a constant arrival rate and inference together stay within the SLO"

    def latency_limit_ms(self, slo_ms: npt.ArrayLike, rate_rps: npt.ArrayLike, batch: npt.ArrayLike) -> FloatArray:
        """Return the SLO less the time to fill the batch."""
        return np.asarray(np.asarray(slo_ms, dtype=float) - _filling_ms(rate_rps, batch))

    def least_slo_ms(self, latency_ms: npt.ArrayLike, rate_rps: npt.ArrayLike, batch: npt.ArrayLike) -> FloatArray:
        """Return the latency and the time to fill the batch."""
        return np.asarray(np.asarray(latency_ms, dtype=float) + _filling_ms(rate_rps, batch))

    def queue_delay_us(self, slo_ms: float, rate_rps: float, batch: int) -> int:
        """Return the time to fill the batch, rounded up: one that ends earlier would dispatch without the last one."""
        return math.ceil((batch - 1) * 1e6 / rate_rps * (1.0 - GUARD))


def _filling_ms(rate_rps: npt.ArrayLike, batch: npt.ArrayLike) -> FloatArray:
    return np.asarray((np.asarray(batch, dtype=float) - 1.0) * 1000.0 / np.asarray(rate_rps, dtype=float))

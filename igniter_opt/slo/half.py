"""The rule ``half``: inference takes at most half the SLO, the other half is waiting time (Xu et al. 2023)."""

import math

import numpy as np
import numpy.typing as npt

from igniter_opt.base.arrays import FloatArray
from igniter_opt.slo.constant_rate import ConstantRate
from igniter_opt.slo.rule import GUARD


class Half(ConstantRate):
    """iGniter's rule. At a lower rate a batch just waits no longer than before."""

    name = "half"
    words = "inference takes at most half of a workload's SLO; the other half is left for waiting"
    lower_rates = "always"

    def latency_limit_ms(self, slo_ms: npt.ArrayLike, rate_rps: npt.ArrayLike, batch: npt.ArrayLike) -> FloatArray:
        """Return half the SLO."""
        return np.asarray(np.asarray(slo_ms, dtype=float) / 2.0 + 0.0 * np.asarray(batch, dtype=float))

    def least_slo_ms(self, latency_ms: npt.ArrayLike, rate_rps: npt.ArrayLike, batch: npt.ArrayLike) -> FloatArray:
        """Return twice the latency."""
        return np.asarray(2.0 * np.asarray(latency_ms, dtype=float))

    def queue_delay_us(self, slo_ms: float, rate_rps: float, batch: int) -> int:
        """Return half the SLO, rounded down."""
        return math.floor(slo_ms * 500.0 * (1.0 + GUARD))

"""Rules that grant the inference a fixed part of the SLO; the rest is left for waiting."""

import math

import numpy as np
import numpy.typing as npt

from igniter_opt.base.arrays import FloatArray
from igniter_opt.slo.constant_rate import ConstantRate
from igniter_opt.slo.rule import GUARD


class PartOfSlo(ConstantRate):
    """At a lower rate a batch just waits no longer than before.

    Attributes
    ----------
    part
        Of the SLO, for the inference.
    """

    part: float
    lower_rates = "always"

    def latency_limit_ms(self, slo_ms: npt.ArrayLike, rate_rps: npt.ArrayLike, batch: npt.ArrayLike) -> FloatArray:
        """Return the part of the SLO."""
        return np.asarray(np.asarray(slo_ms, dtype=float) * self.part + 0.0 * np.asarray(batch, dtype=float))

    def least_slo_ms(self, latency_ms: npt.ArrayLike, rate_rps: npt.ArrayLike, batch: npt.ArrayLike) -> FloatArray:
        """Return the SLO of which the latency is the part."""
        return np.asarray(np.asarray(latency_ms, dtype=float) / self.part)

    def queue_delay_us(self, slo_ms: float, rate_rps: float, batch: int) -> int:
        """Return the rest of the SLO, rounded down."""
        return math.floor(slo_ms * 1000.0 * (1.0 - self.part) * (1.0 + GUARD))


class Half(PartOfSlo):
    """iGniter's rule (Xu et al. 2023)."""

    name = "half"
    words = "inference takes at most half of a workload's SLO; the other half is left for waiting"
    part = 0.5


class ParvaGpu(PartOfSlo):
    """ParvaGPU's rule (Lee et al. 2024)."""

    name = "parvagpu"
    words = "inference takes at most 0.45 of a workload's SLO; the rest is left for waiting"
    part = 0.45

"""An SLO rule as a stranger would write it: inference within a third of the SLO."""

import math

import numpy as np

from igniter_opt.slo.constant_rate import ConstantRate


class Third(ConstantRate):
    name = "third"
    words = "inference takes at most a third of a workload's SLO"
    lower_rates = "always"

    def latency_limit_ms(self, slo_ms, rate_rps, batch):
        return np.asarray(slo_ms, dtype=float) / 3.0 + 0.0 * np.asarray(batch)

    def least_slo_ms(self, latency_ms, rate_rps, batch):
        return 3.0 * np.asarray(latency_ms)

    def queue_delay_us(self, slo_ms, rate_rps, batch):
        return math.floor(slo_ms * 2000.0 / 3.0)

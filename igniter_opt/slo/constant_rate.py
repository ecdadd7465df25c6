"""The rules for arrivals at a constant rate: iGniter's half of the SLO, and the deadline."""

from typing import Literal

import numpy as np
import numpy.typing as npt

from igniter_opt.base.arrays import FloatArray
from igniter_opt.data.instance import SloRule

# Relative tolerance of every requirement, the same for solvers and the judge.
TOLERANCE = 1e-9


def latency_limit_ms(
    slo_rule: SloRule, slo_ms: npt.ArrayLike, rate_rps: npt.ArrayLike, batch: npt.ArrayLike
) -> FloatArray:
    """Largest admissible inference latency ``L_max`` in ms.

    ``half``: half the SLO, the other half is waiting time (Xu et al. 2023). ``deadline``: the SLO less the
    time (b - 1) / R that the first request of a batch waits for the last one under constant arrivals. ``p99``: the
    SLO, but for a percentile of waiting plus inference latency (`slo.percentile`).
    """
    slo = np.asarray(slo_ms, dtype=float)
    b = np.asarray(batch, dtype=float)
    if slo_rule == "half":
        return np.asarray(slo / 2.0 + 0.0 * b)
    if slo_rule == "p99":
        return np.asarray(slo + 0.0 * b)
    return np.asarray(slo - (b - 1.0) * 1000.0 / np.asarray(rate_rps, dtype=float))


def gpu_latency_limit_ms(
    slo_rule: Literal["half", "deadline"],
    slo_ms: npt.ArrayLike,
    rate_rps: npt.ArrayLike,
    batch: npt.ArrayLike,
    load_ms: npt.ArrayLike,
    feedback_ms: npt.ArrayLike,
    margin: float = 0.0,
) -> FloatArray:
    """Largest admissible GPU latency ``D`` in ms: latency and throughput requirement in one number.

    ``D = min(L_max - t_load - t_feedback, b / R - t_feedback) / (1 + margin)``; ``t_gpu ≤ D`` holds exactly
    when the inference latency is within its limit and the throughput reaches the rate, both with `TOLERANCE`.
    (For rule ``p99``: `percentile.percentile_limits`.)
    """
    b = np.asarray(batch, dtype=float)
    feedback = np.asarray(feedback_ms, dtype=float)
    limit = latency_limit_ms(slo_rule, slo_ms, rate_rps, b)
    by_latency = limit + TOLERANCE * np.abs(limit) - np.asarray(load_ms, dtype=float) - feedback
    by_throughput = b * 1000.0 / (np.asarray(rate_rps, dtype=float) * (1.0 - TOLERANCE)) - feedback
    return np.asarray(np.minimum(by_latency, by_throughput) / (1.0 + margin))

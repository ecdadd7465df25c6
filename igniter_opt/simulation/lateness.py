"""Whether too many requests are late on one GPU: a test with a stated risk, on samples that grow until it decides.

Runs are independent, so their late parts are, however bursty a run is in itself. Late requests come in clusters, while
a queue is long; as far as clusters come independently, the variance of a run's late part is proportional to its
expectation p, by a factor D that the runs show. With mean m over K runs and Student's t for the risk, the bounds are
the two p with ``(p - m)² = t² D p / K``. (Wilson's score interval does so for independent requests. With the variance
at m instead, runs that happen to have few clusters would seem to agree, too: under a risk of 1 % the bound was too low
in 2 to 9 % of cases, and so in 1 to 2 %, where 5 to 38 requests a run were late.) Where none is late, the bound is what
a sample without any late request leaves open.

Every look at a sample, and every placement, has its part of the risk (Bonferroni), so that the risk is that of the
whole statement. What a sample of the largest size leaves open does not hold.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.physics.parameters import Coefficients
from igniter_opt.simulation.gpu_sample import GpuSample, Late, Tenant

RUNS = 20
# So many late requests are expected of the slowest placement in every run of the smallest sample, at the limit.
EXPECTED_LATE = 100
# Sizes of samples, in smallest ones.
STAGES = (1, 4, 16)


class LateBounds(NamedTuple):
    """Part of each placement's requests that is late, and one-sided bounds of it; arrays of shape (placements,)."""

    low: FloatArray
    mean: FloatArray
    high: FloatArray


class GpuVerdict(NamedTuple):
    """What a sample says about a GPU's placements.

    Attributes
    ----------
    holds
        Of each placement, whether no more requests are late than may be, with the risk asked for.
    late
        Parts that are late, and bounds.
    percentile_ms
        Latencies at the judged percentile; shape (placements,).
    requests
        Of the slowest placement in a run, about.
    """

    holds: tuple[bool, ...]
    late: LateBounds
    percentile_ms: FloatArray
    requests: int


def smallest_sample(allowed: float) -> int:
    """Return how many requests a run of the smallest sample has where this part of them may be late."""
    return math.ceil(EXPECTED_LATE / allowed)


def bounds_of(late: Late, risk: float) -> LateBounds:
    """Return bounds, each of which is wrong with this probability at most."""
    from scipy.special import stdtrit

    runs = len(late.share)
    mean, variance = late.share.mean(axis=0), late.share.var(axis=0, ddof=1)
    t = float(stdtrit(runs - 1, 1.0 - risk))
    # Half of t² D / K, and what the root is.
    half = t**2 * np.divide(variance, mean, out=np.zeros_like(mean), where=mean > 0.0) / (2.0 * runs)
    root = np.sqrt(half * (2.0 * mean + half))
    unseen = -math.log(risk) / np.maximum(1, late.requests.sum(axis=0))
    return LateBounds(np.maximum(0.0, mean + half - root), mean, np.maximum(mean + half + root, unseen))


def judge_gpu(
    sample: GpuSample,
    coefficients: Coefficients,
    tenants: Sequence[Tenant],
    *,
    allowed: float,
    risk: float,
    margin: float,
) -> GpuVerdict:
    """Judge the placements of one GPU.

    Parameters
    ----------
    allowed
        The part of a placement's requests that may be late.
    risk
        That a placement is said to hold, or not to, and it is the other way round: of each of them.
    margin
        Inflates GPU latencies by ``1 + margin``.
    """
    own_risk = risk / len(STAGES)
    verdict = GpuVerdict(
        (False,) * len(tenants), LateBounds(*np.full((3, len(tenants)), np.nan)), np.full(len(tenants), np.nan), 0
    )
    for stage in STAGES:
        requests = stage * smallest_sample(allowed)
        late = sample.late(coefficients, tenants, requests, range(RUNS), margin)
        if late is None:
            break
        bounds = bounds_of(late, own_risk)
        holds = bounds.high <= allowed
        verdict = GpuVerdict(tuple(holds.tolist()), bounds, late.percentile_ms.mean(axis=0), requests)
        if holds.all() or (bounds.low > allowed).any():
            break
    return verdict

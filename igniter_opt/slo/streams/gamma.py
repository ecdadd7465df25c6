"""Gamma arrivals: independent gaps with a squared variation c², the burstiness.

For c² > 1 the gaps' density, of shape α = 1 / c² < 1, is a mixture of exponential ones: a gap of mean 1 is ``c² U E``
with E exponential of mean 1 and U of a Beta(α, 1 - α) distribution (their product is gamma, as moments show: the n-th
of U is (α)_n / n!). Gauss's quadrature with m nodes for U gives a mixture of m exponentials with the first 2m - 1
moments of the gaps and a Laplace transform that is a Padé approximant of the gamma one; errors fall geometrically.
`tests/slo/streams/test_gamma.py` measures what is left at `PHASES`. A renewal stream of such gaps is a Markovian
arrival process, whose phase is the exponential that the present gap was drawn from.

For c² < 1 there is no such mixture; the stream is sampled.
"""

import math

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.slo.streams.phases import LARGEST_BATCHES, PhaseStream, part_counts
from igniter_opt.slo.streams.poisson import PoissonStream
from igniter_opt.slo.streams.sampled import JUDGED, drawn_stream
from igniter_opt.slo.streams.stream import ReplicaStream, Source

# Numbers of exponentials by largest batch, up to a burstiness of 4: small batches follow the stream more closely.
PHASES = (6, 5, 4, 4, 4)
_MOST_MORE = 6
# With too few exponentials fewer requests are late, by up to a hundredth in measured cases; limits take twice that.
ALLOWANCE = 0.02


def exponentials(burstiness: float, phases: int) -> tuple[FloatArray, FloatArray]:
    """Return mean gaps and weights of the mixture, for gaps of mean 1; shapes (phases,)."""
    alpha = 1.0 / burstiness
    # The orthogonal polynomials of u^(α - 1) (1 - u)^-α are Jacobi's, here on (-1, 1); Golub and Welsch (1969).
    left, right = -alpha, alpha - 1.0
    k = np.arange(1, phases)
    diagonal = np.concatenate([[right - left], (right**2 - left**2) / ((2 * k - 1.0) * (2 * k + 1.0))])
    beside = (k + left) * (k + right) / (2 * k - 1.0) ** 2
    if phases > 1:
        beside[0] *= 2.0
    nodes, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(np.sqrt(beside), 1) + np.diag(np.sqrt(beside), -1))
    return burstiness * (1.0 + nodes) / 2.0, vectors[0] ** 2


def phases_more(burstiness: float, sample: int) -> int:
    """Return how many exponentials more it takes: two for every factor of 2 above 4, and one for the judge."""
    return min(_MOST_MORE, max(0, math.ceil(2.0 * math.log2(burstiness / 4.0) - 1e-9))) + (sample == JUDGED)


def gamma_stream(source: Source, horizon_ms: float, sample: int) -> ReplicaStream:
    """Return a replica's stream."""
    burstiness = source.arrivals.settings["burstiness"]
    if burstiness == 1.0:
        return PoissonStream(source.replica_rps)
    if burstiness > 1.0:
        found = []
        for most_batch, phases in zip(LARGEST_BATCHES, PHASES, strict=True):
            means, weights = exponentials(burstiness, phases + phases_more(burstiness, sample))
            d0, d1 = -np.diag(1.0 / means), np.outer(1.0 / means, weights)
            found.append(part_counts(d0, d1, source.part, source.replica_rps, horizon_ms, most_batch))
        if all(counts.is_small for counts in found):
            return PhaseStream(source.replica_rps, found, 0.0 if sample == JUDGED else ALLOWANCE)
    return drawn_stream(source, sample)

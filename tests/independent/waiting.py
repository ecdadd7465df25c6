"""Rule p99 once more: how many requests are late in a bulk-service queue, as an arriving request sees it.

The package looks at batches that are dispatched, and finds its chain by factorisation. Here the chain is that of the
number present at a dispatch, cut off where nothing is left and solved as a banded linear system; and a request is
followed from its arrival, which by PASTA sees the server at a random time:

- idle: it is served at once, alone, and its latency is L_1;
- busy with a batch of j for a time u, with N waiting before it: it waits W = s_j - u + m s_b for the running batch and
  m = N div b full ones, and goes in a batch of k = min(b, N mod b + 1 + Y), where Y ~ Poisson(R W) come until then. Its
  latency is W + L_k.

Nobody waits but behind a full batch or since it began, so N is what a full batch left behind (nothing, if j < b) and
Poisson(R u). The integral over u is by Gauss's rule between the points where some W + L_k crosses the limit, between
which the integrand is smooth.
"""

import functools
import itertools
import math
from collections.abc import Sequence

import numpy as np
from scipy.linalg import solve_banded

# Utilisation at full batches from which on a queue does not settle in reasonable time (docs: percentile_rule).
MOST_UTILISATION = 0.999
_TAIL = 1e-13
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(10)


def poisson(mean: float, size: int) -> np.ndarray:
    """Probabilities of 0 .. size - 1."""
    counts, logs = _factorials(size)
    if mean <= 0.0:
        return (counts == 0.0).astype(float)
    return np.asarray(np.exp(counts * math.log(mean) - mean - logs))


@functools.lru_cache(maxsize=4096)
def _factorials(size: int) -> tuple[np.ndarray, np.ndarray]:
    """0 .. size - 1, and the logarithms of their factorials."""
    return np.arange(size, dtype=float), np.array([math.lgamma(count + 1.0) for count in range(size)])


@functools.lru_cache(maxsize=16)
def present_at_dispatch(rate: float, busy: tuple[float, ...]) -> np.ndarray:
    """Stationary probabilities of 1, 2, .. requests present when a batch begins (its own included)."""
    b = len(busy)
    load = rate * busy[-1]
    # The tail falls like z^-n with z^b = exp(load (z - 1)): by bisection; and as it has fallen, it is cut off.
    low, high = 0.0, 1.0
    while load * (math.exp(high) - 1.0) < b * high:
        low, high = high, 2.0 * high
    for _ in range(100):
        middle = (low + high) / 2.0
        low, high = (middle, high) if load * (math.exp(middle) - 1.0) < b * middle else (low, middle)
    reach = int(max(rate * s + 10.0 * math.sqrt(rate * s) for s in busy)) + 25
    states = b + reach + int(-math.log(_TAIL) / low) + 1
    # Row i of the band: column j - i of the transposed chain minus 1. Below the diagonal: arrivals; above: a batch.
    above, below = b, reach
    band = np.zeros((above + below + 1, states))
    full = poisson(load, reach + b)
    for n in range(1, states + 1):
        column = n - 1
        if n <= b:
            arrive = poisson(rate * busy[n - 1], reach)
            # Nobody there: the next dispatch is that of the one who comes.
            row, lowest = np.concatenate([[arrive[0] + arrive[1]], arrive[2:]]), 1
        else:
            row, lowest = full, n - b
        lowest -= 1
        first, last = lowest, min(states, lowest + len(row), column + below + 1)
        band[above + first - column : above + last - column, column] += row[: last - first]
        band[above, column] -= 1.0
    # The sum of the equations is 0; the first is replaced: π_1 = 1, to be scaled.
    for column in range(min(above + 1, states)):
        band[above - column, column] = 1.0 if column == 0 else 0.0
    right = np.zeros(states)
    right[0] = 1.0
    found = np.maximum(solve_banded((below, above), band, right), 0.0)
    return np.asarray(found / found.sum())


def grows_never(rate: float, busy: Sequence[float]) -> bool:
    """Whether the queue settles."""
    return all(math.isfinite(s) and s > 0 for s in busy) and rate * busy[-1] <= MOST_UTILISATION * len(busy)


def fraction_late(rate: float, busy: Sequence[float], latency: Sequence[float], limit: float) -> float:
    """Fraction of requests whose latency is above a limit.

    Parameters
    ----------
    rate
        Arrivals per ms.
    busy, latency
        Of batches of 1 .. b, in ms: how long the server is busy, and how long after dispatch the answer comes.
    """
    b, whole = len(busy), busy[-1]
    # Without an end to the queue all are late, and so they are where no batch is answered in time.
    if not grows_never(rate, busy) or min(latency) > limit:
        return 1.0
    present = present_at_dispatch(rate, tuple(busy))
    behind = present[b - 1 :]
    begun = [*present[: b - 1].tolist(), float(behind.sum())]
    # Time from dispatch to dispatch, and the part of it without a batch.
    idle = sum(begun[j] * math.exp(-rate * busy[j]) for j in range(b - 1))
    idle = (idle + float(behind[0]) * math.exp(-rate * whole)) / rate
    cycle = math.fsum(begun[j] * busy[j] for j in range(b)) + idle
    late = idle if latency[0] > limit else 0.0
    for j in range(1, b + 1):
        if begun[j - 1] < 1e-17:
            continue
        left = behind if j == b else np.array([begun[j - 1]])
        late += _late_behind(rate, busy, latency, limit, busy[j - 1], left)
    return late / cycle


def _late_behind(
    rate: float, busy: Sequence[float], latency: Sequence[float], limit: float, own: float, left: np.ndarray
) -> float:
    """Expected number late of those who arrive during a batch of length `own`, over the rate.

    `left` holds the frequencies of 0, 1, .. left behind when it began.
    """
    whole = busy[-1]
    cuts = {0.0, own}
    for wait in latency:
        rest = limit - wait
        m = max(0, math.floor((rest - own) / whole))
        while rest - m * whole > 0:
            if rest - m * whole < own:
                cuts.add(rest - m * whole)
            m += 1
            if m * whole > rest:
                break
    total = 0.0
    for start, end in itertools.pairwise(sorted(cuts)):
        if end - start <= 1e-15 * own:
            continue
        for node, weight in zip(_NODES.tolist(), _WEIGHTS.tolist(), strict=True):
            rest = start + (end - start) * (1.0 + node) / 2.0
            total += weight * (end - start) / 2.0 * _late_now(rate, latency, limit, rest, own - rest, whole, left)
    return total


def _late_now(
    rate: float, latency: Sequence[float], limit: float, rest: float, gone: float, whole: float, left: np.ndarray
) -> float:
    """Chance to be late for one who comes when a batch has run for `gone` and has `rest` to go."""
    b = len(latency)
    came = poisson(rate * gone, int(rate * gone + 10.0 * math.sqrt(rate * gone)) + 25)
    waiting = came * left[0] if len(left) == 1 else np.convolve(left, came)
    shortest, longest = min(latency), max(latency)
    # Behind fewer full batches than this none is late.
    m = max(0, math.floor((limit - longest - rest) / whole))
    late = 0.0
    while m * b < len(waiting):
        wait = rest + m * whole
        if wait + shortest > limit:
            return late + float(waiting[m * b :].sum())
        if wait + longest > limit:
            misses = [wait + answer > limit for answer in latency]
            more = poisson(rate * wait, b).tolist()
            for place, chance in enumerate(waiting[m * b : (m + 1) * b].tolist()):
                exact = 0.0
                for k in range(place + 1, b):
                    exact += more[k - place - 1]
                    if misses[k - 1]:
                        late += chance * more[k - place - 1]
                if misses[b - 1]:
                    late += chance * max(0.0, 1.0 - exact)
        m += 1
    return late


def is_percentile(
    rate: float, busy: Sequence[float], latency: Sequence[float], q: float, x: float, tolerance: float
) -> bool:
    """Whether a fraction q of the requests takes at most x, up to a relative tolerance of x, and not less."""
    if not grows_never(rate, busy):
        return math.isinf(x)
    above, below = (fraction_late(rate, busy, latency, x * (1.0 + sign * tolerance)) for sign in (1, -1))
    return above <= 1.0 - q < below

"""The rule ``p99``: a percentile of waiting plus inference latency, under Poisson arrivals, is within the SLO.

It joins the predictor's service times with the queue of `queueing`. A placement with batch b and replica rate R is a
server that takes up to b requests as soon as it is free; a batch of k keeps it busy for ``t_gpu(k) + t_feedback(k)``
(loading overlaps execution) and answers its requests ``t_load(k) + t_gpu(k) + t_feedback(k)`` after dispatch. The rule
wants ``P(latency ≤ SLO) ≥ percentile`` and, so that the queue settles in reasonable time, a utilisation at full
batches of at most `queueing.MOST_INTENSITY`.

*As a limit on one number.* A configuration's t_gpu(b) is linear in the GPU's aggregates; those of smaller batches
follow from it up to the bound e_k(D) of `partial_batch_bound_ms`: whatever the neighbours are, t_gpu(b) ≤ D
implies t_gpu(k) ≤ e_k(D). Every e_k grows with D, and the percentile grows with the service times, so there is a
largest D whose e_1(D) .. e_b(D) meet the rule; this is the configuration's limit D_c, and the rows of all
formulations stay as they are. A placement that meets its row meets the rule, since its service times are at most
e_k(D_c). The converse need not hold: `verify`, which judges the service times at the plan's actual interference, may
accept a placement that no row accepts, by as much as e_k exceeds them.

That the percentile grows with the service times is not proven: request by request it is false (a longer batch may
let a late request catch the next one). No exception was found (`tests/slo/test_queueing.py` looks for them), and none
could pass unnoticed, for every plan is verified.
"""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.compiled import compiled
from igniter_opt.physics.interference import clock_line, placement_terms
from igniter_opt.physics.parameters import Coefficients, HardwareCoefficients, ModelCoefficients
from igniter_opt.physics.partial_batches import batch_service_times, partial_batch_bound_ms
from igniter_opt.physics.rows import clock
from igniter_opt.slo.queueing import MOST_INTENSITY, BatchQueue, fraction_above, states_needed, stationary

# D_c is found to this relative accuracy, from below: a step for the search, one for gains left out, one to spare.
LIMIT_TOLERANCE = 3e-4
STEP = 1e-4
# ... and lowered by this much more, so that rounding in a solver's rows cannot carry a placement over the SLO.
ROUNDING = 1e-7
# Where fewer batches than this (relative to the requests that may be late) are full, larger ones change nothing.
NEVER_FULL = 1e-6
_bound = compiled(partial_batch_bound_ms)


def queues(
    coefficients: Coefficients,
    model: npt.ArrayLike,
    batch: npt.ArrayLike,
    share: npt.ArrayLike,
    rate_rps: npt.ArrayLike,
    margin: npt.ArrayLike = 0.0,
) -> list[BatchQueue]:
    """Return the queue of every placement of one GPU, beside its neighbours (see `batch_service_times`).

    Parameters
    ----------
    model, batch, share, rate_rps
        Shape (placements,).
    margin
        Of all placements, or one each.
    """
    times = batch_service_times(coefficients, model, batch, share, margin)
    return [
        BatchQueue(rate, gpu + feedback, load + gpu + feedback)
        for rate, gpu, load, feedback in zip(
            np.asarray(rate_rps, dtype=float).tolist(), times.gpu_ms, times.load_ms, times.feedback_ms, strict=True
        )
    ]


def times_alone(
    model: ModelCoefficients, hardware: HardwareCoefficients, share_percent: float, margin: float
) -> tuple[FloatArray, FloatArray]:
    """Return how long batches of 1 .. max_batch keep an otherwise empty GPU busy, and their latencies, in ms."""
    alone = Coefficients("", hardware, {"": model})
    times = batch_service_times(alone, [0], [model.max_batch], [share_percent], margin)
    busy = times.gpu_ms[0] + times.feedback_ms[0]
    return busy, busy + times.load_ms[0]


def meets_rule(rate_rps: float, busy_ms: FloatArray, latency_ms: FloatArray, slo_ms: float, percentile: float) -> bool:
    """Whether a server with these times (see `BatchQueue`) meets the rule."""
    queue = BatchQueue(rate_rps, busy_ms, latency_ms)
    return bool(latency_ms[0] <= slo_ms and queue.violation_probability(slo_ms) <= 1.0 - percentile)


def largest_rate(busy_ms: FloatArray, latency_ms: FloatArray, slo_ms: float, percentile: float) -> float:
    """Largest rate (req/s) that meets the rule, 0 if none does.

    Rounded down by a little more than `LIMIT_TOLERANCE`, so that `percentile_limits` admits it.
    """
    slower = 1.0 + LIMIT_TOLERANCE
    low, high = 0.0, MOST_INTENSITY * 1000.0 * len(busy_ms) / float(busy_ms[-1] * slower)
    if not latency_ms[0] * slower <= slo_ms or high <= 0.0:
        return 0.0
    while high - low > LIMIT_TOLERANCE * high:
        rate = 0.5 * (low + high)
        if meets_rule(rate, busy_ms * slower, latency_ms * slower, slo_ms, percentile):
            low = rate
        else:
            high = rate
    return low


def smallest_batch(
    rate_rps: float, busy_ms: FloatArray, latency_ms: FloatArray, slo_ms: float, percentile: float
) -> int:
    """Least largest batch that meets the rule at a rate, 0 if none does."""
    for batch in range(1, len(busy_ms) + 1):
        if meets_rule(rate_rps, busy_ms[:batch], latency_ms[:batch], slo_ms, percentile):
            return batch
    return 0


@lru_cache(maxsize=1024)
def largest_rates(
    model: ModelCoefficients, hardware: HardwareCoefficients, slo_ms: float, percentile: float, margin: float = 0.0
) -> FloatArray:
    """Largest rates that meet the rule alone on a whole GPU, in req/s, by batch; shape (batches,)."""
    busy, latency = times_alone(model, hardware, float(hardware.shares()[-1]), margin)
    rates = [largest_rate(busy[:b], latency[:b], slo_ms, percentile) for b in range(1, len(busy) + 1)]
    return np.array(rates)


def best_percentile_ms(
    busy_ms: FloatArray, latency_ms: FloatArray, rate_rps: float, percentile: float
) -> tuple[float, float]:
    """Least percentile latency at a rate over all largest batches, and the least SLO, both infinite if unstable.

    The SLO is larger by a little more than `LIMIT_TOLERANCE`, so that `percentile_limits` admits it.
    """

    def best(factor: float) -> float:
        queues = (
            BatchQueue(rate_rps, busy_ms[:b] * factor, latency_ms[:b] * factor) for b in range(1, len(busy_ms) + 1)
        )
        return min((queue.percentile_ms(percentile) for queue in queues), default=math.inf)

    return best(1.0), best(1.0 + LIMIT_TOLERANCE)


@lru_cache(maxsize=4096)
def percentile_limits(
    model: ModelCoefficients,
    hardware: HardwareCoefficients,
    slo_ms: float,
    rate_rps: float,
    percentile: float,
    margin: float = 0.0,
) -> FloatArray:
    """Largest admissible GPU latencies D_c of all configurations of a replica, in ms.

    Returns
    -------
    FloatArray
        Shape (batches, levels); 0 where the configuration does not meet the rule alone on a GPU. Do not write to it.
    """
    alone = Coefficients("", hardware, {"": model})
    batches = np.arange(1.0, model.max_batch + 1)
    terms = placement_terms(alone, 0, batches[:, None], hardware.shares()[None, :])
    intercept, slope = clock_line(hardware)
    limits = _limits(
        np.ascontiguousarray(terms.active_ms.T),
        np.ascontiguousarray(terms.power_w.T),
        np.ascontiguousarray(terms.load_ms[:, 0]),
        np.ascontiguousarray(terms.feedback_ms[:, 0]),
        model.scheduling_delay_ms,
        np.array([hardware.idle_power_w, intercept, slope]),
        rate_rps / 1000.0,
        slo_ms,
        (1.0 - percentile) * (1.0 - 1e-9),
        margin,
    )
    limits = np.asarray(limits)
    limits.setflags(write=False)
    return limits


@compiled
def batch_times(
    limit: float,
    active: FloatArray,
    power: FloatArray,
    load: FloatArray,
    feedback: FloatArray,
    delay: float,
    card: FloatArray,
    margin: float,
) -> FloatArray:
    """Return how long batches keep a server busy at most if t_gpu(b) ≤ `limit`, and their latencies; shape (2, b)."""
    most = active.size
    found = np.empty((2, most))
    for k in range(most):
        gpu = _bound(limit, delay, active[k], active[most - 1], power[k], power[most - 1], card[0], card[1], card[2])
        found[0, k] = gpu * (1.0 + margin) + feedback[k]
        found[1, k] = found[0, k] + load[k]
    return found


@compiled
def _excess(
    limit: float,
    active: FloatArray,
    power: FloatArray,
    load: FloatArray,
    feedback: FloatArray,
    delay: float,
    card: FloatArray,
    rate: float,
    slo: float,
    allowed: float,
    margin: float,
) -> tuple[float, float]:
    """Judge t_gpu(b) = `limit`.

    Returns the logarithm of (fraction of requests late) / (fraction allowed), capped at ±40, and the fraction of
    batches that are full.
    """
    most = active.size
    times = batch_times(limit, active, power, load, feedback, delay, card, margin)
    busy, latency = times[0], times[1]
    if latency[0] > slo or not math.isfinite(busy.max()):
        return 40.0, 1.0
    if rate * busy[most - 1] > MOST_INTENSITY * most:
        return 40.0, 1.0
    pi = stationary(rate, busy, states_needed(rate, busy, latency, slo))
    late = fraction_above(rate, busy, latency, pi, slo)
    if late <= 0.0:
        return -40.0, pi[-1]
    return min(40.0, max(-40.0, math.log(late / allowed))), pi[-1]


@compiled
def _guess(known: FloatArray, solo: FloatArray, level: int) -> float:
    """Extrapolate a limit from those of the next higher levels, as a function of the full batch's time alone."""
    levels = known.size
    count = 0
    while count < 3 and level + 1 + count < levels and known[level + 1 + count] > 0.0:
        count += 1
    if count < 2 or solo[level + 1] == solo[level + 2]:
        return 0.0
    at: float = solo[level]
    one, two = solo[level + 1], solo[level + 2]
    first = (known[level + 1] - known[level + 2]) / (one - two)
    guess: float = known[level + 1] + first * (at - one)
    if count == 3 and solo[level + 3] != two and solo[level + 3] != one:
        second = (first - (known[level + 2] - known[level + 3]) / (two - solo[level + 3])) / (one - solo[level + 3])
        guess += second * (at - one) * (at - two)
    return guess


@compiled
def _limits(
    active: FloatArray,
    power: FloatArray,
    load: FloatArray,
    feedback: FloatArray,
    delay: float,
    card: FloatArray,
    rate: float,
    slo: float,
    allowed: float,
    margin: float,
) -> FloatArray:
    """Compute D_c of every configuration; arrays of shape (levels, batches) or (batches,), result (levels, batches)."""
    levels, batches = active.shape
    found = np.zeros((batches, levels))
    solo = np.empty((batches, levels))
    plain = np.empty((batches, levels), dtype=np.bool_)
    settled = np.zeros(levels, dtype=np.bool_)
    slopes = np.zeros(levels)
    for level in range(levels):
        for b in range(batches):
            ratio = clock(card[1], card[2], card[0] + power[level, b])
            solo[b, level] = (delay + active[level, b]) / ratio if ratio > 0.0 else np.inf
            # Whether e_k(D) = D - (a_b - a_k) for all k, so that only D - t_solo(b) matters.
            plain[b, level] = ratio == 1.0 and (
                b == 0
                or (
                    plain[b - 1, level]
                    and active[level, b] >= active[level, b - 1]
                    and power[level, b] >= power[level, b - 1]
                )
            )
    for b in range(batches):
        most = (MOST_INTENSITY * (b + 1) / rate - feedback[b]) / (1.0 + margin)
        failed = -1
        for level in range(levels - 1, -1, -1):
            alone = solo[b, level]
            # A level at which no batch is faster than at one that fails, fails too.
            hopeless = not alone <= most
            if failed >= 0 and not hopeless:
                hopeless = True
                for k in range(b + 1):
                    hopeless = hopeless and solo[k, level] >= solo[k, failed]
            if hopeless:
                continue
            if settled[level] and plain[b, level]:
                found[b, level] = found[b - 1, level] + (alone - solo[b - 1, level])
                continue
            guess = _guess(found[b], solo[b], level)
            if guess <= 0.0 or (b > 0 and found[b - 1, level] > 0.0 and level < 8):
                guess = 0.5 * (alone + min(most, slo))
                if b > 0 and found[b - 1, level] > 0.0:
                    guess = found[b - 1, level] + (alone - solo[b - 1, level])
            low, high = alone, most
            low_known, high_known = False, False
            low_excess, full = 0.0, 1.0
            slope, other = slopes[level], slopes[min(level + 1, levels - 1)]
            if slope == 0.0:
                slope = other
            # Slopes of neighbours are trusted where they agree and the tail is smooth, those found here near the root.
            sure = allowed <= 0.1 and abs(slope - other) < 0.2 * slope
            x, before, before_excess = min(max(guess, low), high), 0.0, 0.0
            for turn in range(100):
                excess, share = _excess(
                    x, active[level, : b + 1], power[level, : b + 1], load, feedback,
                    delay, card, rate, slo, allowed, margin,
                )  # fmt: skip
                if turn > 0 and x != before and (excess - before_excess) / (x - before) > 0.0:
                    other = slope
                    slope = (excess - before_excess) / (x - before)
                    near = abs(excess) < 0.3 and abs(before_excess) < 0.3
                    sure = allowed <= 0.1 and (near or abs(slope - other) < 0.2 * slope)
                before, before_excess = x, excess
                if excess <= 0.0:
                    low, low_known, low_excess, full = x, True, excess, share
                else:
                    high, high_known = x, True
                if high <= alone or low >= most:
                    break
                if low_known:
                    close = low_excess > -40.0 and -low_excess <= slope * STEP * low
                    if high - low <= STEP * low or (close and sure):
                        break
                    if close:
                        x = min(low * (1.0 + 0.99 * STEP), 0.5 * (low + high))
                        continue
                x = 0.5 * (low + high)
                if slope > 0.0 and abs(excess) < 40.0 and turn % 4 < 3:
                    # Newton's step with the last slope, aimed a little below the root.
                    x = before - before_excess / slope - 0.5 * STEP * before
                    if x <= low:
                        x = low if not low_known else low + 0.1 * (high - low)
                    elif x >= high:
                        x = high if not high_known else high - 0.1 * (high - low)
            if low_known:
                found[b, level] = low * (1.0 - ROUNDING)
                if b > 0 and found[b - 1, level] > 0.0:
                    # A gain within the tolerance over the smaller batch is left out: the larger is then dominated.
                    same = found[b - 1, level] + (alone - solo[b - 1, level])
                    if found[b, level] - STEP * low <= same < found[b, level]:
                        found[b, level] = same
                slopes[level] = slope
                settled[level] = plain[b, level] and full < NEVER_FULL * allowed
            elif high <= alone:
                failed = level
    return found

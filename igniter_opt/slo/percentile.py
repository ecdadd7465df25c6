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
from igniter_opt.physics.parameters import Coefficients, HardwareCoefficients, ModelCoefficients
from igniter_opt.physics.partial_batches import batch_service_times
from igniter_opt.slo.bulk_chain import stationary
from igniter_opt.slo.kept_limits import asked, limits
from igniter_opt.slo.limit_search import (
    ALLOWED,
    LIMIT_TOLERANCE,
    MOST_EXCESS,
    RATE,
    SLO,
    Cells,
    Search,
    advance,
    asked_times,
    cells_of,
    excess_of,
    is_hopeless,
    new_search,
)
from igniter_opt.slo.queueing import MOST_INTENSITY, BatchQueue, fraction_above, states_needed


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

    def make() -> FloatArray:
        cells = cells_of(model, hardware, slo_ms, rate_rps, percentile, margin)
        search = new_search(cells)
        search_poisson(cells, search)
        return search.limits

    return limits(asked(None, rate_rps, model, hardware, slo_ms, percentile, margin), make)


@compiled
def search_poisson(cells: Cells, search: Search) -> None:
    """Judge all points that a search asks for."""
    rate, slo, allowed = cells.numbers[RATE], cells.numbers[SLO], cells.numbers[ALLOWED]
    more = advance(cells, search, 0.0, 0.0)
    while more:
        times = asked_times(cells, search)
        excess, full = MOST_EXCESS, 1.0
        if not is_hopeless(cells, times):
            busy, latency = times[0], times[1]
            pi = stationary(rate, busy, states_needed(rate, busy, latency, slo))
            excess, full = excess_of(fraction_above(rate, busy, latency, pi, slo), allowed), pi[-1]
        more = advance(cells, search, excess, full)

"""The placements of one GPU as Triton serves them, each slowed by what runs beside it at the time; one compiled pass.

Batches form as in `physics.batches`. While a batch of k is on the GPU it advances at the rate ``1 / t_gpu`` of the
batches that run at that time (`partial_batches.running_times_ms`), which changes whenever one begins or ends: a batch
that meets a neighbour for half of its course is slowed for that half. The model's latencies are of batches that meet
the same neighbours throughout; that progress adds up like this is assumed, as in fluid models of shared processors. A
batch that is copied back (``t_feedback``) occupies its instance, but not the GPU. Loading is as in `physics.batches`.

Times are in nanoseconds. Unlike there they are not whole, since rates are not, so that what happens at the same instant
in a world without rounding may happen one after the other here.
"""

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.compiled import compiled
from igniter_opt.base.nanoseconds import NS_PER_MS
from igniter_opt.physics.partial_batches import SharedGpu, running_times_ms

# Columns of `totals`.
BUSY, WAITED, LONGEST, COMPLETED = range(4)
_running_times = compiled(running_times_ms)


@compiled
def serve_side_by_side(
    arrival: FloatArray,
    offset: IntArray,
    first: IntArray,
    window: FloatArray,
    delay: FloatArray,
    largest: IntArray,
    shared: SharedGpu,
    inflation: float,
    noise: FloatArray,
    latency: FloatArray,
    batches: IntArray,
    totals: FloatArray,
) -> None:
    """Serve all requests of the placements of one GPU.

    Parameters
    ----------
    arrival, offset
        Arrival times of placement i, ascending, at offset[i] to offset[i + 1] - 1; offset has shape (placements + 1,).
    first
        Of each placement, so many requests at the start are served but not counted.
    window
        Shape (placements, 2): begin and end of the time over which each placement's totals are taken.
    delay, largest
        Queue delays, and largest batches.
    inflation
        Factor on all GPU times.
    noise
        Factors on the GPU times of the batches: those of placement i from offset[i] on; or empty for none.
    latency
        Receives the latency of every request; infinite for those that are never answered, because their batch or
        one before it finds no clock left.
    batches
        Shape (placements, largest batch of all): see `engine.serve`.
    totals
        Shape (placements, 4): what `engine.serve` returns.
    """
    placements = largest.size
    oldest, waiting_to = offset[:-1].copy(), offset[:-1].copy()
    size, feeding = np.zeros(placements, dtype=np.int64), np.zeros(placements, dtype=np.bool_)
    # When an idle instance starts its next batch, or a copy back ends; how much of a batch is still to be done.
    due, left = np.empty(placements), np.zeros(placements)
    begun, served = np.zeros(placements), np.zeros(placements, dtype=np.int64)
    on_gpu, time = np.zeros(placements, dtype=np.int64), np.full(placements, np.inf)
    latency[:] = np.inf
    for i in range(placements):
        due[i] = _start(arrival, oldest[i], offset[i + 1], delay[i], largest[i])
    now = 0.0
    while True:
        chosen, event = -1, np.inf
        for i in range(placements):
            at = now + left[i] * time[i] if on_gpu[i] > 0 else due[i]
            if at < event:
                chosen, event = i, at
        if chosen < 0:
            return
        event = max(event, now)
        for i in range(placements):
            if on_gpu[i] > 0:
                left[i] -= (event - now) / time[i]
        now, i = event, chosen
        if size[i] == 0:
            last = offset[i + 1]
            waiting_to[i] = max(waiting_to[i], oldest[i] + 1)
            while waiting_to[i] < last and arrival[waiting_to[i]] <= now:
                waiting_to[i] += 1
            size[i] = min(waiting_to[i] - oldest[i], largest[i])
            left[i] = noise[offset[i] + served[i]] if noise.size > 0 else 1.0
            begun[i] = now
            if oldest[i] + size[i] > offset[i] + first[i]:
                batches[i, size[i] - 1] += 1
                totals[i, LONGEST] = max(totals[i, LONGEST], waiting_to[i] - oldest[i])
            begin, end = window[i]
            for request in range(oldest[i], oldest[i] + size[i]):
                totals[i, WAITED] += max(0.0, min(now, end) - max(arrival[request], begin))
            served[i] += 1
            on_gpu[i] = size[i]
        elif not feeding[i]:
            feeding[i] = True
            due[i] = now + shared.terms.feedback_ms[i, size[i] - 1] * NS_PER_MS
            on_gpu[i] = 0
        else:
            answer = now + shared.terms.load_ms[i, size[i] - 1] * NS_PER_MS
            for request in range(oldest[i], oldest[i] + size[i]):
                latency[request] = answer - arrival[request]
            begin, end = window[i]
            totals[i, BUSY] += max(0.0, min(now, end) - max(begun[i], begin))
            if begin < answer <= end:
                totals[i, COMPLETED] += size[i]
            oldest[i] += size[i]
            size[i], feeding[i] = 0, False
            due[i] = max(now, _start(arrival, oldest[i], offset[i + 1], delay[i], largest[i]))
            continue
        _running_times(shared, on_gpu, time)
        time *= inflation * NS_PER_MS


@compiled
def _start(arrival: FloatArray, oldest: int, last: int, delay: float, largest: int) -> float:
    """When a free instance starts its next batch: it is full, or its oldest request has waited for the delay."""
    if oldest >= last:
        return np.inf
    start = float(arrival[oldest] + delay)
    if oldest + largest <= last:
        start = min(start, float(arrival[oldest + largest - 1]))
    return start

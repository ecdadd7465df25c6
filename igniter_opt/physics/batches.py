"""One placement as Triton's dynamic batcher serves it, exactly: one pass over its requests.

The queue is first come, first served, with one model instance, maximum batch b and preferred batch b. A batch is
formed at the first instant s at which the instance is free, a request waits, and

- b requests wait, or
- the oldest request has waited for the queue delay, be it now or while the instance was busy.

It takes all that wait, up to b. So with queue delay 0 a free instance takes whatever waits at once, and an arrival at
an idle instance is served alone; requests that arrive at s itself are in time. Triton behaves so with
``preferred_batch_size: [b]``, ``max_batch_size: b`` and one instance: a batch whose delay expires while the instance
is busy is handed over, but grows until its execution begins, and what was handed over in parts is merged then.

A batch of k occupies the instance for ``t_gpu(k) + t_feedback(k)`` from s on, and its requests are answered at
``s + t_load(k) + t_gpu(k) + t_feedback(k)``: loading delays a batch's answers but not the batches after it, since
their loading overlaps its execution (the throughput ``b / (t_gpu + t_feedback)`` of Xu et al. 2023 says the same).
The instance's schedule is thus the one without loading, and every batch is answered its own loading time later;
what this leaves out is that after a batch of k a smaller one of j could begin only ``t_load(k) - t_load(j)`` later.

Times are those of `base.nanoseconds`, so that requests which arrive together, or a batch that is full when its delay
expires, are so in the computation too.
"""

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.compilable import compilable


@compilable
def serve_plainly(
    arrival: FloatArray,
    first: int,
    begin: float,
    end: float,
    delay: float,
    gpu: FloatArray,
    load: FloatArray,
    feedback: FloatArray,
    noise: FloatArray,
    latency: FloatArray,
    batches: IntArray,
) -> tuple[float, float, int, int]:
    """Serve all requests of one placement.

    Parameters
    ----------
    arrival
        Arrival times in ascending order, shape (requests,).
    first
        Number of requests at the start that are served but not counted (the queue starts empty).
    begin, end
        The time over which the returned values are taken.
    delay
        The queue delay.
    gpu, load, feedback
        Times of a batch of k at index k - 1; shape (b,).
    noise
        Factors on the GPU times of the batches, in order; shape (requests,), or empty for none.
    latency
        Receives the latency of every request.
    batches
        Shape (b,): receives at index k - 1 the number of batches of k that carry a counted request.

    Returns
    -------
    busy, waited, longest, completed
        Between begin and end: how long the instance was busy, the total time that requests waited to be
        dispatched, and the number of requests answered. `longest` is the largest number that waited while a
        counted request did (those just being dispatched included).
    """
    requests, largest = arrival.size, gpu.size
    free, busy, waited = 0.0, 0.0, 0.0
    longest, completed, served = 0, 0, 0
    i, waiting_to = 0, 0
    while i < requests:
        start = arrival[i] + delay
        if i + largest <= requests and arrival[i + largest - 1] < start:
            start = arrival[i + largest - 1]
        start = max(start, free)
        # Requests i up to waiting_to - 1 wait at the start.
        if waiting_to <= i:
            waiting_to = i + 1
        while waiting_to < requests and arrival[waiting_to] <= start:
            waiting_to += 1
        size = min(waiting_to - i, largest)
        time = gpu[size - 1]
        if noise.size > 0:
            time = np.floor(time * noise[served] + 0.5)
        time += feedback[size - 1]
        free = start + time
        answer = free + load[size - 1]
        for k in range(i, i + size):
            latency[k] = answer - arrival[k]
            waited += max(0.0, min(start, end) - max(arrival[k], begin))
        busy += max(0.0, min(free, end) - max(start, begin))
        i += size
        served += 1
        if begin < answer <= end:
            completed += size
        if i > first:
            batches[size - 1] += 1
            longest = max(longest, waiting_to - i + size)
    return busy, waited, longest, completed

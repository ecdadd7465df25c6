"""The batcher of a slice: as `batches`, with several equal processes that take batches from one queue.

A batch is formed at the first instant at which some process is free and `batches` would form one; the process that is
free for longest takes it. While it is busy the others go on, each as slow as if all were busy.
"""

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.compilable import compilable


@compilable
def serve_many_plainly(
    arrival: FloatArray,
    first: int,
    begin: float,
    end: float,
    delay: float,
    processes: int,
    gpu: FloatArray,
    load: FloatArray,
    noise: FloatArray,
    latency: FloatArray,
    batches: IntArray,
) -> tuple[float, float, int, int]:
    """Serve all requests of one slice; parameters and results as in `batches.serve_plainly`, busy time of all."""
    requests, largest = arrival.size, gpu.size
    free = np.zeros(processes)
    busy, waited = 0.0, 0.0
    longest, completed, served = 0, 0, 0
    i, waiting_to = 0, 0
    while i < requests:
        start = arrival[i] + delay
        if i + largest <= requests and arrival[i + largest - 1] < start:
            start = arrival[i + largest - 1]
        process = int(np.argmin(free))
        start = max(start, free[process])
        if waiting_to <= i:
            waiting_to = i + 1
        while waiting_to < requests and arrival[waiting_to] <= start:
            waiting_to += 1
        size = min(waiting_to - i, largest)
        time = gpu[size - 1]
        if noise.size > 0:
            time = np.floor(time * noise[served] + 0.5)
        done = start + time
        free[process] = done
        answer = done + load[size - 1]
        for k in range(i, i + size):
            latency[k] = answer - arrival[k]
            waited += max(0.0, min(start, end) - max(arrival[k], begin))
        busy += max(0.0, min(done, end) - max(start, begin))
        i += size
        served += 1
        if begin < answer <= end:
            completed += size
        if i > first:
            batches[size - 1] += 1
            longest = max(longest, waiting_to - i + size)
    return busy, waited, longest, completed

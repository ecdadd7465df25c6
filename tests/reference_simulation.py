"""A placement's queue as a plain event loop: the simulation's independent second opinion, and what its speed is over.

Written from the batcher's rules, not from the engine: a clock that goes from event to event (an arrival, the instance
becoming free, a queue delay that expires), a list of waiting requests, nothing known ahead of time.
"""

import math
from collections import deque
from collections.abc import Sequence


def serve_plainly(
    arrival: Sequence[float],
    delay: float,
    gpu: Sequence[float],
    load: Sequence[float],
    feedback: Sequence[float],
    noise: Sequence[float] = (),
) -> tuple[list[float], list[tuple[float, float, int, int]]]:
    """Return every request's latency, and for every batch its start, busy time, size and how many waited."""
    largest = len(gpu)
    latency: list[float] = []
    batches: list[tuple[float, float, int, int]] = []
    waiting: deque[float] = deque()
    coming = 0
    free_at = -math.inf
    while len(latency) < len(arrival):
        # The next event after which a decision may change.
        events = []
        if coming < len(arrival):
            events.append(arrival[coming])
        if waiting:
            events.append(max(free_at, waiting[0] + delay))
            if len(waiting) >= largest:
                events.append(free_at)
        now = min(events)
        while coming < len(arrival) and arrival[coming] <= now:
            waiting.append(arrival[coming])
            coming += 1
        if now < free_at or not (len(waiting) >= largest or waiting[0] + delay <= now):
            continue
        size = min(len(waiting), largest)
        time = gpu[size - 1]
        if noise:
            time = math.floor(time * noise[len(batches)] + 0.5)
        time += feedback[size - 1]
        batches.append((now, time, size, len(waiting)))
        free_at = now + time
        for _ in range(size):
            latency.append(free_at + load[size - 1] - waiting.popleft())
    return latency, batches

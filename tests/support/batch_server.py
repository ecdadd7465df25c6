"""A batch server, request by request, in plain Python: what the queue analysis is checked against."""

from bisect import bisect_right


def latencies(
    arrivals: list[float], busy: list[float], latency: list[float], full_delay: float | None = None
) -> tuple[list[float], list[int]]:
    """Latency of every request, and the sizes of the batches, first come first served.

    A free server takes whatever waits, up to ``len(busy)`` requests. With `full_delay` it does so only once that many
    wait or the oldest has waited this long.
    """
    most, answered, sizes = len(busy), [], []
    free, first = 0.0, 0
    while first < len(arrivals):
        start = max(free, arrivals[first])
        if full_delay is not None:
            last = first + most - 1
            full = arrivals[last] if last < len(arrivals) else float("inf")
            start = max(free, min(full, arrivals[first] + full_delay))
        waiting = bisect_right(arrivals, start, first, min(len(arrivals), first + most)) - first
        answered += [start - arrivals[first + k] + latency[waiting - 1] for k in range(waiting)]
        sizes.append(waiting)
        free = start + busy[waiting - 1]
        first += waiting
    return answered, sizes

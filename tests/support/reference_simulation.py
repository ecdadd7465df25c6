"""A placement's queue as a plain event loop: the simulation's independent second opinion, and what its speed is over.

Written from the batcher's rules, not from the engine: a clock that goes from event to event (an arrival, the instance
becoming free, a queue delay that expires), a list of waiting requests, nothing known ahead of time.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


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


@dataclass
class Instance:
    """One placement of `serve_together_plainly`: its requests, and what its instance does."""

    arrival: Sequence[float]
    delay: float
    largest: int
    load: Sequence[float]
    feedback: Sequence[float]
    noise: Sequence[float] = ()
    answered: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    busy: float = 0.0
    # The batch that runs: its requests, what of it is to be done on the GPU, or when its copy back ends.
    batch: list[float] = field(default_factory=list)
    begun: float = 0.0
    left: float = 0.0
    copied_at: float | None = None

    def waiting(self, now: float) -> list[float]:
        """Requests that have arrived and are not served."""
        taken = len(self.answered) + len(self.batch)
        return [time for time in self.arrival[taken : taken + self.largest] if time <= now]

    def next_decision(self, now: float) -> float:
        """The next instant at which an idle instance has to look again."""
        taken = len(self.answered)
        if taken == len(self.arrival):
            return math.inf
        moments = [self.arrival[taken] + self.delay, *self.arrival[taken : taken + self.largest]]
        return min((moment for moment in moments if moment > now), default=math.inf)

    def may_begin(self, now: float) -> bool:
        """Whether an idle instance begins a batch now."""
        waiting = self.waiting(now)
        return bool(waiting) and (len(waiting) == self.largest or waiting[0] + self.delay <= now)


def serve_together_plainly(instances: Sequence[Instance], times: Callable[[dict[int, int]], dict[int, float]]) -> None:
    """Serve placements that slow each other down; `times` says how long batches take that run together.

    Parameters
    ----------
    times
        From the batches on the GPU, by placement, to their GPU times.
    """
    now = 0.0
    while True:
        running = {i: len(own.batch) for i, own in enumerate(instances) if own.batch and own.copied_at is None}
        taking = times(running) if running else {}
        events = [now + instances[i].left * taken for i, taken in taking.items()]
        events += [own.copied_at for own in instances if own.copied_at is not None]
        events += [own.next_decision(now) for own in instances if not own.batch]
        events += [now for own in instances if not own.batch and own.may_begin(now)]
        following = min(events, default=math.inf)
        if following == math.inf:
            return
        for i, taken in taking.items():
            instances[i].left -= (following - now) / taken
        now = following
        for i in running:
            own = instances[i]
            if own.left * taking[i] < 1e-6:
                own.copied_at = now + own.feedback[len(own.batch) - 1]
        for own in instances:
            if own.copied_at is not None and own.copied_at <= now:
                own.answered += [now + own.load[len(own.batch) - 1] - time for time in own.batch]
                own.busy += now - own.begun
                own.batch, own.copied_at = [], None
            if not own.batch and own.may_begin(now):
                own.batch, own.begun = own.waiting(now), now
                own.left = own.noise[len(own.sizes)] if own.noise else 1.0
                own.sizes.append(len(own.batch))

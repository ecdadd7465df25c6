"""Measurements of what takes milliseconds, on a machine that is busy with other work now and then."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from igniter_opt.measure.results import Measurement

# Later than that, and times say something of the machine.
LATE_MS = 60.0
ATTEMPTS = 4


def undisturbed(measured: Callable[[], Measurement]) -> Measurement:
    """Measure again while this process or the load generator was kept from its work; the last one counts in any case.

    Whether they were is found out apart from the latencies: a fault of the measurement is there in every attempt.
    """
    for _ in range(ATTEMPTS):
        with _lateness() as late:
            found = measured()
        if max(late[0], *(entry.sent_late_ms or 0.0 for entry in found.workloads)) < LATE_MS:
            break
    return found


@contextmanager
def _lateness() -> Iterator[list[float]]:
    """How late a thread of this process woke at most, in ms."""
    worst, ended = [0.0], threading.Event()

    def wake() -> None:
        before = time.monotonic()
        while not ended.wait(0.005):
            now = time.monotonic()
            worst[0] = max(worst[0], 1000 * (now - before) - 5)
            before = now

    thread = threading.Thread(target=wake)
    thread.start()
    try:
        yield worst
    finally:
        ended.set()
        thread.join()

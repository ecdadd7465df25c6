"""The time limit of a solve."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from igniter_opt.base import compilation
from igniter_opt.base.stop import StopRequest


def _now() -> float:
    """Seconds on a clock that stands still while something is compiled."""
    return time.perf_counter() - compilation.seconds()


class EnoughError(Exception):
    """Time is up for this part of the work, a stop was asked for, or nothing is left to be done."""


class Clock:
    """A time limit, parts of it, and a stop request. Compilation in between takes nothing of it.

    Parameters
    ----------
    time_limit
        Seconds from now.
    stop
        Ends every part of the work.
    """

    def __init__(self, time_limit: float, stop: StopRequest) -> None:
        self.time_limit, self.stop = time_limit, stop
        self._began = _now()
        self._deadline = self._began + time_limit

    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return _now() - self._began

    def left(self) -> float:
        """Seconds left for this part of the work."""
        return max(0.0, self._deadline - _now())

    def is_up(self) -> bool:
        """Whether this part of the work shall end."""
        return self.stop.is_set() or self.left() == 0.0

    def check(self) -> None:
        """Raise EnoughError if this part of the work shall end."""
        if self.is_up():
            raise EnoughError

    def allow(self, part: float) -> None:
        """Let work go on until this part of the time limit is over, counted from the beginning."""
        self._deadline = self._began + part * self.time_limit

    def shorten(self, part: float) -> None:
        """Let work go on for no more than this part of the time limit from now."""
        self._deadline = min(self._deadline, _now() + part * self.time_limit)

    @contextmanager
    def within(self, part: float) -> Iterator[None]:
        """Give up what is done here after a part of the time limit."""
        until = self._deadline
        self.shorten(part)
        with suppress(EnoughError):
            yield
        self._deadline = until

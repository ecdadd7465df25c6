"""Asking a running solve to end early, and its time limit."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType


class StopRequest:
    """A flag that asks running solvers to stop; set by Ctrl-C, or SIGTERM in the command, or by the caller."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask to stop."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether a stop was asked for."""
        return self._event.is_set()

    @contextmanager
    def then_deaf(self) -> Iterator[None]:
        """Let Ctrl-C raise KeyboardInterrupt only until a stop was asked for: what follows then is output.

        Around a call that has `on_interrupt` inside.
        """
        numbers = _raising()
        for number in numbers:
            signal.signal(number, _RaiseUntil(self))
        try:
            yield
        finally:
            for number in numbers:
                signal.signal(number, signal.default_int_handler)

    @contextmanager
    def on_interrupt(self, *more: signal.Signals) -> Iterator[None]:
        """Let Ctrl-C set this flag instead of raising KeyboardInterrupt, as often as it is pressed.

        So does every other signal that would raise it, as SIGTERM does in the command. Python delivers signals to the
        main thread only; elsewhere this does nothing.

        Parameters
        ----------
        more
            Further signals that shall do the same.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = {signal.SIGINT, *_raising(), *more}
        before = {number: signal.signal(number, lambda *_: self.set()) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
                signal.signal(number, default if handler is None else handler)


class _RaiseUntil:
    """A handler of signals that raises KeyboardInterrupt until a stop was asked for."""

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self._stop.is_set():
            signal.default_int_handler(number, frame)


def _raising() -> list[signal.Signals]:
    """The signals that raise KeyboardInterrupt in this thread."""
    if threading.current_thread() is not threading.main_thread():
        return []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    return [
        number
        for number, handler in handlers.items()
        if handler is signal.default_int_handler or isinstance(handler, _RaiseUntil)
    ]


class EnoughError(Exception):
    """Time is up for this part of the work, a stop was asked for, or nothing is left to be done."""


class Clock:
    """A time limit, parts of it, and a stop request.

    Parameters
    ----------
    time_limit
        Seconds from now.
    stop
        Ends every part of the work.
    """

    def __init__(self, time_limit: float, stop: StopRequest) -> None:
        self.time_limit, self.stop = time_limit, stop
        self._began = time.perf_counter()
        self._deadline = self._began + time_limit

    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._began

    def left(self) -> float:
        """Seconds left for this part of the work."""
        return max(0.0, self._deadline - time.perf_counter())

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
        self._deadline = min(self._deadline, time.perf_counter() + part * self.time_limit)

    @contextmanager
    def within(self, part: float) -> Iterator[None]:
        """Give up what is done here after a part of the time limit."""
        until = self._deadline
        self.shorten(part)
        with suppress(EnoughError):
            yield
        self._deadline = until

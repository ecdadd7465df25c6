"""Asking a running solve to end early."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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

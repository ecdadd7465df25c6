"""Asking a running solve to end early."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class StopRequest:
    """A flag that asks running solvers to stop; set by Ctrl-C or by the caller."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask to stop."""
        self._event.set()

    def is_set(self) -> bool:
        """Whether a stop was asked for."""
        return self._event.is_set()

    @contextmanager
    def on_interrupt(self, *more: signal.Signals) -> Iterator[None]:
        """Let Ctrl-C set this flag instead of raising KeyboardInterrupt, as often as it is pressed.

        Python delivers signals to the main thread only; elsewhere this does nothing.

        Parameters
        ----------
        more
            Further signals that shall do the same.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, lambda *_: self.set()) for number in (signal.SIGINT, *more)}
        try:
            yield
        finally:
            for number, handler in before.items():
                default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
                signal.signal(number, default if handler is None else handler)

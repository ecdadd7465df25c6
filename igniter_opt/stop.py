"""Asking a running solve to end early."""

import threading


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

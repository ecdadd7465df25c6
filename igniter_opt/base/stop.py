"""Asking a running solve to end early."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from igniter_opt.base import command

# Another Ctrl-C within so many seconds after one made a call return early is meant for the program that calls.
AGAIN_S = 10.0


# How often a waiting main thread looks up.
_LOOK_EVERY_S = 0.1


def in_a_thread(work: Callable[[], object], name: str, look: Callable[[], object] = lambda: None) -> None:
    """Do work that knows nothing of Python in a thread of its own, so that the main thread receives Ctrl-C meanwhile.

    Parameters
    ----------
    look
        Called by the waiting thread several times a second.

    Raises
    ------
    BaseException
        What the work raised.
    """
    done, failures = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)
        finally:
            done.set()

    threading.Thread(target=run, name=name, daemon=True).start()
    while not done.wait(_LOOK_EVERY_S):
        look()
    if failures:
        raise failures[0]


class _Last:
    """Until when (by `time.monotonic`) a Ctrl-C is the second one."""

    again_until = 0.0


def returns_early(so_far: str) -> None:
    """Say in one line on stderr that Ctrl-C made a call return early; soon afterwards another one ends the program.

    Not in the command, which says and does so itself.

    Parameters
    ----------
    so_far
        What is returned, in words.
    """
    if not command.is_running():
        _Last.again_until = time.monotonic() + AGAIN_S
        with suppress(OSError):
            print(
                f"interrupted: {so_far}; another Ctrl-C within {AGAIN_S:g} s raises KeyboardInterrupt", file=sys.stderr
            )


class StopRequest:
    """A flag that asks running solvers to stop; set by Ctrl-C, or SIGTERM in the command, or by the caller."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.by_signal = False

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

        So does every other signal that would raise it, as SIGTERM does in the command; `by_signal` says that one did.
        It is raised all the same soon after a call that returned early (`returns_early`), but not where there are
        `more` signals: what is undone there takes its time. Python delivers signals to the main thread only; elsewhere
        this does nothing.

        Parameters
        ----------
        more
            Further signals that shall do the same.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = {signal.SIGINT, *_raising(), *more}

        def ask(number: int, frame: FrameType | None) -> None:
            if not (more or self.is_set()) and time.monotonic() < _Last.again_until:
                signal.default_int_handler(number, frame)
            self.by_signal = True
            self.set()

        before = {number: signal.signal(number, ask) for number in numbers}
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

"""Compilation of inner loops as it happens: the time it takes, who is told of it, and what ends it.

`base.compiled` says when a function is compiled or read from the cache; clocks leave that time out, the command
shows it on a terminal, and a stop request ends it at the next function (one takes up to a few seconds).
"""

import gc
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from igniter_opt.base.stop import StopRequest

# Functions compiled so far, and seconds that this has taken.
Watcher = Callable[[int, float], object]


class _Work:
    """What this process has compiled (numba compiles under one lock)."""

    depth, functions = 0, 0
    began, before = 0.0, 0.0
    watcher: Watcher | None = None
    stop: StopRequest | None = None
    said: set[str] = set()  # noqa: RUF012 (one state of the process)


def seconds() -> float:
    """Seconds spent on compiling, reading compiled code, and importing what solves, in this process so far."""
    return _Work.before + (time.perf_counter() - _Work.began if _Work.depth else 0.0)


def functions() -> int:
    """Functions that this process has compiled so far, those of numba's own that ours need among them."""
    return _Work.functions


@contextmanager
def counted_apart() -> Iterator[None]:
    """Count the time in here as compilation: it is spent once a process, whatever is solved."""
    if _Work.depth == 0:
        _Work.began = time.perf_counter()
    _Work.depth += 1
    try:
        yield
    finally:
        if _Work.depth == 1:
            _Work.before = seconds()
        _Work.depth -= 1


@contextmanager
def rare_collections() -> Iterator[None]:
    """Look for garbage rarely in here: numba makes many objects, and nearly all stay for as long as it compiles."""
    usual = gc.get_threshold()
    gc.set_threshold(50_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def begin_function() -> None:
    """Tell the watcher that a function is about to be compiled.

    Raises
    ------
    KeyboardInterrupt
        A stop was asked for (see `ended_by`). Numba would wrap any other exception.
    """
    _Work.functions += 1
    if _Work.watcher is not None:
        _Work.watcher(_Work.functions, seconds())
    if _Work.stop is not None and _Work.stop.is_set():
        raise KeyboardInterrupt


def watch(watcher: Watcher | None) -> None:
    """Have `watcher` called before every function that is compiled."""
    _Work.watcher = watcher


@contextmanager
def ended_by(stop: StopRequest) -> Iterator[None]:
    """Let a stop request end compilation in here: KeyboardInterrupt is raised before the next function."""
    before = _Work.stop
    _Work.stop = stop
    try:
        yield
    finally:
        _Work.stop = before


def say_once(kind: str, text: str) -> None:
    """Say on stderr what is worth knowing about compiled code, one line of every kind a process."""
    if kind not in _Work.said:
        _Work.said.add(kind)
        logging.getLogger("igniter_opt").warning("note: %s", text)


class Stopwatch:
    """Seconds since it was made, compilation left out."""

    def __init__(self) -> None:
        self._began, self._compiled = time.perf_counter(), seconds()

    def elapsed(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._began - (seconds() - self._compiled)

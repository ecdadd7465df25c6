"""Ctrl-C and SIGTERM while the command imports what it needs: one line and exit code 130, no traceback.

SIGTERM is what schedulers, container runtimes and ``timeout`` send; the command takes it as a Ctrl-C throughout.
Importing this module does it, before anything that takes time; the package imports it first, and it imports next to
nothing itself. It is for the command alone: a program that imports the package keeps its own handling.
"""

import os
import signal
import sys

EXIT_INTERRUPTED = 130
_SCRIPT = "igniter-opt"
# What ends a command early, and Python's own handling of it.
_USUAL = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


def is_running() -> bool:
    """Whether this process is the command: its script, or ``python -m igniter_opt``."""
    words = sys.orig_argv
    script = any(os.path.basename(word) == _SCRIPT for word in words[1:2])  # noqa: PTH119 (pathlib takes a while)
    return script or any(words[k : k + 2] == ["-m", "igniter_opt"] for k in range(len(words)))


def has_begun() -> None:
    """Let Ctrl-C and SIGTERM raise KeyboardInterrupt from here on: it is taken care of."""
    for number in _USUAL:
        if signal.getsignal(number) is _end:
            signal.signal(number, signal.default_int_handler)


def ignores_interrupts() -> None:
    """Ignore Ctrl-C and SIGTERM from now on: what is left is output, or the interpreter's own end.

    A handler that does nothing is not enough: where Python does not buffer its output (PYTHONUNBUFFERED), a signal that
    arrives amid a long write loses the rest of it.
    """
    import threading

    if threading.current_thread() is threading.main_thread():
        for number in _USUAL:
            if signal.getsignal(number) is not signal.SIG_DFL:
                signal.signal(number, signal.SIG_IGN)


def _end(*_: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(EXIT_INTERRUPTED)


if is_running():
    for number, usual in _USUAL.items():
        if signal.getsignal(number) is usual:
            signal.signal(number, _end)

"""Ctrl-C in the second in which the command imports what it needs: one line and exit code 130, no traceback.

Importing this module does it, before anything that takes time; the package imports it first. It is for the command
alone: a program that imports the package keeps its own handling.
"""

import os
import signal
import sys
import threading
from itertools import pairwise
from pathlib import PurePath

EXIT_INTERRUPTED = 130
_SCRIPT = "igniter-opt"


def is_running() -> bool:
    """Whether this process is the command: its script, or ``python -m igniter_opt``."""
    words = sys.orig_argv
    return ("-m", "igniter_opt") in pairwise(words) or any(PurePath(word).stem == _SCRIPT for word in words[1:2])


def has_begun() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again: from here on it is taken care of."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def ignores_interrupts() -> None:
    """Ignore Ctrl-C from now on: what is left is output, or the interpreter's own end.

    A handler that does nothing is not enough: where Python does not buffer its output (PYTHONUNBUFFERED), a signal that
    arrives amid a long write loses the rest of it.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end(*_: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(EXIT_INTERRUPTED)


if is_running() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _end)

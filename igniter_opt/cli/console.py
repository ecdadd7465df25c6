"""What goes to the terminal and how: results to stdout, progress and messages to stderr."""

import codecs
import io
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from igniter_opt.base.errors import Caution
from igniter_opt.base.text import with_nulls

# Errors are told without these, which take longer than finding the error.
if TYPE_CHECKING:
    from rich.console import Console

    from igniter_opt.result import Progress

_PIPE_WIDTH = 200


# How a terminal that knows no more than ASCII, say, shows the marks that tables and sentences of ours have.
_PLAIN = {"±": "+-", "−": "-", "–": "-", "—": "-", "…": "...", "×": "x", "≤": "<=", "≥": ">=", "→": "->"}


def print_what_can_be_printed() -> None:
    """Let no character end the program: where the terminal's encoding lacks one, another stands for it.

    Other people's (of names, say) become escapes, which JSON reads back.
    """
    codecs.register_error("igniter-opt", _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="igniter-opt")


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(mark) or json.dumps(mark)[1:-1] for mark in lacking), error.end


def stdout() -> "Console":
    """Console for results; wide enough for every table when piped."""
    from rich.console import Console

    class Results(Console):
        """A console that leaves it to the program what a closed pipe means (rich ends the process with 1)."""

        def on_broken_pipe(self) -> None:
            """Say that the reader has gone."""
            raise BrokenPipeError

    return Results(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False, soft_wrap=False)


def printable(text: str) -> str:
    """Show the control characters of a text, which may be from a file, so that no terminal obeys them."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else ascii(sign)[1:-1] for sign in text)


def message(text: str) -> None:
    """Print one message to stderr; work goes on where nobody can read it (closed pipe or terminal, full disk)."""
    try:
        print(printable(text), file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stderr)


@contextmanager
def cautions_as_lines() -> Iterator[None]:
    """Print this package's warnings as one line each, every text once."""
    with warnings.catch_warnings():
        show, say = warnings.showwarning, message

        def print_one(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, Caution):
                say(f"warning: {message}")
            else:
                show(message, category, filename, lineno, file, line)

        warnings.simplefilter("default", Caution)
        warnings.showwarning = print_one
        yield


def discard(stream: TextIO) -> None:
    """Send what is still to be written to a stream nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def print_json(data: Any) -> None:
    """Print JSON to stdout; numbers that are not finite become null."""
    print(json.dumps(with_nulls(data), indent=1, allow_nan=False))


class ProgressPrinter:
    """One line per second, for every better plan, and for whatever else is done; on a terminal.

    Parameters
    ----------
    head
        What is solved, in a line before the first.
    always
        Whether to print to a stderr that is no terminal, too.
    """

    def __init__(self, head: str = "", *, always: bool = False) -> None:
        self.active = always or sys.stderr.isatty()
        self._last = -math.inf
        self._head = head
        self._titled: str | None = None

    def __call__(self, progress: "Progress", prefix: str = "") -> None:
        """Print a progress line if it is due."""
        now = time.monotonic()
        if self.active and (progress.improved or progress.doing is not None or now - self._last >= 1.0):
            self._last = now
            if self._head:
                message(_first_parts(self._head))
                self._head = ""
            if progress.doing is not None:
                message(_first_parts(f"{prefix}{progress}"))
                return
            # Titles belong above numbers, of every solve; what is done before a search needs none.
            if self._titled != prefix:
                from igniter_opt.result import PROGRESS_LEGEND, PROGRESS_TITLES

                for entry in (prefix.rstrip(), "" if self._titled is not None else PROGRESS_LEGEND, PROGRESS_TITLES):
                    if entry:
                        message(_first_parts(entry))
                self._titled = prefix
            message(_first_parts(str(progress)))


def _first_parts(text: str) -> str:
    """As many of the parts of a line, which two spaces separate, as a line of the terminal holds."""
    try:
        width = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        return text
    while len(text) > width > 0 and "  " in text.strip():
        text = text.rstrip().rpartition("  ")[0]
    return text


class CountPrinter:
    """How many of some things are done, once a second; nothing unless stderr is a terminal.

    Parameters
    ----------
    things
        What is counted, in the plural.
    """

    def __init__(self, things: str) -> None:
        self.active = sys.stderr.isatty()
        self._things = things
        self._last = time.monotonic()

    def __call__(self, done: int, of_all: int) -> None:
        """Print a line if it is due."""
        now = time.monotonic()
        if self.active and now - self._last >= 1.0:
            self._last = now
            message(f"{done:,} of {of_all:,} {self._things}")


class LinePrinter:
    """A line for what is done, at most once a second; nothing unless stderr is a terminal."""

    def __init__(self) -> None:
        self.active = sys.stderr.isatty()
        self._last = -math.inf

    def __call__(self, moment: object) -> None:
        """Print a line if it is due."""
        now = time.monotonic()
        if self.active and now - self._last >= 1.0:
            self._last = now
            message(_first_parts(str(moment)))


class StepPrinter:
    """What is being done, and how far it is, at most once a second; nothing unless stderr is a terminal."""

    def __init__(self) -> None:
        self.active = sys.stderr.isatty()
        self._last = -math.inf

    def __call__(self, what: str, done: int, of_all: int) -> None:
        """Print a line if it is due."""
        now = time.monotonic()
        if self.active and now - self._last >= 1.0:
            self._last = now
            message(f"[{done + 1} of {of_all}] {what}")


class CompilationPrinter:
    """That inner loops are compiled, and about how long that takes, once; nothing unless stderr is a terminal."""

    def __init__(self) -> None:
        self.active = sys.stderr.isatty()

    def __call__(self, functions: int, seconds: float) -> None:
        """Print the line if it is due."""
        if self.active:
            self.active = False
            message(
                "compiling inner loops, once on this machine: about 15 to 60 s"
                " (`igniter-opt warm-up` does it beforehand)"
            )

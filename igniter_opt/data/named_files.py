"""Files that instances and plans name: profiles, and recorded arrivals.

Whoever reads an instance or a plan says what such a name may stand for, by one of these objects. It travels with what
is read to every place that would open a file, and to checks of records in their validation context (`CONTEXT_KEY`).
"""

from pathlib import Path
from typing import Any, Protocol

from igniter_opt.base.errors import InputError
from igniter_opt.base.text import cut

# Of the validation context of records.
CONTEXT_KEY = "files"


class NamedFiles(Protocol):
    """What names of files stand for."""

    def path(self, name: str, what: str, instead: str) -> Path:
        """Return the path of a file that is named.

        Parameters
        ----------
        name
            As it was written.
        what
            What the file is, with its article, for messages.
        instead
            What can be given in place of a file, for messages.

        Raises
        ------
        InputError
            No file may be named.
        """

    def admit(self, requests: int) -> None:
        """Take note of so many recorded requests that are carried along; raise InputError where they are too many."""


class FilesIn:
    """Paths, relative ones from a folder: for what the user's own files name.

    Parameters
    ----------
    folder
        By default the current one.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path()

    def path(self, name: str, what: str, instead: str) -> Path:
        """Return the path."""
        return self._folder / name

    def admit(self, requests: int) -> None:
        """Admit any number: files are bounded by their size."""


class NoFiles:
    """No files at all: for what comes from elsewhere, where a name must open nothing.

    One object is for one instance or plan.

    Parameters
    ----------
    most_requests
        Recorded requests that may be carried along; packed, they are a thousandth of what they take in memory.
    """

    def __init__(self, most_requests: int = 1_000_000) -> None:
        self._most = self._left = most_requests

    def path(self, name: str, what: str, instead: str) -> Path:
        """Raise InputError."""
        raise InputError(f"{what} cannot be named by a file here (found {cut(repr(name))}); {instead}")

    def admit(self, requests: int) -> None:
        """Raise InputError where they are more than may be, with those before them."""
        self._left -= requests
        if self._left < 0:
            raise InputError(f"more than {self._most:,} recorded requests in all; give fewer")


def files_of(context: Any) -> NamedFiles:
    """Return what names of files stand for in a validation context; paths if it says nothing."""
    found: NamedFiles | None = context.get(CONTEXT_KEY) if isinstance(context, dict) else None
    return found or FilesIn()

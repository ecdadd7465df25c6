"""What took long to make, as text files on disk that are used only if they are whole, and nobody else could write them.

A file is named by what its content is made of (`content_name`), the code that makes it included, so that nothing stale
is found; it carries a digest of its text, so that nothing damaged is used: that is made anew.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from igniter_opt.base.compilation import say_once
from igniter_opt.base.errors import InputError
from igniter_opt.base.files import write_bytes_atomically
from igniter_opt.base.ownership import check_private, make_private

_MEND = "remove it"
T = TypeVar("T")


@dataclass(frozen=True)
class Shelf:
    """A folder of such files.

    Attributes
    ----------
    key
        Names it where a complaint is made once.
    magic
        First line of its files.
    kept, anew, lost
        What they hold, what becomes of it where they cannot be used, and that none can be written, as messages say it.
    folders
        Where they may be, the best place first.
    most_files, most_bytes
        The oldest files beyond so many, or beyond so much in all, are removed.
    """

    key: str
    magic: str
    kept: str
    anew: str
    lost: str
    folders: Callable[[], list[Path]]
    most_files: int
    most_bytes: int = 2**62

    def has(self, name: str) -> bool:
        """Whether there is a file of a name."""
        return any(_is_file(folder / name) for folder in self.folders())

    def read(self, name: str, made_of: Callable[[str], T]) -> T | None:
        """Return what a function makes of a file's text; None where there is none that can be used.

        The function raises ValueError where the text is not what it should be.
        """
        for path in (folder / name for folder in self.folders()):
            if not _is_file(path):
                continue
            try:
                check_private(path, _MEND)
                return made_of(self.unsealed(path.read_text("utf-8")))
            except (InputError, OSError) as error:
                say_once(f"{self.key} unused", f"kept {self.kept} are not used ({error})")
            except (ValueError, OverflowError, RecursionError):
                say_once(f"{self.key} damaged", f"the kept {self.kept} in {path} are damaged and {self.anew}")
        return None

    def write(self, name: str, text: str) -> None:
        """Keep a text of one line, as far as the disk allows."""
        reasons = []
        for folder in self.folders():
            try:
                check_private(folder, _MEND)
                make_private(folder)
                write_bytes_atomically(folder / name, self.sealed(text).encode())
                self._remove_oldest(folder)
                return
            except (InputError, OSError) as error:
                reasons.append(str(error))
        why = "; ".join(reasons) or "there is no folder for them"
        say_once(f"{self.key} not kept", f"{self.lost} ({why})")

    def sealed(self, text: str) -> str:
        """Return a text as it stands in a file."""
        return f"{self.magic}\n{hashlib.sha256(text.encode()).hexdigest()}\n{text}\n"

    def unsealed(self, sealed: str) -> str:
        """Return the text in a file; raise ValueError if it is not what was written."""
        magic, digest, text, rest = sealed.split("\n")
        if magic != self.magic or rest or hashlib.sha256(text.encode()).hexdigest() != digest:
            raise ValueError("not what was written")
        return text

    def _remove_oldest(self, folder: Path) -> None:
        files = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        size = 0
        for position, path in enumerate(files):
            size += path.stat().st_size
            # The newest stays, however large.
            if position and (position >= self.most_files or size > self.most_bytes):
                path.unlink(missing_ok=True)


def content_name(code: bytes, content: str) -> str:
    """Return the name of the file of what some code makes of some content."""
    return hashlib.sha256(code + content.encode()).hexdigest() + ".json"


def code_digest(packages: Iterable[str], sources: Iterable[Path]) -> bytes:
    """Return a digest of the versions of packages and of files of code."""
    digest = hashlib.sha256(" ".join(version(package) for package in packages).encode())
    for path in sources:
        digest.update(path.read_bytes())
    return digest.digest()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False

"""Reading a feed while others append to it, whatever becomes of the file."""

import os
from pathlib import Path

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import exists, parse_json
from igniter_opt.base.schema import parse_record
from igniter_opt.measure.feed import FeedLine

# So much is read at one look at most, half a million latencies; a line longer than this is no line.
_MOST_BYTES = 8 * 2**20
# A look takes two seconds then. What is left is read at the next one.
_MOST_LINES = 50_000


class FeedReader:
    """Returns the lines of a feed that are new.

    What was in the file before is past, and is skipped. The file need not exist yet; a file that is truncated or
    replaced (rotated) is read from its beginning, after the rest of the old one. The last line counts when it is
    complete. Lines that are none are counted and skipped.

    Raises
    ------
    InputError
        There is something else than a file, or no folder for it to come to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines, self.bad_lines = 0, 0
        self.last_problem = ""
        self._file: int | None = None
        self._rest, self._skip = b"", False
        # Whether there is more in the file than the last look took.
        self._behind = False
        if exists(path) and not path.is_file():
            raise InputError(f"{path}: is no regular file; --feed takes the file that `measure --feed` appends to")
        if not exists(path.absolute().parent):
            raise InputError(f"{path}: the folder {path.parent} does not exist")
        self._open()
        if self._file is not None:
            os.lseek(self._file, 0, os.SEEK_END)
            self._skip = self._in_a_line()

    @property
    def exists(self) -> bool:
        """Whether the file is there."""
        return exists(self.path)

    def _open(self) -> None:
        self._file = None
        try:
            if self.path.is_file():  # and not a pipe or device that came in its place: those cannot be followed
                self._file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            pass

    def _in_a_line(self) -> bool:
        """Whether the end of the file is in the middle of a line, which is past then, too."""
        assert self._file is not None  # noqa: S101
        end = os.lseek(self._file, 0, os.SEEK_CUR)
        return end > 0 and os.pread(self._file, 1, end - 1) != b"\n"

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def read(self) -> list[FeedLine]:
        """Return the lines appended since the last call."""
        content = self._read_on()
        if not self._behind and self._was_replaced():
            self.close()
            self._rest, self._skip = b"", False
            self._open()
            content += self._read_on()
        lines = [line for text in content for line in self._parsed(text)]
        self.lines += len(lines)
        return lines

    def _read_on(self) -> list[bytes]:
        """Read the open file on; return its complete lines."""
        if self._file is None:
            return []
        try:
            if os.fstat(self._file).st_size < os.lseek(self._file, 0, os.SEEK_CUR):  # truncated
                os.lseek(self._file, 0, os.SEEK_SET)
                self._rest, self._skip = b"", False
            data = bytearray(self._rest)
            while len(data) < _MOST_BYTES and (more := os.read(self._file, 2**20)):
                data += more
        except OSError:
            return []
        *lines, self._rest = bytes(data).split(b"\n", _MOST_LINES)
        self._behind = len(data) >= _MOST_BYTES or len(lines) == _MOST_LINES
        if len(self._rest) >= _MOST_BYTES and b"\n" not in self._rest:
            self._rest, self._skip = b"", True
        if self._skip and lines:
            lines, self._skip = lines[1:], False
        return lines

    def _was_replaced(self) -> bool:
        """Whether another file is at the path than the one that is open, or one where there was none."""
        try:
            now = self.path.stat()
        except OSError:
            return False
        if self._file is None:
            return True
        opened = os.fstat(self._file)
        return (opened.st_dev, opened.st_ino) != (now.st_dev, now.st_ino)

    def _parsed(self, text: bytes) -> list[FeedLine]:
        if not text.strip():
            return []
        try:
            data = parse_json(text.decode("utf-8", errors="replace"), str(self.path))
            return [parse_record(FeedLine, data, str(self.path))]
        except InputError as error:
            self.bad_lines += 1
            self.last_problem = str(error).splitlines()[0]
            return []

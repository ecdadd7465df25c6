"""Raw measurements as they are made: one JSON object a line, so that nothing is lost and a session can be resumed.

`at_s` beside each is when it was made, in seconds since the (resumed) session began.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import read_text
from igniter_opt.base.schema import describe
from igniter_opt.data.measurement_files import LOG_SCHEMA
from igniter_opt.profiler.entries import check_entry, check_head


class Log:
    """An append-only file of measurements, each under a key; what is there already is not measured again.

    A file is touched only when a measurement is put into it, and only if it is a log with this head.

    Parameters
    ----------
    path
        The file; None keeps all in memory.
    head
        What the measurements are of; a file with another head is refused.

    Raises
    ------
    InputError
        The file cannot be read or written, or is about something else.
    """

    def __init__(self, path: Path | None, head: dict[str, Any]) -> None:
        self.path = path
        self.entries: dict[str, Any] = {}
        self._began = time.monotonic()
        # Of a file whose last line lacks its end: how long it was when it was read.
        self._unended: int | None = None
        head = {"schema": LOG_SCHEMA, **head}
        if path is None:
            return
        try:
            if path.exists() and not path.is_file():
                raise InputError(f"{path}: is not a regular file; give another one")
            if path.exists() and path.stat().st_size:
                self._read(path, head)
            else:
                path.write_text(json.dumps(head) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"{path}: cannot be used ({error.strerror})") from None

    def _read(self, path: Path, head: dict[str, Any]) -> None:
        found, *rest = read_log(path)
        if found != head:
            changed = next(key for key in {**head, **found} if found.get(key) != head.get(key))
            raise InputError(
                f"{path}: holds measurements with another {changed} ({describe(found.get(changed))}, not"
                f" {describe(head.get(changed))}); give another file"
            )
        self.entries = {entry["key"]: entry["value"] for entry in rest}
        path.open("ab").close()  # it can be written to
        content = path.read_bytes()
        self._unended = None if content.endswith(b"\n") else len(content)

    def __contains__(self, key: str) -> bool:
        return key in self.entries

    def __getitem__(self, key: str) -> Any:
        return self.entries[key]

    def put(self, key: str, value: Any) -> Any:
        """Write a measurement.

        Raises
        ------
        InputError
            It is not one that a profile could hold, or it cannot be written.
        """
        at = round(time.monotonic() - self._began, 2)
        entry = {"key": key, "value": value, "at_s": at}
        check_entry(entry, f"measurement {key!r}")
        self.entries[key] = value
        if self.path is None:
            return value
        try:
            self._end_last_line(self.path)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror})") from None
        return value

    def _end_last_line(self, path: Path) -> None:
        """End a whole last line, and remove one that was cut off, so that the next one does not continue it."""
        if self._unended is None:
            return
        with path.open("r+b") as file:
            content = file.read()
            if len(content) != self._unended:
                raise InputError(f"{path}: was changed by another program meanwhile; start again")
            whole = content.rfind(b"\n") + 1
            if _is_json(content[whole:]):
                file.write(b"\n")
            else:
                file.truncate(whole)
        self._unended = None


def _is_json(text: str | bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Yield a log's head and entries; a last line that was cut off is left out.

    Raises
    ------
    InputError
        The file is no such log.
    """
    text = read_text(path)
    if not text:
        raise InputError(f"{path}: is empty; not a file of measurements")
    lines = text.split("\n")
    if not _is_json(lines[0]) and _is_json(text):
        raise InputError(f"{path}: not a log of measurements, which `--resume` keeps, one JSON object a line")
    if len(lines) > 1 and not _is_json(lines[-1]):
        lines.pop()
    for number, line in enumerate(lines, 1):
        source = f"{path}: line {number}"
        if not _is_json(line):
            raise InputError(f"{source}: not JSON; not a file of measurements")
        found = json.loads(line)
        (check_head if number == 1 else check_entry)(found, source)
        yield found

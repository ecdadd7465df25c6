"""Raw measurements as they are made: one JSON object a line, so that nothing is lost and a session can be resumed.

`at_s` beside each is when it was made, in seconds since the (resumed) session began.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from igniter_opt.errors import InputError

RECORD_SCHEMA = "igniter-opt/profiling@1"


class Log:
    """An append-only file of measurements, each under a key; what is there already is not measured again.

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
        head = {"schema": RECORD_SCHEMA, **head}
        if path is None:
            return
        try:
            if path.exists() and path.stat().st_size:
                self._read(path, head)
            else:
                path.write_text(json.dumps(head) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"{path}: cannot be used ({error.strerror})") from None

    def _read(self, path: Path, head: dict[str, Any]) -> None:
        _drop_cut_off_line(path)
        found, *rest = list(read_log(path))
        if found != head:
            changed = [key for key in head if found.get(key) != head[key]] or ["schema"]
            raise InputError(
                f"{path}: holds measurements with another {changed[0]} ({found.get(changed[0])!r}, not"
                f" {head[changed[0]]!r}); give another file"
            )
        self.entries = {entry["key"]: entry["value"] for entry in rest}

    def __contains__(self, key: str) -> bool:
        return key in self.entries

    def __getitem__(self, key: str) -> Any:
        return self.entries[key]

    def put(self, key: str, value: Any) -> Any:
        """Write a measurement."""
        self.entries[key] = value
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                at = round(time.monotonic() - self._began, 2)
                file.write(json.dumps({"key": key, "value": value, "at_s": at}) + "\n")
        return value


def _drop_cut_off_line(path: Path) -> None:
    """Remove a last line that was not written whole, so that the next one does not continue it."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if 0 < whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Yield a log's head and entries; a last line that was cut off is left out.

    Raises
    ------
    InputError
        The file is no such log.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except ValueError:
            if number == len(lines) > 1:
                return
            raise InputError(f"{path}: line {number} is no JSON; not a file of measurements") from None
        if not isinstance(entry, dict) or (number > 1 and not {"key", "value"} <= set(entry)):
            raise InputError(f"{path}: line {number}: not a file of measurements")
        yield entry

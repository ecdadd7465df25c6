"""Recorded arrivals: CSV files of timestamps in seconds, read in pieces, so that size is no matter.

A file has a column ``timestamp`` and, if it is about several workloads, a column ``workload``; other columns are
ignored. A file without a header is one column of timestamps. Times may begin anywhere (a Unix time is fine); within
a workload they must not decrease.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.errors import InputError
from igniter_opt.base.files import as_path, open_input
from igniter_opt.base.nanoseconds import NS_PER_S, whole_ns
from igniter_opt.base.schema import NAME_RULE, describe, is_name, nearest

if TYPE_CHECKING:
    import pandas as pd

TIME_COLUMN, WORKLOAD_COLUMN = "timestamp", "workload"
_ROWS_AT_ONCE = 500_000
_LONGEST_HEADER = 10_000
# Far more than a row of other columns has; what is longer is no CSV, or has a quote that nothing ends.
_LONGEST_ROW = 2**20
# Some 300 million requests.
_MOST_BYTES = 4 * 2**30
# Seconds beyond this are later than the year 2200: milliseconds, surely.
_LATEST_S = 1e10


def read_traces(
    sources: Sequence[tuple[str | None, str | Path]], workloads: Sequence[str] | None
) -> dict[str, FloatArray]:
    """Read trace files.

    Parameters
    ----------
    sources
        Pairs of a workload's name and a file with its timestamps; without a name, the file has a column
        ``workload``, or there is but one workload.
    workloads
        The workloads that exist; each must have a request. None for those that the files name, in their order there.

    Returns
    -------
    dict
        Per workload its arrival times in whole nanoseconds since the earliest of all, ascending.

    Raises
    ------
    InputError
        A file that cannot be read; a time that is missing, no number, not finite, negative, or before the one
        above it; an unknown workload, one without requests, or one that two files are about.
    """
    pieces: dict[str, list[FloatArray]] = {}
    for source in sources:
        if isinstance(source, str) or not isinstance(source, Sequence) or len(source) != 2:
            raise InputError(f"traces: give pairs of a workload's name (or None) and a file; found {describe(source)}")
        name, path = source
        if name is not None and workloads is not None and name not in workloads:
            raise InputError(f"trace: the plan has no workload {name!r}{nearest(name, workloads)}")
        found: dict[str, list[FloatArray]] = {}
        for workload, times in _pieces(as_path(path), name, workloads):
            if workload in pieces:
                raise InputError(f"{path}: workload {workload} has requests in two trace files; give each one file")
            found.setdefault(workload, []).append(times)
        if not found:
            raise InputError(f"{path}: the trace is empty")
        pieces |= found
    wanted = list(pieces if workloads is None else workloads)
    missing = [name for name in wanted if name not in pieces]
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise InputError(f"trace: no requests of workload {shown}; add them, or leave the workload out of the plan")
    start = min(float(times[0][0]) for times in pieces.values())
    return {name: whole_ns((np.concatenate(pieces.pop(name)) - start) * NS_PER_S) for name in wanted}


def names_workloads(path: Path) -> bool:
    """Whether a trace file says of each request whose it is."""
    try:
        raw = open_input(path, _MOST_BYTES, "give every workload a file of its own, or a shorter time")
        with io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file:
            line = file.readline(_LONGEST_HEADER)
        header = next(csv.reader([line]), [])
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not a UTF-8 text file") from None
    except csv.Error as error:
        raise InputError(f"{path}: not CSV ({error})") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    return WORKLOAD_COLUMN in [entry.strip().lower() for entry in header]


def _pieces(path: Path, name: str | None, workloads: Sequence[str] | None) -> Iterator[tuple[str, FloatArray]]:
    """Yield a file's times in seconds by workload, a part of the file at a time, checked."""
    latest: dict[str, float] = {}
    row = 0
    for times, labels in _chunks(path, name, workloads):
        bad = np.flatnonzero(~(np.isfinite(times) & (times >= 0.0) & (times <= _LATEST_S)))
        if len(bad):
            raise InputError(f"{path}: row {row + int(bad[0]) + 1}: {_fault(float(times[bad[0]]))}")
        for workload, rows in _by_workload(path, row, labels, workloads, len(times)):
            own = times if rows is None else times[rows]
            before = np.concatenate([[latest.get(workload, 0.0)], own[:-1]])
            early = np.flatnonzero(own < before)
            if len(early):
                at = int(early[0]) if rows is None else int(rows[early[0]])
                whose = f" of workload {workload}" if workload else ""
                raise InputError(
                    f"{path}: row {row + at + 1}: the time {own[early[0]]!s}{whose} is before"
                    f" {before[early[0]]!s} above it; sort the rows by time"
                )
            latest[workload] = float(own[-1])
            yield workload, own
        row += len(times)


def _fault(value: float) -> str:
    if np.isnan(value):
        return "the timestamp is missing or not a number"
    if np.isinf(value):
        return f"the timestamp is {describe(value)}; it must be a finite number of seconds"
    if value < 0:
        return f"the timestamp {value!s} is negative; give seconds from any point in time before the first request"
    return f"the timestamp {value!s} is beyond {_LATEST_S:g}; give seconds, not milliseconds or finer"


def _by_workload(
    path: Path, row: int, labels: "pd.Series | str", workloads: Sequence[str] | None, size: int
) -> list[tuple[str, IntArray | None]]:
    """Return the workloads in a chunk with the positions of their rows (None for all of them)."""
    import pandas as pd

    if isinstance(labels, str):
        return [(labels, None)] if size else []
    codes, names = pd.factorize(labels)
    known = None if workloads is None else set(workloads)
    for code, name in enumerate(names):
        if not is_name(name) if known is None else name not in known:
            at = int(np.argmax(codes == code))
            if workloads is None:
                fault = f"{describe(name)} is no name of a workload: it {NAME_RULE}"
            else:
                fault = f"the plan has no workload {describe(name)}{nearest(name, workloads)}"
            raise InputError(f"{path}: row {row + at + 1}: {fault if name else 'the workload is missing'}")
    return [(str(name), np.flatnonzero(codes == code)) for code, name in enumerate(names)]


def _chunks(
    path: Path, name: str | None, workloads: Sequence[str] | None
) -> Iterator[tuple[FloatArray, "pd.Series | str"]]:
    """Yield timestamps (NaN where there is no number) and workloads, a part of the file at a time."""
    import pandas as pd

    try:
        raw = open_input(path, _MOST_BYTES, "give every workload a file of its own, or a shorter time")
        with io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file:
            columns, first = _columns(path, file, name, workloads)
            whose = name or ("" if workloads is None else workloads[0])
            yield from _parsed(path, _Rows(path, file), columns, first, whose)
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not a UTF-8 text file") from None
    except pd.errors.ParserError as error:
        raise InputError(f"{path}: not CSV ({_reason(str(error))})") from None
    except csv.Error as error:
        raise InputError(f"{path}: not CSV ({error})") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


class _Rows:
    """A text file for pandas, which would keep a row without end in memory."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path, self._file = path, file
        # Whether the text so far ends within quotes, or where quotes would begin; and the length of its last row.
        self._quoted, self._may_quote = False, True
        self._length = 0

    def __iter__(self) -> Iterator[str]:
        return iter(self._file)

    def read(self, size: int = -1) -> str:
        """Read on; raise InputError within a row that is too long."""
        text = self._file.read(size)
        for part, inner in enumerate(text.split('"')):
            if part:  # a quote within a field is one of its characters; twice within quotes, it goes on
                self._quoted, self._may_quote = not self._quoted and self._may_quote, self._quoted
            if inner:
                self._may_quote = inner[-1] in ",\r\n"
            end = -1 if self._quoted else max(inner.rfind("\n"), inner.rfind("\r"))
            self._length = len(inner) - 1 - end + (self._length if end < 0 else 0)
            if self._length > _LONGEST_ROW:
                raise InputError(f"{self._path}: not CSV (a row goes on for over 1 MiB; is there a quote without end?)")
        return text


def _reason(error: str) -> str:
    """Put what pandas says about a file less its first line in terms of the whole file."""
    uneven = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", error)
    if uneven:
        return f"line {int(uneven[2]) + 1} has {uneven[3]} entries, the first line {uneven[1]}"
    return error.removeprefix("Error tokenizing data. C error: ").strip()


def _columns(path: Path, file: TextIO, name: str | None, workloads: Sequence[str] | None) -> tuple[list[str], str]:
    """Read the header; return the names of the columns, and the first line where that is no header."""
    line = file.readline(_LONGEST_HEADER)
    if not line.strip():
        raise InputError(f"{path}: the trace is empty")
    header = [entry.strip().lower().lstrip("\ufeff") for entry in next(csv.reader([line]), [])]
    if len(header) == 1 and _is_number(header[0]):
        header, first = [TIME_COLUMN], line
    else:
        first = ""
    if header.count(TIME_COLUMN) != 1 or header.count(WORKLOAD_COLUMN) > 1:
        found = ", ".join(describe(entry) for entry in header[:5])
        raise InputError(
            f"{path}: expected a column {TIME_COLUMN!r} (seconds), and {WORKLOAD_COLUMN!r} for several workloads;"
            f" the first line has {found}"
        )
    if name is not None and WORKLOAD_COLUMN in header:
        raise InputError(
            f"{path}: has a column {WORKLOAD_COLUMN!r} of its own; give the file without {name}=, or drop that column"
        )
    if name is None and WORKLOAD_COLUMN not in header and workloads is not None and len(workloads) > 1:
        raise InputError(
            f"{path}: has no column {WORKLOAD_COLUMN!r}, and the plan has {len(workloads)} workloads; say whose"
            f" requests these are, as in {workloads[0]}={path}"
        )
    # Every column needs a name of its own.
    return [entry if entry in (TIME_COLUMN, WORKLOAD_COLUMN) else str(k) for k, entry in enumerate(header)], first


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parsed(
    path: Path, file: _Rows, columns: list[str], first: str, workload: str
) -> Iterator[tuple[FloatArray, "pd.Series | str"]]:
    """Parse the rest of a file in chunks."""
    import pandas as pd

    several = WORKLOAD_COLUMN in columns
    if first:
        yield _numbers([first.strip()]), workload
    try:
        # As text: pandas' own numbers are not always the nearest, and equal order of text and numbers is needed.
        rows = cast(TextIO, file)  # as far as pandas uses it
        reader = pd.read_csv(rows, header=None, names=columns, dtype=str, na_filter=False, chunksize=_ROWS_AT_ONCE)
    except pd.errors.EmptyDataError:
        return
    with reader:
        for chunk in reader:
            if not isinstance(chunk.index, pd.RangeIndex):
                # pandas takes the first entries of every row for labels if the second line has too many entries.
                raise InputError(f"{path}: not CSV (line 2 has more entries than the {len(columns)} of the first line)")
            yield _numbers(chunk[TIME_COLUMN]), chunk[WORKLOAD_COLUMN].str.strip() if several else workload


def _numbers(texts: "Sequence[str] | pd.Series") -> FloatArray:
    """Parse numbers, NaN where there is none."""
    entries = np.asarray(texts, dtype=object)
    try:
        return entries.astype(float)
    except ValueError:
        return np.array([float(text) if _is_number(text) else np.nan for text in entries])

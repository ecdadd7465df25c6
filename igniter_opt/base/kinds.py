"""Kinds of files that are written, and what one may replace: files of its own kind and empty ones, nobody's others.

A row is what such files are recognised by. What writes one goes by way of `write_output`; the command asks
`check_output` besides, before long work.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import MOST_BYTES, StrPath, as_path, check_writable, write_bytes_atomically

# What files are recognised by stands in so much of their beginning; only JSON is read as a whole.
_HEAD_BYTES = 65_536


@dataclass(frozen=True)
class Kind:
    """A kind of file that commands write.

    Attributes
    ----------
    name
        With its article, for messages.
    recognised
        Whether a file is of it, by its path and its first bytes.
    endings
        How its files' names end; commands refuse those that promise another format. Empty: as they like.
    instead
        How to get another format, for the message.
    """

    name: str
    recognised: Callable[[Path, bytes], bool]
    endings: tuple[str, ...] = ()
    instead: str = ""


def _json(fits: Callable[[dict[str, Any]], bool]) -> Callable[[Path, bytes], bool]:
    """Recognise JSON objects."""

    def recognised(path: Path, head: bytes) -> bool:
        if not head.lstrip().startswith(b"{"):
            return False
        try:
            data = json.loads(path.read_bytes())
        except (ValueError, RecursionError):
            return False
        return isinstance(data, dict) and fits(data)

    return recognised


def _of_schema(kind: str) -> Callable[[Path, bytes], bool]:
    """Recognise JSON by its schema, ``igniter-opt/KIND@VERSION``, of whatever version."""
    return _json(lambda data: str(data.get("schema")).partition("@")[0] == f"igniter-opt/{kind}")


def _csv(*columns: str) -> Callable[[Path, bytes], bool]:
    """Recognise a table by some of its columns."""
    return lambda _, head: {name.encode() for name in columns} <= set(head.partition(b"\n")[0].strip().split(b","))


def _feed(_: Path, head: bytes) -> bool:
    line = head.partition(b"\n")[0]
    return line.startswith(b"{") and all(key in line for key in (b'"at"', b'"workload"'))


def _any(*ways: Callable[[Path, bytes], bool]) -> Callable[[Path, bytes], bool]:
    return lambda path, head: any(way(path, head) for way in ways)


def _instance(path: Path, head: bytes) -> bool:
    """Recognise the keys that one has; those of an instance with recorded times may come after a lot of these."""

    def has_keys(text: bytes) -> bool:
        return all(re.search(rb"(?m)^%s[ \t]*:" % key, text) for key in (b"gpu_types", b"workloads"))

    if has_keys(head):
        return True
    with path.open("rb") as file:
        return b"recorded" in head and has_keys(file.read(MOST_BYTES))


# The first line of a log.
LOG_HEAD = "# log of igniter-opt solve"
# What a model says of its origin, in its first line.
MODEL_MARK = "model of igniter-opt solve"
# What the page says of its origin, in its head.
REPORT_MARK = '<meta name="generator" content="igniter-opt report">'
PLAN = Kind("a plan", _of_schema("plan"), (".json",))
APPROVAL = Kind("an approval", _of_schema("approval"))
HISTORY = Kind("a history", _of_schema("history"))
FRONT = Kind("a front", _of_schema("front"))
REHEARSAL = Kind("a rehearsal", _of_schema("rehearsal"))
COLOCATIONS = Kind("a file of co-locations", _of_schema("measurements"))
PROFILE = Kind(
    "a profile", _json(lambda data: "models" in data and ("hardware" in data or data.get("sharing") == "mig"))
)
MEASUREMENT = Kind("a measurement", _any(_of_schema("measurement"), _csv("workload", "late_fraction", "sent_late_ms")))
COMPARISON = Kind(
    "a comparison",
    _csv("instance", "method", "saving_percent"),
    (".csv",),
    " (JSON is printed by --json)",
)
SWEEP = Kind(
    "a sweep",
    _csv("cost_per_hour", "lower_bound_per_hour", "mix", "bound_from"),
    (".csv",),
    " (JSON is printed by --json)",
)
SIMULATION = Kind("a simulation", _csv("workload", "violation_ratio", "utilisation"))
DASHBOARD = Kind(
    "a dashboard of igniter-opt",
    _json(lambda data: data.get("uid") == "igniter-opt" and "panels" in data),
    (".json",),
)
FEED = Kind("a feed", _feed)
DEMAND = Kind("a demand", lambda _, head: head.startswith(b"time_s,"), (".csv",))
SCHEDULE = Kind("a schedule", _of_schema("schedule"), (".json",))
TIMELINE = Kind("a schedule's table", _csv("time_s", "cost_per_hour", "lower_bound_per_hour", "moves"), (".csv",))
INSTANCE = Kind("an instance", _instance, (".yaml", ".yml"))
LOG = Kind("a log of igniter-opt", lambda _, head: head.startswith(LOG_HEAD.encode()))
MODEL = Kind("a model", lambda _, head: MODEL_MARK.encode() in head.partition(b"\n")[0], (".lp", ".mps"))
REPORT = Kind("a report of igniter-opt", lambda _, head: REPORT_MARK.encode() in head)
PLOT = Kind(
    "a picture",
    lambda _, head: (
        head.startswith((b"\x89PNG\r\n\x1a\n", b"%PDF-")) or (head.lstrip().startswith(b"<") and b"<svg" in head)
    ),
)


def check_output(path: StrPath, kind: Kind, *, follow: bool = True) -> None:
    """Raise InputError unless a file of a kind can be written at a path without loss of anything else.

    Files of the kind are replaced, and empty ones; nobody's other files are.
    """
    path = as_path(path)
    if str(path) == "-":
        raise InputError("-: outputs are files; what goes to the terminal can be piped (see also --json)")
    check_writable(path, follow=follow)
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        ours = not head or kind.recognised(path, head)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path}: exists and cannot be read ({error.strerror}); choose another path") from None
    if not ours:
        raise InputError(f"{path}: exists and is not {kind.name}; choose another path, or remove it first")


def model_path(path: StrPath) -> Path:
    """Return the path of a model; raise InputError where its ending does not say in which format it is written."""
    path = as_path(path)
    if path.suffix.lower() not in MODEL.endings:
        raise InputError(f"{path}: a model is written as .lp or .mps; choose a name that ends so")
    return path


def write_output(path: StrPath, content: bytes, kind: Kind, *, follow: bool = True) -> None:
    """Write a file of a kind atomically (`files.write_bytes_atomically`); raise InputError as `check_output` does."""
    check_output(path, kind, follow=follow)
    write_bytes_atomically(path, content, follow=follow)

"""Checks of output paths, made before long work: what is written, and what may be replaced by it."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import check_writable, exists
from igniter_opt.base.yaml_files import MOST_YAML_BYTES
from igniter_opt.data.history import HISTORY_SCHEMA
from igniter_opt.data.plan import PLAN_SCHEMA

# Endings that promise a format.
_ENDINGS = {".json", ".csv", ".yaml", ".yml", ".lp", ".mps", ".html", ".png", ".svg", ".pdf", ".xlsx", ".parquet"}
# The first line of a log begins so.
LOG_HEAD = "# log of igniter-opt solve"
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
        How its files' names end; others of `_ENDINGS` are refused. Empty: as they like.
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


def _of_schema(schema: str) -> Callable[[Path, bytes], bool]:
    """Recognise JSON by its schema, of whatever version."""
    kind = schema.partition("@")[0]
    return _json(lambda data: str(data.get("schema")).partition("@")[0] == kind)


def _csv(*columns: str) -> Callable[[Path, bytes], bool]:
    """Recognise a table by some of its columns."""
    return lambda _, head: {name.encode() for name in columns} <= set(head.partition(b"\n")[0].strip().split(b","))


def _feed(_: Path, head: bytes) -> bool:
    line = head.partition(b"\n")[0]
    return line.startswith(b"{") and all(key in line for key in (b'"at"', b'"workload"'))


def _any(*ways: Callable[[Path, bytes], bool]) -> Callable[[Path, bytes], bool]:
    return lambda path, head: any(way(path, head) for way in ways)


# What is written by rooms that few commands need is recognised by what these say, when there is such a file.


def _approval(path: Path, head: bytes) -> bool:
    from igniter_opt.deploy.approval import APPROVAL_SCHEMA

    return _of_schema(APPROVAL_SCHEMA)(path, head)


def _rehearsal(path: Path, head: bytes) -> bool:
    from igniter_opt.rehearse.results import REHEARSAL_SCHEMA

    return _of_schema(REHEARSAL_SCHEMA)(path, head)


def _colocations(path: Path, head: bytes) -> bool:
    from igniter_opt.data.measurement_files import MEASUREMENTS_SCHEMA

    return _of_schema(MEASUREMENTS_SCHEMA)(path, head)


def _measurement(path: Path, head: bytes) -> bool:
    from igniter_opt.measure.results import MEASUREMENT_SCHEMA

    return _any(_of_schema(MEASUREMENT_SCHEMA), _csv("workload", "late_fraction", "sent_late_ms"))(path, head)


def _instance(path: Path, head: bytes) -> bool:
    """Recognise the keys that one has; those of an instance with recorded times may come after a lot of these."""

    def has_keys(text: bytes) -> bool:
        return all(re.search(rb"(?m)^%s[ \t]*:" % key, text) for key in (b"gpu_types", b"workloads"))

    if has_keys(head):
        return True
    with path.open("rb") as file:
        return b"recorded" in head and has_keys(file.read(MOST_YAML_BYTES))


def _page(_: Path, head: bytes) -> bool:
    from igniter_opt.report.page import GENERATOR

    return GENERATOR.encode() in head


PLAN = Kind("a plan", _of_schema(PLAN_SCHEMA), (".json",))
APPROVAL = Kind("an approval", _approval)
HISTORY = Kind("a history", _of_schema(HISTORY_SCHEMA))
REHEARSAL = Kind("a rehearsal", _rehearsal)
COLOCATIONS = Kind("a file of co-locations", _colocations)
PROFILE = Kind("a profile", _json(lambda data: {"hardware", "models"} <= set(data)))
MEASUREMENT = Kind("a measurement", _measurement)
COMPARISON = Kind(
    "a comparison",
    _csv("instance", "method", "saving_percent"),
    (".csv",),
    " (JSON is printed by --json)",
)
SIMULATION = Kind("a simulation", _csv("workload", "violation_ratio", "utilisation"))
FEED = Kind("a feed", _feed)
INSTANCE = Kind("an instance", _instance, (".yaml", ".yml"))
LOG = Kind("a log of igniter-opt", lambda _, head: head.startswith(LOG_HEAD.encode()))
REPORT = Kind("a report of igniter-opt", _page)
PLOT = Kind(
    "a picture",
    lambda _, head: (
        head.startswith((b"\x89PNG\r\n\x1a\n", b"%PDF-")) or (head.lstrip().startswith(b"<") and b"<svg" in head)
    ),
)


def check_output(path: Path, kind: Kind) -> None:
    """Raise InputError unless a file of a kind can be written at a path without loss of anything else.

    Files of the kind are replaced, and empty ones; nobody's other files are.
    """
    if str(path) == "-":
        raise InputError("-: outputs are files; what goes to the terminal can be piped (see also --json)")
    if kind.endings and path.suffix.lower() in _ENDINGS.difference(kind.endings):
        raise InputError(
            f"{path}: {kind.name} is written as {kind.endings[0]}, not {path.suffix}; choose another name{kind.instead}"
        )
    check_writable(path)
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


def check_apart(
    outputs: Iterable[tuple[Path | None, str]], inputs: Sequence[str | Path], what_is_read: str = "the instance"
) -> None:
    """Raise InputError if an output would overwrite an input or another output.

    Parameters
    ----------
    outputs
        Path, or None if it is not asked for, and name of the option.
    inputs
        What is read; names that are no files do not matter.
    what_is_read
        What the message calls an input.
    """
    taken = {Path(name).resolve(): what_is_read for name in inputs if exists(Path(name))}
    for path, option in outputs:
        if path is not None:
            if path.resolve() in taken:
                raise InputError(f"{path}: {option} would overwrite {taken[path.resolve()]}; choose another path")
            taken[path.resolve()] = option


def check_outputs(
    output: Path | None,
    kind: Kind | None,
    plot: Path | None,
    inputs: Sequence[str | Path],
    what_is_read: str = "the instance",
    *,
    history: Path | None = None,
    feed: Path | None = None,
    log: Path | None = None,
) -> None:
    """Find out about outputs that cannot be written, or that overwrite something, before the work, not after it.

    The log of readings (``--resume``) may not be there yet, and must be another file than all others.
    """
    written = [(log, "the log"), (output, "--output"), (plot, "--plot"), (history, "--history"), (feed, "--feed")]
    check_apart(written, inputs, what_is_read)
    for path, of in ((output, kind), (history, HISTORY)):
        if path is not None and of is not None:
            check_output(path, of)
    # It is appended to, and may be a pipe.
    if feed is not None and feed.is_file():
        check_output(feed, FEED)
    if plot is not None:
        from igniter_opt.report.plots import check_plot_path

        check_plot_path(plot)
        check_output(plot, PLOT)

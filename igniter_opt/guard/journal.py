"""What a guard decides: every event as a JSON line, appended to a log that is also its memory of past changes."""

import json
import math
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import open_input, parse_json
from igniter_opt.base.schema import Integer, Name, Number, Record, parse_record

LOG_FILE = "guard.jsonl"
# watching: a guard began. repair, return: it decided to give a placement more, or what the plan says. switched: the new
# server serves. done: the old one was stopped. failed: it could not be done, and the old one serves on. infeasible: no
# GPU of the plan has what it takes. unanswered: a server does not answer. resumed: what an earlier guard, or launcher,
# had left half done was finished. ended: the guard ended.
Kind = Literal[
    "watching", "repair", "return", "switched", "done", "failed", "infeasible", "unanswered", "resumed", "note", "ended"
]
# So much of the log is read back: more than a day of changes.
_READ_BACK = 2**20


class Event(Record):
    """One event of a guard; latencies in ms, rates in req/s, shares in percent.

    Attributes
    ----------
    at
        Time in UTC, to the millisecond.
    requests, late, percentile_ms, rate_rps, factor
        What was observed of the placement over the window: `factor` is by what its GPU latencies are longer than
        predicted, and `percentile_ms` is None where it is infinite.
    mean_ms
        Without a feed in place of the percentile: the largest of the mean times in the server between two looks.
    gpu, share_percent, to_gpu, to_share_percent
        Where the placement is, and where it goes; `as_planned` if that is what the plan says.
    dry_run
        Whether it was only decided, not done.
    """

    at: str
    event: Kind
    workload: Name | None = None
    replica: Integer | None = None
    requests: Integer | None = None
    late: Integer | None = None
    percentile: Number | None = None
    percentile_ms: Number | None = None
    mean_ms: Number | None = None
    slo_ms: Number | None = None
    rate_rps: Number | None = None
    factor: Number | None = None
    gpu: Name | None = None
    share_percent: Number | None = None
    to_gpu: Name | None = None
    to_share_percent: Number | None = None
    as_planned: bool = False
    dry_run: bool = False
    why: str = ""

    def line(self) -> str:
        """Render it as one line of JSON, without what is not known."""
        return json.dumps(self.model_dump(mode="json", exclude_none=True, exclude_defaults=True))

    @property
    def seconds(self) -> float:
        """Its time in s since 1970."""
        try:
            return datetime.fromisoformat(self.at).timestamp()
        except ValueError:
            return -math.inf


def time_text(now: float) -> str:
    """Render a time in s since 1970."""
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")


class GuardLog:
    """The log of a deployment's guards."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG_FILE

    def append(self, event: Event) -> None:
        """Append an event; raise InputError where that is impossible."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                end = os.fstat(descriptor).st_size
                torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"  # by a kill
                os.write(descriptor, (("\n" if torn else "") + event.line() + "\n").encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror})") from None

    def read(self) -> list[Event]:
        """Return the last events; lines that a kill or an edit damaged are left out."""
        try:
            with open_input(self.path, sys.maxsize) as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _READ_BACK))
                lines = file.read(_READ_BACK).decode(errors="replace").splitlines()
        except (InputError, OSError):
            return []
        return [event for line in lines for event in _parsed(line)]


def _parsed(line: str) -> list[Event]:
    try:
        return [parse_record(Event, parse_json(line, LOG_FILE), LOG_FILE)]
    except InputError:
        return []


@dataclass
class Past:
    """What a workload went through (times in s since 1970).

    Attributes
    ----------
    changed_at
        When its last change took effect.
    returned_at
        When it last went back to what the plan says, if nothing came after; else -inf.
    relapses
        How many times in a row such a return had to be undone soon.
    """

    changed_at: float = -math.inf
    returned_at: float = -math.inf
    relapses: int = 0

    def hold_s(self, cool_down_s: float) -> float:
        """How long it keeps what it was given before it may go back: twice as long after every relapse."""
        return cool_down_s * 2.0 ** min(self.relapses, _MOST_DOUBLINGS)

    def switched(self, at: float, *, as_planned: bool, cool_down_s: float) -> None:
        """Take in a change."""
        if as_planned:
            self.returned_at = at
        elif math.isfinite(self.returned_at):
            soon = at - self.returned_at <= _SOON * self.hold_s(cool_down_s)
            self.relapses = self.relapses + 1 if soon else 0
            self.returned_at = -math.inf
        self.changed_at = at


_MOST_DOUBLINGS = 8
# A return that is undone within so many cool-downs was a mistake.
_SOON = 4.0


def remembered(events: Iterable[Event], cool_down_s: float) -> dict[str, Past]:
    """Return what workloads went through, by their events."""
    found: dict[str, Past] = {}
    for event in events:
        if event.event == "switched" and event.workload is not None and not event.dry_run:
            past = found.setdefault(event.workload, Past())
            past.switched(event.seconds, as_planned=event.as_planned, cool_down_s=cool_down_s)
    return found

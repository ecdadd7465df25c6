"""A job: what is known of it while it waits, runs and is kept."""

import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pydantic import Field

from igniter_opt.base.schema import Record

JOB_SCHEMA: Final = "igniter-opt/job@1"
Kind = Literal["solve", "compare", "verify", "predict", "simulate", "replan"]
# queued, running: not yet ended. done: there is a result. failed: there is none, and `error` says why. cancelled: a
# client ended it; interrupted: the service ended before it did. Both may have a result, the best so far.
State = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
ENDED: tuple[State, ...] = ("done", "failed", "cancelled", "interrupted")
# bad-input: the request asks for what makes no sense. no-plan: the honest answer is no. time, memory: a limit of the
# service. killed: the process ended without a word. stopped: on request, before there was anything. internal: a bug.
ErrorKind = Literal["bad-input", "no-plan", "time", "memory", "killed", "stopped", "internal"]
# Of one job; the oldest beyond them are forgotten.
MOST_EVENTS = 500


class JobError(Record):
    """Why a job has no result, or not all of it."""

    kind: ErrorKind
    message: str


class JobEvent(Record):
    """A moment of a job; numbers count from 1."""

    number: int
    data: dict[str, Any]


class JobRecord(Record):
    """A job, as the service keeps it on disk and shows it.

    Attributes
    ----------
    created_at, started_at, ended_at
        Times in UTC.
    progress
        The last event: cost of the best plan so far and proven bound, per hour, where they are known.
    has_result
        Whether there is a result to be fetched.
    early
        Why the result is not all that was asked for: it was ended before it was done.
    """

    schema_: Literal["igniter-opt/job@1"] = Field(default=JOB_SCHEMA, alias="schema")
    id: str
    kind: Kind
    state: State
    created_at: str
    started_at: str | None = None
    ended_at: str | None = None
    progress: dict[str, Any] | None = None
    has_result: bool = False
    early: str | None = None
    error: JobError | None = None


def now() -> str:
    """Return the time in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class ServiceJob:
    """A job in this process: its record, its events and its request; any thread may look at it.

    Parameters
    ----------
    request
        What the worker is given; dropped when the job ends.
    """

    def __init__(self, record: JobRecord, request: bytes = b"", events: list[JobEvent] | None = None) -> None:
        self._lock = threading.Lock()
        self.record = record
        self.request = request
        self._events = deque(events or (), maxlen=MOST_EVENTS)
        self._listeners: set[Callable[[], None]] = set()
        # Why it was asked to end, if it was.
        self.stop_asked: Literal["cancelled", "interrupted", "time"] | None = None

    @property
    def id(self) -> str:
        """Its identifier."""
        return self.record.id

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.record.state in ENDED

    def add_event(self, data: dict[str, Any]) -> None:
        """Take note of progress."""
        with self._lock:
            number = self._events[-1].number + 1 if self._events else 1
            self._events.append(JobEvent(number=number, data=data))
            self.record = self.record.model_copy(update={"progress": data})
        self.tell()

    def update(self, **changes: Any) -> None:
        """Change the record."""
        with self._lock:
            self.record = self.record.model_copy(update=changes)
        self.tell()

    def events(self, after: int = 0) -> list[JobEvent]:
        """Return the events after the one with this number, as far as they are kept."""
        with self._lock:
            return [event for event in self._events if event.number > after]

    def tell(self) -> None:
        """Call all listeners."""
        for listener in list(self._listeners):
            listener()

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have a function called, in whatever thread, when something changes; return what ends that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

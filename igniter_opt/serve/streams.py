"""Progress of a job as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi.sse import ServerSentEvent

from igniter_opt.serve.job import ServiceJob

# An answer waits so long at most for something to happen; then it looks again.
_LOOK_S = 5.0


class Closing:
    """Whether the service is about to end, so that answers which would go on for long do not."""

    def __init__(self) -> None:
        self._listeners: set[Callable[[], None]] = set()
        self.begun = False

    def begin(self) -> None:
        """End them."""
        self.begun = True
        for listener in list(self._listeners):
            listener()

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have a function called then; return what ends that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)


class Watch:
    """Waits in a coroutine for what other threads do to a job."""

    def __init__(self, job: ServiceJob, closing: Closing) -> None:
        self._job, self._closing = job, closing
        self._loop, self._event = asyncio.get_running_loop(), asyncio.Event()

    def __enter__(self) -> "Watch":
        def tell() -> None:
            self._loop.call_soon_threadsafe(self._event.set)

        self._leave = (self._job.listen(tell), self._closing.listen(tell))
        return self

    def __exit__(self, *_: object) -> None:
        for leave in self._leave:
            leave()

    async def change(self, seconds: float = _LOOK_S) -> None:
        """Return when something may have changed since the last time, or after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return
        self._event.clear()


async def ended(job: ServiceJob, closing: Closing, seconds: float) -> bool:
    """Wait for a job to end, so many seconds at most; return whether it has."""
    until = asyncio.get_running_loop().time() + seconds
    with Watch(job, closing) as watch:
        while not job.ended and not closing.begun:
            left = until - asyncio.get_running_loop().time()
            if left <= 0:
                break
            await watch.change(min(left, _LOOK_S))
    return job.ended


async def events_of(
    job: ServiceJob, closing: Closing, after: int, shown: Callable[[ServiceJob], Any]
) -> AsyncIterator[ServerSentEvent]:
    """Yield a job's progress after the event of this number, and its end.

    The end has the number after the last moment's, so that a client that was there already is told again.
    """
    with Watch(job, closing) as watch:
        while True:
            over = job.ended  # before the events are read, for none comes after
            for event in job.events(after):
                after = event.number
                yield ServerSentEvent(event="progress", id=str(event.number), data=event.data)
            if over:
                yield ServerSentEvent(event="end", id=str(after + 1), data=shown(job))
                return
            if closing.begun:
                yield ServerSentEvent(comment="the service ends; ask again when it is back")
                return
            await watch.change()

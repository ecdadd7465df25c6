"""The load generator: one process that sends requests when they are due, whatever became of those before.

Open loop: a request's time to be sent is fixed beforehand, and its latency counts from then on, so a server that
falls behind is charged for every request that it delays (no coordinated omission), and so is nobody else: how late
the generator itself sent is recorded with every request.

asyncio's own timers are too coarse for this (they round up to milliseconds). So a thread of its own sleeps until a
request is due and wakes the event loop, which sends all that are due.
"""

import asyncio
import contextlib
import gc
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.optional import load

METHOD = "/inference.GRPCInferenceService/ModelInfer"
# What became of a request.
OK, FAILED, TIMED_OUT, SHORT, HELD_BACK, WAITING = range(6)
OUTCOMES = (
    "answered",
    "failed",
    "timed out",
    "answered with too few bytes",
    "not sent (too many in flight)",
    "without an answer when the measurement ended",
)
# One row per request: its number within the stream, and times in ns after the start.
RECORD = np.dtype(
    [("stream", "u4"), ("request", "u4"), ("due", "i8"), ("sent", "i8"), ("done", "i8"), ("outcome", "u1")]
)
_FLUSH_S = 0.2
_LAST_EVENTS_S = 0.1
_CONNECT_S = 10.0
LARGE_MESSAGES = [("grpc.max_send_message_length", 2**31 - 1), ("grpc.max_receive_message_length", 2**31 - 1)]
# The parameter "igniter_sent_ns" of a request: field 4 of ModelInferRequest, a map entry with an int64 value.
_STAMP_KEY = b"\x0a\x0figniter_sent_ns\x12"


@dataclass(frozen=True)
class RequestStream:
    """Requests for one server.

    Attributes
    ----------
    authority
        Host and port of its gRPC service.
    requests
        Serialized ``ModelInferRequest`` messages, sent in turn.
    times_ns
        When they are due, ascending, in ns after the start.
    least_bytes
        An answer with fewer bytes lacks its values.
    """

    authority: str
    requests: tuple[bytes, ...]
    times_ns: FloatArray
    least_bytes: int


@dataclass(frozen=True)
class Load:
    """What one process sends.

    Attributes
    ----------
    numbers
        The streams' numbers in records.
    timeout_s
        A request without an answer is given up after it.
    most_in_flight
        No more requests than this wait for an answer at a time; further ones are recorded as held back.
    stamped
        Whether every request carries the time it was sent at, as parameter ``igniter_sent_ns``.
    """

    streams: Sequence[RequestStream]
    numbers: Sequence[int]
    timeout_s: float
    most_in_flight: int
    stamped: bool


def main(pipe: Connection, todo: Load) -> None:
    """Run the generator in a process of its own.

    Sends ``("ready",)``, expects ``("start", t0_ns)`` (monotonic clock) or ``("stop",)``, then sends
    ``("records", array, errors)`` several times a second and at the end ``("done",)``. Asked to ``("move", stream,
    authority)`` meanwhile, it sends a stream's further requests there as soon as it is connected, and then says
    ``("moved", number, sent_ns, authority)``: requests of this stream sent from then on went there. Those under way on
    the old server finish there. It ends when asked to, or when the other end of the pipe is gone; requests that wait
    for an answer then are recorded as such.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # a terminal and a scheduler send them to all; the parent decides
        signal.signal(number, signal.SIG_IGN)
    sys.setswitchinterval(1e-3)
    gc.disable()  # no pauses; what is made here forms no cycles to speak of, and the process ends soon
    with contextlib.suppress(BrokenPipeError, EOFError, KeyboardInterrupt):
        asyncio.run(_Generator(pipe, todo).run())


class _Generator:
    def __init__(self, pipe: Connection, todo: Load) -> None:
        self.pipe, self.load = pipe, todo
        self.stopped = threading.Event()
        self.in_flight = 0
        self.records: list[tuple[int, int, int, int, int, int]] = []
        self.errors: Counter[tuple[int, str]] = Counter()
        times = [np.asarray(stream.times_ns) for stream in todo.streams]
        of = np.concatenate([np.full(len(entry), k, dtype=np.int64) for k, entry in enumerate(times)])
        due = np.concatenate(times)
        order = np.argsort(due, kind="stable")
        self.of: list[int] = of[order].tolist()
        self.due: list[int] = due[order].astype(np.int64).tolist()
        self.request: list[int] = _numbers(of[order], len(times)).tolist()
        self.next = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        grpc = load("grpc")
        self.rpc_error = grpc.aio.AioRpcError
        self.deadline = grpc.StatusCode.DEADLINE_EXCEEDED
        self.channels: list[Any] = []
        self.calls: list[Any] = []
        try:
            self.calls += await asyncio.gather(*(self._connect(stream.authority) for stream in self.load.streams))
            self.pipe.send(("ready",))
            loop = asyncio.get_running_loop()
            command = await loop.run_in_executor(None, self.pipe.recv)
            if command[0] != "start":
                return
            self.zero = int(command[1])
            await self._generate(loop)
        except TimeoutError:
            self.pipe.send(("unreachable",))
        finally:
            while self.channels:
                await self.channels.pop().close()
            # With the last of its objects gRPC closes the socket that wakes this event loop. That must happen here: the
            # listening thread, which outlives this, would do it while the loop still reads from there.
            self.calls.clear()
            # What gRPC's threads have still to tell the loop holds some of them, too; it comes within milliseconds.
            await asyncio.sleep(_LAST_EVENTS_S)

    async def _connect(self, authority: str) -> Any:
        """Return what sends a request to a server, once it is connected."""
        grpc = load("grpc")
        channel = grpc.aio.insecure_channel(authority, [*LARGE_MESSAGES, ("grpc.use_local_subchannel_pool", 1)])
        self.channels.append(channel)
        await asyncio.wait_for(channel.channel_ready(), _CONNECT_S)
        return channel.unary_unary(METHOD)

    async def _move(self, stream: int, authority: str) -> None:
        """Send a stream's further requests to another server; where nobody listens there, it stays where it is."""
        try:
            call = await self._connect(authority)
        except TimeoutError:
            return
        self.calls[stream] = call
        self.pipe.send(("moved", self.load.numbers[stream], time.monotonic_ns() - self.zero, authority))

    async def _generate(self, loop: asyncio.AbstractEventLoop) -> None:
        self.over = asyncio.Event()
        pacer = threading.Thread(target=self._pace, args=(loop,), daemon=True)
        listener = threading.Thread(target=self._listen, args=(loop,), daemon=True)
        pacer.start()
        listener.start()
        flusher = asyncio.create_task(self._flush_regularly())
        await self.over.wait()
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        flusher.cancel()
        self._flush()
        self.pipe.send(("done",))

    def _pace(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake the event loop whenever a request is due."""
        position, due = 0, self.due
        while position < len(due) and not self.stopped.is_set():
            now = time.monotonic_ns() - self.zero
            if due[position] > now:
                time.sleep(min(due[position] - now, 100_000_000) / 1e9)
                continue
            while position < len(due) and due[position] <= now:
                position += 1
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._send_due)

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for the order to stop; pass on those to move."""
        with contextlib.suppress(EOFError, OSError, RuntimeError):
            while (order := self.pipe.recv())[0] == "move":
                asyncio.run_coroutine_threadsafe(self._move(order[1], order[2]), loop)
        self.stopped.set()
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self.over.set)

    def _send_due(self) -> None:
        now = time.monotonic_ns() - self.zero
        while self.next < len(self.due) and self.due[self.next] <= now and not self.stopped.is_set():
            k = self.next
            self.next += 1
            if self.in_flight >= self.load.most_in_flight:
                self._record(k, now, now, HELD_BACK)
                continue
            self.in_flight += 1
            task = asyncio.create_task(self._send(k))
            self.tasks.add(task)
            task.add_done_callback(self._finished)
        self._end_if_all_done()

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self.tasks.discard(task)
        self.in_flight -= 1
        self._end_if_all_done()

    def _end_if_all_done(self) -> None:
        if self.next == len(self.due) and self.in_flight == 0:
            self.over.set()

    async def _send(self, k: int) -> None:
        of = self.of[k]
        stream = self.load.streams[of]
        message = stream.requests[self.request[k] % len(stream.requests)]
        sent = time.monotonic_ns()
        if self.load.stamped:
            message += stamp(sent)
        try:
            answer = await self.calls[of](message, timeout=self.load.timeout_s)
            outcome = OK if len(answer) >= stream.least_bytes else SHORT
        except self.rpc_error as error:
            outcome = TIMED_OUT if error.code() == self.deadline else FAILED
            self.errors[self.load.numbers[of], f"{error.code().name}: {error.details()}"[:300]] += 1
        except asyncio.CancelledError:  # the order to stop
            outcome = WAITING
        self._record(k, sent - self.zero, time.monotonic_ns() - self.zero, outcome)

    def _record(self, k: int, sent: int, done: int, outcome: int) -> None:
        number = self.load.numbers[self.of[k]]
        self.records.append((number, self.request[k], self.due[k], sent, done, outcome))

    async def _flush_regularly(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            self._flush()

    def _flush(self) -> None:
        records, self.records = self.records, []
        errors, self.errors = self.errors, Counter()
        self.pipe.send(("records", np.array(records, dtype=RECORD), dict(errors)))


def _numbers(of: IntArray, streams: int) -> IntArray:
    """Number every stream's requests from 0, given the stream of each request in order."""
    numbers = np.empty(len(of), dtype=np.int64)
    for stream in range(streams):
        own = np.flatnonzero(of == stream)
        numbers[own] = np.arange(len(own))
    return numbers


def stamp(sent_ns: int) -> bytes:
    """Return what to append to a serialized request, so that it carries the time it was sent at."""
    value = b"\x10" + _varint(sent_ns)
    entry = _STAMP_KEY + _varint(len(value)) + value
    return b"\x22" + _varint(len(entry)) + entry


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)

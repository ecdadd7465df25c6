"""The load generators: processes that send the requests; servers are shared out to them."""

import contextlib
import math
import multiprocessing
import os
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import numpy as np

from igniter_opt.base.errors import InputError
from igniter_opt.measure.client import Load, RequestStream, main
from igniter_opt.measure.options import MeasureOptions

# One process sends so many requests, and so many bytes, per second with room to spare.
_REQUESTS_PER_PROCESS, _BYTES_PER_PROCESS = 1500.0, 60e6
_MOST_IN_FLIGHT, _MOST_BYTES_IN_FLIGHT = 20_000, 2e9


def shared_out(streams: Sequence[RequestStream], length_s: float, options: MeasureOptions) -> list[Load]:
    """Share streams of requests, of so many seconds, out to processes, the busiest first."""
    size = [max(map(len, stream.requests)) for stream in streams]
    rate = [len(stream.times_ns) / length_s for stream in streams]
    weight = [max(r / _REQUESTS_PER_PROCESS, r * s / _BYTES_PER_PROCESS) for r, s in zip(rate, size, strict=True)]
    wanted = options.processes or max(1, math.ceil(sum(weight)))
    count = min(wanted, len(streams), options.processes or max(1, (os.cpu_count() or 1) - 1))
    bins: list[list[int]] = [[] for _ in range(count)]
    filled = np.zeros(count)
    for number in sorted(range(len(streams)), key=lambda k: -weight[k]):
        chosen = int(np.argmin(filled))
        bins[chosen].append(number)
        filled[chosen] += max(weight[number], 1e-9)
    return [
        Load(
            streams=[streams[number] for number in numbers],
            numbers=numbers,
            timeout_s=options.timeout_s,
            most_in_flight=max(
                64, int(min(_MOST_IN_FLIGHT, _MOST_BYTES_IN_FLIGHT / count / max(size[k] for k in numbers)))
            ),
            stamped=options.stamped,
        )
        for numbers in bins
    ]


class Generators:
    """A process for every load, and a pipe to each."""

    def __init__(self, loads: Sequence[Load]) -> None:
        self.loads = loads
        self.pipes: list[Connection] = []
        self._children: list[BaseProcess] = []

    def start(self) -> None:
        """Start all and wait until they are connected; raise InputError where one cannot be."""
        context = multiprocessing.get_context("spawn")
        for load in self.loads:
            ours, theirs = context.Pipe()
            child = context.Process(target=main, args=(theirs, load), daemon=True)
            child.start()
            theirs.close()
            self.pipes.append(ours)
            self._children.append(child)
        for pipe in self.pipes:
            try:
                answer = pipe.recv()
            except (EOFError, OSError):
                raise InputError("a load generator ended at once; is the package's extra `deploy` complete?") from None
            if answer[0] != "ready":
                raise InputError("a server does not accept connections any more; see `igniter-opt status`")

    def tell(self, *message: object) -> None:
        """Send all of them a message."""
        for pipe in self.pipes:
            _send(pipe, *message)

    def numbers(self, pipe: Connection) -> Sequence[int]:
        """Return the numbers of the streams that the generator at this pipe sends."""
        return self.loads[self.pipes.index(pipe)].numbers

    def move(self, number: int, authority: str) -> None:
        """Have a stream sent to another server from now on."""
        for pipe, load in zip(self.pipes, self.loads, strict=True):
            if number in load.numbers:
                _send(pipe, "move", list(load.numbers).index(number), authority)

    def end(self) -> None:
        """Wait for those that were told to stop, and kill what does not."""
        for child in self._children:
            child.join(5)
            if child.is_alive():
                child.kill()


def _send(pipe: Connection, *message: object) -> None:
    with contextlib.suppress(OSError):  # one that has ended is found out when nothing comes from it
        pipe.send(message)

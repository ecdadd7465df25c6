"""What is seen of a deployment at every look: latencies from a feed or from the servers, and how long batches take.

The servers' own statistics are sums since they started; between two looks they give counts and *means* (in the queue,
in compute, per batch size). That suffices for the factor by which batches take longer than predicted. It does not give
a percentile: without a feed, all requests between two looks are taken to have had their mean time in the server. So
what is judged then is whether that mean is over the SLO, which finds servers that fall behind, within a second or two,
and misses those whose mean is fine and whose tail is not; the way from client to server is not in it either. (Triton
can be told to keep latency quantiles; they cover the last 60 seconds, which is too slow for this, cost throughput, and
would have to be asked for when a server is started.)
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.deploy.endpoints import endpoints
from igniter_opt.deploy.state import Deployment
from igniter_opt.guard.choose import Key
from igniter_opt.measure.feed import FeedLine
from igniter_opt.measure.results import ServerSplit
from igniter_opt.measure.server import batch_times, model_statistics, split
from igniter_opt.simulation.servers import Server

# Factors are those of batches in the last so many seconds, and of so many batches at least.
FACTOR_S, FEWEST_BATCHES = 2.0, 10
_PARALLEL = 16


@dataclass(frozen=True)
class Seen:
    """What is new of one placement since the last look.

    Attributes
    ----------
    latencies_ms, failed
        Of requests that were answered, and the number of those that were not.
    factor
        By what GPU latencies are longer than predicted, as the servers' statistics say; None if not known.
    rate_rps
        Rate of answers, as the server says; None if not known.
    answers
        Whether the server gave its statistics.
    """

    latencies_ms: FloatArray = field(default_factory=lambda: np.empty(0))
    failed: int = 0
    factor: float | None = None
    rate_rps: float | None = None
    answers: bool = True


class Observer(Protocol):
    """Gives what is new at a look; `percentiles` says whether of single requests, or only means."""

    @property
    def percentiles(self) -> bool:
        """Whether latencies are those of single requests."""

    def look(self, now: float) -> dict[Key, Seen]:
        """Return what is new of every placement that serves."""

    def serve(self, state: Deployment, servers: Mapping[Key, Server]) -> None:
        """Take in which servers serve from now on, and what is predicted for each."""


Lines = Callable[[], Sequence[FeedLine]]


class _Served(NamedTuple):
    """A server that is watched, with its statistics at past looks."""

    url: str
    grpc: str
    model: str
    token: str
    planned: Server
    past: deque[tuple[float, Any]]


class LiveObserver:
    """Looks at real servers.

    Parameters
    ----------
    lines
        Returns the feed's new lines; without it, the servers' statistics have to do.
    """

    def __init__(self, lines: Lines | None) -> None:
        self._lines = lines
        self.percentiles = lines is not None
        self._served: dict[Key, _Served] = {}
        self._pool = ThreadPoolExecutor(_PARALLEL)

    def close(self) -> None:
        """End the threads that ask servers."""
        self._pool.shutdown()

    def serve(self, state: Deployment, servers: Mapping[Key, Server]) -> None:
        """Take in which servers serve from now on."""
        tokens = {(r.workload, r.replica): r.token for r in state.replicas if r.phase == "ready"}
        found = {}
        for workload, entry in endpoints(state).workloads.items():
            for replica in entry.replicas:
                key = (workload, replica.replica)
                before = self._served.get(key)
                if key not in servers or replica.http is None:
                    continue
                past = before.past if before is not None and before.token == tokens[key] else deque()
                found[key] = _Served(replica.http, replica.grpc, entry.model, tokens[key], servers[key], past)
        self._served = found

    def look(self, now: float) -> dict[Key, Seen]:
        """Ask all servers, and read the feed."""
        keys = list(self._served)
        statistics = list(
            self._pool.map(lambda key: model_statistics(self._served[key].url, self._served[key].model), keys)
        )
        fed = None if self._lines is None else self._by_server(self._lines())
        found = {}
        for key, current in zip(keys, statistics, strict=True):
            fresh = self._remember(key, now, current)
            latencies, failed = self._from_server(*fresh) if fed is None else fed[key]
            factor, rate = self._over_time(key)
            found[key] = Seen(latencies, failed, factor, rate, answers=current is not None)
        return found

    def _by_server(self, lines: Sequence[FeedLine]) -> dict[Key, tuple[FloatArray, int]]:
        """Sort a feed's lines by placement; those of servers that serve no longer are dropped.

        A line that does not say which server it is about counts for every replica of its workload.
        """
        latencies: dict[Key, list[float]] = {key: [] for key in self._served}
        failed = dict.fromkeys(self._served, 0)
        for line in lines:
            for key, served in self._served.items():
                if key[0] == line.workload and line.server in (None, served.grpc):
                    latencies[key] += line.latencies_ms
                    failed[key] += line.failed
        return {key: (np.array(latencies[key]), failed[key]) for key in self._served}

    def _remember(self, key: Key, now: float, statistics: Any) -> tuple[ServerSplit | None, int]:
        """Keep statistics; return what happened since the last, and how many requests failed."""
        past = self._served[key].past
        if statistics is None:
            return None, 0
        fresh = split(past[-1][1], statistics) if past else None
        failed = 0 if fresh is None else _failures(statistics) - _failures(past[-1][1])
        if past and fresh is None:  # started anew
            past.clear()
        past.append((now, statistics))
        while len(past) > 2 and past[1][0] <= now - FACTOR_S and self._executions(past[1][1], statistics):
            past.popleft()
        return fresh, max(0, failed)

    @staticmethod
    def _executions(before: Any, after: Any) -> bool:
        """Whether there are enough batches between two statistics."""
        between = split(before, after)
        return between is None or between.executions >= FEWEST_BATCHES

    @staticmethod
    def _from_server(between: ServerSplit | None, failed: int) -> tuple[FloatArray, int]:
        """Give all requests since the last look their mean time in the server."""
        if between is None or not between.requests:
            return np.empty(0), failed
        parts = (between.queue_ms, between.input_ms, between.compute_ms, between.output_ms)
        return np.full(between.requests, sum(part or 0.0 for part in parts)), failed

    def _over_time(self, key: Key) -> tuple[float | None, float | None]:
        """Return factor and rate over the statistics kept."""
        served = self._served[key]
        if len(served.past) < 2:
            return None, None
        (begin, before), (end, after) = served.past[0], served.past[-1]
        between = split(before, after)
        if between is None:
            return None, None
        rate = between.requests / (end - begin) if end > begin else None
        if between.executions < FEWEST_BATCHES:
            return None, rate
        times = batch_times(between, served.planned)
        # Only the GPU part is predicted, and inflated by margins, so all of the error is put down to it.
        return (1.0 + (times.taken - times.predicted) / times.predicted_gpu if times.predicted_gpu else None), rate


def _failures(statistics: Any) -> int:
    try:
        return int(statistics["inference_stats"]["fail"]["count"])
    except (KeyError, TypeError, ValueError):
        return 0

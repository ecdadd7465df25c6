"""Following a deployment while it is loaded: servers that take over from others, and a feed of what they answer."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from igniter_opt.base.nanoseconds import NS_PER_MS
from igniter_opt.deploy.endpoints import Follower, ReplicaEndpoint
from igniter_opt.measure import server
from igniter_opt.measure.client import OK, WAITING
from igniter_opt.measure.feed import FeedLine, FeedWriter
from igniter_opt.measure.results import ServerSplit, Switch


class LoadedReplica(NamedTuple):
    """A replica that is loaded: whose it is, and where it is served."""

    workload: str
    model: str
    endpoint: ReplicaEndpoint


class Following:
    """Which server each replica's requests went to, and when.

    Parameters
    ----------
    replicas
        As they are served at first, by their number in records.
    pace
        Times are multiplied by it.
    path
        The endpoints file to follow, if any.
    feed
        What the latencies are appended to, if to anything.
    """

    def __init__(
        self, replicas: Sequence[LoadedReplica], pace: float, path: Path | None, feed: FeedWriter | None
    ) -> None:
        self.replicas, self.pace = list(replicas), pace
        self.follower = None if path is None else Follower(path)
        self.writer = feed
        self.switches: list[Switch] = []
        # Per replica its servers, each with the time (ns after the start) from which on requests went there.
        self._places = [[(-math.inf, replica.endpoint.grpc)] for replica in self.replicas]
        self._ordered: list[dict[str, ReplicaEndpoint]] = [
            {replica.endpoint.grpc: replica.endpoint} for replica in self.replicas
        ]
        self._wanted = [replica.endpoint.grpc for replica in self.replicas]
        # What the servers said of themselves that a replica has left.
        self._left: list[list[ServerSplit | None]] = [[] for _ in self.replicas]

    def orders(self) -> list[tuple[int, str]]:
        """Return the replicas that are to go to another server, and where, if the file was rewritten."""
        found = None if self.follower is None else self.follower.changed()
        if found is None:
            return []
        orders = []
        for number, replica in enumerate(self.replicas):
            workload = found.workloads.get(replica.workload)
            same = [] if workload is None else [r for r in workload.replicas if r.replica == replica.endpoint.replica]
            if same and same[0].grpc != self._wanted[number]:
                self._wanted[number] = same[0].grpc
                self._ordered[number][same[0].grpc] = same[0]
                orders.append((number, same[0].grpc))
        return orders

    def moved(
        self, number: int, at_s: float, sent_ns: int, authority: str, before: list[Any], after: list[Any]
    ) -> ReplicaEndpoint:
        """Take in that a replica's requests go to another server from now on; return its endpoint.

        Parameters
        ----------
        at_s, sent_ns
            When, after counting began (in s) and after the start (in ns).
        before, after
            The servers' statistics when counting began and ended, if they were taken; that of a replica that has moved
            in between is replaced by the new server's.
        """
        workload, model, old = self.replicas[number]
        endpoint = self._ordered[number][authority]
        self._places[number].append((sent_ns, authority))
        self.switches.append(
            Switch(at_s=at_s, workload=workload, replica=endpoint.replica, before=old.grpc, after=authority)
        )
        if before and not after:
            left = server.split(before[number], server.model_statistics(old.http, model), self.pace)
            self._left[number].append(left)
            before[number] = server.model_statistics(endpoint.http, model)
        self.replicas[number] = LoadedReplica(workload, model, endpoint)
        return endpoint

    def whole(self, splits: list[ServerSplit | None]) -> list[ServerSplit | None]:
        """Add what was served by servers that the replicas have left to the splits of those they are at."""
        return [
            server.together([*left, split]) if left else split for left, split in zip(self._left, splits, strict=True)
        ]

    def feed(self, records: npt.NDArray[Any]) -> None:
        """Append these requests (`client.RECORD`) to the feed, by the server they went to."""
        if self.writer is None:
            return
        lines = []
        for number in np.unique(records["stream"]):
            own = records[(records["stream"] == number) & (records["outcome"] != WAITING)]
            places = self._places[number]
            went = np.searchsorted([since for since, _ in places], own["sent"], side="right") - 1
            for k in np.unique(went):
                here = own[went == k]
                good = here[here["outcome"] == OK]
                latency = (good["done"] - good["due"]) * (self.pace / NS_PER_MS)
                lines.append(
                    FeedLine(
                        at=time.time(),
                        workload=self.replicas[number].workload,
                        server=places[k][1],
                        latencies_ms=tuple(np.round(latency, 4).tolist()),
                        failed=len(here) - len(good),
                    )
                )
        self.writer.write(lines)

"""A measurement: requests to every deployed server at once, as they are due, and what became of them."""

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from igniter_opt.base.errors import InputError, MeasurementInterruptedError
from igniter_opt.base.nanoseconds import NS_PER_MS, NS_PER_S
from igniter_opt.base.schema import nearest
from igniter_opt.base.stop import StopRequest
from igniter_opt.data.instance import DEFAULT_PERCENTILE
from igniter_opt.data.plan import Plan
from igniter_opt.deploy.endpoints import Endpoints, ReplicaEndpoint
from igniter_opt.measure import server
from igniter_opt.measure.client import RECORD, WAITING, RequestStream
from igniter_opt.measure.feed import FeedWriter
from igniter_opt.measure.generators import Generators, shared_out
from igniter_opt.measure.machine import Machine, MachineLoad
from igniter_opt.measure.options import MeasureOptions, schedules
from igniter_opt.measure.records import Live, Records
from igniter_opt.measure.requests import least_bytes, model_config, serialized_requests
from igniter_opt.measure.results import INTERRUPTED, Head, LoadStatistics, Measurement, statistics, with_verdict
from igniter_opt.measure.shared_memory import SharedInputs
from igniter_opt.measure.takeovers import Following, LoadedReplica
from igniter_opt.simulation.schedule import Schedule

_START_S = 0.3
_POLL_S, _PROGRESS_S = 0.1, 0.5
# A server that only fails for so long is asked whether it is still alive.
_DOUBT_S = 1.5
# Where a measurement ends early, requests that had waited for the SLO (without one, so long) are late whatever becomes
# of them; it counts up to the first one whose fate is open.
_PATIENCE_S = 1.0
_PARALLEL = 8


Progress = Callable[[float, float, list[Live]], object]


def measure(
    endpoints: Endpoints,
    options: MeasureOptions | None = None,
    *,
    plan: Plan | None = None,
    given: Sequence[Schedule] | None = None,
    source: str = "",
    on_progress: Progress | None = None,
    stop: StopRequest | None = None,
    follow: Path | None = None,
    feed: Path | None = None,
) -> Measurement:
    """Load every server with its plan's rate and measure.

    Parameters
    ----------
    plan
        Gives SLOs, the judged percentile, how requests arrive, and the headroom that rates have beyond what users
        send; without it latencies are not judged, arrivals are Poisson unless told otherwise, and rates are those that
        are planned, headroom included.
    given
        What to send when, per workload, in place of what `options` would draw.
    source
        What the measurement says it is of.
    on_progress
        Called about twice a second with seconds elapsed, seconds in all, and the state of every workload.
    stop
        Set it to end early; the measurement is then partial. Ctrl-C does so.
    follow
        The endpoints file. Where it names another server for a replica meanwhile, new requests go there.
    feed
        A file that the latencies of answered requests are appended to as they come (`feed.FeedLine`).

    Raises
    ------
    InputError
        An option out of range, nobody answers, a wrong model or input, an unusable trace.
    MeasurementInterruptedError
        It was stopped before the load.
    """
    options = options or MeasureOptions()
    options.check()
    stop = stop or StopRequest()
    with contextlib.ExitStack() as stack:
        writer = None if feed is None else stack.enter_context(contextlib.closing(FeedWriter(feed)))
        stack.enter_context(stop.on_interrupt())
        shared = stack.enter_context(SharedInputs())
        return _Run(endpoints, options, plan, given, shared, stop, on_progress, follow, writer).measure(source)


class _Replica(NamedTuple):
    """One server to load, by its number in records."""

    workload: int
    endpoint: ReplicaEndpoint
    stream: RequestStream


class _Run:
    def __init__(
        self,
        endpoints: Endpoints,
        options: MeasureOptions,
        plan: Plan | None,
        given: Sequence[Schedule] | None,
        shared: SharedInputs,
        stop: StopRequest,
        on_progress: Progress | None,
        follow: Path | None,
        feed: FeedWriter | None,
    ) -> None:
        if plan is not None and options.split is None:
            options = replace(options, split=plan.instance.split)
        self.options, self.stop, self.on_progress = options, stop, on_progress
        self.digest = endpoints.plan_digest
        unknown = [name for name in options.only if name not in endpoints.workloads]
        if unknown:
            raise InputError(f"no workload {unknown[0]!r} is deployed{nearest(unknown[0], endpoints.workloads)}")
        self.names = [name for name in endpoints.workloads if not options.only or name in options.only]
        if not self.names:
            raise InputError("there are no endpoints: nothing is ready (`igniter-opt status`)")
        self.endpoints = endpoints
        own = () if plan is None else plan.instance.workloads
        slos = {entry.name: entry.slo_ms + options.allowance_ms for entry in own}
        missing = [name for name in self.names if plan is not None and name not in slos]
        if missing:
            raise InputError(f"the plan has no workload {missing[0]!r}, which is deployed; give the plan that is")
        self.planned = None if plan is None else plan.instance
        judged = plan.instance.required_percentile if plan is not None else DEFAULT_PERCENTILE
        judged = judged if options.percentile is None else options.percentile
        self.heads = [
            Head(
                workload=name,
                model=endpoints.workloads[name].model,
                rate_rps=options.scale * sum(self._rates(name)),
                slo_ms=slos.get(name),
                percentile=judged,
            )
            for name in self.names
        ]
        self.schedules = given or schedules(
            [(name, self._rates(name)) for name in self.names],
            options,
            list(endpoints.workloads),
            self.planned,
        )
        self.shared = shared
        self.replicas = self._replicas()
        served = [
            LoadedReplica(self.names[r.workload], self.heads[r.workload].model, r.endpoint) for r in self.replicas
        ]
        self.following = Following(served, options.pace, follow, feed)
        self.errors: dict[tuple[int, str], int] = {}
        self.records = Records([replica.workload for replica in self.replicas], len(self.names))
        self.partial: str | None = None
        # Up to when every request that was over has been heard of, in seconds after the start.
        self.heard = math.inf

    def _rates(self, name: str) -> list[float]:
        """Return what users send to each replica: what is planned less the plan's headroom, where the plan is known."""
        rates = [replica.rate_rps for replica in self.endpoints.workloads[name].replicas]
        return rates if self.planned is None else [self.planned.without_headroom(name, rate) for rate in rates]

    def _replicas(self) -> list[_Replica]:
        """Ask every server for its model, and prepare what it is sent."""
        found = []
        for number, name in enumerate(self.names):
            workload = self.endpoints.workloads[name]
            schedule = self.schedules[number]
            for k, endpoint in enumerate(workload.replicas):
                if self.stop.is_set():
                    raise MeasurementInterruptedError("interrupted before anything was measured")
                where = f"{name} replica {endpoint.replica}"
                config = model_config(endpoint.grpc, workload.model, where)
                sample, source = (self.options.inputs or {}).get(workload.model, (None, ""))
                requests = serialized_requests(config, sample, source, self.options.seed)
                if self.options.shared_memory:
                    requests = self.shared.moved(endpoint.grpc, requests, where)
                times = schedule.times_ns[schedule.replica == k] / self.options.pace
                least = least_bytes(endpoint.grpc, config, requests[0], where)
                found.append(_Replica(number, endpoint, RequestStream(endpoint.grpc, requests, times, least)))
        return found

    def measure(self, source: str) -> Measurement:
        started = datetime.now(UTC).isoformat(timespec="seconds")
        self.warm_up = self.options.warm_up_s
        self.length = self._end_s()
        generators = Generators(shared_out([replica.stream for replica in self.replicas], self.length, self.options))
        before: list[Any] = []
        after: list[Any] = []
        try:
            generators.start()
            zero = time.monotonic_ns() + int(_START_S * NS_PER_S)
            generators.tell("start", zero)
            machine = Machine()
            self._follow(generators, zero, before, after)
            load = machine.load()
        finally:
            generators.tell("stop")
            self._drain(generators.pipes)
            generators.end()
        return self._result(source, started, load, before, after)

    def _end_s(self) -> float:
        """When counting ends, in seconds after the start: with the last request at the latest if all are recorded."""
        whole = self.options.warm_up_s + self.options.duration_s
        if any(own.kind != "trace" for own in self.options.arrivals_of(self.names, self.planned).values()):
            return whole
        last = max((float(r.stream.times_ns[-1]) for r in self.replicas if len(r.stream.times_ns)), default=0.0)
        if last <= self.options.warm_up_s * NS_PER_S:
            raise InputError(f"the trace ends after {last / NS_PER_S:g} s; give a shorter warm-up than that")
        return min(whole, (last + 1) / NS_PER_S)

    def _follow(self, generators: Generators, zero: int, before: list[Any], after: list[Any]) -> None:
        """Collect records until all requests are over, or something ends the measurement."""
        open_pipes, last_progress = list(generators.pipes), 0.0
        while open_pipes:
            for pipe in wait(open_pipes, timeout=_POLL_S):
                assert isinstance(pipe, Connection)  # noqa: S101
                if not self._receive(pipe, generators.numbers(pipe), before, after):
                    open_pipes.remove(pipe)
            elapsed = (time.monotonic_ns() - zero) / NS_PER_S
            self._follow_endpoints(generators)
            if not before and elapsed >= self.warm_up:
                before.extend(self._server_statistics())
            if before and not after and elapsed >= self.length:
                after.extend(self._server_statistics())
            if self.on_progress is not None and elapsed - last_progress >= _PROGRESS_S:
                last_progress = elapsed
                self.on_progress(
                    min(elapsed, self.length), self.length, self.records.live(elapsed, self.heads, self.options.pace)
                )
            if self.stop.is_set():
                self.partial = INTERRUPTED
            dead = self._dead(elapsed)
            if dead is not None:
                self.partial = dead
            if self.partial is not None:
                self.length = max(0.0, min(self.length, elapsed, self.heard))
                break
        if before and not after:
            after.extend(self._server_statistics())

    def _follow_endpoints(self, generators: Generators) -> None:
        """Tell the generators of servers that took over, if the endpoints file was rewritten."""
        for number, authority in self.following.orders():
            if self.shared.taken_over(self.replicas[number].endpoint.grpc, authority):
                generators.move(number, authority)

    def _receive(self, pipe: Connection, numbers: Sequence[int], before: list[Any], after: list[Any]) -> bool:
        """Take one message from the generator of these streams; whether more can come."""
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            self.partial = "a load generator ended unexpectedly"
            self.heard = max(self.records.last_heard(k) for k in numbers)
            return False
        if message[0] == "done":
            return False
        if message[0] == "moved":
            _, number, sent_ns, authority = message
            endpoint = self.following.moved(
                number, sent_ns / NS_PER_S - self.warm_up, sent_ns, authority, before, after
            )
            self.replicas[number] = self.replicas[number]._replace(endpoint=endpoint)
            return True
        _, records, errors = message
        self._take(records)
        for key, number in errors.items():
            self.errors[key] = self.errors.get(key, 0) + number
        return True

    def _take(self, records: npt.NDArray[Any]) -> None:
        if len(records):
            self.records.take(records)
            self.following.feed(records)

    def _drain(self, pipes: list[Connection]) -> None:
        """Take what the generators still send; what they had under way is lost with them."""
        deadline = time.monotonic() + 5.0
        for pipe in pipes:
            while time.monotonic() < deadline and pipe.poll(0.5):
                try:
                    message = pipe.recv()
                except (EOFError, OSError):
                    break
                if message[0] == "done":
                    break
                if message[0] == "records":
                    self._take(message[1])

    def _dead(self, elapsed: float) -> str | None:
        """Say which server has stopped answering altogether, if any."""
        for number, replica in enumerate(self.replicas):
            last_good, last_bad = self.records.last_good[number], self.records.last_bad[number]
            url = replica.endpoint.http
            if last_bad > last_good and elapsed - last_good > _DOUBT_S and url is not None and not server.is_alive(url):
                name = self.names[replica.workload]
                since = max(0.0, float(last_good))
                return f"the server of {name} replica {replica.endpoint.replica} does not answer since {since:.1f} s"
        return None

    def _server_statistics(self) -> list[Any]:
        def look(replica: _Replica) -> Any:
            return server.model_statistics(replica.endpoint.http, self.heads[replica.workload].model)

        with ThreadPoolExecutor(_PARALLEL) as pool:
            return list(pool.map(look, self.replicas))

    def _result(self, source: str, started: str, load: MachineLoad, before: list[Any], after: list[Any]) -> Measurement:
        pace = self.options.pace
        records = self.records.all_at(pace)
        begin, end = self.warm_up * pace * NS_PER_S, max(self.warm_up, self.length) * pace * NS_PER_S
        pairs = zip(before, after, strict=True) if before and after else ()
        splits = [server.split(old, new, pace) for old, new in pairs]
        splits = splits or [None] * len(self.replicas)
        splits = self.following.whole(splits)
        workloads: list[LoadStatistics] = []
        for number, head in enumerate(self.heads):
            own = [k for k, replica in enumerate(self.replicas) if replica.workload == number]
            found = [self._completed(k, records[records["stream"] == k], (begin, end)) for k in own]
            whole = np.concatenate(found)
            window = (begin, self._decided_until(whole, head, end))
            parts = tuple(
                statistics(self._part(head, self.replicas[k]), rows, window, splits[k])
                for k, rows in zip(own, found, strict=True)
            )
            split = server.together([splits[k] for k in own])
            only = parts[0] if len(parts) == 1 else None
            shown = head if only is None else head.model_copy(update={"gpu": only.gpu, "replica": only.replica})
            workloads.append(statistics(shown, whole, window, split, parts if only is None else ()))
        options = self.options
        measured = Measurement(
            source=source,
            plan_digest=self.digest,
            started_at=started,
            duration_s=(end - begin) / NS_PER_S,
            settings={
                **options.settings(self.names, self.planned),
                "warm_up_s": options.warm_up_s,
                "scale": options.scale,
                "pace": pace,
                "split": options.way_to_split,
                "seed": options.seed,
                "timeout_s": options.timeout_s,
                "shared_memory": options.shared_memory,
                "cpu": self.endpoints.cpu,
                "errors": {
                    f"{self.names[self.replicas[number].workload]}: {text}": count
                    for (number, text), count in sorted(self.errors.items())[:20]
                },
            },
            partial=self.partial,
            cpu_percent=load.cpu_percent,
            stolen_s=load.stolen_s,
            switches=tuple(self.following.switches),
            workloads=tuple(workloads),
        )
        return with_verdict(measured)

    def _completed(self, number: int, records: npt.NDArray[Any], window: tuple[float, float]) -> npt.NDArray[Any]:
        """Add the requests of the window that nothing is known of, because their generator was behind or ended."""
        due = np.round(self.replicas[number].stream.times_ns * self.options.pace)
        expected = np.flatnonzero((due >= window[0]) & (due < window[1]))
        missing = np.setdiff1d(expected, records["request"])
        added = np.zeros(len(missing), RECORD)
        added["stream"], added["request"], added["outcome"] = number, missing, WAITING
        added["due"], added["sent"], added["done"] = due[missing], window[1], window[1]
        return np.concatenate([records, added])

    def _decided_until(self, records: npt.NDArray[Any], head: Head, end: float) -> float:
        """Return up to when (due, in ns) it is decided of every request whether it is late; `end` if of all."""
        patience = _PATIENCE_S * self.options.pace * NS_PER_S if head.slo_ms is None else head.slo_ms * NS_PER_MS
        waiting = records["due"][records["outcome"] == WAITING]
        return float(min(waiting[waiting > end - patience], default=end))

    def _part(self, head: Head, replica: _Replica) -> Head:
        endpoint, planned = replica.endpoint, self.planned
        rate = endpoint.rate_rps
        rate = rate if planned is None else planned.without_headroom(head.workload, rate)
        return head.model_copy(
            update={
                "gpu": endpoint.gpu,
                "replica": endpoint.replica,
                "rate_rps": self.options.scale * rate,
            }
        )

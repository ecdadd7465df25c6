"""A workload's stream of requests, split over its placements and served, and what its runs say together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray, IntArray
from igniter_opt.base.nanoseconds import NS_PER_S, whole_ns
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.instance import Workload
from igniter_opt.physics.batcher import serve, serve_many
from igniter_opt.physics.partial_batches import SharedGpu
from igniter_opt.simulation.results import ServiceStatistics, limit_ns
from igniter_opt.simulation.schedule import ARRIVALS, NOISE, Randomness, Schedule, arrivals_for, scheduled
from igniter_opt.simulation.servers import Server
from igniter_opt.simulation.side_by_side import BUSY, COMPLETED, LONGEST, WAITED, serve_side_by_side
from igniter_opt.simulation.statistics import Served, Tally, together
from igniter_opt.simulation.traffic import Traffic

# The slowest workload beside actual neighbours has at least so many requests on average.
_FEWEST_REQUESTS = 30


class PlacementRequests(NamedTuple):
    """The requests of one placement in one run.

    Attributes
    ----------
    times_ns
        Arrival times, ascending.
    first
        So many at the start are served but not counted.
    window
        Begin and end of the time that counts, in ns.
    factors
        On the GPU times of its batches, in their order; empty for none.
    """

    times_ns: FloatArray
    first: int
    window: tuple[float, float]
    factors: FloatArray


@dataclass(frozen=True)
class SimulatedLoad:
    """What all streams have in common: the traffic, and how much of it.

    Attributes
    ----------
    arrivals
        How each workload's requests arrive.
    ahead, counted
        Requests per workload and run that are served but not counted, and that are; drawn ones.
    recorded
        Arrival times of the workloads whose requests are not drawn.
    recorded_ahead
        Requests of each of those that are served but not counted.
    noise
        Coefficient of variation of GPU times.
    """

    traffic: Traffic
    arrivals: dict[str, Arrivals]
    ahead: int
    counted: int
    recorded: dict[str, FloatArray]
    recorded_ahead: int
    noise: float

    def runs_differ(self, stream: "Stream", *, phases: bool) -> bool:
        """Whether two runs of a stream can differ, constant ones beginning within their period or not."""
        kind = self.arrivals[stream.workload.name].kind
        drawn = kind not in ("constant", "trace") or (phases and kind == "constant")
        replicas = len(stream.servers) > 1
        return drawn or self.noise != 0.0 or (replicas and self.traffic.way_to_split != "round-robin")

    def seconds(self, workloads: Sequence[Workload]) -> float:
        """How long drawn streams go on beside each other: as long as traces, if there are any."""
        if self.recorded:
            return max(float(times[-1]) for times in self.recorded.values()) / NS_PER_S
        rates = [self.rate(workload) for workload in workloads]
        return max((self.ahead + self.counted) * len(rates) / sum(rates), _FEWEST_REQUESTS / min(rates))

    def rate(self, workload: Workload) -> float:
        """Rate at which a workload's requests arrive, in req/s."""
        return self.traffic.scale * workload.rate_rps

    def by_number(self, stream: "Stream", number: int, run: int) -> list[PlacementRequests]:
        """Return one run of a stream, the number of its requests given; one part per placement."""
        random, name = Randomness(self.traffic.seed, run, number), stream.workload.name
        if name in self.recorded:
            times, ahead = self.recorded[name], self.recorded_ahead
        else:
            rate, ahead = self.rate(stream.workload), self.ahead
            times = self.arrivals[name].times_ns(rate, ahead + self.counted, random.stream(ARRIVALS))
        return stream.split(
            scheduled(times, ahead, self.traffic.way_to_split, stream.rates, random), self.noise, random
        )

    def by_time(self, stream: "Stream", number: int, run: int, seconds: float) -> list[PlacementRequests]:
        """Return one run of a stream that goes on for a time, a constant one beginning within its period."""
        name = stream.workload.name
        if name in self.recorded:
            return self.by_number(stream, number, run)
        random, rate = Randomness(self.traffic.seed, run, number), self.rate(stream.workload)
        times = arrivals_for(self.arrivals[name], rate, seconds, random)
        if self.arrivals[name].kind == "constant":
            times = whole_ns(times + random.stream(ARRIVALS).random() * NS_PER_S / rate)
        part_ahead = self.ahead / (self.ahead + self.counted)
        ahead = int(np.searchsorted(times, part_ahead * seconds * NS_PER_S))
        return stream.split(
            scheduled(times, ahead, self.traffic.way_to_split, stream.rates, random), self.noise, random
        )


class Stream:
    """One workload: its requests are split over its placements, and what became of them is collected.

    Parameters
    ----------
    judged
        The percentile that must be within the SLO, as a probability.
    headroom
        By how much higher than the workload's rate the placements' are planned.
    """

    def __init__(self, workload: Workload, servers: list[Server], judged: float, headroom: float = 0.0) -> None:
        self.workload, self.servers, self.judged = workload, servers, judged
        self.rates = np.array([server.placement.rate_rps for server in servers])
        if headroom:
            self.rates /= 1.0 + headroom
        limit, largest = limit_ns(workload.slo_ms), [len(server.gpu) for server in servers]
        self.parts = [Tally(limit, judged, batch) for batch in largest]
        self.whole = self.parts[0] if len(servers) == 1 else Tally(limit, judged, max(largest), len(servers))

    def split(
        self, schedule: Schedule, noise: float = 0.0, random: Randomness | None = None
    ) -> list[PlacementRequests]:
        """Give every placement its requests of one run."""
        times, ahead, chosen = schedule.times_ns, schedule.ahead, schedule.replica
        window = (float(times[ahead]), float(times[-1])) if ahead < len(times) else (math.inf, math.inf)
        found = []
        for k in range(len(self.servers)):
            whole = len(self.servers) == 1
            own = times if whole else times[chosen == k]
            first = ahead if whole else int(np.count_nonzero(chosen[:ahead] == k))
            factors = np.empty(0) if random is None else _factors(noise, len(own), random.stream(NOISE + k))
            found.append(PlacementRequests(own, first, window, factors))
        return found

    def add(self, served: Sequence[Served]) -> None:
        """Add what one run says of each placement."""
        for tally, own in zip(self.parts, served, strict=True):
            tally.add(own)
        if len(served) > 1:
            self.whole.add(together(served))

    def statistics(self) -> ServiceStatistics:
        """Return the statistics of all runs."""
        own = zip(self.parts, self.servers, self.rates.tolist(), strict=True)
        parts = tuple(self._statistics(*entry) for entry in own)
        only = self.servers[0] if len(parts) == 1 else None
        return self._statistics(self.whole, only, self.workload.rate_rps, parts)

    def _statistics(
        self, tally: Tally, server: Server | None, rate_rps: float, placements: tuple[ServiceStatistics, ...] = ()
    ) -> ServiceStatistics:
        own = None if server is None else server.placement
        return ServiceStatistics(
            workload=self.workload.name,
            model=self.workload.model,
            gpu=None if server is None else server.gpu_name,
            replica=None if own is None else own.replica,
            batch=None if own is None else own.batch,
            slo_ms=self.workload.slo_ms,
            percentile=self.judged,
            rate_rps=rate_rps,
            requests=tally.requests,
            estimates=tally.estimates(),
            max_queue=tally.max_queue,
            batch_histogram=tally.histogram(),
            curve_ms=tally.curve_ms(),
            placements=placements,
        )


def serve_alone(server: Server, part: PlacementRequests) -> Served:
    """Serve one placement's requests, its neighbours running full batches all the time."""
    latency, batches = np.empty(len(part.times_ns)), np.zeros(len(server.gpu), dtype=np.int64)
    begin, end = part.window
    if server.processes > 1:
        return _serve_by_many(server, part, latency, batches)
    busy, waited, longest, completed = serve(
        part.times_ns, part.first, begin, end, server.delay, server.gpu, server.load, server.feedback,
        part.factors, latency, batches,
    )  # fmt: skip
    return Served(latency[part.first :], batches, end - begin, busy, waited, longest, completed)


def _serve_by_many(server: Server, part: PlacementRequests, latency: FloatArray, batches: IntArray) -> Served:
    begin, end = part.window
    busy, waited, longest, completed = serve_many(
        part.times_ns, part.first, begin, end, server.delay, server.processes, server.gpu, server.load,
        part.factors, latency, batches,
    )  # fmt: skip
    busy /= server.processes
    return Served(latency[part.first :], batches, end - begin, busy, waited, longest, completed)


def serve_gpu(
    shared: SharedGpu, servers: Sequence[Server], parts: Sequence[PlacementRequests], margin: float
) -> list[Served]:
    """Serve the requests of a GPU's placements, each slowed by the batches that run beside its own."""
    offset = np.concatenate([[0], np.cumsum([len(part.times_ns) for part in parts])]).astype(np.int64)
    largest = np.array([len(server.gpu) for server in servers], dtype=np.int64)
    latency, totals = np.empty(offset[-1]), np.zeros((len(parts), 4))
    batches = np.zeros((len(parts), int(largest.max())), dtype=np.int64)
    serve_side_by_side(
        np.concatenate([part.times_ns for part in parts]),
        offset,
        np.array([part.first for part in parts], dtype=np.int64),
        np.array([part.window for part in parts]),
        np.array([server.delay for server in servers]),
        largest,
        shared,
        1.0 + margin,
        np.concatenate([part.factors for part in parts]),
        latency,
        batches,
        totals,
    )
    return [
        Served(
            latency[offset[i] + part.first : offset[i + 1]],
            batches[i, : largest[i]],
            part.window[1] - part.window[0],
            float(totals[i, BUSY]),
            float(totals[i, WAITED]),
            int(totals[i, LONGEST]),
            int(totals[i, COMPLETED]),
        )
        for i, part in enumerate(parts)
    ]


def _factors(noise: float, batches: int, rng: np.random.Generator) -> FloatArray:
    """Lognormal factors of mean 1 and this coefficient of variation; none at 0."""
    if noise == 0.0:
        return np.empty(0)
    variance = math.log1p(noise**2)
    return rng.lognormal(-variance / 2.0, math.sqrt(variance), batches)

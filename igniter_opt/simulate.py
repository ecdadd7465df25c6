"""A plan under the traffic that users send: every placement's queue simulated, request by request.

The predictor says how long a batch of any size takes beside the plan's neighbours; the plan says how its batcher is
set; `simulation.engine` says how batches form. Neighbours are taken to run full batches all the time, as the
predictor and all SLO rules assume, so placements do not depend on each other and are simulated one by one.

A workload is one stream of requests, split over its replicas. A run counts the same number of requests of every
workload, after a warm-up that is served but not counted, because the queue starts empty. Estimates are means over
independent runs, with Student t intervals. Close to utilisation 1, queues take long to build up, and short runs see
less of them: high percentiles come out too low there. A placement that cannot keep up has no steady state: its
latencies grow with the number of requests, and only say that it does not hold.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from igniter_opt.coefficients import FloatArray
from igniter_opt.errors import InputError, SimulationInterruptedError
from igniter_opt.instance import Workload
from igniter_opt.plan import Plan
from igniter_opt.schema import nearest
from igniter_opt.simulation.arrivals import SPLITS, ArrivalKind, Arrivals, Split
from igniter_opt.simulation.engine import serve, whole_ns
from igniter_opt.simulation.results import ServiceStatistics, Simulation, limit_ns
from igniter_opt.simulation.schedule import ARRIVALS, NOISE, Randomness, Schedule, scheduled
from igniter_opt.simulation.servers import Server, servers_of
from igniter_opt.simulation.statistics import CONFIDENCE, Served, Tally, together
from igniter_opt.simulation.traces import read_traces
from igniter_opt.stop import StopRequest

DEFAULT_REQUESTS = 100_000
DEFAULT_SEEDS = 10
MOST_REQUESTS = 10_000_000
MOST_SEEDS = 1000
# Of the requests that are counted, so many more are served before them.
WARM_UP = 0.1
_LARGEST_NOISE = 10.0
_SCALE_RANGE = (1e-6, 1e6)


def simulate(
    plan: Plan,
    arrivals: ArrivalKind | Arrivals = "poisson",
    *,
    requests: int | None = None,
    seeds: int = DEFAULT_SEEDS,
    seed: int = 0,
    warm_up: int | None = None,
    traces: Sequence[tuple[str | None, str | Path]] = (),
    scale: float = 1.0,
    split: Split | None = None,
    noise: float = 0.0,
    margin: float = 0.0,
    percentile: float | None = None,
    on_progress: Callable[[int, int], object] | None = None,
    stop: StopRequest | None = None,
) -> Simulation:
    """Simulate a plan.

    Parameters
    ----------
    plan
        Any plan whose placements make sense; it need not meet its SLOs.
    arrivals
        A kind of arrivals, or one with its parameters.
    requests
        Requests counted per workload and run (default 100,000); a trace has its own.
    seeds, seed
        Number of runs, and what their random numbers begin with: equal seeds give equal results. Of a workload
        whose runs could not differ (constant arrivals or a trace, no noise, no random split) there is one.
    warm_up
        Requests per workload that are served before counting begins; by default a tenth of `requests`, and
        none of a trace.
    traces
        For arrivals ``trace``: pairs of a workload's name (None where the file names the workloads) and a file.
    scale
        Multiplies all arrival rates.
    split
        How replicas share a workload's requests: ``random`` or ``round-robin``. By default random, as a rule on
        percentiles assumes, but round-robin for constant arrivals, which would not be constant otherwise.
    noise
        Coefficient of variation of a lognormal factor of mean 1 on every batch's GPU latency.
    margin
        Inflates predicted GPU latencies by ``1 + margin``.
    percentile
        The percentile that must be within the SLO, as a probability; by default the one that rule p99 requires in
        the plan's instance, and 0.99 under other rules.
    on_progress
        Called with the number of streams done, and of all.
    stop
        Set it (from another thread, say) to end early; Ctrl-C does so. It is looked at before every run.

    Raises
    ------
    SimulationInterruptedError
        Stopped.
    InputError
        An option out of range, an unusable trace, or a plan that nobody can serve.
    """
    process = arrivals if isinstance(arrivals, Arrivals) else Arrivals(arrivals)
    how = _split(split, process)
    _check_ranges(process, requests, seeds, seed, warm_up, traces, scale, noise, margin, percentile)
    servers = servers_of(plan, margin)
    recorded = _recorded(traces, plan, scale) if process.kind == "trace" else None
    counted = DEFAULT_REQUESTS if requests is None else requests
    ahead = (0 if recorded is not None else round(WARM_UP * counted)) if warm_up is None else warm_up
    if recorded is not None:
        _check_warm_up(ahead, recorded)
    settled = process.kind in ("constant", "trace") and noise == 0.0
    runs_of = [1 if settled and (how == "round-robin" or len(own) == 1) else seeds for own in servers]
    done = 0
    judged = plan.instance.required_percentile if percentile is None else percentile
    found = []
    stop = stop or StopRequest()
    with stop.on_interrupt():
        for number, (workload, own) in enumerate(zip(plan.instance.workloads, servers, strict=True)):
            stream = _Stream(workload, own, judged)
            for run in range(runs_of[number]):
                if stop.is_set():
                    raise SimulationInterruptedError("interrupted: nothing was written")
                random = Randomness(seed, run, number)
                if recorded is not None:
                    times = recorded[workload.name]
                else:
                    times = process.times_ns(scale * workload.rate_rps, ahead + counted, random.stream(ARRIVALS))
                stream.serve(scheduled(times, ahead, how, stream.rates, random), noise, random)
                done += 1
                if on_progress is not None:
                    on_progress(done, sum(runs_of))
            found.append(stream.statistics())
    settings = {
        "arrivals": process.kind,
        **process.settings,
        "requests": None if recorded is not None else counted,
        "warm_up": ahead,
        "runs": max(runs_of),
        "seed": seed,
        "scale": scale,
        "split": how,
        "noise": noise,
        "margin": margin,
        "confidence": CONFIDENCE,
    }
    return Simulation(plan.instance.name, tuple(found), settings)


def replay(plan: Plan, schedules: Sequence[Schedule], percentile: float | None = None) -> Simulation:
    """Simulate one run of exactly these requests, one schedule per workload in the instance's order."""
    judged = plan.instance.required_percentile if percentile is None else percentile
    found = []
    for workload, own, schedule in zip(plan.instance.workloads, servers_of(plan), schedules, strict=True):
        stream = _Stream(workload, own, judged)
        stream.serve(schedule)
        found.append(stream.statistics())
    return Simulation(plan.instance.name, tuple(found), {"arrivals": "given", "runs": 1})


class _Stream:
    """One workload: its requests are split over its placements and served."""

    def __init__(self, workload: Workload, servers: list[Server], judged: float) -> None:
        self.workload, self.servers, self.judged = workload, servers, judged
        self.rates = np.array([server.placement.rate_rps for server in servers])
        limit, largest = limit_ns(workload.slo_ms), [len(server.gpu) for server in servers]
        self.parts = [Tally(limit, judged, batch) for batch in largest]
        self.whole = self.parts[0] if len(servers) == 1 else Tally(limit, judged, max(largest), len(servers))

    def serve(self, schedule: Schedule, noise: float = 0.0, random: Randomness | None = None) -> None:
        """Simulate one run of the stream."""
        times, ahead, chosen = schedule.times_ns, schedule.ahead, schedule.replica
        window = (float(times[ahead]), float(times[-1]))
        if len(self.servers) == 1:
            self.parts[0].add(self._serve(0, times, ahead, window, noise, random))
            return
        served = []
        for k, tally in enumerate(self.parts):
            first = int(np.count_nonzero(chosen[:ahead] == k))
            served.append(self._serve(k, times[chosen == k], first, window, noise, random))
            tally.add(served[-1])
        self.whole.add(together(served))

    def _serve(
        self,
        k: int,
        times: FloatArray,
        first: int,
        window: tuple[float, float],
        noise: float,
        random: Randomness | None,
    ) -> Served:
        """Serve the requests of placement k."""
        server = self.servers[k]
        latency, batches = np.empty(len(times)), np.zeros(len(server.gpu), dtype=np.int64)
        factors = np.empty(0) if random is None else _factors(noise, len(times), random.stream(NOISE + k))
        begin, end = window
        busy, waited, longest, completed = serve(
            times, first, begin, end, server.delay, server.gpu, server.load, server.feedback, factors, latency, batches
        )
        return Served(latency[first:], batches, end - begin, busy, waited, longest, completed)

    def statistics(self) -> ServiceStatistics:
        """Return the statistics of all runs."""
        parts = tuple(self._statistics(tally, server) for tally, server in zip(self.parts, self.servers, strict=True))
        return self._statistics(self.whole, self.servers[0] if len(parts) == 1 else None, parts)

    def _statistics(
        self, tally: Tally, server: Server | None, placements: tuple[ServiceStatistics, ...] = ()
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
            rate_rps=self.workload.rate_rps if own is None or placements else own.rate_rps,
            requests=tally.requests,
            estimates=tally.estimates(),
            max_queue=tally.max_queue,
            batch_histogram=tally.histogram(),
            curve_ms=tally.curve_ms(),
            placements=placements,
        )


def _factors(noise: float, batches: int, rng: np.random.Generator) -> FloatArray:
    """Lognormal factors of mean 1 and this coefficient of variation; none at 0."""
    if noise == 0.0:
        return np.empty(0)
    variance = math.log1p(noise**2)
    return rng.lognormal(-variance / 2.0, math.sqrt(variance), batches)


def _split(asked: Split | None, process: Arrivals) -> Split:
    if asked is None:
        return "round-robin" if process.kind == "constant" else "random"
    if asked not in SPLITS:
        raise InputError(f"split: unknown way {asked!r}{nearest(asked, SPLITS)} (ways: {', '.join(SPLITS)})")
    return asked


def _check_ranges(
    process: Arrivals,
    requests: int | None,
    seeds: int,
    seed: int,
    warm_up: int | None,
    traces: Sequence[tuple[str | None, str | Path]],
    scale: float,
    noise: float,
    margin: float,
    percentile: float | None,
) -> None:
    for name, value, low, high in (
        ("requests", requests, 1, MOST_REQUESTS),
        ("seeds", seeds, 1, MOST_SEEDS),
        ("seed", seed, 0, None),
        ("warm_up", warm_up, 0, MOST_REQUESTS),
        ("scale", scale, *_SCALE_RANGE),
        ("noise", noise, 0, _LARGEST_NOISE),
        ("margin", margin, 0, 100),
    ):
        if value is None:
            continue
        if not low <= value <= (math.inf if high is None else high):
            allowed = f"at least {low:g}" if high is None else f"between {low:,g} and {high:,.0f}"
            raise InputError(f"{name} must be {allowed}; found {value:g}")
    if percentile is not None and not 0.0 < percentile <= 1.0:
        raise InputError(f"percentile must be a probability above 0, such as 0.99, and at most 1; found {percentile:g}")
    if process.kind == "trace":
        if requests is not None:
            raise InputError("requests: a trace has its own number of requests; leave this out")
        if not traces:
            raise InputError("arrivals trace: give a trace file")
    elif traces:
        raise InputError(f"a trace belongs to arrivals trace; the arrivals are {process.kind}")


def _recorded(traces: Sequence[tuple[str | None, str | Path]], plan: Plan, scale: float) -> dict[str, FloatArray]:
    recorded = read_traces(traces, [workload.name for workload in plan.instance.workloads])
    return recorded if scale == 1.0 else {name: whole_ns(times / scale) for name, times in recorded.items()}


def _check_warm_up(ahead: int, recorded: dict[str, FloatArray]) -> None:
    for name, times in recorded.items():
        if ahead >= len(times):
            raise InputError(f"warm_up: the trace has only {len(times)} requests of workload {name}; found {ahead}")

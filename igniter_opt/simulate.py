"""A plan under the traffic that users send: every placement's queue simulated, request by request.

The predictor says how long a batch of any size takes beside the plan's neighbours; the plan says how its batcher is
set; `physics.batches` says how batches form. By default neighbours are taken to run full batches all the time, as the
predictor and all SLO rules assume, so placements do not depend on each other and are simulated one by one. That is what
a plan promises, unless it was made for neighbours as they are. What to expect says ``neighbours="actual"``: the
placements of a GPU are simulated together (`simulation.side_by_side`), each slowed by the batches that run beside its
own at the time.

A workload is one stream of requests, split over its replicas. A run counts the same number of requests of every
workload, after a warm-up that is served but not counted, because the queue starts empty. (Actual neighbours have to be
there all the time: beside them all streams go on for a time in which the mean workload has this number.) Estimates are
means over independent runs, with Student t intervals. Close to utilisation 1, queues take long to build up, and short
runs see less of them: high percentiles come out too low there. A placement that cannot keep up has no steady state: its
latencies grow with the number of requests, and only say that it does not hold.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.compilation import ended_by
from igniter_opt.base.errors import InputError, SimulationInterruptedError
from igniter_opt.base.files import StrPath
from igniter_opt.base.schema import checked_number, one_of
from igniter_opt.base.stop import StopRequest
from igniter_opt.data.arrivals import ArrivalKind, Arrivals, as_arrivals
from igniter_opt.data.neighbours import NEIGHBOURS, Neighbours
from igniter_opt.data.plan import Plan, as_plan
from igniter_opt.data.split import SPLITS, Split
from igniter_opt.simulation.results import Simulation
from igniter_opt.simulation.schedule import Schedule
from igniter_opt.simulation.servers import Server, companies_of, servers_of, tied_together
from igniter_opt.simulation.statistics import CONFIDENCE, Served
from igniter_opt.simulation.streams import SimulatedLoad, Stream, serve_alone, serve_gpu
from igniter_opt.simulation.traffic import Traffic

DEFAULT_REQUESTS = 100_000
DEFAULT_SEEDS = 10
MOST_REQUESTS = 10_000_000
MOST_SEEDS = 1000
# Of the requests that are counted, so many more are served before them.
WARM_UP = 0.1
_LARGEST_NOISE = 10.0
# Beside actual neighbours at most so many requests are simulated together in one run.
_MOST_TOGETHER = 2e8
_SCALE_RANGE = (1e-6, 1e6)


def simulate(
    plan: Plan | StrPath,
    arrivals: ArrivalKind | Arrivals | None = None,
    *,
    requests: int | None = None,
    seeds: int = DEFAULT_SEEDS,
    seed: int = 0,
    warm_up: int | None = None,
    traces: Sequence[tuple[str | None, str | Path]] = (),
    scale: float = 1.0,
    split: Split | None = None,
    neighbours: Neighbours | None = None,
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
        Any plan whose placements make sense, or the path of one; it need not meet its SLOs.
    arrivals
        A kind of arrivals, or one with its parameters, for all workloads. By default the plan's own, which may differ
        between workloads, and recorded times are scaled to a workload's rate; Poisson where the plan says nothing.
    requests
        Requests counted per workload and run (default 100,000), on average beside actual neighbours; a trace has its
        own. Beside actual neighbours with traces of the plan's, all go on as long as the longest of those.
    seeds, seed
        Number of runs, and what their random numbers begin with: equal seeds give equal results. Of a workload
        whose runs could not differ (constant arrivals or a trace, no noise, no random split) there is one. Beside
        actual neighbours constant streams begin at random within their period, so that their runs differ.
    warm_up
        Requests per workload that are served before counting begins; by default a tenth of `requests`, and
        none of a trace.
    traces
        For arrivals ``trace``: pairs of a workload's name (None where the file names the workloads) and a file.
    scale
        Multiplies all arrival rates, which are those that users said: without the headroom that a plan has.
    split
        How replicas share a workload's requests: ``random`` or ``round-robin``. By default as the plan has it; where
        it says nothing random, as a rule on percentiles assumes then, but round-robin for constant arrivals, which
        would not be constant otherwise.
    neighbours
        ``full``: neighbours run full batches all the time, as SLO rules assume. ``actual``: the batches that their
        own requests form. By default what the plan was judged by, which is ``full`` unless it says otherwise.
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
    plan = as_plan(plan)
    process = None if arrivals is None else as_arrivals(arrivals)
    if split is not None:
        one_of(split, SPLITS, "split: unknown way", "ways")
    traffic = Traffic(arrivals=process, traces=traces, scale=scale, split=split or plan.instance.split, seed=seed)
    if neighbours is None:
        neighbours = "full" if plan.neighbours is None else plan.neighbours.kind
    one_of(neighbours, NEIGHBOURS, "neighbours: unknown kind", "kinds")
    _check_ranges(traffic, requests, seeds, warm_up, noise, margin, percentile)
    servers = servers_of(plan, margin)
    rates = {workload.name: workload.rate_rps for workload in plan.instance.workloads}
    recorded = traffic.recorded(rates, plan.instance)
    only_recorded = len(recorded) == len(rates)
    if only_recorded and requests is not None:
        raise InputError(
            "requests: all workloads have recorded requests, which are as many as they are; leave this out, or give"
            " other arrivals, such as poisson"
        )
    counted = DEFAULT_REQUESTS if requests is None else requests
    ahead, recorded_ahead = (round(WARM_UP * counted), 0) if warm_up is None else (warm_up, warm_up)
    _check_warm_up(recorded_ahead, recorded)
    judged = plan.instance.required_percentile if percentile is None else percentile
    streams = _streams(plan, servers, judged)
    planned = traffic.arrivals_of(list(rates), plan.instance)
    load = SimulatedLoad(traffic, planned, ahead, counted, recorded, recorded_ahead, noise)
    if neighbours == "full":
        runs, work = _one_by_one(streams, load, seeds)
    else:
        runs, work = _side_by_side(plan, streams, load, seeds, margin)
    done, stop = 0, stop or StopRequest()
    with stop.on_interrupt(), ended_by(stop):
        try:
            # Work is done only when the next number is asked for.
            while not stop.is_set() and done < sum(runs):
                done += next(work)
                if on_progress is not None:
                    on_progress(done, sum(runs))
        except KeyboardInterrupt:
            if not stop.is_set():
                raise
    if done < sum(runs):
        raise SimulationInterruptedError("interrupted: nothing was written")
    settings = {
        **traffic.settings(list(rates), plan.instance),
        "requests": None if only_recorded else counted,
        "warm_up": recorded_ahead if only_recorded else ahead,
        "runs": max(runs),
        "seed": seed,
        "scale": scale,
        "split": traffic.way_to_split,
        "neighbours": neighbours,
        "noise": noise,
        "margin": margin,
        "confidence": CONFIDENCE,
    }
    return Simulation(plan.instance.name, tuple(stream.statistics() for stream in streams), settings)


def replay(plan: Plan, schedules: Sequence[Schedule], percentile: float | None = None) -> Simulation:
    """Simulate one run of exactly these requests, one schedule per workload in the instance's order."""
    judged = plan.instance.required_percentile if percentile is None else percentile
    streams = _streams(plan, servers_of(plan), judged)
    for stream, schedule in zip(streams, schedules, strict=True):
        stream.add([serve_alone(*each) for each in zip(stream.servers, stream.split(schedule), strict=True)])
    return Simulation(
        plan.instance.name, tuple(stream.statistics() for stream in streams), {"arrivals": "given", "runs": 1}
    )


def _streams(plan: Plan, servers: Sequence[list[Server]], judged: float) -> list[Stream]:
    pairs = zip(plan.instance.workloads, servers, strict=True)
    return [Stream(workload, own, judged, plan.instance.headroom_of(workload)) for workload, own in pairs]


def _one_by_one(streams: list[Stream], load: SimulatedLoad, seeds: int) -> tuple[list[int], Iterator[int]]:
    """Serve every placement by itself; return the runs of every workload, and an iterator over the runs done."""
    runs = [seeds if load.runs_differ(stream, phases=False) else 1 for stream in streams]

    def work() -> Iterator[int]:
        for number, stream in enumerate(streams):
            for run in range(runs[number]):
                parts = load.by_number(stream, number, run)
                stream.add([serve_alone(*each) for each in zip(stream.servers, parts, strict=True)])
                yield 1

    return runs, work()


def _side_by_side(
    plan: Plan, streams: list[Stream], load: SimulatedLoad, seeds: int, margin: float
) -> tuple[list[int], Iterator[int]]:
    """Serve the placements of every GPU together; return the same as `_one_by_one`."""
    seconds = load.seconds([stream.workload for stream in streams])
    groups = tied_together(companies_of(plan))
    runs = [0] * len(streams)
    for numbers, _ in groups:
        drawn = [streams[k].workload for k in numbers if streams[k].workload.name not in load.recorded]
        requests = sum(map(load.rate, drawn)) * seconds
        if requests > _MOST_TOGETHER and load.recorded:
            raise InputError(
                f"neighbours actual: {requests:.3g} requests would have to be simulated beside a trace of"
                f" {seconds:.3g} s; give arrivals for all workloads"
            )
        if requests > _MOST_TOGETHER:
            slowest = min(streams, key=lambda stream: stream.workload.rate_rps).workload
            raise InputError(
                f"neighbours actual: {requests:.3g} requests would have to be simulated together, workload"
                f" {slowest.name} being so slow ({slowest.rate_rps:g} req/s); ask for fewer requests, or leave it out"
            )
        differ = any(load.runs_differ(streams[number], phases=True) for number in numbers)
        for number in numbers:
            runs[number] = seeds if differ else 1

    def work() -> Iterator[int]:
        for numbers, companies in groups:
            for run in range(runs[numbers[0]]):
                parts = {number: load.by_time(streams[number], number, run, seconds) for number in numbers}
                served: dict[tuple[int, int], Served] = {}
                for company in companies:
                    here = [streams[number].servers[k] for number, k in company.members]
                    asked = [parts[number][k] for number, k in company.members]
                    found = serve_gpu(company.shared, here, asked, margin)
                    served |= dict(zip(company.members, found, strict=True))
                for number in numbers:
                    streams[number].add([served[number, k] for k in range(len(streams[number].servers))])
                yield len(numbers)

    return runs, work()


def _check_ranges(
    traffic: Traffic,
    requests: int | None,
    seeds: int,
    warm_up: int | None,
    noise: float,
    margin: float,
    percentile: float | None,
) -> None:
    for name, value, low, high in (
        ("requests", requests, 1, MOST_REQUESTS),
        ("seeds", seeds, 1, MOST_SEEDS),
        ("seed", traffic.seed, 0, None),
        ("warm_up", warm_up, 0, MOST_REQUESTS),
        ("scale", traffic.scale, *_SCALE_RANGE),
        ("noise", noise, 0, _LARGEST_NOISE),
        ("margin", margin, 0, 100),
    ):
        if value is None and name in {"requests", "warm_up"}:
            continue
        number = checked_number(name, value, whole=name in {"requests", "seeds", "seed", "warm_up"})
        if not low <= number <= (math.inf if high is None else high):
            allowed = f"at least {low:g}" if high is None else f"between {low:,g} and {high:,.0f}"
            raise InputError(f"{name} must be {allowed}; found {number:g}")
    if percentile is not None and not 0.0 < checked_number("percentile", percentile) <= 1.0:
        raise InputError(f"percentile must be a probability above 0, such as 0.99, and at most 1; found {percentile:g}")
    if traffic.arrivals is not None and traffic.arrivals.kind == "trace" and requests is not None:
        raise InputError("requests: a trace has its own number of requests; leave this out")
    traffic.check_traces()


def _check_warm_up(ahead: int, recorded: dict[str, FloatArray]) -> None:
    for name, times in recorded.items():
        if ahead >= len(times):
            raise InputError(f"warm_up: the trace has only {len(times)} requests of workload {name}; found {ahead}")

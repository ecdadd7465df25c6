"""A rehearsal: a plan on real Triton servers without a GPU, under its own load, beside its simulation.

The servers run an emulated model (`emulated_model.py`) that takes as long as the predictor says for every batch that
Triton forms; batching, queueing, transport and the load are real. Simulation and load generator are given the very
same requests, so that chance has no part in the difference.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from igniter_opt.base.errors import DeploymentError, InputError, MeasurementInterruptedError
from igniter_opt.base.nanoseconds import NS_PER_MS, NS_PER_S
from igniter_opt.base.stop import StopRequest
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.plan import Plan
from igniter_opt.deploy import launch
from igniter_opt.deploy.apply import Options as ApplyOptions
from igniter_opt.deploy.backends.base import Backend
from igniter_opt.deploy.endpoints import Endpoints, endpoints
from igniter_opt.deploy.state import Store
from igniter_opt.deploy.targets import largest_batches, make_targets
from igniter_opt.deploy.triton.model_repository import read_models
from igniter_opt.measure.options import MeasureOptions, schedules
from igniter_opt.measure.results import INTERRUPTED, LoadStatistics, Measurement
from igniter_opt.measure.run import Progress, measure
from igniter_opt.rehearse.emulation import write_emulated_models
from igniter_opt.rehearse.results import Rehearsal, compared, judged, service_excess
from igniter_opt.simulate import replay
from igniter_opt.simulation.schedule import Schedule
from igniter_opt.simulation.servers import Server, servers_of
from igniter_opt.slo.batcher import queue_delay_us

_PREFIX, _LONGEST_NAME = "rehearsal-", 63
# The overhead is measured with so many single requests per server, in at most so many seconds.
_PROBES, _PROBE_S = 40, 4.0
_FEWEST_PROBES = 5
_MOST_DELAY_US = 10**9


@dataclass(frozen=True)
class RehearsalSite:
    """Where to rehearse: what starts servers, the folder of deployments, and how they are started."""

    backend: Backend
    root: Path
    apply: ApplyOptions = field(default_factory=ApplyOptions)


def rehearse(
    plan: Plan,
    site: RehearsalSite,
    options: MeasureOptions | None = None,
    *,
    source: Path = Path("plan.json"),
    slowdown: float = 1.0,
    on_progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> Rehearsal:
    """Deploy a plan's emulated models, load them, compare with the simulation, and tear all down again.

    Parameters
    ----------
    plan
        Any plan whose placements make sense; it need not meet its SLOs, nor be approved.
    options
        The load. `MeasureOptions.pace` slows everything: at 0.1 requests come a tenth as often and batches take ten
        times as long, so that a small machine serves a large plan; results are in the plan's time.
    slowdown
        Multiplies the emulated GPU latencies, not those of the simulation: a plan whose predictions are wrong.

    Raises
    ------
    InputError
        The plan cannot be served, an option is out of range, there is no server to start.
    DeploymentError, DeploymentInterruptedError, MeasurementInterruptedError
        The servers did not get ready, or something ended the rehearsal before the load.
    """
    options = options or MeasureOptions()
    options = replace(options, stamped=True, split=options.split or plan.instance.split)
    options.check()
    stop = stop or site.apply.stop
    servers = servers_of(plan)
    told = [[server._replace(gpu=server.gpu * slowdown) for server in own] for own in servers]
    names = [workload.name for workload in plan.instance.workloads]
    rates = [
        [plan.instance.without_headroom(name, server.placement.rate_rps) for server in own]
        for name, own in zip(names, servers, strict=True)
    ]
    planned = schedules(list(zip(names, rates, strict=True)), options, names, plan.instance)
    empty = [name for name, schedule in zip(names, planned, strict=True) if schedule.ahead >= len(schedule.times_ns)]
    if empty:
        raise InputError(f"there are no requests of workload {empty[0]} after the warm-up; give a longer duration")
    store = Store(site.root, (_PREFIX + plan.instance.name)[:_LONGEST_NAME])
    with tempfile.TemporaryDirectory(prefix="igniter-opt-") as folder:
        models = Path(folder)
        write_emulated_models(plan, models, scale=options.pace, slowdown=slowdown)
        slowed = _slowed(plan, options.pace)
        runtime = site.backend.prepare(cpu=True)
        targets = make_targets(
            slowed, read_models(models, largest_batches(plan)), cpu=True, runtime=runtime | {"cpu": True}
        )
        request = launch.Request(plan=source, models=models, cpu=True, options=replace(site.apply, stop=stop))
        with launch.temporary(request, store, site.backend, slowed, targets) as state:
            where = _ordered(endpoints(state), names)
            site.apply.report("measuring what a single request takes beyond its batch")
            overhead = _overhead_ms(where, told, options, stop)
            site.apply.report("under load")
            measurement = measure(
                where, options, plan=plan, given=planned, source=str(source), on_progress=on_progress, stop=stop
            )
    simulation = replay(plan, _measured_part(planned, measurement), options.percentile)
    workloads = [
        compared(measured, simulated, added, service_excess(_parts(measured), own))
        for measured, simulated, added, own in zip(
            measurement.workloads, simulation.workloads, overhead, told, strict=True
        )
    ]
    return Rehearsal(
        instance=plan.instance.name,
        pace=options.pace,
        verdict=judged(measurement, workloads, options.pace),
        workloads=tuple(workloads),
        measurement=measurement.model_copy(update={"verdict": None}),
    )


def _measured_part(planned: list[Schedule], measurement: Measurement) -> list[Schedule]:
    """Return the requests that a measurement counted, with those of the warm-up: all of them unless it is partial.

    Raises
    ------
    MeasurementInterruptedError, DeploymentError
        It ended before a request of every workload counted.
    """
    if measurement.partial is None:
        return planned
    if any(entry.requests == 0 for entry in measurement.workloads):
        if measurement.partial == INTERRUPTED:
            raise MeasurementInterruptedError("interrupted before anything was measured; all servers were stopped")
        raise DeploymentError(f"{measurement.partial}, before anything was measured; all servers were stopped")
    ends = [own.ahead + entry.requests for own, entry in zip(planned, measurement.workloads, strict=True)]
    return [Schedule(own.times_ns[:end], own.replica[:end], own.ahead) for own, end in zip(planned, ends, strict=True)]


def _slowed(plan: Plan, pace: float) -> Plan:
    """Return the plan with its queue delays in the slowed time."""
    gpus = []
    for gpu in plan.gpus:
        placements = []
        for placement in gpu.placements:
            delay = round(queue_delay_us(plan, placement) / pace)
            if delay > _MOST_DELAY_US:
                raise InputError(f"{gpu.name}/{placement.workload}: the queue delay is too long at pace {pace:g}")
            placements.append(placement.model_copy(update={"queue_delay_us": delay}))
        gpus.append(gpu.model_copy(update={"placements": tuple(placements)}))
    return plan.model_copy(update={"gpus": tuple(gpus)})


def _ordered(found: Endpoints, names: Sequence[str]) -> Endpoints:
    """Put the workloads in the instance's order."""
    return found.model_copy(update={"workloads": {name: found.workloads[name] for name in names}})


def _overhead_ms(
    where: Endpoints, servers: list[list[Server]], options: MeasureOptions, stop: StopRequest
) -> list[float]:
    """Measure what a request's latency has beyond waiting and its batch's time, per workload, on idle servers.

    Where the batcher waits for a batch to fill, requests come as full batches, one every `_Probe.step` ns, else one
    by one; and so far apart that every batch finds its server idle. The mean over all requests counts.
    """
    planned, longest, probes = [], 0.0, []
    for own in servers:
        own_probes = [_Probe.of(server, options.pace) for server in own]
        gap = max(probe.gap for probe in own_probes)
        count = int(min(_PROBES, max(_FEWEST_PROBES, _PROBE_S * options.pace * NS_PER_S / gap)))
        times, replica = [], []
        for k, probe in enumerate(own_probes):
            starts = (np.arange(count) + k / len(own)) * gap
            times.append((starts[:, None] + np.arange(probe.size) * probe.step).ravel())
            replica.append(np.full(len(times[-1]), k))
        order = np.argsort(np.concatenate(times), kind="stable")
        planned.append(Schedule(np.concatenate(times)[order], np.concatenate(replica)[order], 0))
        longest = max(longest, float(planned[-1].times_ns[-1]) + gap)
        probes.append(own_probes)
    seconds = longest / NS_PER_S / options.pace
    probe_options = replace(
        options,
        arrivals=Arrivals("constant"),
        traces=(),
        warm_up_s=0.0,
        duration_s=seconds,
        timeout_s=max(options.timeout_s, seconds),
    )
    found = measure(where, probe_options, given=planned, stop=stop)
    if found.partial == INTERRUPTED:
        raise MeasurementInterruptedError("interrupted before anything was measured; all servers were stopped")
    if found.partial is not None:
        raise DeploymentError(f"{found.partial}, before anything was measured; all servers were stopped")
    overhead = []
    for measured, own_probes in zip(found.workloads, probes, strict=True):
        parts = [
            part.mean_ms - probe.mean / NS_PER_MS
            for part, probe in zip(_parts(measured), own_probes, strict=True)
            if part.mean_ms is not None
        ]
        overhead.append(max(0.0, float(np.mean(parts))) if parts else 0.0)
    return overhead


class _Probe(NamedTuple):
    """How a server's overhead is probed: batches of `size` requests `step` apart, every `gap`; times in ns.

    `mean` is the mean latency that requests have without any overhead.
    """

    size: int
    step: float
    gap: float
    mean: float

    @classmethod
    def of(cls, server: Server, pace: float) -> "_Probe":
        size = len(server.gpu) if server.delay > 0.0 else 1
        step = 0.0 if size == 1 else min(NS_PER_MS * pace, server.delay / 2.0 / (size - 1))
        time = float(server.gpu[size - 1] + server.feedback[size - 1] + server.load[size - 1])
        return cls(size, step, 2.0 * time + size * step + 20.0 * NS_PER_MS * pace, time + (size - 1) / 2.0 * step)


def _parts(measured: LoadStatistics) -> list[LoadStatistics]:
    return list(measured.replicas) or [measured]

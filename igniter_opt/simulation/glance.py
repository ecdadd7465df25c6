"""What random arrivals make of a plan, at a glance: a short simulation in plain Python.

`solve` shows it for plans whose rule assumes a constant rate. It takes about a tenth of a second, where importing and
loading what is compiled would take longer; `simulate` says more, and how sure that is.
"""

from dataclasses import dataclass

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InputError
from igniter_opt.data.instance import Workload
from igniter_opt.data.plan import Plan
from igniter_opt.physics.batches import serve_plainly
from igniter_opt.physics.many_processes import serve_many_plainly
from igniter_opt.simulation.results import limit_ns
from igniter_opt.simulation.schedule import ARRIVALS, Randomness, scheduled
from igniter_opt.simulation.servers import Server, servers_of
from igniter_opt.simulation.traffic import Traffic, planned_words

# In all; per workload no more than the first of these, and no fewer than the second: of more, some are looked at.
_MOST_REQUESTS = 60_000
_EACH, _EACH_AT_LEAST = 5_000, 1_000
# Of a record, so many stretches that lie apart.
_STRETCHES = 4
_WARM_UP = 0.1


@dataclass(frozen=True)
class LateAtAGlance:
    """A part of all requests, workloads weighted by their rates.

    Attributes
    ----------
    ratio
        Requests over their SLO, as a part of all.
    workloads, of
        So many workloads were simulated, of all.
    arrivals
        How requests arrived, in a few words.
    """

    ratio: float
    workloads: int
    of: int
    arrivals: str


def late_at_a_glance(plan: Plan) -> LateAtAGlance | None:
    """Simulate a plan briefly under its own arrivals; None where nobody could serve it."""
    workloads = plan.instance.workloads
    number = min(len(workloads), _MOST_REQUESTS // _EACH_AT_LEAST)
    chosen = [workloads[k] for k in np.linspace(0, len(workloads) - 1, number).round().astype(int).tolist()]
    requests = min(_EACH, _MOST_REQUESTS // number)
    part = _only(plan, {workload.name for workload in chosen})
    try:
        served = dict(zip((entry.name for entry in part.instance.workloads), servers_of(part), strict=True))
        late = [_late(plan, entry, served[entry.name], requests, k) for k, entry in enumerate(chosen)]
    except InputError:
        return None
    rates = np.array([workload.rate_rps for workload in chosen])
    return LateAtAGlance(float(rates @ late / rates.sum()), number, len(workloads), planned_words(plan.instance))


def _only(plan: Plan, names: set[str]) -> Plan:
    """Keep the GPUs that serve these workloads, and what else is on them."""
    gpus = tuple(gpu for gpu in plan.gpus if any(placement.workload in names for placement in gpu.placements))
    there = {placement.workload for gpu in gpus for placement in gpu.placements}
    workloads = tuple(workload for workload in plan.instance.workloads if workload.name in there)
    return plan.model_copy(update={"gpus": gpus, "instance": plan.instance.model_copy(update={"workloads": workloads})})


def _late(plan: Plan, workload: Workload, servers: list[Server], requests: int, number: int) -> float:
    """Serve some requests of a workload; return which part of them is late."""
    random, traffic = Randomness(0, 0, number), Traffic(split=plan.instance.split)
    rates = np.array([server.placement.rate_rps for server in servers])
    late = counted = 0
    for times in _times(plan, workload, requests, random):
        schedule = scheduled(times, int(_WARM_UP * len(times)), traffic.way_to_split, rates, random)
        for k, server in enumerate(servers):
            own = schedule.replica == k
            latency = np.empty(int(own.sum()))
            batches, none = np.zeros(len(server.gpu), dtype=np.int64), np.empty(0)
            delay, parts = server.delay, (server.gpu, server.load, server.feedback)
            if server.processes > 1:
                of_slice = (server.processes, server.gpu, server.load)
                serve_many_plainly(times[own], 0, 0.0, 0.0, delay, *of_slice, none, latency, batches)
            else:
                serve_plainly(times[own], 0, 0.0, 0.0, delay, *parts, none, latency, batches)
            judged = latency[int(own[: schedule.ahead].sum()) :]
            late += int(np.count_nonzero(judged > limit_ns(workload.slo_ms)))
            counted += len(judged)
    return late / max(1, counted)


def _times(plan: Plan, workload: Workload, requests: int, random: Randomness) -> list[FloatArray]:
    """Return arrival times: drawn, or stretches of what was recorded."""
    arrivals = plan.instance.arrivals_of(workload)
    if arrivals.recorded is None:
        return [arrivals.times_ns(workload.rate_rps, requests, random.stream(ARRIVALS))]
    times = arrivals.recorded.times_at_ns(workload.name, workload.rate_rps)
    if len(times) <= requests:
        return [times]
    size = requests // _STRETCHES
    return [times[start : start + size] for start in np.linspace(0, len(times) - size, _STRETCHES).astype(int).tolist()]

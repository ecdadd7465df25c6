"""How to measure, and which request is due when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from igniter_opt.base.errors import InputError
from igniter_opt.base.nanoseconds import NS_PER_S
from igniter_opt.data.instance import Instance
from igniter_opt.deploy.triton.samples import Sample
from igniter_opt.simulation.schedule import Randomness, Schedule, arrivals_for, scheduled
from igniter_opt.simulation.traffic import Traffic

DEFAULT_DURATION_S, DEFAULT_WARM_UP_S, DEFAULT_TIMEOUT_S = 30.0, 3.0, 10.0
MOST_REQUESTS = 20_000_000


@dataclass(frozen=True, kw_only=True)
class MeasureOptions(Traffic):
    """The traffic, and how to measure.

    Attributes
    ----------
    duration_s, warm_up_s
        Requests that are due in the first `warm_up_s` seconds do not count; then those of `duration_s` seconds do.
        A trace lasts as long as it lasts, at most `warm_up_s + duration_s`.
    percentile
        The judged percentile; by default the plan's, or 0.99.
    allowance_ms
        Added to the plan's SLOs, where the plan left it for the way to the servers and back.
    timeout_s
        Requests without an answer are given up after it.
    inputs
        Per model its requests, and where they are from; random ones for others.
    processes
        Number of load generators; None for as many as the rates need.
    only
        Names of the workloads to measure; all by default.
    shared_memory
        Whether inputs lie in shared memory of this machine, and requests only say where.
    stamped
        Whether requests carry the time they were sent at, as parameter ``igniter_sent_ns``.
    pace
        How fast the servers' clocks go (`rehearse`): requests come so many times as often as the rates say, and all
        that is reported is in the servers' time. Durations given here are those on the wall.
    """

    duration_s: float = DEFAULT_DURATION_S
    warm_up_s: float = DEFAULT_WARM_UP_S
    percentile: float | None = None
    allowance_ms: float = 0.0
    timeout_s: float = DEFAULT_TIMEOUT_S
    inputs: Mapping[str, tuple[Sample, str]] | None = None
    processes: int | None = None
    only: Sequence[str] = ()
    shared_memory: bool = False
    stamped: bool = False
    pace: float = 1.0

    def check(self) -> None:
        """Raise InputError where a value is out of range."""
        for name, value, low, high in (
            ("duration", self.duration_s, 0.1, 86400 * 7),
            ("warm-up", self.warm_up_s, 0.0, 86400),
            ("scale", self.scale, 1e-6, 1e6),
            ("pace (--scale of rehearse)", self.pace, 1e-3, 1.0),
            ("allowance", self.allowance_ms, 0.0, 86400e3),
            ("timeout", self.timeout_s, 0.001, 86400),
            ("processes", self.processes, 1, 256),
            ("seed", self.seed, 0, 2**63),
        ):
            if value is not None and not low <= value <= high:
                raise InputError(f"{name} must be between {low:g} and {high:g}; found {value:g}")
        if self.percentile is not None and not 0.0 < self.percentile <= 1.0:
            raise InputError(
                f"percentile must be a probability above 0, such as 0.99, and at most 1; found {self.percentile:g}"
            )
        self.check_traces()


def schedules(
    workloads: Sequence[tuple[str, Sequence[float]]],
    options: MeasureOptions,
    all_names: Sequence[str],
    plan: Instance | None = None,
) -> list[Schedule]:
    """Say when every request is due (in the servers' time), and which replica it is for.

    Parameters
    ----------
    workloads
        Names, each with its replicas' rates in req/s.
    all_names
        All workloads that exist, in order: equal seeds give each the same times, whichever are measured.
    plan
        The instance of the plan that is loaded, for arrivals as planned.
    """
    seconds = (options.warm_up_s + options.duration_s) * options.pace
    expected = options.scale * sum(sum(rates) for _, rates in workloads) * seconds
    if expected > MOST_REQUESTS:
        raise InputError(
            f"that makes {expected:,.0f} requests; at most {MOST_REQUESTS:,} can be kept: give a shorter duration"
        )
    arrivals = options.arrivals_of([name for name, _ in workloads], plan)
    recorded = options.recorded({name: sum(rates) for name, rates in workloads}, plan)
    found = []
    for name, own in workloads:
        random = Randomness(options.seed, 0, all_names.index(name))
        rates = np.array(own)
        if name in recorded:
            times = recorded[name][recorded[name] < seconds * NS_PER_S]
        else:
            times = arrivals_for(arrivals[name], options.scale * float(rates.sum()), seconds, random)
        ahead = int(np.searchsorted(times, options.warm_up_s * options.pace * NS_PER_S))
        found.append(scheduled(times, ahead, options.way_to_split, rates, random))
    return found

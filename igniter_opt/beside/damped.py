"""The problem with interference scaled down: a source of plans that might hold, and at no interference of a bound.

What a neighbour adds to a row (delay Δ, cache use, traffic, power) is multiplied by a *part* between 0 and 1, as if
every neighbour were there for that part of the time. Limits stay those of the rule. At 1 it is the problem itself. For
parts in between, nothing is proven: a percentile is not decided by how often a neighbour is there, but by what happens
while it is. Their plans are proposals, which the co-simulation judges.

*The bound, at 0.* In a plan that holds beside neighbours as they are, every placement also holds alone. For in the
co-simulation a batch takes its time alone at the least: what runs beside it only adds delay, cache use, traffic and
power, all non-negative (`interference.is_monotone`; others are refused), and a neighbour that does not run adds nothing
at all. So every batch takes at least as long as alone, and percentiles grow with service times, as rule p99 assumes for
its limits, too (`slo.percentile`). Hence its configurations are among those that hold alone, its shares fit, and it is
a plan of the problem without interference: what that problem's least cost is, no such plan can undercut. The exact
methods prove that bound as any other. Configurations are found by limits that err to the safe side, by 3e-4 or with the
sample that they are computed from. So that none that holds alone is missing, GPU latencies are taken to be shorter by
`_FASTER` there, and under arrivals that are not Poisson, or go to replicas in turn, `_MORE_LATE` times as many requests
may be late, which is twice what limits from mixtures and samples allow for.
"""

from igniter_opt.data.instance import Instance
from igniter_opt.physics.interference import clock_ratio
from igniter_opt.problem.configurations import Configurations, Problem

# More than `percentile.LIMIT_TOLERANCE`, and than limits of other streams are lowered where they are interpolated.
_FASTER = 5e-3
_MORE_LATE = 1.25


class DampedProblem(Problem):
    """An instance whose interference is multiplied by a part; its plans are proposals.

    Parameters
    ----------
    part
        From 0 (none) to 1 (all).
    shorter
        By which part of them GPU latencies are taken to be shorter.
    """

    proposes = True

    def __init__(
        self, instance: Instance, margin: float, part: float, confidence: float | None = None, shorter: float = 0.0
    ) -> None:
        super().__init__(instance, margin, confidence)
        self.part, self.margin = part, (1.0 + margin) * (1.0 - shorter) - 1.0

    def configurations(self, workload: int, gpu_type: int, replicas: int = 1) -> Configurations | None:
        """Return what `Problem.configurations` does, with less interference."""
        key = (workload, gpu_type, replicas)
        if key not in self._configurations:
            found = self._possible(*key)
            self._configurations[key] = None if found is None else self._damped(found, gpu_type).undominated()
        return self._configurations[key]

    def _damped(self, found: Configurations, gpu_type: int) -> Configurations:
        """Scale what neighbours do; a placement's own power slows it as before, by way of its limit."""
        hardware, part = self.coefficients[gpu_type].hardware, self.part
        own = clock_ratio(hardware, hardware.idle_power_w + found.power_w)
        left = clock_ratio(hardware, hardware.idle_power_w + part * found.power_w)
        return Configurations(
            batch=found.batch,
            level=found.level,
            power_w=part * found.power_w,
            cache=part * found.cache,
            traffic=part * found.traffic,
            base_ms=found.base_ms,
            cache_ms=found.cache_ms,
            traffic_ms=found.traffic_ms,
            limit_ms=found.limit_ms * own / left,
            memory_mib=found.memory_mib,
            kernels=part * found.kernels,
        )


def undisturbed(instance: Instance, margin: float, confidence: float | None = None) -> DampedProblem:
    """Return the problem without interference, in which every plan that holds beside actual neighbours is one."""
    in_turn = instance.split is not None and instance.split != "random"
    if in_turn or any(instance.arrivals_of(workload).kind != "poisson" for workload in instance.workloads):
        percentile = 1.0 - (1.0 - instance.required_percentile) * _MORE_LATE
        instance = instance.model_copy(update={"percentile": percentile})
    return DampedProblem(instance, margin, 0.0, confidence, _FASTER)

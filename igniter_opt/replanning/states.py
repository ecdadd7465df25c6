"""Whether the states between two plans hold: what serves, what is being started and what was replaced, side by side.

A state is judged GPU by GPU by `verify`, with the new plan's rule, margin and GPU types. All servers that are there are
taken for full neighbours, whether they serve already or still. A workload's rate is shared by the servers that serve it
as load balancers share it: in proportion to what their own plan gives them. A server keeps its queue delay at any rate;
where that is not the one of the rate (rule ``deadline``), the batches that form are judged (`slo.rule.Rule.at_load`).

Rates: ``running`` are those of the running plan, ``next`` those of the new one, ``lesser`` of each workload the lesser
of both, and with ``own`` every server carries what its own plan gives it (the lesser of both where it stays), or its
part of the workload's lesser rate where that is more. A workload that only one of the plans has counts with that plan's
rate.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.instance import Instance, Workload
from igniter_opt.data.migration import MigratedServer, RateSet
from igniter_opt.data.plan import Placement, Plan, PlanGpu
from igniter_opt.deploy.differences import ServedPlacement
from igniter_opt.slo.rules import rule_of
from igniter_opt.verify import verify

# Of violations: what says that a GPU does not carry its servers; others are about a plan as a whole.
_KINDS = ("latency", "throughput", "share", "memory", "batch", "model", "profile", "gpu-type")
_GUARD = 1e-9
RATE_SETS: tuple[RateSet, ...] = ("running", "next", "lesser", "own")


@dataclass(frozen=True)
class StateServer:
    """A server that may be there in a state: what it serves and how, and whose promise it keeps.

    Attributes
    ----------
    gpu_type
        Type of its GPU.
    workload
        As the plan has it that the server is of.
    own_rps
        What its plan gives it; where it is of both plans, the lesser of both.
    """

    served: ServedPlacement
    gpu_type: str
    workload: Workload
    own_rps: float

    @property
    def record(self) -> MigratedServer:
        """What a migration calls it."""
        entry = self.served
        return MigratedServer(
            gpu=entry.gpu,
            workload=entry.workload,
            replica=entry.replica,
            model=entry.model,
            batch=entry.batch,
            share_percent=entry.share_percent,
            queue_delay_us=entry.queue_delay_us,
        )


class StateJudge:
    """Judges states between two plans."""

    def __init__(self, old: Plan, new: Plan) -> None:
        self.new = new
        known = {gpu.name for gpu in new.instance.gpu_types}
        gone = tuple(gpu for gpu in old.instance.gpu_types if gpu.name not in known)
        self.types = (*new.instance.gpu_types, *gone)
        self.old_workloads = {entry.name: entry for entry in old.instance.workloads}
        self.new_workloads = {entry.name: entry for entry in new.instance.workloads}
        self.old_instance, self.rule = old.instance, rule_of(new.instance)
        self._judged: dict[object, frozenset[str]] = {}

    def rate_rps(self, name: str, rates: RateSet) -> float:
        """Return a workload's rate."""
        found = [entry[name].rate_rps for entry in (self.old_workloads, self.new_workloads) if name in entry]
        if rates in ("lesser", "own"):
            return min(found)
        return found[0] if rates == "running" else found[-1]

    def broken(self, serving: Collection[StateServer], idle: Collection[StateServer], rates: RateSet) -> frozenset[str]:
        """Return what does not hold: workloads, or GPUs whose shares or memory do not suffice.

        Parameters
        ----------
        serving
            What is sent requests.
        idle
            What is there beside: started and not yet in use, or not in use any more.
        """
        total: dict[str, float] = {}
        own: dict[str, float] = {}
        for server in serving:
            name = server.served.workload
            total[name] = total.get(name, 0.0) + server.served.rate_rps
            own[name] = own.get(name, 0.0) + server.own_rps
        gpus: dict[str, list[tuple[StateServer, float]]] = {}
        for server in serving:
            name = server.served.workload
            rate = self.rate_rps(name, rates) * server.served.rate_rps / total[name]
            if rates == "own":
                rate = server.own_rps * max(1.0, self.rate_rps(name, rates) / own[name])
            gpus.setdefault(server.served.gpu, []).append((server, rate))
        for server in idle:
            gpus.setdefault(server.served.gpu, []).append((server, 0.0))
        found: frozenset[str] = frozenset()
        for gpu, entries in gpus.items():
            found |= self._broken_on(gpu, tuple(entries))
        return found

    def _broken_on(self, gpu: str, entries: tuple[tuple[StateServer, float], ...]) -> frozenset[str]:
        key = gpu, tuple((server.served, rate) for server, rate in entries)
        if key not in self._judged:
            self._judged[key] = frozenset(self._found_on(gpu, entries))
        return self._judged[key]

    def _found_on(self, gpu: str, entries: tuple[tuple[StateServer, float], ...]) -> Iterable[str]:
        names = [self._name(server) for server, _ in entries]
        workloads = {
            name: self._renamed(server.workload, name) for name, (server, _) in zip(names, entries, strict=True)
        }
        instance = self.new.instance.model_copy(
            update={"gpu_types": self.types, "workloads": tuple(workloads.values())}
        )
        placements = [
            Placement(
                workload=name,
                replica=number,
                model=server.served.model,
                batch=server.served.batch,
                share_percent=server.served.share_percent,
                # What serves nobody is judged as a neighbour only.
                rate_rps=rate or server.served.rate_rps,
                predicted_latency_ms=0.0,
                predicted_throughput_rps=0.0,
            )
            for number, (name, (server, rate)) in enumerate(zip(names, entries, strict=True), 1)
        ]
        gpu_type = entries[0][0].gpu_type
        found = self._verified(instance, gpu, gpu_type, placements)
        if gpu in found:
            yield gpu
        for number, (server, rate) in enumerate(entries, 1):
            if not rate:
                continue
            where, delay_us = f"{gpu}/{names[number - 1]}#{number}", server.served.queue_delay_us
            late = where in found
            if self.rule.queue_delay_us(server.workload.slo_ms, rate, server.served.batch) != delay_us:
                late = not self._holds_at_load(instance, gpu, gpu_type, placements, number - 1, delay_us)
            if late:
                yield server.served.workload

    def _verified(
        self, instance: Instance, gpu: str, gpu_type: str, placements: list[Placement]
    ) -> dict[str, float | None]:
        """Return where something does not hold."""
        plan = self._plan(instance, gpu, gpu_type, placements)
        kinds = [entry for entry in verify(plan).violations if entry.kind in _KINDS]
        return {entry.where: None for entry in kinds}

    def _plan(self, instance: Instance, gpu: str, gpu_type: str, placements: list[Placement]) -> Plan:
        entry = PlanGpu(name=gpu, type=gpu_type, placements=tuple(placements))
        return self.new.model_copy(update={"instance": instance, "gpus": (entry,), "migration": None})

    def _holds_at_load(
        self, instance: Instance, gpu: str, gpu_type: str, placements: list[Placement], position: int, delay_us: int
    ) -> bool:
        """Whether a server's promise holds at a rate for which its queue delay is not made."""
        own = placements[position]
        slo_ms = next(entry.slo_ms for entry in instance.workloads if entry.name == own.workload)
        batch, left_ms = self.rule.at_load(slo_ms, own.rate_rps, own.batch, delay_us / 1e6)
        lighter = list(placements)
        lighter[position] = own.model_copy(update={"batch": batch})
        judged = verify(self._plan(instance, gpu, gpu_type, lighter))
        check = next((entry for entry in judged.placements if entry.replica == own.replica), None)
        if check is None:
            return False
        short = any(e.kind == "throughput" and e.where.endswith(f"#{own.replica}") for e in judged.violations)
        return not short and check.limit_ms - check.slack_ms <= left_ms * (1.0 + _GUARD)

    def _name(self, server: StateServer) -> str:
        """Return what a server's workload is called in a state: two promises of one name are two workloads."""
        new, name = self.new_workloads.get(server.workload.name), server.workload.name
        return name if new is None or _promise(new) == _promise(server.workload) else f"{name[:50]}.running"

    def _renamed(self, workload: Workload, name: str) -> Workload:
        """Return a workload for a state, with the arrivals of its own plan."""
        new = self.new_workloads.get(workload.name)
        if new is not None and name == workload.name:
            return new
        arrivals: Arrivals | None = workload.arrivals or self.old_instance.arrivals or Arrivals()
        if arrivals is not None and arrivals.recorded is not None:
            arrivals = Arrivals()
        return workload.model_copy(update={"name": name, "arrivals": arrivals})


def _promise(workload: Workload) -> tuple[object, ...]:
    return workload.model, workload.slo_ms, workload.arrivals


def servers_of(plan: Plan, served: Mapping[str, list[ServedPlacement]]) -> list[StateServer]:
    """Return a plan's servers, GPU by GPU."""
    workloads = {entry.name: entry for entry in plan.instance.workloads}
    return [
        StateServer(entry, gpu.type, workloads[entry.workload], entry.rate_rps)
        for gpu in plan.gpus
        for entry in served[gpu.name]
    ]

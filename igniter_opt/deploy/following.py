"""Following a plan's migration: servers start and stop step by step, in the order that `replan` verified.

A migration is followed where what runs is one of its states: the running plan's, or a later one, where a launcher was
ended on the way. Anywhere else nothing was verified, and all new servers start before the first old one stops, as
without a migration. Once all steps are taken, the deployment is compared with the plan as ever.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from igniter_opt.data.migration import MigratedServer, Migration, MigrationStep
from igniter_opt.data.plan import Plan, PlanGpu
from igniter_opt.deploy.changes import Changes
from igniter_opt.deploy.inventory import Device
from igniter_opt.deploy.records import ReplicaRecord
from igniter_opt.deploy.state import Deployment
from igniter_opt.deploy.targets import Placed, Target

# What tells servers apart: GPU as the plan calls it, workload, model, batch, share (None: not enforced), queue delay.
_Key = tuple[str, str, str, int, float | None, int]
_WHY = "as the migration says"


@dataclass(frozen=True)
class RemainingSteps:
    """The steps of a plan's migration that are to be taken.

    Attributes
    ----------
    steps
        What is left of them, each with its number.
    of
        How many there are in all.
    placed
        What runs in the end.
    devices
        The card of every GPU that has a part in it.
    why_not
        Why the plan's migration is not followed, where it has one.
    """

    steps: tuple[tuple[int, MigrationStep], ...] = ()
    of: int = 0
    placed: tuple[Placed, ...] = ()
    devices: Mapping[str, Device] = field(default_factory=dict)
    why_not: str = ""

    def words(self, number: int) -> str:
        """What messages call a step."""
        return f"step {number} of {self.of} of the migration"


def devices_of(state: Deployment) -> dict[str, Device]:
    """Return the card of every GPU that servers run on, by the name that the running plan has for it."""
    return {
        record.gpu: Device(record.host, record.device, record.device_name)
        for record in state.replicas
        if record.phase != "retired"
    }


def spare_gpus(plan: Plan) -> tuple[PlanGpu, ...]:
    """Return the GPUs that a plan's migration uses beside the plan's own, each with what is there for a while."""
    if plan.migration is None:
        return ()
    placements = {(p.workload, p.batch, p.share_percent): p for gpu in plan.gpus for p in gpu.placements}
    found = []
    for spare in plan.migration.spare:
        servers = [s for step in plan.migration.steps for s in step.start if s.gpu == spare.name]
        known = [placements.get((s.workload, s.batch, s.share_percent)) for s in servers]
        there = tuple(entry for entry in known if entry is not None)
        if there:
            found.append(PlanGpu(name=spare.name, type=spare.type, placements=there))
    return tuple(found)


def follow(plan: Plan, state: Deployment, placed: Sequence[Placed], devices: Mapping[str, Device]) -> RemainingSteps:
    """Return the steps that lead from what runs to a plan, by its migration.

    Parameters
    ----------
    placed
        What should run in the end.
    devices
        The card of every GPU of the plan, and of the spare ones.
    """
    migration = plan.migration
    if migration is None or not migration.steps or not state.replicas:
        return RemainingSteps()
    ignored = "the plan's migration is not followed (all new servers start before an old one stops): "
    if state.plan_digest != migration.running:
        return RemainingSteps(why_not=f"{ignored}what runs is not the plan that it begins with")
    steps = _netted(migration, state)
    runs = Counter(_key_of_record(record, state) for record in state.replicas if record.phase == "ready")
    present = Counter(_key_of_target(entry, state) for entry in placed)
    for number in range(len(steps), -1, -1):
        if +present == runs and not any(record.planned for record in state.replicas):
            left = tuple((k, steps[k - 1]) for k in range(number + 1, len(steps) + 1))
            return RemainingSteps(left, len(steps), tuple(placed), {**devices_of(state), **devices})
        if number:
            present.subtract(_key(server, state) for server in steps[number - 1].start)
            present.update(_key(server, state) for server in steps[number - 1].stop)
    return RemainingSteps(why_not=f"{ignored}what runs is none of its states; `igniter-opt status` shows what does")


def stage(remaining: RemainingSteps, step: MigrationStep, state: Deployment, *, mps: bool) -> Changes:
    """Return the changes that a step makes to what runs now.

    Raises
    ------
    LookupError
        What it is to start or to stop is not there.
    """
    left = [record for record in state.replicas if record.phase == "ready"]
    stop: list[tuple[ReplicaRecord, str]] = []
    for server in step.stop:
        found = next((record for record in left if _key_of_record(record, state) == _key(server, state)), None)
        if found is None:
            raise LookupError(f"{server.placement} does not run")
        left.remove(found)
        stop.append((found, _WHY))
    placed = [_placed(remaining, server, state) for server in step.start]
    numbers, keep = _numbered(remaining, left, placed)
    start = tuple((Placed(replace(e.target, replica=k), e.device), _WHY) for e, k in zip(placed, numbers, strict=True))
    served = {(daemon.host, daemon.device) for daemon in state.daemons}
    needed = {(entry.device.host, entry.device.uuid): entry.device for entry, _ in start}
    daemons = tuple(device for place, device in needed.items() if place not in served) if mps else ()
    return Changes(clean=(), daemons=daemons, start=start, keep=keep, stop=tuple(stop), idle_daemons=())


def _numbered(
    remaining: RemainingSteps, left: Sequence[ReplicaRecord], placed: Sequence[Placed]
) -> tuple[list[int], tuple[tuple[Placed, ReplicaRecord], ...]]:
    """Number a workload's servers from 1 after a step, whichever plan they are of: clients know them by their numbers.

    Returns
    -------
    tuple
        The numbers of those that start; and those that stay with another number than they had.
    """
    numbers = [0] * len(placed)
    renumbered = []
    names = [*(entry.target.workload for entry in placed), *(record.workload for record in left)]
    for name in dict.fromkeys(names):
        stays = [record for record in left if record.workload == name]
        starts = [k for k, entry in enumerate(placed) if entry.target.workload == name]
        free = dict.fromkeys(range(1, len(stays) + len(starts) + 1))
        homeless = []
        for record in stays:
            if record.replica in free:
                del free[record.replica]
            else:
                homeless.append(record)
        for k in starts:
            wanted = placed[k].target.replica
            numbers[k] = wanted if wanted in free else 0
            free.pop(wanted, None)
        for k in starts:
            if not numbers[k]:
                numbers[k] = next(iter(free))
                del free[numbers[k]]
        like = next((entry.target for entry in remaining.placed if entry.target.workload == name), None)
        if like is not None:
            renumbered += [
                (_as_it_is(record, number, like, remaining), record)
                for record, number in zip(homeless, free, strict=True)
            ]
    return numbers, tuple(renumbered)


def _as_it_is(record: ReplicaRecord, number: int, like: Target, remaining: RemainingSteps) -> Placed:
    """Return a server that runs as one that should, by another number."""
    target = replace(like, replica=number, gpu=record.gpu, share_percent=record.share_percent, rate_rps=record.rate_rps)
    return Placed(target, remaining.devices[record.gpu])


def _netted(migration: Migration, state: Deployment) -> list[MigrationStep]:
    """Return the steps without what makes no difference: on the processor no share is enforced, so none is changed."""
    if not state.cpu:
        return list(migration.steps)
    stops = [(k, server) for k, step in enumerate(migration.steps) for server in step.stop]
    dropped: list[tuple[int, MigratedServer]] = []
    for k, step in enumerate(migration.steps):
        for server in step.start:
            same = next((e for e in stops if e[0] <= k and _key(e[1], state) == _key(server, state)), None)
            if same is not None:
                stops.remove(same)
                dropped += [(k, server), same]
    return [
        step.model_copy(
            update={
                "start": tuple(server for server in step.start if not _among(dropped, k, server)),
                "stop": tuple(server for server in step.stop if not _among(dropped, k, server)),
            }
        )
        for k, step in enumerate(migration.steps)
    ]


def _among(dropped: Sequence[tuple[int, MigratedServer]], number: int, server: MigratedServer) -> bool:
    return any(number == k and server is other for k, other in dropped)


def _placed(remaining: RemainingSteps, server: MigratedServer, state: Deployment) -> Placed:
    """Return a server of the plan where a step wants it: on the way, that may be another GPU than the plan's."""
    device = remaining.devices.get(server.gpu)
    for entry in remaining.placed:
        alike = replace(entry.target, gpu=server.gpu)
        if device is not None and _key_of_target(Placed(alike, device), state) == _key(server, state):
            return Placed(alike, device)
    raise LookupError(f"{server.placement} is no server of the plan, or its GPU is not there")


def _share(percent: float, state: Deployment) -> float | None:
    return None if state.cpu else round(percent, 6)


def _key(server: MigratedServer, state: Deployment) -> _Key:
    share = _share(server.share_percent, state)
    return server.gpu, server.workload, server.model, server.batch, share, server.queue_delay_us


def _key_of_record(record: ReplicaRecord, state: Deployment) -> _Key:
    share = _share(record.share_percent, state)
    return record.gpu, record.workload, record.model, record.batch, share, record.queue_delay_us


def _key_of_target(placed: Placed, state: Deployment) -> _Key:
    target = placed.target
    share = _share(target.share_percent, state)
    return target.gpu, target.workload, target.model, target.batch, share, target.queue_delay_us

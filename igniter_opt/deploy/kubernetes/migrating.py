"""Following a plan's migration on a cluster: servers start and stop step by step, in the order that `replan` verified.

A step's servers are Deployments of their own, so that old and new ones can serve side by side for as long as the order
says. Where a server and its successor are of one workload on one GPU and change in the same step, the Deployment
changes in place: Kubernetes itself starts the new pod before it ends the old one. What runs is one of the migration's
states, or on the way from one to the next where a launcher was killed; anywhere else nothing was verified, and all new
servers start before the first old one stops.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count

from igniter_opt.base.errors import DeploymentError
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.migration import MigratedServer, MigrationStep
from igniter_opt.data.plan import Plan
from igniter_opt.deploy.kubernetes.deployments import server_name
from igniter_opt.deploy.kubernetes.devices import PlannedGpu
from igniter_opt.deploy.kubernetes.names import Object, as_applied
from igniter_opt.deploy.kubernetes.objects import objects_of_server
from igniter_opt.deploy.kubernetes.parse import DeployedServer, parse_server
from igniter_opt.deploy.kubernetes.settings import ClusterSettings
from igniter_opt.deploy.targets import Target, served_gpus

# GPU, workload, model, batch, share, queue delay.
_Key = tuple[str, str, str, int, float, int]


@dataclass(frozen=True)
class StepsLeft:
    """The steps of a migration that are to be taken on a cluster.

    Attributes
    ----------
    steps
        What is left of them, each with its number; the first may be half done.
    of
        How many there are in all.
    why_not
        Why the plan's migration is not followed, where it has one.
    """

    steps: tuple[tuple[int, MigrationStep], ...] = ()
    of: int = 0
    why_not: str = ""

    def words(self, number: int) -> str:
        """What messages call a step."""
        return f"step {number} of {self.of} of the migration"


@dataclass(frozen=True)
class StagedStep:
    """A step as objects: what to apply, and the names of the Deployments to remove when that is ready."""

    objects: tuple[Object, ...]
    stop: tuple[str, ...]


def steps_left(plan: Plan, servers: Sequence[DeployedServer], running: str | None, reached: str) -> StepsLeft:
    """Return the steps that lead from what runs to a plan.

    Parameters
    ----------
    running
        Digest of the plan that was completed last.
    reached
        Digest of the plan itself.
    """
    migration = plan.migration
    if migration is None or not migration.steps or not servers or running == reached:
        return StepsLeft()
    ignored = "the plan's migration is not followed (all new servers start before an old one stops): "
    if running != migration.running:
        return StepsLeft(why_not=f"{ignored}what runs is not the plan that it begins with")
    steps = migration.steps
    runs = Counter(key_of(server) for server in servers)
    wanted = Counter(
        (gpu.name, p.workload, p.model, p.batch, round(p.share_percent, 6), _delay(p.queue_delay_us))
        for gpu in plan.gpus
        for p in gpu.placements
    )
    before = [wanted]
    for step in reversed(steps):
        state = before[0].copy()
        state.subtract(_key(server) for server in step.start)
        state.update(_key(server) for server in step.stop)
        before.insert(0, +state)
    if runs == before[-1]:
        return StepsLeft()
    for number in range(len(steps), 0, -1):
        start, stop = (Counter(_key(e) for e in some) for some in (steps[number - 1].start, steps[number - 1].stop))
        if runs - before[number - 1] <= start and before[number - 1] - runs <= stop:
            return StepsLeft(tuple((k, steps[k - 1]) for k in range(number, len(steps) + 1)), len(steps))
    return StepsLeft(why_not=f"{ignored}what runs is none of its states; `igniter-opt status` shows what does")


def staged(
    step: MigrationStep,
    plan: Plan,
    targets: Sequence[Target],
    final: Sequence[Object],
    servers: Sequence[DeployedServer],
    settings: ClusterSettings,
) -> StagedStep:
    """Return what a step does to what runs now.

    Parameters
    ----------
    final
        The plan's Deployments, whose names are taken where they can be.

    Raises
    ------
    DeploymentError
        It starts what is no server of the plan.
    """
    left = list(servers)
    stop: list[str] = []
    for wanted in step.stop:
        found = next((server for server in left if key_of(server) == _key(wanted)), None)
        if found is not None:  # else it was stopped before a launcher was killed
            left.remove(found)
            stop.append(found.name)
    types = _types(plan, servers)
    names = {key_of(server): server.name for server in map(parse_server, final)}
    objects: dict[tuple[str, str], Object] = {}
    for wanted in step.start:
        there = next((server for server in left if key_of(server) == _key(wanted)), None)
        if there is not None:  # started before a launcher was killed
            left.remove(there)
            name = there.name
        else:
            taken = {server.name for server in servers} - set(stop) | {
                entry["metadata"]["name"] for entry in objects.values()
            }
            name = _free_name(wanted, names.get(_key(wanted)), taken, settings)
            stop = [entry for entry in stop if entry != name]
        target = _target(wanted, targets)
        gpu = PlannedGpu(wanted.gpu, types[wanted.gpu], (target,))
        for entry in objects_of_server(target, gpu, settings, name):
            objects[entry["kind"], entry["metadata"]["name"]] = as_applied(entry)
    return StagedStep(tuple(objects.values()), tuple(stop))


def key_of(server: DeployedServer) -> _Key:
    """Return what tells a server that runs from others."""
    p = server.placement
    return p.gpu, p.workload, p.model, p.batch, round(p.share_percent, 6), _delay(p.queue_delay_us)


def _key(server: MigratedServer) -> _Key:
    gpu, workload, model, batch, share, delay = server.key
    return gpu, workload, model, batch, round(share, 6), delay


def _delay(queue_delay_us: int | None) -> int:
    return queue_delay_us or 0


def _target(server: MigratedServer, targets: Sequence[Target]) -> Target:
    """Return the plan's server that a step starts; on the way it may be on another GPU than the plan's."""
    for target in targets:
        alike = (server.gpu, target.workload, target.model, target.batch, round(target.share_percent, 6))
        if (*alike, target.queue_delay_us) == _key(server):
            return replace(target, gpu=server.gpu, replica=server.replica)
    raise DeploymentError(f"the migration starts {server.placement}, which is no server of the plan; plan it anew")


def _types(plan: Plan, servers: Sequence[DeployedServer]) -> dict[str, GpuType]:
    """Return the type of every GPU of the plan, of what runs, and of those that are used on the way."""
    by_name = {entry.name: entry for entry in plan.instance.gpu_types}
    names = {server.placement.gpu: server.placement.type for server in servers}
    names |= {gpu.name: gpu.type for gpu in served_gpus(plan)}
    names |= {} if plan.migration is None else {gpu.name: gpu.type for gpu in plan.migration.spare}
    return {name: by_name[kind] for name, kind in names.items() if kind in by_name}


def _free_name(server: MigratedServer, final: str | None, taken: set[str], settings: ClusterSettings) -> str:
    """Return the name of a server to be started: its name in the plan, or another where that one still serves."""
    if final is not None and final not in taken:
        return final
    names = (server_name(settings.deployment, server.gpu, server.workload, k) for k in count())
    return next(name for name in names if name not in taken)

"""A plan as Kubernetes objects, in the order in which they are applied."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from igniter_opt.base.errors import InputError
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.plan import Plan
from igniter_opt.deploy.approval import plan_digest
from igniter_opt.deploy.kubernetes.checks import check_objects
from igniter_opt.deploy.kubernetes.config_maps import config_map_of, plan_map
from igniter_opt.deploy.kubernetes.deployments import deployment_of, server_name
from igniter_opt.deploy.kubernetes.devices import ALLOCATIONS, PlannedGpu, device_request
from igniter_opt.deploy.kubernetes.kinds import KINDS
from igniter_opt.deploy.kubernetes.names import Object, as_applied, key
from igniter_opt.deploy.kubernetes.services import deployment_wide, service_name, uneven, workload_objects
from igniter_opt.deploy.kubernetes.settings import ClusterSettings
from igniter_opt.deploy.targets import Target, served_gpus


@dataclass(frozen=True)
class PlanObjects:
    """All that a plan is on a cluster.

    Attributes
    ----------
    objects
        In the order in which they are applied; the record of the plan is the last one.
    notes
        What the plan is not held to, and what is left to the user, in words.
    """

    objects: tuple[Object, ...]
    notes: tuple[str, ...]

    @property
    def record(self) -> Object:
        """The ConfigMap that says which plan is deployed."""
        return self.objects[-1]


def plan_objects(plan: Plan, targets: Sequence[Target], settings: ClusterSettings) -> PlanObjects:
    """Return a plan's objects, checked.

    Parameters
    ----------
    targets
        The plan's servers (`targets.make_targets`).

    Raises
    ------
    InputError
        The cluster, as its settings are, cannot run the plan.
    """
    gpus = planned_gpus({gpu.name: gpu.type for gpu in served_gpus(plan)}, targets, plan.instance.gpu_types)
    servers = [entry for gpu in gpus for entry in server_objects(gpu, settings)]
    replicas: dict[str, list[tuple[Target, str]]] = {}
    for target, found in servers:
        replicas.setdefault(target.workload, []).append((target, found[-1]["metadata"]["name"]))
    objects = [entry for _, found in servers for entry in found]
    for workload, entries in replicas.items():
        objects += workload_objects(workload, sorted(entries, key=lambda entry: entry[0].replica), settings)
    objects += deployment_wide(settings)
    distinct = list({key(entry): entry for entry in objects}.values())
    deployments = [entry for entry in distinct if entry["kind"] == "Deployment"]
    if len(deployments) != len(targets):
        raise InputError("two servers have got the same name; give the deployment another --name")
    record = plan_map(plan_digest(plan), deployments, settings)
    rank = {name: position for position, name in enumerate(KINDS)}
    ordered = [*sorted(distinct, key=lambda entry: (rank[entry["kind"]], entry["metadata"]["name"])), record]
    check_objects(ordered)
    return PlanObjects(tuple(map(as_applied, ordered)), tuple(_notes(replicas, settings)))


def planned_gpus(types: Mapping[str, str], targets: Sequence[Target], gpu_types: Sequence[GpuType]) -> list[PlannedGpu]:
    """Return GPUs, given the type of each, with the servers that are planned on them."""
    by_name = {entry.name: entry for entry in gpu_types}
    there: dict[str, list[Target]] = {name: [] for name in types}
    for target in targets:
        there[target.gpu].append(target)
    return [PlannedGpu(name, by_name[types[name]], tuple(found)) for name, found in there.items()]


def server_objects(gpu: PlannedGpu, settings: ClusterSettings) -> list[tuple[Target, list[Object]]]:
    """Return every server on a GPU with the objects that it needs."""
    counted: Counter[str] = Counter()
    found = []
    for target in gpu.targets:
        server = server_name(settings.deployment, gpu.name, target.workload, counted[target.workload])
        counted[target.workload] += 1
        found.append((target, objects_of_server(target, gpu, settings, server)))
    return found


def objects_of_server(target: Target, gpu: PlannedGpu, settings: ClusterSettings, server: str) -> list[Object]:
    """Return what one server needs: what its GPU is claimed by, its configuration, and its Deployment, the last one."""
    request = device_request(target, gpu, settings)
    config = config_map_of(target, settings)
    deployment = deployment_of(target, gpu, request, settings, server, config["metadata"]["name"])
    return [*([] if request.claim is None else [request.claim]), config, deployment]


def _notes(replicas: Mapping[str, list[tuple[Target, str]]], settings: ClusterSettings) -> list[str]:
    allocation = ALLOCATIONS[settings.cluster.allocation]
    notes = [f"allocation {allocation.name}: {limit}" for limit in allocation.limits]
    for workload, entries in replicas.items():
        if settings.cluster.gateway is None and uneven(entries):
            rates = ", ".join(f"{target.rate_rps:g}" for target, _ in entries)
            notes.append(
                f"{workload}: its replicas are planned for {rates} requests/s, and its Service"
                f" {service_name(settings.deployment, workload)} divides connections evenly; give a gateway in the"
                " cluster's file, or let clients weigh them"
            )
    return notes

"""The launcher on a cluster: make a deployment what an approved plan says, show what would change, or end it.

The cluster is the state. What other backends keep on disk is there: the plan's digest and its servers in a ConfigMap,
applied when all of them are ready; every placement in its Deployment; what was started by whom in labels and field
managers.
"""

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from igniter_opt.base.errors import DeploymentInterruptedError, InputError
from igniter_opt.base.files import StrPath, as_path
from igniter_opt.data.plan import Plan
from igniter_opt.deploy.apply import Options
from igniter_opt.deploy.approval import plan_digest
from igniter_opt.deploy.kubernetes.client import Client
from igniter_opt.deploy.kubernetes.cluster_changes import (
    ObjectChange,
    compare_objects,
    live_objects,
    read_server,
)
from igniter_opt.deploy.kubernetes.migrating import StepsLeft, staged, steps_left
from igniter_opt.deploy.kubernetes.names import NAME, PLAN, Object, is_leaving, title
from igniter_opt.deploy.kubernetes.objects import PlanObjects, plan_objects
from igniter_opt.deploy.kubernetes.parse import DeployedServer
from igniter_opt.deploy.kubernetes.rbac import launcher_rbac
from igniter_opt.deploy.kubernetes.render import render
from igniter_opt.deploy.kubernetes.rollout import Rollout
from igniter_opt.deploy.kubernetes.settings import ClusterSettings
from igniter_opt.deploy.launch import read_approved
from igniter_opt.deploy.targets import Target, largest_batches, make_targets
from igniter_opt.deploy.triton.how_run import differences
from igniter_opt.deploy.triton.model_repository import read_models

# Applied when all servers are ready: routes to them, and the record.
_LAST = ("HTTPRoute", "GRPCRoute", "ServiceMonitor")
# How long objects that were deleted may take to go: Kubernetes keeps a claim until no pod uses it.
LEAVING_S = 60.0
_PAUSE_S = 0.3


@dataclass(frozen=True)
class ClusterRequest:
    """What to deploy on a cluster, and how.

    Attributes
    ----------
    models
        The folder of models: what pods find in the cluster's volume, for the configurations and digests.
    approvers
        Names of other users whose approval is taken, too.
    take_over
        Whether to take fields of objects that others have set.
    """

    plan: StrPath
    models: StrPath
    settings: ClusterSettings
    approvers: Sequence[str] = ()
    take_over: bool = False
    options: Options = field(default_factory=Options)


@dataclass(frozen=True)
class PlannedCluster:
    """A plan read, with its servers and objects."""

    plan: Plan
    targets: tuple[Target, ...]
    made: PlanObjects
    digest: str


@dataclass(frozen=True)
class ClusterDifference:
    """What has to change in a cluster, and how.

    Attributes
    ----------
    running
        Digest of the plan that was completed last.
    """

    planned: PlannedCluster
    changes: tuple[ObjectChange, ...]
    steps: StepsLeft
    running: str | None

    @property
    def nothing(self) -> bool:
        """Whether all is as it should be."""
        return all(change.verb == "keep" for change in self.changes)


def read_planned(request: ClusterRequest, *, dry_run: bool = False) -> PlannedCluster:
    """Check approval and models; return the plan and its objects.

    Parameters
    ----------
    dry_run
        Whether a plan that is not approved yet is only reported.

    Raises
    ------
    RefusedError
        If the plan must not be deployed.
    InputError
        If something is missing, or the cluster cannot run the plan.
    """
    plan = read_approved(request.plan, request.approvers, request.options.report, dry_run=dry_run)
    models = read_models(as_path(request.models), largest_batches(plan))
    for text in differences(plan, models):
        request.options.report(f"warning: {text}")
    targets = tuple(make_targets(plan, models, cpu=False, runtime={}))
    return PlannedCluster(plan, targets, plan_objects(plan, targets, request.settings), plan_digest(plan))


def render_plan(request: ClusterRequest, folder: Path) -> PlannedCluster:
    """Write an approved plan's objects into a folder; nothing is asked of a cluster."""
    planned = read_planned(request)
    settings = request.settings
    render(folder, planned.made.objects, launcher_rbac(settings.namespace, settings.cluster), planned.made.notes)
    return planned


def difference(request: ClusterRequest, client: Client, planned: PlannedCluster) -> ClusterDifference:
    """Compare a cluster with a plan; changes nothing."""
    deployment = request.settings.deployment
    live = live_objects(client, deployment)
    changes = tuple(compare_objects(client, planned.made.objects, live, deployment))
    running = recorded_plan(live)
    steps = steps_left(planned.plan, servers_of(live), running, planned.digest)
    return ClusterDifference(planned, changes, steps, running)


def deploy_plan(request: ClusterRequest, client: Client) -> ClusterDifference:
    """Make a deployment what an approved plan says; return what was changed.

    Raises
    ------
    RefusedError, InputError
        Before anything was changed, or after it was undone.
    DeploymentError, DeploymentInterruptedError
        After what this run changed was undone.
    """
    planned = read_planned(request)
    options = request.options
    with options.stop.on_interrupt(signal.SIGTERM, signal.SIGHUP):
        _wait_for_leaving(client, request.settings.deployment, options)
        first = difference(request, client, planned)
        if client.hidden:
            options.report(f"warning: {hidden_kinds(client)}; what is of earlier plans there is not removed")
        if first.steps.why_not:
            options.report(first.steps.why_not)
        stopped: list[Object] = []
        for number, _ in first.steps.steps:
            stopped += _take_step(request, client, first, number, stopped)
        now = difference(request, client, planned) if first.steps.steps else first
        rollout = Rollout(client, request.settings.deployment, options, take_over=request.take_over)
        applied = [change for change in now.changes if change.wanted is not None]
        *others, record = applied
        deployments = [entry for entry in planned.made.objects if entry["kind"] == "Deployment"]
        rollout.start([change for change in others if change.kind not in _LAST], deployments)
        rollout.commit([*(change for change in others if change.kind in _LAST), record])
        gone = [change.live for change in now.changes if change.verb == "remove" and change.live is not None]
        if any(entry["kind"] == "Deployment" for entry in gone):
            rollout.drain()
        rollout.remove(gone)
        return first


def _wait_for_leaving(client: Client, deployment: str, options: Options) -> None:
    """Wait until objects that were deleted have gone: applying one would not keep it, and another needs its name."""
    deadline = time.monotonic() + LEAVING_S
    told = False
    while leaving := [entry for entry in live_objects(client, deployment) if is_leaving(entry)]:
        names = ", ".join(map(title, leaving[:3])) + (f" and {len(leaving) - 3} more" if leaving[3:] else "")
        if options.stop.is_set():
            raise DeploymentInterruptedError("interrupted; nothing was changed")
        if time.monotonic() > deadline:
            keepers = sorted({name for entry in leaving for name in entry["metadata"].get("finalizers") or ()})
            by = f", kept by {', '.join(keepers)}" if keepers else ""
            raise InputError(f"{names}: deleted, but still there{by}; nothing was changed; run deploy when it has gone")
        if not told:
            options.report(f"waiting until what was deleted has gone: {names}")
        told = True
        time.sleep(_PAUSE_S)


def _take_step(
    request: ClusterRequest, client: Client, found: ClusterDifference, number: int, before: Sequence[Object]
) -> list[Object]:
    """Take a step of the migration: start its servers, wait until they are ready, stop and return those that it stops.

    Parameters
    ----------
    before
        Deployments that steps before this one removed.
    """
    steps, planned = found.steps, found.planned
    step = dict(steps.steps)[number]
    words = steps.words(number)
    gap = f"; without a server then: {', '.join(step.gap)}" if step.gap else ""
    request.options.report(f"{words}: {len(step.start)} to start, {len(step.stop)} to stop{gap}")
    deployment = request.settings.deployment
    live = live_objects(client, deployment)
    final = [entry for entry in planned.made.objects if entry["kind"] == "Deployment"]
    stage = staged(step, planned.plan, planned.targets, final, servers_of(live), request.settings)
    rollout = Rollout(
        client, deployment, request.options, take_over=request.take_over, what=words, stopped_before=before
    )
    changes = compare_objects(client, stage.objects, live, deployment)
    started = [entry for entry in stage.objects if entry["kind"] == "Deployment"]
    rollout.start([change for change in changes if change.wanted is not None], started)
    stopped = [entry for entry in live if entry["kind"] == "Deployment" and entry["metadata"]["name"] in stage.stop]
    if stopped:
        rollout.drain()
    rollout.remove(stopped)
    return stopped


def hidden_kinds(client: Client) -> str:
    """Say which kinds the cluster did not let us look for."""
    return (
        f"not allowed to look for objects of kind {', '.join(sorted(client.hidden))} in namespace {client.namespace}"
        " (`deploy --render DIR` writes the role that is needed to DIR/admin/rbac.yaml)"
    )


def end(client: Client, deployment: str, options: Options) -> int:
    """Remove all objects that carry a deployment's labels, and nothing else; return how many.

    What is of the client's `hidden` kinds is not seen, and not removed.
    """
    with options.stop.on_interrupt(signal.SIGTERM, signal.SIGHUP):
        gone = live_objects(client, deployment)
        Rollout(client, deployment, options).remove(list(reversed(gone)))
        return len(gone)


def deployed_names(client: Client) -> list[str]:
    """Return the names of the deployments in the namespace."""
    found = {(entry["metadata"].get("annotations") or {}).get(NAME) for entry in live_objects(client, None)}
    return sorted(name for name in found if name)


def recorded_plan(live: Sequence[Object]) -> str | None:
    """Return the digest of the plan that was completed last; None where there is no record."""
    record = record_of(live)
    return None if record is None else record["metadata"]["annotations"][PLAN]


def record_of(live: Sequence[Object]) -> Object | None:
    """Return the ConfigMap that says which plan was completed last."""
    return next(
        (
            entry
            for entry in live
            if entry["kind"] == "ConfigMap" and PLAN in (entry["metadata"].get("annotations") or {})
        ),
        None,
    )


def servers_of(live: Sequence[Object]) -> list[DeployedServer]:
    """Return the servers among objects; what cannot be read is left out."""
    return [server for server in map(read_server, live) if server is not None]


def the_only_name(client: Client, name: str | None) -> str | None:
    """Return a deployment's name as given, or that of the only one; None where there is none."""
    if name is not None:
        return name
    names = deployed_names(client)
    if len(names) > 1:
        raise InputError(f"there are several deployments; give --name, one of: {', '.join(names)}")
    return names[0] if names else None

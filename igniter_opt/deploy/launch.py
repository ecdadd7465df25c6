"""The launcher: make a deployment what an approved plan says, or end it."""

import signal
import socket
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from igniter_opt.base.errors import DeploymentError, InputError, RefusedError
from igniter_opt.base.files import StrPath, as_path, exists
from igniter_opt.data.plan import Plan, read_plan
from igniter_opt.deploy.apply import Applier, Options, Report, remove_forgotten
from igniter_opt.deploy.approval import check_approval, plan_digest
from igniter_opt.deploy.backends.base import Backend, Observation, ServesPython
from igniter_opt.deploy.changes import Changes, Health, compare
from igniter_opt.deploy.following import RemainingSteps, follow, spare_gpus, stage
from igniter_opt.deploy.health import conditions
from igniter_opt.deploy.inventory import Device, processor_devices
from igniter_opt.deploy.matching import Key, match
from igniter_opt.deploy.plan_cost import PlanCost, plan_cost
from igniter_opt.deploy.prometheus import check_targets_file, remove_targets
from igniter_opt.deploy.records import HostRecord
from igniter_opt.deploy.state import Deployment, Journal, Store, now
from igniter_opt.deploy.targets import Placed, Target, largest_batches, make_targets, served_gpus, wanted_by_gpu
from igniter_opt.deploy.triton.how_run import differences
from igniter_opt.deploy.triton.model_repository import read_models


@dataclass(frozen=True)
class Request:
    """What to deploy, and how.

    Attributes
    ----------
    plan
        The plan's file; its approval lies beside it.
    models
        Folder with one folder for every model.
    devices
        The GPUs that exist; on the processor (`cpu`) they are made up.
    overrides
        UUID of the GPU to use, by plan GPU.
    approvers
        Names of other users whose approval is taken, too.
    file_sd
        Where to write the targets for Prometheus, from now on; None leaves it as it is.
    """

    plan: StrPath
    models: StrPath
    cpu: bool = False
    devices: Sequence[Device] = ()
    hosts: tuple[HostRecord, ...] = (HostRecord(name="local"),)
    overrides: Mapping[str, str] = field(default_factory=dict)
    approvers: Sequence[str] = ()
    file_sd: StrPath | None = None
    options: Options = field(default_factory=Options)

    @property
    def plan_path(self) -> Path:
        """Where the plan is."""
        return as_path(self.plan)

    @property
    def targets_path(self) -> Path | None:
        """Where the targets for Prometheus are to be written."""
        return None if self.file_sd is None else as_path(self.file_sd).absolute()


@dataclass(frozen=True)
class Prepared:
    """The changes a deployment needs, worked out but not applied.

    Attributes
    ----------
    old_cost
        What the plan that runs costs; None where that is not known.
    following
        The steps of the plan's migration that lead there.
    """

    changes: Changes
    orphans: tuple[Observation, ...]
    state: Deployment
    digest: str
    strangers: tuple[Device, ...]
    old_cost: PlanCost | None
    new_cost: PlanCost
    following: RemainingSteps = field(default_factory=RemainingSteps)

    @property
    def nothing(self) -> bool:
        """Whether all is as it should be."""
        return self.changes.nothing and not self.orphans


def read_approved(path: StrPath, approvers: Collection[str], report: Report, *, dry_run: bool = False) -> Plan:
    """Return the approved plan at a path; in a dry run one that is not approved is only reported.

    Raises
    ------
    RefusedError
        If the plan must not be deployed.
    """
    plan = read_plan(path)
    try:
        check_approval(plan, path, approvers)
    except RefusedError as error:
        if not dry_run:
            raise
        report(f"note: as it is, deploy would refuse: {error}")
    return plan


def check(request: Request, backend: Backend, *, dry_run: bool = False) -> tuple[Plan, list[Target]]:
    """Check approval, models and backend; return the plan and the servers it needs.

    Parameters
    ----------
    dry_run
        Whether a plan that is not approved yet is only reported: nothing is to be done with it.

    Raises
    ------
    RefusedError
        If the plan must not be deployed.
    InputError
        If something is missing.
    """
    plan = read_approved(request.plan, request.approvers, request.options.report, dry_run=dry_run)
    models = read_models(as_path(request.models), largest_batches(plan))
    for text in () if request.cpu else differences(plan, models):
        request.options.report(f"warning: {text}")
    runtime = backend.prepare(cpu=request.cpu)
    if isinstance(backend, ServesPython):
        backend.check_python(models)
    return plan, make_targets(plan, models, cpu=request.cpu, runtime=runtime | {"cpu": request.cpu})


def prepare(
    request: Request, store: Store, backend: Backend, plan: Plan, targets: list[Target], *, temporary: bool = False
) -> Prepared:
    """Work out what has to change; changes nothing.

    Raises
    ------
    InputError
        If the GPUs do not suffice, or the deployment runs by another backend, or a rehearsal left it; or if targets for
        Prometheus cannot be written where they are to be.
    """
    state = store.load()
    if request.targets_path is not None:
        check_targets_file(request.targets_path, store.owner)
    owner = store.owner if state is None else state.owner
    if state is not None and state.replicas and state.temporary and not temporary:
        raise InputError(
            f"deployment {store.name!r} is what a killed rehearsal left; tear it down first"
            f" (`igniter-opt teardown --name {store.name}`)"
        )
    if state is not None and (state.backend, state.cpu) != (backend.name, request.cpu) and state.replicas:
        where = f"backend {state.backend}" + (" on the processor" if state.cpu else "")
        raise InputError(
            f"deployment {store.name!r} runs by {where}; deploy with the same, tear it down first,"
            " or give another --name"
        )
    if state is None or not state.replicas:
        state = _new_state(request, store, backend.name, temporary=temporary)
    else:
        state = state.model_copy(update={"hosts": _merged_hosts(state, request)})
    observed = backend.observe(owner)
    known = {record.token for record in state.records}
    orphans = tuple(entry for token, entry in observed.items() if token not in known)
    health: dict[str, Health] = {
        token: condition.health for token, condition in conditions(store, state, backend, observed).items()
    }
    gpus = served_gpus(plan)
    needed = len(gpus) + len(spare_gpus(plan))
    devices = _processor_devices(needed, state) if request.cpu else list(request.devices)
    own = frozenset() if request.cpu else backend.processes(owner)
    migrates = plan.migration is not None and bool(state.replicas) and state.plan_digest == plan.migration.running
    spare = spare_gpus(plan) if migrates else ()
    chosen = match(
        (*gpus, *spare),
        {gpu.name: gpu for gpu in plan.instance.gpu_types},
        devices,
        overrides=request.overrides,
        wanted=wanted_by_gpu(targets) | {gpu.name: Counter() for gpu in spare},
        running=_running(state, health),
        names={(record.host, record.device): record.gpu for record in state.replicas},
        own_processes=own,
        any_type=request.cpu,
        named=migrates,
    )
    placed = [Placed(target, chosen[target.gpu]) for target in targets]
    used = {device.uuid: device for device in chosen.values()}
    strangers = tuple(device for device in used.values() if set(device.processes) - own)
    changes = compare(state, placed, health, mps=not request.cpu)
    old_cost = state.plan_cost if state.replicas else PlanCost()
    # A server that is out of order is nothing that a migration begins with.
    sound = not changes.nothing and all(entry == "ready" for entry in health.values())
    following = follow(plan, state, placed, chosen) if sound else RemainingSteps()
    return Prepared(changes, orphans, state, plan_digest(plan), strangers, old_cost, plan_cost(plan), following)


def _new_state(request: Request, store: Store, backend: str, *, temporary: bool) -> Deployment:
    return Deployment(
        name=store.name,
        owner=store.owner,
        machine=socket.gethostname(),
        backend=backend,
        cpu=request.cpu,
        temporary=temporary,
        hosts=request.hosts,
        created_at=now(),
    )


def _merged_hosts(state: Deployment, request: Request) -> tuple[HostRecord, ...]:
    """Return the request's hosts, and those of servers that still run on others."""
    hosts = {host.name: host for host in request.hosts}
    for record in state.replicas:
        hosts.setdefault(record.host, state.host(record.host))
        if hosts[record.host] != state.host(record.host):
            raise InputError(
                f"host {record.host!r} has another engine or address than when its servers were started;"
                " give it another name, or tear the deployment down first"
            )
    return tuple(hosts.values())


def _processor_devices(gpus: int, state: Deployment) -> list[Device]:
    """Return enough stand-ins for so many GPUs, those in use among them."""
    devices = processor_devices(gpus, [host.name for host in state.hosts])
    known = {device.uuid for device in devices}
    extra = {record.device: record for record in state.replicas if record.device not in known}
    return devices + [Device(record.host, uuid, record.device_name) for uuid, record in extra.items()]


def _running(state: Deployment, health: Mapping[str, Health]) -> dict[tuple[str, str], Counter[Key]]:
    running: dict[tuple[str, str], Counter[Key]] = {}
    for record in state.replicas:
        if health[record.token] == "ready":
            running.setdefault((record.host, record.device), Counter())[record.workload, record.spec] += 1
    return running


def deploy(request: Request, store: Store, backend: Backend) -> Prepared:
    """Make a deployment what an approved plan says; return what was changed.

    Raises
    ------
    RefusedError, InputError
        Before anything was started; among others where a guard watches the deployment.
    DeploymentError, DeploymentInterruptedError
        After what this run started was stopped again.
    """
    plan, targets = check(request, backend)
    store.create()
    with store.locked(unguarded=True), request.options.stop.on_interrupt(signal.SIGTERM, signal.SIGHUP):
        prepared = prepare(request, store, backend, plan, targets)
        journal = Journal(store, prepared.state, request.options.hook)
        changes = _migrated(request, prepared, journal, backend) if prepared.following.steps else prepared.changes
        applier = Applier(journal, backend, request.options, cpu=request.cpu)
        before, targets_path = prepared.state.file_sd, request.targets_path
        fields = {"plan_cost": prepared.new_cost, "file_sd": before if targets_path is None else str(targets_path)}
        applier.apply(changes, prepared.orphans, prepared.digest, request.plan_path, **fields)
        if before is not None and before != journal.state.file_sd:
            remove_targets(Path(before), store.owner)
        return replace(prepared, state=journal.state)


def _migrated(request: Request, prepared: Prepared, journal: Journal, backend: Backend) -> Changes:
    """Take the steps of the plan's migration; return what is left to be done then.

    After every step the state is one of the migration's, and the deployment still that of the plan before: whatever
    ends the launcher, `deploy` goes on from there.
    """
    following, mps = prepared.following, not request.cpu
    for number, step in following.steps:
        words = following.words(number)
        request.options.report(f"{words}: {len(step.start)} to start, {len(step.stop)} to stop")
        try:
            changes = stage(following, step, journal.state, mps=mps)
        except LookupError as error:
            raise DeploymentError(f"{words}: {error}; run `igniter-opt deploy` again") from None
        applier = Applier(journal, backend, request.options, cpu=request.cpu, what=words)
        digest, path = str(journal.state.plan_digest), Path(journal.state.plan_path or "")
        applier.apply(changes, (), digest, path)
    healthy: dict[str, Health] = {record.token: "ready" for record in journal.state.records}
    return compare(journal.state, following.placed, healthy, mps=mps)


@contextmanager
def temporary(
    request: Request, store: Store, backend: Backend, plan: Plan, targets: list[Target]
) -> Iterator[Deployment]:
    """Run servers for as long as the context lasts; whatever happens in it, they are stopped at its end.

    What an earlier run of the same name left behind, because it was killed, is stopped first. The plan needs no
    approval: its real models are not what runs.

    Raises
    ------
    InputError
        Another run of this name is under way, or a lasting deployment has it, or something is missing.
    DeploymentError, DeploymentInterruptedError
        The servers did not get ready; all were stopped again.
    """
    left = store.load()
    if left is not None and left.replicas and not left.temporary:
        raise InputError(
            f"there is a deployment {store.name!r}, which a rehearsal must not touch; give another --state"
        )
    if store.folder.is_dir():
        teardown(store, backend, request.options)
    store.create()
    with store.locked(), request.options.stop.on_interrupt(signal.SIGTERM, signal.SIGHUP):
        try:
            prepared = prepare(request, store, backend, plan, targets, temporary=True)
            journal = Journal(store, prepared.state, request.options.hook)
            applier = Applier(journal, backend, request.options, cpu=request.cpu)
            applier.apply(prepared.changes, prepared.orphans, prepared.digest, request.plan_path)
            yield journal.state
        finally:
            _stop_all(store, backend, request.options, store.load())


def teardown(store: Store, backend: Backend, options: Options) -> int:
    """Stop all that the state names or that carries this deployment's label, and forget it.

    Returns
    -------
    int
        How many servers and daemons were stopped or forgotten.

    Raises
    ------
    InputError
        There is a folder in the deployment's place that is no deployment's; it is left alone.
    """
    if exists(store.folder) and not store.is_deployment():
        raise InputError(f"{store.folder}: is no deployment's folder, and is left alone; --name or --state is another")
    if not store.folder.is_dir():
        return _stop_all(store, backend, options, None)
    with store.locked(unguarded=True), options.stop.on_interrupt(signal.SIGTERM, signal.SIGHUP):
        return _stop_all(store, backend, options, store.load())


def _stop_all(store: Store, backend: Backend, options: Options, state: Deployment | None) -> int:
    owner = store.owner if state is None else state.owner
    tokens = {entry.token: entry.host for entry in backend.observe(owner).values()}
    daemons: Collection[str] = ()
    if state is not None:
        tokens |= {record.token: record.host for record in state.records}
        daemons = {record.token for record in state.daemons}
        if state.file_sd is not None:
            remove_targets(Path(state.file_sd), owner)
    servers = {token: host for token, host in tokens.items() if token not in daemons}
    if servers:
        options.report(f"stopping {len(servers)} server(s)")
    options.hook("before stopping servers")
    backend.stop(owner, servers)  # clients before the daemons that serve them
    options.hook("after stopping servers")
    backend.stop(owner, {token: tokens[token] for token in daemons})
    options.hook("before removing the state")
    remove_forgotten(store, tokens)
    store.remove()
    return len(tokens)

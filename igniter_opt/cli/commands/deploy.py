"""The launching commands: ``approve``, ``deploy``, ``status`` and ``teardown``."""

import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer

from igniter_opt.base.command import EXIT_INTERRUPTED
from igniter_opt.base.errors import EXIT_BAD_INPUT, EXIT_NO, InputError, RefusedError
from igniter_opt.base.files import exists
from igniter_opt.base.kinds import APPROVAL, check_output
from igniter_opt.base.schema import nearest, one_of
from igniter_opt.base.text import counted
from igniter_opt.cli import console
from igniter_opt.cli.choices import BackendOption
from igniter_opt.cli.commands import on_cluster
from igniter_opt.cli.options import (
    BasePort,
    Context,
    Cpus,
    DockerHost,
    Image,
    Json,
    Kubeconfig,
    Memlock,
    MemoryMib,
    Namespace,
    PlanArgument,
    ReadyTimeout,
    ShmMib,
    StateFolder,
    TritonServer,
    Yes,
    check_numbers,
    flag,
)
from igniter_opt.cli.tables.deploy import approval_line, changes_to_dict, print_approval, print_changes, print_status
from igniter_opt.data.plan import read_plan
from igniter_opt.deploy import launch
from igniter_opt.deploy.apply import DEFAULT_BASE_PORT, DEFAULT_READY_TIMEOUT_S, Options
from igniter_opt.deploy.approval import approval_path, make_approval, write_approval
from igniter_opt.deploy.backends.base import Backend, ServerOptions
from igniter_opt.deploy.backends.registry import BACKENDS, DEFAULT, KUBERNETES, BackendKind, takers
from igniter_opt.deploy.endpoints import ENDPOINTS_FILE
from igniter_opt.deploy.inventory import LOCAL
from igniter_opt.deploy.load_balancers import FIRST_LISTENER, render_endpoints
from igniter_opt.deploy.mig_layout import FORMS, mig_layout
from igniter_opt.deploy.records import HostRecord
from igniter_opt.deploy.state import Deployment, Store, default_root, deployments, without_state
from igniter_opt.deploy.status import Status, read_status, status_without_state
from igniter_opt.verify import verify

_KEPT = [name for name, kind in BACKENDS.items() if not kind.declared]
LookAt = Annotated[
    str,
    typer.Option(
        "--backend", help=f"{KUBERNETES}: look there. {' or '.join(_KEPT)}: where, if the deployment's state is lost."
    ),
]


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("approve")(approve_command)
    app.command("deploy")(deploy_command)
    app.command("status")(status_command)
    app.command("teardown")(teardown_command)


def approve_command(
    plan: PlanArgument,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Verify a plan, show what it costs and starts, and record your approval beside it (plan.approval.json).

    Example: igniter-opt approve plan.json --yes
    """
    if json and not yes:
        raise InputError("--json shows nothing to decide on; give --yes, too, to approve without being asked")
    if not yes and not sys.stdin.isatty():
        raise InputError("approving needs a terminal to ask on; give --yes to approve without being asked")
    loaded = read_plan(plan)
    path = approval_path(plan)
    check_output(path, APPROVAL)
    approval = make_approval(loaded)
    if not json:
        print_approval(loaded, verify(loaded))
    if not yes and not typer.confirm("Approve this plan?", err=True):
        raise RefusedError("not approved")
    write_approval(approval, path)
    if json:
        console.print_json({"path": str(path), **approval.model_dump(mode="json", by_alias=True)})
    console.message(approval_line(approval, str(path)))


def deploy_command(
    ctx: typer.Context,
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="An approved plan file.")],
    models: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder with a Triton model folder for every model. Required.")
    ] = None,
    backend: BackendOption = DEFAULT.name,
    cpu: Annotated[bool, typer.Option("--cpu", help="Run on the processor: no GPU, no MPS. For trials.")] = False,
    name: Annotated[str | None, typer.Option(help="The deployment's name. Default: the instance's.")] = None,
    gpu: Annotated[
        list[str] | None,
        typer.Option(metavar="PLAN-GPU=UUID", help="Use this card, whatever its type; repeat for several."),
    ] = None,
    inventory: Annotated[
        Path | None, typer.Option(metavar="HOSTS", help="Hosts and their GPUs (YAML), for several machines.")
    ] = None,
    tritonserver: TritonServer = None,
    image: Image = None,
    pull: Annotated[bool, typer.Option("--pull", help="Pull the image where it is missing (docker).")] = False,
    docker_host: DockerHost = None,
    cpus: Cpus = None,
    memory_mib: MemoryMib = None,
    shm_mib: ShmMib = ServerOptions.shm_mib,
    memlock: Memlock = False,
    base_port: BasePort = DEFAULT_BASE_PORT,
    ready_timeout: ReadyTimeout = DEFAULT_READY_TIMEOUT_S,
    drain: Annotated[float, typer.Option(metavar="S", help="Seconds that replaced servers go on.")] = 0.0,
    allow_approver: Annotated[
        list[str] | None,
        typer.Option(metavar="USER", help="Take this user's approval, too, as if it were yours; repeat for several."),
    ] = None,
    file_sd: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep targets for Prometheus (file_sd) in this JSON file.")
    ] = None,
    cluster: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What only you know of the cluster, in YAML (kubernetes).")
    ] = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespace = None,
    render: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the objects, ask nothing of a cluster (kubernetes).")
    ] = None,
    diff: Annotated[bool, typer.Option("--diff", help="Print what would change in objects (kubernetes).")] = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Set fields that others have set in our objects (kubernetes).")
    ] = False,
    state: StateFolder = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would change, do nothing.")] = False,
    layout: Annotated[
        str | None,
        typer.Option(
            "--mig-layout", metavar="FORM", help=f"Only print the slices that it needs: {' or '.join(FORMS)}."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Start what an approved plan says, GPU by GPU; stop what it no longer needs. Repeating it changes nothing.

    Example: igniter-opt deploy plan.json --models models --backend process --cpu --dry-run
    """
    if layout is not None:
        if json:
            raise InputError("--mig-layout prints commands or YAML; leave --json out")
        print(mig_layout(read_plan(plan), layout), end="")
        return
    if models is None:
        raise InputError("give --models DIR, the folder with a Triton model folder for every model of the plan")
    kind = _backend_kind(backend)
    check_numbers(base_port, ready_timeout, drain, cpus, memory_mib, shm_mib)
    store = Store(state or default_root(), read_plan(plan).instance.name if name is None else name)
    options = ServerOptions(
        inventory=inventory,
        docker_host=docker_host,
        tritonserver=tritonserver,
        image=image,
        pull=pull and not dry_run,
        cpus=cpus,
        memory_mib=memory_mib,
        shm_mib=shm_mib,
        memlock=memlock,
        cluster=cluster,
        kubeconfig=kubeconfig,
        context=context,
        namespace=namespace,
    )
    _refuse_foreign(kind, options)
    running = Options(base_port=base_port, ready_timeout_s=ready_timeout, drain_s=drain, report=console.message)
    if kind.declared:
        on_cluster.refuse_given(ctx, kind, namespace)
        wanted = on_cluster.request(kind, options, store.name, plan, models, allow_approver or [], running, take_over)
        if render is not None:
            on_cluster.render(wanted, render)
        elif diff or dry_run:
            on_cluster.preview(wanted, options, diff=diff, json=json)
        else:
            on_cluster.deploy(wanted, options, json=json)
        return
    if render is not None or diff or take_over:
        raise InputError("--render, --diff and --take-over go with --backend kubernetes")
    hosts, devices = kind.find(options, cpu)
    for need in kind.missing(options):
        raise InputError(f"--backend {kind.name} needs {flag(need)}, {kind.needs[need]}")
    runner = kind.backend(hosts, options)
    request = launch.Request(
        plan=plan,
        models=models,
        cpu=cpu,
        devices=devices,
        hosts=hosts,
        overrides=_overrides(gpu or []),
        approvers=allow_approver or [],
        file_sd=file_sd,
        options=running,
    )
    if cpu:
        console.message(
            "note: --cpu: no GPU and no MPS; shares are not enforced, latencies are not the plan's, prices are for GPUs"
        )
    if dry_run:
        store.check_creatable()
        prepared = launch.prepare(request, store, runner, *launch.check(request, runner, dry_run=True))
    else:
        prepared = launch.deploy(request, store, runner)
    for device in prepared.strangers:
        console.message(f"warning: {device.uuid} is also used by other processes; the plan does not know their load")
    if json:
        console.print_json(changes_to_dict(prepared))
    else:
        print_changes(prepared, done=not dry_run)
    if dry_run:
        console.message("dry run: nothing was done")
    elif prepared.nothing:
        console.message("nothing to change")
    else:
        console.message(f"deployed {store.name}; endpoints: {store.folder / ENDPOINTS_FILE}")
    if request.options.stop.is_set():
        console.message("interrupted when the new servers served already: the new plan is what runs")
        raise typer.Exit(EXIT_INTERRUPTED)


def status_command(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Option(help="A deployment. Default: all.")] = None,
    endpoints: Annotated[
        str | None, typer.Option(metavar="FORM", help="Print the endpoints instead: json, nginx or envoy.")
    ] = None,
    first_listener: Annotated[
        int, typer.Option(metavar="P", help="With --endpoints nginx or envoy: they listen from this port up.")
    ] = FIRST_LISTENER,
    backend: LookAt = DEFAULT.name,
    docker_host: DockerHost = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespace = None,
    state: StateFolder = None,
    json: Json = False,
) -> None:
    """Show every server with its GPU, share, ports, readiness and drift. Exit code 1 if anything is not as deployed.

    2 if a deployment cannot be looked at; the others are shown all the same.

    Example: igniter-opt status
    """
    kind = _backend_kind(backend)
    where = ServerOptions(docker_host=docker_host, kubeconfig=kubeconfig, context=context, namespace=namespace)
    _refuse_foreign(kind, where)
    if kind.declared:
        on_cluster.refuse_given(ctx, kind, namespace)
        found = on_cluster.look(where, name, endpoints)
        _show_status(found, {}, json=json, nothing="nothing is deployed (in the cluster's namespace)")
        return
    if state is not None and not exists(state):
        raise InputError(f"{state}: no such folder; --state names the one that deployments are kept in")
    root = state or default_root()
    lost_at = kind.backend((HostRecord(name=LOCAL, docker=docker_host),))
    if endpoints is not None:
        names = deployments(root) if name is None else [name]
        if not names:
            raise InputError(f"--endpoints: nothing is deployed (in {root})")
        if len(names) != 1:
            raise InputError(f"--endpoints needs one deployment; give --name, one of: {', '.join(names)}")
        loaded = Store(root, names[0]).load()
        if loaded is None:
            _existing(root, names[0])
            return
        print(render_endpoints(loaded, endpoints, first_listener), end="")
        return
    found = []
    failed: dict[str, InputError] = {}
    for entry in sorted({*deployments(root), *without_state(root)}) if name is None else [name]:
        try:
            status = _look(Store(root, entry), lost_at)
        except InputError as error:
            failed[entry] = error
            continue
        if status is not None:
            found.append(status)
        elif name is not None:
            _existing(root, name)
    _show_status(found, failed, json=json, nothing=f"nothing is deployed (in {root})")


def _show_status(found: list[Status], failed: dict[str, InputError], *, json: bool, nothing: str) -> None:
    if json:
        errors = [{"name": entry, "ok": False, "error": str(error)} for entry, error in failed.items()]
        console.print_json([*(status.to_dict() for status in found), *errors])
    else:
        for status in found:
            print_status(status)
    for problem in failed.values():
        console.message(f"{problem.prefix}{problem}")
    if failed:
        raise typer.Exit(EXIT_BAD_INPUT)
    if not found and not json:
        console.message(nothing)
    if not all(status.ok for status in found):
        raise typer.Exit(EXIT_NO)


def _look(store: Store, lost_at: Backend) -> Status | None:
    """Look at a deployment, or at what runs of it where its state is lost; None if there is nothing of it."""
    loaded = store.load()
    return status_without_state(store, lost_at) if loaded is None else read_status(store, loaded, _backend_of(loaded))


def teardown_command(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Option(help="A deployment. Default: the only one.")] = None,
    backend: LookAt = DEFAULT.name,
    docker_host: DockerHost = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    namespace: Namespace = None,
    state: StateFolder = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Stop a deployment's servers and daemons, and nothing else, and forget it.

    Asks first where there is a terminal to ask on; scripts, which have none, are not held up.

    Example: igniter-opt teardown --yes
    """
    kind = _backend_kind(backend)
    where = ServerOptions(docker_host=docker_host, kubeconfig=kubeconfig, context=context, namespace=namespace)
    _refuse_foreign(kind, where)
    if kind.declared:
        on_cluster.refuse_given(ctx, kind, namespace)
        on_cluster.teardown(where, name, yes=yes, json=json)
        return
    root = state or default_root()
    if name is None:
        names = deployments(root)
        if not names:
            console.message(f"nothing is deployed (in {root})")
            if json:
                console.print_json({"deployment": None, "stopped": 0})
            return
        if len(names) > 1:
            raise InputError(f"there are several deployments; give --name, one of: {', '.join(names)}")
        name = names[0]
    store = Store(root, name)
    loaded = store.load()
    if loaded is not None:
        runner = _backend_of(loaded)
    else:
        runner = kind.backend((HostRecord(name=LOCAL, docker=docker_host),))
    known = store.folder.is_dir()  # also that of a deployment that failed, with its logs
    if known and not yes and sys.stdin.isatty():
        what = "all that carries its label" if loaded is None else counted(len(loaded.replicas), "server")
        if not typer.confirm(f"Tear down {name}, which stops {what}?", err=True):
            raise RefusedError("nothing was torn down")
    count = launch.teardown(store, runner, Options(report=console.message))
    if count:
        said = f"{name}: nothing of it runs any more"
    elif known:
        said = f"{name}: nothing of it was running; removed what was left in {store.folder}"
    else:
        said = f"nothing to stop: no deployment {name!r} in {root}{nearest(name, deployments(root))}"
    console.message(said)
    if loaded is None and count:
        console.message("note: its state was lost; a file of targets for Prometheus (--file-sd) that it had is left")
    if json:
        console.print_json({"deployment": name, "stopped": count})


def _backend_kind(value: str) -> BackendKind:
    return BACKENDS[one_of(value, BACKENDS, "--backend: unknown backend", "backends")]


def _refuse_foreign(kind: BackendKind, options: ServerOptions) -> None:
    """Raise InputError where an option is given that goes with other backends."""
    for given in kind.foreign(options):
        theirs = takers(given)
        flags = [flag(entry.name) for entry in fields(options) if takers(entry.name) == theirs]
        together = " and ".join(filter(None, [", ".join(flags[:-1]), flags[-1]]))
        raise InputError(f"{together} {'go' if flags[1:] else 'goes'} with --backend {' or '.join(theirs)}")


def _overrides(texts: list[str]) -> dict[str, str]:
    result: dict[str, str] = {}
    for text in texts:
        gpu, found, uuid = text.partition("=")
        if not (gpu and found and uuid):
            raise InputError(f"--gpu {text!r}: expected PLAN-GPU=UUID, such as V100-1=GPU-8a4d...")
        if gpu in result:
            raise InputError(f"--gpu: {gpu} is given twice")
        result[gpu] = uuid
    return result


def _existing(root: Path, name: str) -> None:
    names = deployments(root)
    if name not in names:
        raise InputError(f"no deployment {name!r} in {root}{nearest(name, names)}")


def _backend_of(state: Deployment) -> Backend:
    return BACKENDS[state.backend].backend(state.hosts)

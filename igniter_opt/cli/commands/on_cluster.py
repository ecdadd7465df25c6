"""What ``deploy``, ``status`` and ``teardown`` do on a Kubernetes cluster."""

import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import typer

from igniter_opt.base.command import EXIT_INTERRUPTED
from igniter_opt.base.errors import EXIT_NO, InputError, RefusedError
from igniter_opt.base.schema import describe
from igniter_opt.base.text import counted
from igniter_opt.cli import console
from igniter_opt.cli.options import flag
from igniter_opt.cli.tables.cluster import difference_to_dict, print_difference
from igniter_opt.deploy.apply import Options
from igniter_opt.deploy.backends.base import ServerOptions
from igniter_opt.deploy.backends.registry import BackendKind
from igniter_opt.deploy.kubernetes.client import Client, connect
from igniter_opt.deploy.kubernetes.cluster_changes import live_objects
from igniter_opt.deploy.kubernetes.cluster_files import read_cluster
from igniter_opt.deploy.kubernetes.launching import (
    ClusterDifference,
    ClusterRequest,
    deploy_plan,
    difference,
    end,
    hidden_kinds,
    read_planned,
    render_plan,
    the_only_name,
)
from igniter_opt.deploy.kubernetes.looking import cluster_status
from igniter_opt.deploy.kubernetes.object_diff import object_diff
from igniter_opt.deploy.kubernetes.settings import DNS_LABEL, DNS_RULE, ClusterSettings
from igniter_opt.deploy.state import check_name
from igniter_opt.deploy.status import Status

# Options of the commands that say how servers are started one by one, or where this machine keeps its state.
_OF_OTHERS = ("cpu", "gpu", "tritonserver", "pull", "shm_mib", "memlock", "base_port", "file_sd", "state")
_DEFAULT_NAMESPACE = "default"


def refuse_given(ctx: typer.Context, kind: BackendKind, namespace: str | None) -> None:
    """Raise InputError where an option was given that means nothing to a cluster, or a namespace that none can be."""
    if namespace is not None and not re.fullmatch(DNS_LABEL.removesuffix("$"), namespace):
        raise InputError(f"--namespace: {DNS_RULE}; found {describe(namespace)}")
    for name in _OF_OTHERS:
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise InputError(f"{flag(name)} does not go with --backend {kind.name}")


def request(
    kind: BackendKind,
    options: ServerOptions,
    name: str,
    plan: Path,
    models: Path,
    approvers: Sequence[str],
    running: Options,
    take_over: bool,
) -> ClusterRequest:
    """Return what to deploy, from the options; raise InputError where one is missing or wrong."""
    for need in kind.missing(options):
        raise InputError(f"--backend {kind.name} needs {flag(need)}, {kind.needs[need]}")
    if options.cluster is None or options.image is None:
        raise AssertionError
    settings = ClusterSettings(
        namespace=options.namespace or _DEFAULT_NAMESPACE,
        deployment=name,
        image=options.image,
        cluster=read_cluster(options.cluster),
        cpus=1.0 if options.cpus is None else options.cpus,
        memory_mib=options.memory_mib,
    )
    return ClusterRequest(plan, models, settings, approvers, take_over, running)


def render(wanted: ClusterRequest, folder: Path) -> None:
    """Write the objects into a folder."""
    planned = render_plan(wanted, folder)
    _say_notes(planned.made.notes)
    kinds = Counter(entry["kind"] for entry in planned.made.objects)
    said = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    console.message(f"wrote {folder} for namespace {wanted.settings.namespace}: {said}; nothing was asked of a cluster")


def preview(wanted: ClusterRequest, options: ServerOptions, *, diff: bool, json: bool) -> None:
    """Print what would change; do nothing."""
    wanted, client = _connected(wanted, options)
    planned = read_planned(wanted, dry_run=True)
    found = difference(wanted, client, planned)
    _say_hidden(client)
    _say_notes(planned.made.notes)
    if diff:
        for line in object_diff(client, found.changes, take_over=wanted.take_over):
            print(line, end="")
    elif json:
        console.print_json(difference_to_dict(found, wanted.settings))
    else:
        print_difference(found, done=False)
    console.message("dry run: nothing was done")


def deploy(wanted: ClusterRequest, options: ServerOptions, *, json: bool) -> None:
    """Make the cluster what the plan says."""
    wanted, client = _connected(wanted, options)
    found = deploy_plan(wanted, client)
    _say_notes(found.planned.made.notes)
    if json:
        console.print_json(difference_to_dict(found, wanted.settings))
    else:
        print_difference(found, done=True)
    console.message(_ending(found, wanted))
    if wanted.options.stop.is_set():
        console.message("interrupted when the new servers served already: the new plan is what runs")
        raise typer.Exit(EXIT_INTERRUPTED)


def _ending(found: ClusterDifference, wanted: ClusterRequest) -> str:
    if found.nothing:
        return "nothing to change"
    return f"deployed {wanted.settings.deployment} in namespace {wanted.settings.namespace}"


def look(options: ServerOptions, name: str | None, endpoints: str | None) -> list[Status]:
    """Return what the cluster runs."""
    if endpoints is not None:
        raise InputError("--endpoints: on a cluster a workload's Service is where to send requests; status names it")
    if name is not None:
        check_name(name, "--name")
    client = _client(options)
    found = cluster_status(client, name)
    _say_hidden(client)
    if name is not None and not found:
        raise InputError(f"no deployment {name!r} in the cluster's namespace")
    return found


def teardown(options: ServerOptions, name: str | None, *, yes: bool, json: bool) -> None:
    """Remove a deployment's objects; ends with EXIT_NO where some could not be looked for."""
    if name is not None:
        check_name(name, "--name")
    client = _client(options)
    known = the_only_name(client, name)
    count = 0
    if known is not None:
        there = live_objects(client, known)
        what = f"{counted(len(there), 'object')} of {known} in namespace {client.namespace}"
        if there and not yes and sys.stdin.isatty() and not typer.confirm(f"Remove {what}?", err=True):
            raise RefusedError("nothing was torn down")
        count = end(client, known, Options(report=console.message))
    leaving = 0 if known is None else len(live_objects(client, known))
    hidden = sorted(client.hidden)
    console.message(_torn_down(client, known, count, leaving))
    if json:
        console.print_json({"deployment": known, "stopped": count, "not_looked_for": hidden})
    if hidden:
        raise typer.Exit(EXIT_NO)


def _torn_down(client: Client, known: str | None, count: int, leaving: int) -> str:
    if client.hidden:
        removed = f"{known or 'any deployment'}: removed {counted(count, 'object')}"
        return f"{removed}, but some may be left: {hidden_kinds(client)}"
    if known is None:
        return f"nothing is deployed (in namespace {client.namespace})"
    if leaving:
        return f"{known}: deleted {counted(count, 'object')}; {leaving} not gone yet (kept by finalizers)"
    return f"{known}: nothing of it is left" if count else f"nothing to stop: no deployment {known!r} there"


def _say_hidden(client: Client) -> None:
    if client.hidden:
        console.message(f"warning: {hidden_kinds(client)}")


def _client(options: ServerOptions) -> Client:
    return connect(options.kubeconfig, options.context, options.namespace)


def _connected(wanted: ClusterRequest, options: ServerOptions) -> tuple[ClusterRequest, Client]:
    """Return a client, and the request for its namespace."""
    client = _client(options)
    return replace(wanted, settings=replace(wanted.settings, namespace=client.namespace)), client


def _say_notes(notes: Sequence[str]) -> None:
    for note in notes:
        console.message(f"note: {note}")

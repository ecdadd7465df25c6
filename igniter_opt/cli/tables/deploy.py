"""Tables of the launching commands."""

from rich.markup import escape

from igniter_opt.base.text import counted, rounded
from igniter_opt.cli import console
from igniter_opt.cli.tables.differences import counts_line, difference_rows, price_line, print_rows
from igniter_opt.cli.tables.layout import new_table, print_table
from igniter_opt.cli.tables.plans import print_verification
from igniter_opt.cli.tables.replan import print_migration
from igniter_opt.data.plan import Plan
from igniter_opt.deploy.approval import Approval, tightest
from igniter_opt.deploy.backends.registry import KUBERNETES
from igniter_opt.deploy.changes import MPS_DAEMON
from igniter_opt.deploy.differences import PlacementDifference, counts
from igniter_opt.deploy.launch import Prepared
from igniter_opt.deploy.plan_diff import cost_to_dict
from igniter_opt.deploy.status import ServerStatus, Status
from igniter_opt.verify import Verification

# What a handle is of.
_HANDLES = {"process": "process", KUBERNETES: "pod"}


def print_approval(plan: Plan, verification: Verification) -> None:
    """Print what an approver has to know: cost, GPUs, tightest placements, what will be started."""
    print_verification(plan, verification)
    out = console.stdout()
    out.print("tightest placements:")
    for check in tightest(verification.placements):
        share = 100 * check.slack_ms / check.limit_ms
        out.print(
            f"  {escape(check.gpu)}/{escape(check.workload)}#{check.replica}:"
            f" {check.limit_ms - check.slack_ms:.2f} of {check.limit_ms:.2f} ms, {share:.1f} % to spare"
        )
    models = sorted({placement.model for gpu in plan.gpus for placement in gpu.placements})
    out.print(
        f"deploying it starts {counted(len(verification.placements), 'Triton server')} (one for every placement) and"
        f" an MPS daemon on each of {counted(len(plan.gpus), 'GPU')}; models: {', '.join(models)}"
        " (`deploy --cpu` starts the same servers without GPU and MPS)"
    )
    if plan.migration is not None:
        print_migration(plan.migration)


def approval_line(approval: Approval, path: str) -> str:
    """Describe a written approval."""
    return f"wrote {path}: approved by {approval.approved_by} at {approval.approved_at}, {approval.plan_digest}"


def print_changes(prepared: Prepared, *, done: bool) -> None:
    """Print a line for every placement and for what else there is to do, then numbers and price.

    Parameters
    ----------
    done
        Whether all that has been done.
    """
    differences = prepared.changes.differences()
    rows = [
        (mark, name, place_of(entry), about)
        for entry, (mark, name, about) in zip(differences, difference_rows(differences), strict=True)
    ]
    rows += [
        ("-", f"unknown, handle {entry.handle[:12]}", entry.host, "leftover: not in the state")
        for entry in prepared.orphans
    ]
    others = [action for action in prepared.changes.actions() if action.verb == "clean" or action.what == MPS_DAEMON]
    for action in others:
        leftover = "leftover: " if action.verb == "clean" else ""
        rows.append(("+" if action.verb == "start" else "-", action.what, action.where, leftover + action.why))
    print_rows(rows, "placement", "on", "what")
    out = console.stdout()
    following = prepared.following
    for number, step in following.steps:
        starts, stops = (", ".join(server.placement for server in some) for some in (step.start, step.stop))
        what = "; ".join([f"start {starts}"] * bool(starts) + [f"then stop {stops}"] * bool(stops))
        out.print(escape(f"{following.words(number)}: {what or 'nothing that is enforced here'}"), soft_wrap=True)
    if following.why_not:
        out.print(escape(following.why_not), soft_wrap=True)
    out.print(counts_line(differences, done=done))
    out.print(price_line(prepared.old_cost, prepared.new_cost))


def place_of(difference: PlacementDifference) -> str:
    """Return the card that a placement is on, or was."""
    served = difference.new or difference.old
    return "" if served is None else served.place


def changes_to_dict(prepared: Prepared) -> dict[str, object]:
    """Return what is done, and for which placements, as plain data (the form of ``deploy --json``)."""
    differences = prepared.changes.differences()
    return {
        "deployment": prepared.state.name,
        "plan_digest": prepared.digest,
        "changed": not prepared.nothing,
        "counts": counts(differences),
        **cost_to_dict(prepared.old_cost, prepared.new_cost),
        "placements": [entry.to_dict() for entry in differences],
        "migration": {
            "steps": [{"number": number, **step.model_dump(mode="json")} for number, step in prepared.following.steps],
            "not_followed": prepared.following.why_not or None,
        },
        "actions": [
            *(
                {"verb": "clean", "what": entry.handle, "where": entry.host, "why": "not in the state"}
                for entry in prepared.orphans
            ),
            *(
                {"verb": action.verb, "what": action.what, "where": action.where, "why": action.why}
                for action in prepared.changes.actions()
            ),
        ],
    }


def print_status(status: Status) -> None:
    """Print a deployment's servers."""
    out = console.stdout()
    if status.state_lost:
        out.print(
            f"[red]{escape(status.name)}: its state is lost, and what carries its label still runs[/red] (backend"
            f" {status.backend}): {escape(', '.join(status.unknown))}; `igniter-opt deploy` replaces it,"
            f" `igniter-opt teardown --name {escape(status.name)}` stops it",
            soft_wrap=True,
        )
        return
    cpu = " on the processor (no GPU, no MPS)" if status.cpu else ""
    plan = status.plan_digest or "no plan was completed"
    out.print(f"{escape(status.name)}: backend {status.backend}{cpu}, plan {plan}")
    table = new_table()
    for title, justify in (
        ("placement", "left"),
        ("model", "left"),
        ("GPU", "left"),
        ("batch", "right"),
        ("share %", "right"),
        ("http", "left"),
        ("grpc", "left"),
        ("ready", "left"),
        ("uptime", "right"),
        ("drift", "left"),
    ):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    for server in status.servers:
        table.add_row(
            f"{escape(server.gpu)}/{escape(server.workload)}#{server.replica}",
            escape(server.model),
            f"{escape(server.host)} {escape(server.device)}",
            str(server.batch),
            _share(server),
            server.http,
            server.grpc,
            "yes" if server.ready else "[red]no[/red]",
            "-" if server.uptime_s is None else _duration(server.uptime_s),
            f"[red]{escape(server.drift)}[/red]" if server.drift else "",
        )
    print_table(out, table)
    if status.unknown:
        out.print(f"[red]not in the state, but of this deployment:[/red] {escape(', '.join(status.unknown))}")
    for entry in status.objects:
        out.print(f"[red]{escape(entry)}[/red]", soft_wrap=True)
    for server in status.servers:
        handle = f"{_HANDLES.get(status.backend, 'container')} {server.handle or 'unknown'}"
        log = server.log or ("the container's" if server.handle and status.backend != "process" else "none")
        what = f"{server.gpu}/{server.workload}#{server.replica}: {handle}, log {log}"
        if server.drift:
            out.print(escape(what), soft_wrap=True)
    if status.failed_logs:
        out.print(f"logs of servers that ended: {escape(status.failed_logs)}", soft_wrap=True)


def _share(server: ServerStatus) -> str:
    """Render a share, with what the plan says where a guard changed it."""
    if (server.gpu, server.share_percent) == (server.plan_gpu, server.plan_share_percent):
        return rounded(server.share_percent)
    where = "" if server.gpu == server.plan_gpu else f" on {escape(server.plan_gpu)}"
    return f"{rounded(server.share_percent)} (guarded; plan: {rounded(server.plan_share_percent)}{where})"


def _duration(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour} h"
    if hours:
        return f"{hours} h {minute} min"
    return f"{minutes} min {second} s" if minutes else f"{second} s"

"""The command ``metrics``: a plan, and what is observed of it, for Prometheus; and a dashboard of these."""

import contextlib
import time
from pathlib import Path
from typing import Annotated

import typer

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import exists
from igniter_opt.base.kinds import DASHBOARD
from igniter_opt.cli import console
from igniter_opt.cli.options import StateFolder
from igniter_opt.cli.outputs import check_outputs
from igniter_opt.data.plan import Plan, read_plan
from igniter_opt.deploy.state import Store, default_root
from igniter_opt.observe.dashboard import write_dashboard
from igniter_opt.observe.exporter import DEFAULT_PORT, PlanCollector, metrics_text, serving


def register(app: typer.Typer) -> None:
    """Add this command to the program."""
    app.command("metrics")(metrics_command)


def metrics_command(
    target: Annotated[
        str | None,
        typer.Argument(metavar="PLAN|DEPLOYMENT", help="A plan file, or the name of a deployment, whose plan it is."),
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Listen here.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="P", help="Listen on this port.", min=0, max=65535)] = DEFAULT_PORT,
    once: Annotated[bool, typer.Option("--once", help="Print the metrics as they are now, and end.")] = False,
    dashboard: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a dashboard for Grafana (.json) instead.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="With PLAN: the deployment. Default: the instance's name.")] = None,
    state: StateFolder = None,
) -> None:
    """Give Prometheus a plan's cost, bound, predictions and limits, and what its deployed servers say, until Ctrl-C.

    Example: igniter-opt metrics plan.json --once
    """
    if dashboard is not None:
        if target is not None or once:
            raise InputError("--dashboard writes a file and ends; give neither a plan nor --once with it")
        check_outputs(dashboard, DASHBOARD, None, [])
        write_dashboard(dashboard)
        console.message(f"wrote {dashboard}; in Grafana: Dashboards, New, Import")
        return
    if target is None:
        raise InputError("give a plan file or the name of a deployment, or --dashboard FILE")
    plan, store = _target(target, name, state)
    with contextlib.closing(PlanCollector(plan, store, store.name)) as collector:
        if once:
            print(metrics_text(collector), end="")
            return
        with serving(collector, host, port) as there:
            shown = f"[{host}]" if ":" in host else host
            console.message(f"metrics of {store.name} at http://{shown}:{there}/metrics; Ctrl-C ends it")
            while True:
                time.sleep(3600.0)


def _target(target: str, name: str | None, state: Path | None) -> tuple[Plan | None, Store]:
    """Return the plan, None for the one that is deployed, and where its deployment is kept."""
    root = state or default_root()
    if exists(Path(target)) or target.endswith(".json") or "/" in target:
        plan = read_plan(target)
        return plan, Store(root, plan.instance.name if name is None else name)
    if name is not None:
        raise InputError("--name goes with a plan file; a deployment is named by itself")
    return None, Store(root, target)

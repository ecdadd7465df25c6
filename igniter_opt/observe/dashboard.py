"""The dashboard for Grafana that goes with the metrics (`families`), and its queries."""

import json
from importlib import resources
from typing import Any

from igniter_opt.base.files import StrPath
from igniter_opt.base.kinds import DASHBOARD, write_output

_FILE = "dashboard.json"


def dashboard() -> dict[str, Any]:
    """Return the dashboard, in the form that Grafana imports."""
    found: dict[str, Any] = json.loads(_text())
    return found


def queries(deployment: str, interval: str) -> list[tuple[str, str]]:
    """Return every panel's queries with its title, the dashboard's variables filled in.

    Parameters
    ----------
    deployment
        A regular expression of deployments.
    interval
        The time over which rates are taken, such as ``1m``.
    """
    return [
        (panel["title"], target["expr"].replace("$deployment", deployment).replace("$__rate_interval", interval))
        for panel in dashboard()["panels"]
        for target in panel["targets"]
    ]


def write_dashboard(path: StrPath) -> None:
    """Write the dashboard's file atomically.

    Raises
    ------
    InputError
        What is at the path is no such dashboard, or nothing can be written there.
    """
    write_output(path, _text().encode(), DASHBOARD)


def _text() -> str:
    return (resources.files("igniter_opt.observe") / _FILE).read_text("utf-8")

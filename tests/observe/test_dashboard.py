"""The dashboard: by Grafana's own types nothing of it is unknown, and its queries ask for metrics that there are."""

import json
import re
from typing import Any

import pytest

from igniter_opt.observe.dashboard import dashboard, queries
from igniter_opt.observe.families import METRICS, PREFIX
from igniter_opt.observe.sources import REQUESTS


def lost(ours: Any, theirs: Any, where: str = "") -> list[str]:
    """What is not there, or another, after it went through the types; what is added are defaults."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [
            text
            for key, value in ours.items()
            for text in (lost(value, theirs[key], f"{where}.{key}") if key in theirs else [f"{where}.{key}"])
        ]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [text for k, pair in enumerate(zip(ours, theirs, strict=True)) for text in lost(*pair, f"{where}[{k}]")]
    return [] if ours == theirs else [where]


def through_types(data: dict[str, Any]) -> Any:
    """Read by Grafana's types for its dashboards, panels and Prometheus's queries, and write again."""
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    from grafana_foundation_sdk.cog import plugins
    from grafana_foundation_sdk.cog.encoder import JSONEncoder

    plugins.register_default_plugins()
    return json.loads(JSONEncoder().encode(models.Dashboard.from_json(data)))


def test_grafana_s_types_know_all_of_it() -> None:
    assert lost(dashboard(), through_types(dashboard())) == []


def test_what_the_types_do_not_know_is_found() -> None:
    data = dashboard()
    data["titel"] = "?"
    data["panels"][0]["options"]["colourMode"] = "value"
    data["panels"][6]["targets"][0]["exp"] = "up"
    assert set(lost(data, through_types(data))) == {
        ".titel",
        ".panels[0].options.colourMode",
        ".panels[6].targets[0].exp",
    }


def test_panels_lie_beside_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken
        taken |= cells
    numbers = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_queries_ask_for_metrics_that_there_are() -> None:
    known = {f"{PREFIX}_{row.name}{'_total' if row.counter else ''}" for row in METRICS.values()} | {REQUESTS}
    for title, query in queries("x", "1m"):
        names = set(re.findall(r"\b(?:igniter_opt|nv)_\w+", query))
        assert names and names <= known, title
        assert "$" not in query

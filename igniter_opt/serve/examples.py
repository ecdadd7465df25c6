"""Requests that work as they stand, one of every kind, for the description of the interface and its tests."""

import json
from importlib import resources
from typing import Any

from igniter_opt.serve.job import Kind

_INSTANCE: dict[str, Any] = {
    "name": "mine",
    "gpu_types": [{"name": "V100", "profile": "v100", "price_per_hour": 3.06}],
    "workloads": [
        {"name": "tags", "model": "alexnet", "slo_ms": 15, "rate_rps": 400},
        {"name": "search", "model": "resnet50", "slo_ms": 40, "rate_rps": 300},
    ],
}


def _plan() -> dict[str, Any]:
    """Return a plan for that instance, of iGniter's greedy."""
    text = (resources.files("igniter_opt.serve") / "example-plan.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


EXAMPLES: dict[Kind, dict[str, Any]] = {
    "solve": {"instance": _INSTANCE, "time_limit": 10},
    "compare": {"instances": ["igniter-motivation"], "methods": ["igniter", "ffd"], "requests": 1000},
    "verify": {"plan": _plan()},
    "predict": {
        "profile": "v100",
        "placements": [
            {"model": "alexnet", "batch": 4, "share_percent": 10},
            {"model": "resnet50", "batch": 8, "share_percent": 30},
        ],
    },
    "simulate": {"plan": _plan(), "requests": 1000, "seeds": 2},
    "replan": {"plan": _plan(), "instance": _INSTANCE, "scale": 1.5, "time_limit": 10},
}

"""From a plan to emulated models: folders that the launcher serves in place of the real ones."""

import json
from collections.abc import Iterable
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InputError
from igniter_opt.data.plan import Plan
from igniter_opt.simulation.servers import Server, servers_of

_CONFIG = """\
backend: "python"
max_batch_size: {batch}
input [ {{ name: "INPUT", data_type: TYPE_FP32, dims: [ 1 ] }} ]
output [ {{ name: "OUTPUT", data_type: TYPE_FP32, dims: [ 1 ] }} ]
"""
_CHECK = {"data": [{"INPUT": [3.5]}], "validation_data": [{"OUTPUT": [3.5]}], "tolerance": 0.0}
# Times beyond this cannot be meant: an hour for a batch.
_LONGEST_NS = 3600e9


def write_emulated_models(
    plan: Plan, folder: Path, *, scale: float = 1.0, slowdown: float = 1.0, variants: Iterable[Plan] = ()
) -> None:
    """Write one model folder for every model of a plan; each server finds its times by its placement and share.

    Parameters
    ----------
    folder
        Receives the model folders; created if missing. Those of the same names in it must not exist.
    scale
        Rates are meant to be multiplied by it; so times are divided by it.
    slowdown
        Multiplies the GPU latencies: a plan whose predictions are wrong.
    variants
        Plans of the same instance with placements at other shares or on other GPUs, whose servers may be started, too.
        Where several plans have the same placement at the same share, the times are those of the first.

    Raises
    ------
    InputError
        The plan cannot be served, times are too long, or the folder cannot be written.
    """
    entries: dict[str, dict[str, Any]] = {}
    largest: dict[str, int] = {}
    named: dict[str, Server] = {}
    for entry in (plan, *variants):
        for server in chain.from_iterable(servers_of(entry)):
            named.setdefault(_name(server), server)
    for name, server in named.items():
        model = server.placement.model
        entries.setdefault(model, {})[name] = _entry(server, scale, slowdown)
        largest[model] = max(largest.get(model, 0), len(server.gpu))
    code = (resources.files("igniter_opt.rehearse") / "emulated_model.py").read_text("utf-8")
    try:
        for model, placements in entries.items():
            version = folder / model / "1"
            version.mkdir(parents=True)
            (version / "model.py").write_text(code, encoding="utf-8")
            (version / "emulated.json").write_text(json.dumps(placements), encoding="utf-8")
            (folder / model / "config.pbtxt").write_text(_CONFIG.format(batch=largest[model]), encoding="utf-8")
            (folder / model / "check.json").write_text(json.dumps(_CHECK), encoding="utf-8")
    except FileExistsError as error:
        raise InputError(f"{error.filename}: exists; give an empty folder") from None
    except OSError as error:
        raise InputError(f"{folder}: the models cannot be written ({error.strerror})") from None


def _name(server: Server) -> str:
    placement = server.placement
    return f"{server.gpu_name}/{placement.workload}#{placement.replica}@{placement.share_percent:g}"


def _entry(server: Server, scale: float, slowdown: float) -> dict[str, Any]:
    busy = (server.gpu * slowdown + server.feedback) / scale
    load = server.load / scale
    if not (busy + load).max() <= _LONGEST_NS:
        raise InputError(f"{_name(server)}: a batch takes more than an hour at scale {scale:g}; give a larger scale")
    return {"busy_ns": _whole(busy), "load_ns": _whole(load), "delay_ns": round(server.delay / scale)}


def _whole(times: FloatArray) -> list[int]:
    return [int(value) for value in np.round(times)]

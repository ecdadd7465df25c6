"""Targets for Prometheus: a file for its `file_sd_configs` that lists every server that serves.

Labels of the servers' own metrics (`model`, `gpu_uuid`) are not among those given here. One label marks the file as
this deployment's; Prometheus drops labels of that form before it stores anything.
"""

import json
from pathlib import Path
from typing import Any

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import check_writable, exists, parse_json, read_text, write_bytes_atomically
from igniter_opt.deploy.endpoints import authority, serving_by_workload
from igniter_opt.deploy.state import Deployment

OWNER_LABEL = "__meta_igniter_opt_owner"


def targets(state: Deployment) -> list[dict[str, Any]]:
    """Return the target groups of a deployment, one for every server."""
    return [
        {
            "targets": [authority(state, record, record.ports.metrics)],
            "labels": {
                "deployment": state.name,
                "workload": record.workload,
                "gpu": record.gpu,
                "placement": record.placement,
                OWNER_LABEL: state.owner,
            },
        }
        for records in serving_by_workload(state).values()
        for record in records
    ]


def check_targets_file(path: Path, owner: str) -> None:
    """Raise InputError unless a deployment may write its targets to a path.

    It may where nothing is, or an empty file, or what it wrote before.
    """
    if path.suffix != ".json":
        raise InputError(f"{path}: must end in .json, by which Prometheus knows what it is")
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(f"{path!r}: the name is no UTF-8, so that no file can hold it; choose another path") from None
    if path.is_symlink():
        raise InputError(f"{path}: is a link, and none is followed here; remove it, or choose another path")
    check_writable(path, follow=False)
    if exists(path) and path.stat().st_size and not _is_of(path, owner):
        raise InputError(f"{path}: exists and is not this deployment's file of targets; choose another path")


def write_targets(state: Deployment) -> None:
    """Write a deployment's targets where it was asked to, if it was, and they are other ones than before.

    Raises
    ------
    InputError
        There is something else by now, or the file cannot be written.
    """
    if state.file_sd is None:
        return
    path = Path(state.file_sd)
    check_targets_file(path, state.owner)
    content = json.dumps(targets(state), indent=1) + "\n"
    if not exists(path) or read_text(path) != content:
        write_bytes_atomically(path, content.encode(), follow=False)


def remove_targets(path: Path, owner: str) -> None:
    """Remove a file of targets if it is this deployment's; anything else is left alone."""
    if not path.is_symlink() and path.is_file() and _is_of(path, owner):
        path.unlink(missing_ok=True)


def _is_of(path: Path, owner: str) -> bool:
    """Whether a file holds groups of targets that all carry a deployment's mark."""
    try:
        groups = parse_json(read_text(path), str(path))
    except InputError:
        return False
    if not isinstance(groups, list) or not groups:
        return False
    labels = [group.get("labels") if isinstance(group, dict) else None for group in groups]
    return all(isinstance(entry, dict) and entry.get(OWNER_LABEL) == owner for entry in labels)

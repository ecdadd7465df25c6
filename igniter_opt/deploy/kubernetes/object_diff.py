"""What `deploy --diff` shows: every object as the API server would have it, against what is there."""

import difflib
from collections.abc import Iterator, Sequence

from igniter_opt.deploy.kubernetes.client import Client
from igniter_opt.deploy.kubernetes.cluster_changes import ObjectChange
from igniter_opt.deploy.kubernetes.names import Object
from igniter_opt.deploy.kubernetes.render import yaml_text

# What the server keeps for itself.
_SERVERS_OWN = ("managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink")


def object_diff(client: Client, changes: Sequence[ObjectChange], *, take_over: bool = False) -> Iterator[str]:
    """Yield a unified diff of every object that would change, by a dry run of the server; nothing is changed.

    Raises
    ------
    ClusterError
        The server would refuse it, or a field is somebody else's.
    """
    for change in changes:
        if change.verb == "keep":
            continue
        after = None
        if change.wanted is not None:
            after = client.apply(change.wanted, dry_run=True, force=take_over).found
        before, now = (_lines(entry) for entry in (change.live, after))
        yield from difflib.unified_diff(before, now, f"live/{change.title}", f"plan/{change.title}")


def _lines(found: Object | None) -> list[str]:
    if found is None:
        return []
    about = {name: value for name, value in found["metadata"].items() if name not in _SERVERS_OWN}
    shown = {name: value for name, value in found.items() if name != "status"}
    return yaml_text([{**shown, "metadata": about}]).splitlines(keepends=True)

"""What differs between a cluster and a plan's objects."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from igniter_opt.base.errors import InputError
from igniter_opt.deploy.differences import ServedPlacement, server_changes
from igniter_opt.deploy.kubernetes.client import Client
from igniter_opt.deploy.kubernetes.fields import applied_digest, is_as_applied
from igniter_opt.deploy.kubernetes.kinds import KINDS
from igniter_opt.deploy.kubernetes.names import Object, is_of, key, selector, title
from igniter_opt.deploy.kubernetes.parse import DeployedPlacement, DeployedServer, parse_server

Verb = Literal["create", "update", "keep", "remove"]


@dataclass(frozen=True)
class ObjectChange:
    """What becomes of an object.

    Attributes
    ----------
    wanted, live
        As it shall be, and as it is; None where it shall not be, or is not.
    """

    verb: Verb
    wanted: Object | None
    live: Object | None

    @property
    def title(self) -> str:
        """What messages call it."""
        found = self.wanted or self.live
        return "" if found is None else title(found)

    @property
    def kind(self) -> str:
        """The kind of the object."""
        return self.title.partition("/")[0]

    @property
    def placement(self) -> str:
        """The placement that a Deployment is; empty for others."""
        found = self.wanted or self.live
        server = None if found is None else read_server(found)
        return "" if server is None else server.placement.placement

    @property
    def why(self) -> str:
        """Say what changes of a Deployment."""
        old, new = (None if found is None else read_server(found) for found in (self.live, self.wanted))
        if self.verb != "update" or old is None or new is None:
            return ""
        changes = ", ".join(map(str, server_changes(served(old.placement), served(new.placement))))
        if changes or old.spec == new.spec:
            return changes or "what the plan says of it; its pod stays"
        return "model files, image or other settings"


def live_objects(client: Client, deployment: str | None) -> list[Object]:
    """Return all objects of a deployment, or of all, that are in the namespace."""
    return [entry for kind in KINDS.values() for entry in client.objects(kind, selector(deployment))[0]]


def compare_objects(
    client: Client, wanted: Sequence[Object], live: Collection[Object], deployment: str
) -> list[ObjectChange]:
    """Compare a cluster with what shall be there, in the order in which objects are applied; removals come last.

    Raises
    ------
    InputError
        Something else has the name of an object.
    """
    known = {key(entry): entry for entry in live}
    changes = []
    for entry in wanted:
        found = known.pop(key(entry), None)
        if found is None:
            changes.append(ObjectChange("create", entry, None))
        elif applied_digest(found) == applied_digest(entry) and is_as_applied(found):
            changes.append(ObjectChange("keep", entry, found))
        else:
            changes.append(ObjectChange("update", entry, found))
    _refuse_foreign(client, [entry.wanted for entry in changes if entry.verb == "create"], deployment)
    # Those that use others first.
    rank = {name: position for position, name in enumerate(KINDS)}
    gone = sorted(known.values(), key=lambda entry: (-rank[entry["kind"]], entry["metadata"]["name"]))
    return [*changes, *(ObjectChange("remove", None, entry) for entry in gone)]


def _refuse_foreign(client: Client, wanted: Sequence[Object | None], deployment: str) -> None:
    """Raise InputError where an object that is not ours has the name of one that is to be created."""
    created = [entry for entry in wanted if entry is not None]
    for name in dict.fromkeys(entry["kind"] for entry in created):
        there = client.names(KINDS[name])
        for entry in created:
            other = there.get(entry["metadata"]["name"]) if entry["kind"] == name else None
            if other is not None and not is_of(other, deployment):
                fields = other["metadata"].get("managedFields") or ()
                owners = sorted({str(field.get("manager")) for field in fields}) or ["unknown"]
                raise InputError(
                    f"{title(entry)}: is there already, and is not of deployment {deployment!r} (set by"
                    f" {', '.join(owners)}); it is left alone; give another --name or --namespace, or remove it"
                )


def read_server(found: Object) -> DeployedServer | None:
    """Read a Deployment; None for other objects, and for what was changed such that it cannot be read."""
    if found["kind"] != "Deployment":
        return None
    try:
        return parse_server(found)
    except InputError:
        return None


def served(placement: DeployedPlacement) -> ServedPlacement:
    """Return a placement to compare."""
    return ServedPlacement(
        workload=placement.workload,
        replica=placement.replica,
        model=placement.model,
        gpu=placement.gpu,
        place=placement.gpu,
        batch=placement.batch,
        share_percent=placement.share_percent,
        rate_rps=placement.rate_rps,
        queue_delay_us=placement.queue_delay_us,
    )

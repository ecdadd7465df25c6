"""Undoing one change of a cluster: what this run made goes, what it changed gets its values back, nothing else does."""

from dataclasses import dataclass
from datetime import datetime

from igniter_opt.deploy.kubernetes.answers import ClusterError
from igniter_opt.deploy.kubernetes.client import Client
from igniter_opt.deploy.kubernetes.cluster_changes import ObjectChange
from igniter_opt.deploy.kubernetes.fields import (
    applied_digest,
    fields_of_others,
    fields_of_ours,
    restricted,
    shared_fields,
    united_fields,
)
from igniter_opt.deploy.kubernetes.kinds import KINDS
from igniter_opt.deploy.kubernetes.names import Object, is_of


@dataclass
class Sent:
    """A change that was sent to the cluster; noted before, so that a stop in between is undone, too.

    Attributes
    ----------
    wanted
        The object that was applied.
    since
        The server's time before.
    uid
        Of the object that was applied; None where no answer came.
    created
        Whether this run made it; None where nobody knows.
    refused
        Whether the server refused it when it was sent again.
    """

    change: ObjectChange
    wanted: Object
    since: datetime
    uid: str | None = None
    created: bool | None = None
    refused: bool = False


def did_nothing(error: ClusterError) -> bool:
    """Whether the server says that it did nothing of what was asked for."""
    return error.status is not None and 400 <= error.status < 500


def undo(client: Client, deployment: str, sent: Sent, *, take_over: bool) -> str:
    """Undo a change; return what is not as before, in words, or nothing.

    Raises
    ------
    ClusterError
        It could not be undone.
    """
    about = {"name": sent.wanted["metadata"]["name"], "uid": sent.uid}
    if sent.created:
        client.delete({"kind": sent.wanted["kind"], "metadata": about})
        return ""
    found = client.get(KINDS[sent.wanted["kind"]], about["name"])
    live = sent.change.live
    if live is None:
        return "" if found is None else _undo_unknown(client, deployment, sent, found)
    if found is None or found["metadata"]["uid"] != live["metadata"]["uid"]:
        return "somebody else removed it meanwhile"
    return _put_back(client, live, found, take_over=take_over)


def _undo_unknown(client: Client, deployment: str, sent: Sent, found: Object) -> str:
    """Delete an object only where it can be nobody's but this run's."""
    if sent.created is False:
        return "somebody else made it meanwhile, and this run may have changed it; it is left as it is"
    if not is_of(found, deployment):
        return ""  # ours never got there
    same = applied_digest(found) == applied_digest(sent.wanted)
    ours = same and not sent.refused and _made_since(found, sent.since)
    if not ours or sent.uid not in (None, found["metadata"]["uid"]):
        return "it is there, and may be of another launcher; it is left as it is"
    client.delete(found)
    return ""


def _made_since(found: Object, since: datetime) -> bool:
    try:
        return datetime.fromisoformat(str(found["metadata"].get("creationTimestamp"))) >= since
    except (TypeError, ValueError):
        return False


def _put_back(client: Client, live: Object, found: Object, *, take_over: bool) -> str:
    """Give the fields of an object that this run may have changed the values that they had."""
    old, new = fields_of_ours(live), fields_of_ours(found)
    if old is None and new is None:
        return ""  # ours never got there
    new = new or {}
    if old is None:  # whoever made it: what is the same, and what is not, is applied with the values that were there
        fields = new
    else:  # by force only are values changed that are somebody else's
        fields = united_fields(old, shared_fields(new, fields_of_others(live))) if take_over else old
    before = restricted(live, fields)
    about = {**before["metadata"], "uid": live["metadata"]["uid"]}  # never makes it anew
    after = client.apply({**before, "metadata": about}, force=True).found
    touched = united_fields(old or {}, new)
    return "" if restricted(after, touched) == restricted(live, touched) else "not all of its fields are as before"

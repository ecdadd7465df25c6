"""What an API server answers, read with care: what stands at the address may be something else."""

import json
from dataclasses import dataclass
from typing import Any

from igniter_opt.base.errors import InputError
from igniter_opt.deploy.kubernetes.names import Object

_MOST_SAID = 600


class ClusterError(InputError):
    """The API server refused something, or could not be reached.

    Attributes
    ----------
    status
        Its HTTP status; None where it did not answer.
    lost
        Whether an answer was lost on the way: what was asked for may have been done.
    """

    def __init__(self, message: str, status: int | None = None, *, lost: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.lost = lost


@dataclass(frozen=True)
class ServerAnswer:
    """An answer that is no refusal.

    Attributes
    ----------
    lost
        Whether the same was asked for before, and the answer to that was lost.
    """

    status: int
    content: Object
    lost: bool


def content_of(data: bytes, host: str, what: str) -> Object:
    """Return the JSON object that an answer is; raise ClusterError where it is none."""
    try:
        found = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _no_cluster(host, what, "no JSON object")
    return found


def object_of(found: Object, host: str, what: str) -> Object:
    """Return what an answer holds, as an object with a name and a uid; raise ClusterError where it has none."""
    about = found.get("metadata") if isinstance(found, dict) else None
    if not isinstance(about, dict) or not all(isinstance(about.get(part), str) for part in ("name", "uid")):
        raise _no_cluster(host, what, "no object with a name and a uid")
    return found


def page_of(found: Object, host: str, what: str) -> tuple[list[Object], Object]:
    """Return the objects of a page of a list, and its metadata; raise ClusterError where it is none."""
    items, about = found.get("items", ""), found.get("metadata")
    if not isinstance(items, list | None) or not isinstance(about, dict):
        raise _no_cluster(host, what, "no list of objects")
    return [object_of(entry, host, what) for entry in items or ()], about


def _no_cluster(host: str, what: str, found: str) -> ClusterError:
    return ClusterError(f"cannot {what}: {host} answered, but with {found}; is it a Kubernetes API server?")


def refusal(answer: Any, what: str, namespace: str, *, lost: bool) -> ClusterError:
    """Return the error that an answer other than the wanted one is."""
    status = int(answer.status)
    try:
        said = json.loads(answer.data)
    except (ValueError, RecursionError):
        said = {}
    if not isinstance(said, dict):
        said = {}
    message = str(said.get("message") or answer.reason)[:_MOST_SAID]
    details = said.get("details")
    found = details.get("causes") if isinstance(details, dict) else None
    causes = [cause for cause in found if isinstance(cause, dict)] if isinstance(found, list) else []
    if status == 409 and any(cause.get("reason") == "FieldManagerConflict" for cause in causes):
        owners = "; ".join(f"{cause.get('field')}: {cause.get('message')}" for cause in causes)[:_MOST_SAID]
        mend = "let its owner give the field up, or run deploy with --take-over"
        return ClusterError(f"cannot {what}: fields are somebody else's: {owners}; {mend}", status, lost=lost)
    mend = {
        401: "; the cluster does not take the kubeconfig's credentials",
        403: "; `deploy --render DIR` writes the role that is needed to DIR/admin/rbac.yaml",
        404: f"; is there a namespace {namespace!r}, and does the cluster have this kind?",
    }.get(status, "")
    return ClusterError(f"cannot {what}: {message} (HTTP {status}){mend}", status, lost=lost)

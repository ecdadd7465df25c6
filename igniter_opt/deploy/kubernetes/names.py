"""Names and labels of a plan's objects: valid, stable and unique, whatever workloads and GPUs are called."""

import hashlib
import json
import re
from typing import Any

Object = dict[str, Any]

MANAGER = "igniter-opt"
PREFIX = "igniter-opt"
# By these two labels, and by nothing else, objects are known as those of a deployment.
MANAGED_BY = "app.kubernetes.io/managed-by"
DEPLOYMENT = f"{PREFIX}/deployment"
WORKLOAD, GPU, SERVER, SPEC = (f"{PREFIX}/{word}" for word in ("workload", "gpu", "server", "spec"))
# Annotations: the name as the user wrote it, what the plan says of a server or a GPU, the digests of a server's model
# files, of an object as it was applied, and of the plan.
NAME, PLACEMENT, PLANNED_GPU, MODEL_FILES, APPLIED, PLAN = (
    f"{PREFIX}/{word}" for word in ("name", "placement", "planned-gpu", "model-files", "applied", "plan-digest")
)
LONGEST = 63
_DIGITS = 10
_HASHED = re.compile(rf"-[0-9a-f]{{{_DIGITS}}}$")


def digest(value: object, digits: int = 16) -> str:
    """Return a digest of plain data."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def hashed_name(*parts: object, readable: tuple[str, ...]) -> str:
    """Return an object's name: what can be read of some words, and a digest of all that makes it another object.

    It is a DNS label that begins with a letter, as Services want it, of at most 63 characters. Two sets of parts get
    the same name only if 40 bits of their digests agree, which `objects` refuses.
    """
    head = _label("-".join(readable))[: LONGEST - _DIGITS - 1].rstrip("-")
    return f"{head}-{digest(list(parts), _DIGITS)}"


def plain_name(deployment: str, word: str) -> str:
    """Return the name of an object that users address: without a digest where the words are DNS labels already.

    Names without a digest never end like those with one, so that the two kinds cannot meet within a deployment.
    """
    name = f"{deployment}-{word}"
    if name == _label(name) and len(name) <= LONGEST and not _HASHED.search(name):
        return name
    return hashed_name(deployment, word, readable=(deployment, word))


def label_value(text: str) -> str:
    """Return a name as the value of a label: itself where it can be one."""
    fits = re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", text) and len(text) <= LONGEST
    return text if fits and not _HASHED.search(text) else hashed_name(text, readable=(text,))


def _label(text: str) -> str:
    """Return the DNS label nearest to a text; it begins with a letter."""
    found = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return found if found[:1].isalpha() else f"ig-{found}".rstrip("-")


def metadata(namespace: str, deployment: str, name: str, labels: dict[str, str], notes: dict[str, str]) -> Object:
    """Return the metadata of an object of ours."""
    return {
        "name": name,
        "namespace": namespace,
        "labels": {**labels, MANAGED_BY: MANAGER, DEPLOYMENT: label_value(deployment)},
        "annotations": {NAME: deployment, **notes},
    }


def selector(deployment: str | None = None) -> str:
    """Return the label selector of a deployment's objects, or of those of all."""
    ours = f"{MANAGED_BY}={MANAGER}"
    return ours if deployment is None else f"{ours},{DEPLOYMENT}={label_value(deployment)}"


def is_leaving(found: Object) -> bool:
    """Whether an object was deleted, and is there until its finalizers let it go."""
    return "deletionTimestamp" in found["metadata"]


def is_of(found: Object, deployment: str) -> bool:
    """Whether an object carries a deployment's labels."""
    labels = found["metadata"].get("labels") or {}
    return bool((labels.get(MANAGED_BY), labels.get(DEPLOYMENT)) == (MANAGER, label_value(deployment)))


def title(found: Object) -> str:
    """What messages call an object."""
    return f"{found['kind']}/{found['metadata']['name']}"


def key(found: Object) -> tuple[str, str]:
    """What tells an object from others of its namespace."""
    return found["kind"], found["metadata"]["name"]


def as_applied(found: Object) -> Object:
    """Return an object with the digest of itself, by which `status` sees what others changed."""
    notes = {name: text for name, text in found["metadata"]["annotations"].items() if name != APPLIED}
    bare = {**found, "metadata": {**found["metadata"], "annotations": notes}}
    return {**bare, "metadata": {**bare["metadata"], "annotations": {**notes, APPLIED: digest(bare)}}}

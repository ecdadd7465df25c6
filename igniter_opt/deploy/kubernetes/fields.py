"""Who set which field of an object, by the API server's own account: what is ours in it, and what others changed."""

import json
from typing import Any

from igniter_opt.deploy.kubernetes.names import APPLIED, MANAGER, Object, digest, is_leaving

# What is compared: others label and annotate objects as they like.
_COMPARED = ("f:spec", "f:data", "f:immutable")


def owned(found: Object) -> Object | None:
    """Return an object with only the fields that are ours, as we applied them; None where none is."""
    fields = fields_of_ours(found)
    return None if fields is None else restricted(found, fields)


def fields_of_ours(found: Object) -> Object | None:
    """Return the fields that are ours, as `managedFields` has them; None where none is."""
    return next((entry["fieldsV1"] for entry in _managed(found) if _is_ours(entry)), None)


def fields_of_others(found: Object) -> Object:
    """Return the fields that others set; not those of its status."""
    theirs: Object = {}
    for entry in _managed(found):
        if not _is_ours(entry) and entry.get("subresource", "") != "status":
            theirs = united_fields(theirs, entry.get("fieldsV1") or {})
    return theirs


def united_fields(first: Object, second: Object) -> Object:
    """Return the fields that are of either."""
    both = {name: united_fields(first[name], second[name]) for name in first.keys() & second.keys()}
    return {**first, **second, **both}


def shared_fields(first: Object, second: Object) -> Object:
    """Return the fields that are of both, with the keys of the list entries that they are in."""
    found: Object = {}
    for name in first.keys() & second.keys() - {"."}:
        inner = shared_fields(first[name], second[name])
        if not inner and any(below.keys() - {"."} for below in (first[name], second[name])):
            continue
        mark, _, text = name.partition(":")
        keys: Object = {f"f:{part}": {} for part in json.loads(text)} if mark == "k" else {}
        found[name] = {**keys, **inner}
    return found


def restricted(found: Object, fields: Object) -> Object:
    """Return an object with only some fields, such that it can be applied."""
    mine: Object = _extract(found, fields)
    about = {name: found["metadata"][name] for name in ("name", "namespace")}
    return {
        **mine,
        "apiVersion": found["apiVersion"],
        "kind": found["kind"],
        "metadata": {**(mine.get("metadata") or {}), **about},
    }


def applied_digest(found: Object) -> str:
    """Return the digest of an object as it was applied; empty where it has none."""
    return str((found["metadata"].get("annotations") or {}).get(APPLIED, ""))


def is_as_applied(found: Object) -> bool:
    """Whether the fields that are ours are those that we applied, with our values."""
    mine = owned(found)
    if mine is None:
        return False
    notes = dict(mine["metadata"].get("annotations") or {})
    said = notes.pop(APPLIED, "")
    return bool(digest({**mine, "metadata": {**mine["metadata"], "annotations": notes}}) == said)


def drift(found: Object) -> str:
    """Say what others changed of an object since it was applied, or that it was deleted; empty where nothing."""
    if is_leaving(found):
        return "is being deleted; run deploy again"
    mine: set[str] = set()
    theirs: dict[str, set[str]] = {}
    for entry in _managed(found):
        fields = {name: inner for name, inner in entry.get("fieldsV1", {}).items() if name in _COMPARED}
        leaves = _leaves(fields)
        if _is_ours(entry):
            mine |= leaves
        elif entry.get("subresource", "") != "status":
            theirs.setdefault(entry.get("manager", "unknown"), set()).update(leaves)
    others = sorted(name for name, leaves in theirs.items() if leaves - mine)
    if not is_as_applied(found):
        return f"changed by {', '.join(others) or 'others'}"
    if others:
        return "; ".join(f"{name} set {_first(theirs[name] - mine)}" for name in others)
    return ""


def _managed(found: Object) -> list[Object]:
    return list(found["metadata"].get("managedFields") or ())


def _is_ours(entry: Object) -> bool:
    return (entry.get("manager"), entry.get("operation"), entry.get("subresource", "")) == (MANAGER, "Apply", "")


def _extract(value: Any, fields: Object) -> Any:
    """Return the part of a value that fields, as `managedFields` has them, are of."""
    inner = {name: below for name, below in fields.items() if name != "."}
    if not inner or value is None:
        return value
    if isinstance(value, list):
        return [kept for entry in value for kept in _item(entry, inner)]
    return {
        name.removeprefix("f:"): _extract(value[name.removeprefix("f:")], below)
        for name, below in inner.items()
        if name.startswith("f:") and name.removeprefix("f:") in value
    }


def _item(entry: Any, fields: Object) -> list[Any]:
    for name, below in fields.items():
        mark, _, text = name.partition(":")
        if mark == "v" and json.loads(text) == entry:
            return [entry]
        if mark == "k" and isinstance(entry, dict):
            key = json.loads(text)
            if all(entry.get(part) == wanted for part, wanted in key.items()):
                return [_extract(entry, below)]
    return []


def _leaves(fields: Object, above: str = "") -> set[str]:
    found: set[str] = set()
    for name, below in fields.items():
        if name != ".":
            here = f"{above}.{name.partition(':')[2]}".lstrip(".")
            found |= _leaves(below, here) or {here}
    return found


def _first(leaves: set[str]) -> str:
    last = sorted(leaves)
    return last[0] + (f" and {len(last) - 1} more" if last[1:] else "")

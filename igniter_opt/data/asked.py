"""What workloads ask for, where their traffic is known from elsewhere: model, SLO and replicas, by name."""

from collections.abc import Mapping, Sequence
from typing import Any

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath, as_path, read_text
from igniter_opt.base.schema import describe, nearest
from igniter_opt.base.yaml_files import parse_yaml
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.instance import Instance

PLACEHOLDER_SLO_MS = 100.0
ASKED_KEYS = ("model", "slo_ms", "max_replicas")
_MOST_NAMED = 8

Asked = StrPath | Mapping[str, Mapping[str, Any]] | None


def read_asked(
    asked: Asked, more_keys: Sequence[str] = (), names: Sequence[str] | None = None
) -> tuple[dict[str, dict[str, Any]], str]:
    """Return what workloads ask for, and where that stands.

    Parameters
    ----------
    asked
        A mapping of names to mappings of `ASKED_KEYS`, or a YAML file of that.
    more_keys
        Further keys that there may be.
    names
        The workloads that there are requests of; by default any.

    Raises
    ------
    InputError
        It is none, or there is a key or a workload that nobody knows.
    """
    where = "workloads"
    if asked is None:
        return {}, where
    if not isinstance(asked, Mapping):
        path = as_path(asked)
        asked, where = parse_yaml(read_text(path), str(path)), str(path)
    if not isinstance(asked, Mapping):
        raise InputError(f"{where}: expected a mapping of workloads to {{model: ..., slo_ms: ...}}")
    known = (*ASKED_KEYS, *more_keys)
    for name, wish in asked.items():
        if names is not None and name not in names:
            raise InputError(f"{where}: the trace has no requests of workload {describe(name)}{nearest(name, names)}")
        if not isinstance(wish, Mapping):
            raise InputError(f"{where}: {name}: must be a mapping such as {{model: resnet50, slo_ms: 40}}")
        for key in wish:
            if key not in known:
                raise InputError(
                    f"{where}: {name}: unknown key {describe(key)}{nearest(key, known)} (keys: {', '.join(known)})"
                )
    return {name: dict(wish) for name, wish in asked.items()}, where


def filled(wish: Mapping[str, Any], defaults: Mapping[str, Any], gpu_types: Sequence[GpuType]) -> dict[str, Any]:
    """Return what a workload asks for, with placeholders where neither it nor the defaults say model or SLO."""
    own = {key: wish.get(key, defaults.get(key)) for key in ASKED_KEYS}
    own["model"] = next(iter(gpu_types[0].profile.models)) if own["model"] is None else own["model"]
    own["slo_ms"] = PLACEHOLDER_SLO_MS if own["slo_ms"] is None else own["slo_ms"]
    return own


def lacks(wish: Mapping[str, Any], defaults: Mapping[str, Any]) -> bool:
    """Whether nobody says a workload's model or SLO."""
    return any(wish.get(key, defaults.get(key)) is None for key in ("model", "slo_ms"))


def placeholders_caution(instance: Instance, names: Sequence[str]) -> str:
    """Say which workloads have placeholders, and what they are."""
    first = next(entry for entry in instance.workloads if entry.name == names[0])
    return (
        f"placeholders, to be replaced before anything is planned: nobody said model and SLO of {first_of(names)};"
        f" {first.name} has {first.model} and {first.slo_ms:g} ms"
    )


def first_of(names: Sequence[str]) -> str:
    """List the first of some names."""
    return ", ".join(names[:_MOST_NAMED]) + (", ..." if len(names) > _MOST_NAMED else "")

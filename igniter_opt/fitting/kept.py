"""Fitted coefficients on disk (`base.kept`): fitting takes seconds, and importing what fits half a second.

A file is named by what it is made from: the profile's content, the code that fits, and the libraries that it uses. It
holds numbers as JSON writes them, which reads back to the last bit. What is not of the shape that it should have is not
used: the fit is made anew.
"""

import dataclasses
import json
import math
import types
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from igniter_opt.base.caches import cache_folders
from igniter_opt.base.kept import Shelf, code_digest, content_name
from igniter_opt.physics.parameters import Coefficients

_MAGIC = "igniter-opt fitted coefficients 1"
MOST_FILES = 64


def is_kept(content: str) -> bool:
    """Whether there is a file of what was fitted to a profile's content."""
    return _shelf().has(_name(content))


def read(content: str) -> Coefficients | None:
    """Return what was fitted to a profile's content before; None where nothing is kept that can be used."""
    return _shelf().read(_name(content), _parsed)


def write(content: str, found: Coefficients) -> None:
    """Keep what was fitted to a profile's content, as far as the disk allows."""
    try:
        text = _text(found)
        if _parsed(text) != found:
            return
    except ValueError:  # numbers that are not finite, of an absurd profile
        return
    _shelf().write(_name(content), text)


def _shelf() -> Shelf:
    lost = "fitted coefficients are not kept, so that every run fits them anew"
    return Shelf("fits", _MAGIC, "coefficients", "fitted anew", lost, _folders, MOST_FILES)


def _folders() -> list[Path]:
    return [folder / "fits" for folder in cache_folders()]


def _name(content: str) -> str:
    return content_name(_code(), content)


@lru_cache(maxsize=1)
def _code() -> bytes:
    """Digest of all that turns content into coefficients."""
    here = Path(__file__).parent
    sources = [path for folder in (here, here.parent / "physics") for path in sorted(folder.glob("*.py"))]
    return code_digest(("numpy", "scipy"), sources)


def _text(found: Coefficients) -> str:
    models = {name: dataclasses.asdict(model) for name, model in found.models.items()}
    data = {"profile_name": found.profile_name, "hardware": dataclasses.asdict(found.hardware), "models": models}
    return json.dumps(data, allow_nan=False)


def _parsed(text: str) -> Coefficients:
    """Return the coefficients in a text; raise ValueError if it is not what was written."""
    found: Coefficients = _restored(Coefficients, json.loads(text))
    _check_shapes(found)
    return found


def _restored(kind: Any, value: Any) -> Any:
    """Return JSON data as a value of a type; raise ValueError if it is none."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        names = [entry.name for entry in dataclasses.fields(kind) if entry.init]
        if not isinstance(value, dict) or list(value) != names:
            raise ValueError(f"no {kind}")
        return kind(**{name: _restored(hints[name], value[name]) for name in names})
    arguments = get_args(kind)
    match get_origin(kind):
        case types.UnionType:  # of something and None
            return None if value is None else _restored(arguments[0], value)
        case origin if origin is tuple and isinstance(value, list):
            kinds = [arguments[0]] * len(value) if arguments[1:] == (...,) else arguments
            return tuple(_restored(inner, entry) for inner, entry in zip(kinds, value, strict=True))
        case origin if origin is dict and isinstance(value, dict):
            return {name: _restored(arguments[1], entry) for name, entry in value.items()}
    if kind is float and type(value) in (float, int) and math.isfinite(value):
        return float(value)
    if kind in (int, str) and type(value) is kind:
        return value
    raise ValueError(f"{value!r} is no {kind}")


def _check_shapes(found: Coefficients) -> None:
    """Raise ValueError where tables do not have the rows and columns that they say, or there is no model."""
    terms = [model.refined for model in found.models.values() if model.refined is not None]
    for surface in (entry.surface for entry in terms):
        rows, columns = len(surface.batches), len(surface.shares)
        if [len(row) for row in surface.active_ms] != [columns] * rows or min(rows, columns) < 1:
            raise ValueError("a surface of another shape")
    for curve in (entry.utilisation for entry in terms if entry.utilisation is not None):
        if len(curve.batches) != len(curve.percent) or not curve.batches:
            raise ValueError("a utilisation of another shape")
    if not found.models or len(terms) not in (0, len(found.models)):
        raise ValueError("not all models")

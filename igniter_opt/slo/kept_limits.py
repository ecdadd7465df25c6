"""Limits D_c of rule `p99`, each made once: on disk between runs (`base.kept`), and shared by threads within one.

A file holds the limits of one model on one card for one percentile, margin and kind of arrivals, whatever SLOs and
rates were asked for; its name is a digest of all that and of the code that makes limits. In it every table has its SLO
and what is left of its source as key. Numbers are kept as the bits they are. Tables that are not of the card's shape,
or hold what no limit can be, are damage, and so is the whole file: it is made anew.
"""

import base64
import json
import threading
import zlib
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.caches import cache_folders
from igniter_opt.base.kept import Shelf, code_digest, content_name
from igniter_opt.physics.parameters import HardwareCoefficients, ModelCoefficients

if TYPE_CHECKING:
    from igniter_opt.slo.streams.stream import Source

_MAGIC = "igniter-opt limits of rule p99 1"
_MOST_FILES, _MOST_BYTES = 512, 256 * 2**20
# Of one file; the tables that were made or used last stay.
_MOST_TABLES = 4_096
_PACKAGES = ("numpy", "numba", "llvmlite")

Key = tuple[float, ...]


class Asked(NamedTuple):
    """Which limits: file and key in it, and the shape (batches, levels)."""

    content: str
    key: Key
    shape: tuple[int, int]


def asked(
    source: "Source | None",
    rate_rps: float,
    model: ModelCoefficients,
    hardware: HardwareCoefficients,
    slo_ms: float,
    percentile: float,
    margin: float,
) -> Asked:
    """Name the limits of a replica of a rate, from a source of requests or of Poisson arrivals (None)."""
    arrivals: dict[str, object] = {"kind": "poisson"}
    key: Key = (slo_ms, rate_rps)
    if source is not None:
        recorded = source.arrivals.recorded
        arrivals = {
            "kind": f"{source.arrivals.kind} stream",
            "settings": source.arrivals.settings,
            "recorded": None if recorded is None else _identity(recorded.stream(source.workload)),
            "split": source.split,
        }
        key = (slo_ms, source.rate_rps, source.part)
    content = {
        "model": asdict(model),
        "hardware": asdict(hardware),
        "percentile": percentile,
        "margin": margin,
        "arrivals": arrivals,
    }
    shape = (model.max_batch, hardware.share_levels)
    return Asked(json.dumps(content, sort_keys=True), tuple(float(value) for value in key), shape)


def _identity(stream: object) -> dict[str, object]:
    """Return what tells one recorded stream from another: the digest of its times, and how many and how fast."""
    return {name: getattr(stream, name) for name in ("requests", "rate_rps", "digest")}


class _Tables:
    """The tables of one file that this process knows, and those that are new to the file."""

    def __init__(self, known: dict[Key, FloatArray]) -> None:
        self.known = known
        self.new: dict[Key, FloatArray] = {}


class _Memory:
    """What is known while limits are made; threads share it."""

    lock = threading.Lock()
    # By content: the tables; and what is being made by whom.
    tables: dict[str, _Tables] = {}  # noqa: RUF012
    making: dict[tuple[str, Key], threading.Event] = {}  # noqa: RUF012


def limits(wanted: Asked, make: Callable[[], FloatArray]) -> FloatArray:
    """Return limits that are known, or that another thread is making, or make them; they cannot be written to."""
    place = wanted.content, wanted.key
    while True:
        with _Memory.lock:
            tables = _Memory.tables.get(wanted.content)
            if tables is None:
                tables = _Memory.tables[wanted.content] = _Tables(_read(wanted.content, wanted.shape))
            found = tables.known.get(wanted.key)
            if found is not None:
                return found
            others = _Memory.making.get(place)
            if others is None:
                ours = _Memory.making[place] = threading.Event()
                break
        others.wait()
    try:
        found = make()
        found.setflags(write=False)
        with _Memory.lock:
            tables.known[wanted.key] = tables.new[wanted.key] = found
        return found
    finally:
        with _Memory.lock:
            del _Memory.making[place]
        ours.set()


def keep() -> None:
    """Write what is new to disk, and forget it here; what is asked for again is read again."""
    with _Memory.lock:
        tables, _Memory.tables = _Memory.tables, {}
    for content, entry in tables.items():
        if entry.new:
            # Another process may have added to it meanwhile.
            shape = next(iter(entry.new.values())).shape
            every = {**_read(content, (shape[0], shape[1])), **entry.new}
            _shelf().write(_name(content), _text(dict(list(every.items())[-_MOST_TABLES:])))


def forget() -> None:
    """Forget what is known here and not yet on disk."""
    with _Memory.lock:
        _Memory.tables = {}


def _read(content: str, shape: tuple[int, int]) -> dict[Key, FloatArray]:
    return _shelf().read(_name(content), lambda text: _parsed(text, shape)) or {}


def _text(tables: dict[Key, FloatArray]) -> str:
    packed = [
        [list(key), base64.b64encode(zlib.compress(table.astype("<f8").tobytes(), 1)).decode()]
        for key, table in tables.items()
    ]
    return json.dumps(packed, allow_nan=False)


def _parsed(text: str, shape: tuple[int, int]) -> dict[Key, FloatArray]:
    """Return the tables in a text; raise ValueError if they are not what was written."""
    data = json.loads(text)
    if not isinstance(data, list):
        raise ValueError("no list of tables")
    return dict(_table(entry, shape) for entry in data)


def _table(entry: object, shape: tuple[int, int]) -> tuple[Key, FloatArray]:
    match entry:
        case [list(key), str(packed)] if all(type(value) in (int, float) for value in key):
            size = 8 * shape[0] * shape[1]
            unpacker = zlib.decompressobj()
            try:
                raw = unpacker.decompress(base64.b64decode(packed, validate=True), size + 1)
            except zlib.error as error:
                raise ValueError("damaged numbers") from error
            if len(raw) != size:
                raise ValueError("a table of another shape")
            table = np.frombuffer(raw, dtype="<f8").astype(np.float64).reshape(shape)
            if not np.all(np.isfinite(table) & (table >= 0.0)):
                raise ValueError("no limits")
            table.setflags(write=False)
            return tuple(float(value) for value in key), table
    raise ValueError("no table")


def _shelf() -> Shelf:
    lost = "limits of rule p99 are not kept, so that every run makes them anew"
    return Shelf("limits", _MAGIC, "limits of rule p99", "made anew", lost, _folders, _MOST_FILES, _MOST_BYTES)


def _folders() -> list[Path]:
    return [folder / "limits" for folder in cache_folders()]


def _name(content: str) -> str:
    return content_name(_code(), content)


@lru_cache(maxsize=1)
def _code() -> bytes:
    """Digest of all that makes limits."""
    package = Path(__file__).parents[1]
    folders = (package / "slo", package / "slo" / "streams", package / "physics")
    names = ("data/arrivals.py", "data/recorded.py", "base/compiled.py", "base/compilable.py", "base/nanoseconds.py")
    sources = [path for folder in folders for path in sorted(folder.glob("*.py"))]
    return code_digest(_PACKAGES, [*sources, *(package / name for name in names)])

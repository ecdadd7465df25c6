"""Profiles of cards under MIG, made of tables of readings: what somebody measured of models in slices."""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath, as_path, parse_json, read_text
from igniter_opt.base.schema import describe, is_name, name_from, nearest, parse_record
from igniter_opt.base.text import counted
from igniter_opt.data.slice_profile import SliceProfile
from igniter_opt.physics.mig_cards import MIG_CARDS, MigCard

COLUMNS = ("model", "slice", "batch", "processes", "throughput_rps_per_process", "latency_ms")
_MEMORY = "memory_mib"
_FORMATS = f"a CSV table with the columns {', '.join(COLUMNS)} (and {_MEMORY}), or JSON of the same numbers by model"


class SliceReading(NamedTuple):
    """One reading, where it stands, and the slice as it is called there."""

    where: str
    model: str
    slice: str
    batch: object
    processes: object
    throughput_rps_per_process: object
    latency_ms: object
    memory_mib: object = None


def import_mig(
    readings: StrPath,
    *,
    card: str | None = None,
    name: str | None = None,
    source: str | None = None,
    latency_resolution_ms: float | None = None,
) -> SliceProfile:
    """Make a profile of a table of readings.

    Parameters
    ----------
    readings
        A CSV file with the columns `COLUMNS` (and ``memory_mib``, of all processes together, where it was read), or a
        JSON file with ``models``: by model and slice, rows of batch, processes, throughput of one process and latency.
        Slices are called by their names, or by their sevenths: 3g.40gb, 3g or 3.
    card
        Which card of `physics.mig_cards`; found in the JSON's ``card`` where not given.
    name, source
        Of the profile; the file's name, and what the JSON says of its source.
    latency_resolution_ms
        To how many ms latencies were read; where not given, 1 if all of them are whole numbers, else 0.

    Raises
    ------
    InputError
        The file is none of these, the card is not known, or a reading is none; the message says which.
    """
    path = as_path(readings, "a file of readings")
    text = read_text(path)
    facts: dict[str, Any] = {}
    if str(path).lower().endswith(".json") or text.lstrip().startswith(("{", "[")):
        facts = _facts(parse_json(text, str(path)), str(path))
        rows = _json_rows(facts["models"], str(path))
    else:
        rows = _csv_rows(text, str(path))
    known = _card(card, facts, str(path))
    models = _by_model(rows, known, str(path))
    latencies = [reading.latency_ms for slices in models.values() for column in slices.values() for reading in column]
    if latency_resolution_ms is None:
        whole = all(isinstance(latency, int | float) and float(latency).is_integer() for latency in latencies)
        latency_resolution_ms = 1.0 if whole else 0.0
    provenance = {key: str(facts[key]) for key in ("driver", "framework", "precision", "date", "note") if key in facts}
    data = {
        "name": name or name_from(Path(path).stem),
        "source": source or str(facts.get("source", f"readings of {Path(path).name}")),
        "provenance": provenance,
        "card": known.key,
        "latency_resolution_ms": latency_resolution_ms,
        "models": {
            model: {"slices": {kind: _columns(column) for kind, column in slices.items()}}
            for model, slices in models.items()
        },
    }
    return parse_record(SliceProfile, data, str(path))


def _card(given: str | None, facts: dict[str, Any], path: str) -> MigCard:
    keys = ", ".join(MIG_CARDS)
    if given is not None:
        if given not in MIG_CARDS:
            raise InputError(f"unknown card {describe(given)}{nearest(given, MIG_CARDS)} (cards: {keys})")
        return MIG_CARDS[given]
    words = set(re.findall(r"[a-z]+\d+|\d+(?=\s*gb)", str(facts.get("card", "")).lower()))
    found = [card for card in MIG_CARDS.values() if {card.gpu.lower(), str(card.memory_gb)} <= words]
    if len(found) != 1:
        raise InputError(f"{path}: does not say which card was measured; give it with --card (cards: {keys})")
    return found[0]


def _csv_rows(text: str, path: str) -> Iterator[SliceReading]:
    lines = _lines(text, path)
    names = [name.strip() for name in next(lines, (1, []))[1]]
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise InputError(f"{path}: the column {missing[0]} is missing; readings are {_FORMATS}")
    twice = next((name for name in (*COLUMNS, _MEMORY) if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path}: the column {twice} is there twice")
    for number, fields in lines:
        where = f"{path}: line {number}"
        if len(fields) > len(names):
            # A decimal comma, say: what follows would be taken for another column's.
            raise InputError(f"{where}: has more fields than the {counted(len(names), 'column')}")
        row = dict(zip(names, fields, strict=False))
        numbers = {column: _number(row.get(column), f"{where}: {column}") for column in COLUMNS[2:]}
        if row.get(_MEMORY):
            numbers[_MEMORY] = _number(row[_MEMORY], f"{where}: {_MEMORY}")
        yield SliceReading(where, row["model"].strip(), row.get("slice", ""), **numbers)


def _lines(text: str, path: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not empty, with the numbers of their lines."""
    reader = csv.reader(io.StringIO(text), skipinitialspace=True)
    try:
        yield from ((reader.line_num, fields) for fields in reader if fields)
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: not CSV ({error})") from None


def _number(text: str | None, where: str) -> float | int:
    try:
        value = float(text or "")
    except ValueError:
        raise InputError(f"{where}: must be a number; found {describe(text)}") from None
    return int(value) if value.is_integer() else value


def _facts(data: object, path: str) -> dict[str, Any]:
    if not isinstance(data, dict) or not isinstance(data.get("models"), dict):
        raise InputError(f"{path}: has no models; readings are {_FORMATS}")
    return data


def _json_rows(models: dict[str, Any], path: str) -> Iterable[SliceReading]:
    for model, slices in models.items():
        if not isinstance(slices, dict):
            raise InputError(f"{path}: models.{model}: must be a mapping of slices to rows; found {describe(slices)}")
        for kind, rows in slices.items():
            where = f"{path}: models.{model}.{kind}"
            if not isinstance(rows, list):
                raise InputError(f"{where}: must be a list of rows; found {describe(rows)}")
            for number, row in enumerate(rows):
                if not isinstance(row, list) or len(row) not in (4, 5):
                    raise InputError(
                        f"{where}[{number}]: must be batch, processes, throughput_rps_per_process, latency_ms (and"
                        f" memory_mib); found {describe(row)}"
                    )
                yield SliceReading(f"{where}[{number}]", model, kind, *row)


def _by_model(rows: Iterable[SliceReading], card: MigCard, path: str) -> dict[str, dict[str, list[SliceReading]]]:
    """Group readings by model and slice, slices by their full names."""
    models: dict[str, dict[str, list[SliceReading]]] = {}
    for reading in rows:
        if not is_name(reading.model):
            raise InputError(
                f"{reading.where}: {describe(reading.model)} is no name of a model: take letters, digits and any of"
                " . _ -"
            )
        kind = card.slice_named(reading.slice)
        if kind is None:
            names = [entry.name for entry in card.slices]
            raise InputError(
                f"{reading.where}: card {card.key} has no slice {describe(reading.slice)}"
                f"{nearest(reading.slice, names)} (its slices: {', '.join(names)})"
            )
        models.setdefault(reading.model, {}).setdefault(kind.name, []).append(reading)
    if not models:
        raise InputError(f"{path}: has no readings")
    return models


def _columns(readings: list[SliceReading]) -> dict[str, list[object]]:
    without = [reading for reading in readings if reading.memory_mib is None]
    if without and len(without) < len(readings):
        raise InputError(
            f"{without[0].where}: {_MEMORY} is missing, and other readings of {without[0].model} in that slice have it;"
            " give it for all of them or for none"
        )
    names = [*COLUMNS[2:], *([] if without else [_MEMORY])]
    return {name: [getattr(reading, name) for reading in readings] for name in names}

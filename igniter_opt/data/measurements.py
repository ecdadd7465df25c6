"""Latency measurements beyond the solo grid, alone and side by side: blocks of a profile, and CSV files."""

import csv
import io
from collections.abc import Iterable
from typing import Annotated, Any, NamedTuple, Self, TypeVar

from pydantic import Field, model_validator

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import MOST_VALUES
from igniter_opt.base.schema import Count, Name, NonNegative, Positive, Record, describe, invalid, nearest, parse_record

Share = Annotated[Positive, Field(le=100)]
_INTEGERS = ("group", "batch")


class Spot(NamedTuple):
    """A placement as measured; its share in the card's share units."""

    model: str
    batch: int
    units: int


class _Readings(Record):
    """Columns of one length; one entry per reading."""

    note: str | None = None
    model: tuple[Name, ...] = Field(min_length=1)
    batch: tuple[Count, ...]
    share_percent: tuple[Share, ...]
    latency_ms: tuple[Positive, ...]
    std_ms: tuple[NonNegative, ...] | None = None

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        for name in type(self).model_fields:
            column = getattr(self, name)
            if name != "note" and column is not None and len(column) != len(self.model):
                raise invalid(
                    f"{name} has {len(column)} entries and model has {len(self.model)}; all columns must be as long"
                )
        return self

    def spots(self, share_unit_percent: float) -> list[Spot]:
        """Return the placement of every reading."""
        rows = zip(self.model, self.batch, self.share_percent, strict=True)
        return [Spot(model, batch, round(share / share_unit_percent)) for model, batch, share in rows]

    def _take(self, positions: Iterable[int]) -> Self | None:
        chosen = list(positions)
        if not chosen:
            return None
        columns = {name: getattr(self, name) for name in type(self).model_fields if name != "note"}
        picked = {name: tuple(c[k] for k in chosen) for name, c in columns.items() if c is not None}
        return self.model_copy(update=picked)


class SoloMeasurements(_Readings):
    """Inference latencies (ms: loading, GPU, feedback) of models alone on the card, in columns.

    L2 and DRAM utilisation (percent) are kept where they were measured; no coefficient is fitted to them.
    """

    l2_utilisation_percent: tuple[NonNegative, ...] | None = None
    dram_utilisation_percent: tuple[NonNegative, ...] | None = None

    def take(self, positions: Iterable[int]) -> "SoloMeasurements | None":
        """Return the readings at some positions; None if there are none."""
        return self._take(positions)


class ColocatedMeasurements(_Readings):
    """Inference latencies (ms) of models side by side, in columns: readings with the same `group` ran together."""

    group: tuple[Count, ...]

    @model_validator(mode="after")
    def _groups(self) -> Self:
        for number, members in self.members().items():
            if len(members) < 2:
                raise invalid(f"group {number} has one reading; placements side by side are two or more")
            total = sum(self.share_percent[k] for k in members)
            if total > 100 * (1 + 1e-9):
                raise invalid(f"group {number}: the shares add up to {total:g} %, more than 100 %")
        return self

    def members(self) -> dict[int, list[int]]:
        """Positions of every group's readings, in the order given."""
        found: dict[int, list[int]] = {}
        for position, number in enumerate(self.group):
            found.setdefault(number, []).append(position)
        return found

    def placements(self, share_unit_percent: float) -> dict[int, tuple[Spot, ...]]:
        """Placements of every group, sorted, by its number."""
        spots = self.spots(share_unit_percent)
        return {number: tuple(sorted(spots[k] for k in members)) for number, members in self.members().items()}

    def take(self, groups: Iterable[int]) -> "ColocatedMeasurements | None":
        """Return the readings of some groups; None if there are none."""
        wanted = set(groups)
        return self._take(position for position, number in enumerate(self.group) if number in wanted)


ReadingsT = TypeVar("ReadingsT", bound=_Readings)


def joined_solo(old: SoloMeasurements | None, new: SoloMeasurements, share_unit_percent: float) -> SoloMeasurements:
    """Join readings alone; those of equal placements are the new ones."""
    kept = None
    if old is not None:
        known = set(new.spots(share_unit_percent))
        kept = old.take(k for k, spot in enumerate(old.spots(share_unit_percent)) if spot not in known)
    return new if kept is None else _joined(kept, new)


def joined_groups(
    old: ColocatedMeasurements | None, new: ColocatedMeasurements, share_unit_percent: float
) -> ColocatedMeasurements:
    """Join readings side by side; groups of equal placements are the new ones. Groups are numbered anew."""

    def placements(readings: ColocatedMeasurements) -> dict[int, tuple[Spot, ...]]:
        return readings.placements(share_unit_percent)

    kept = None
    if old is not None:
        known = set(placements(new).values())
        kept = old.take(number for number, own in placements(old).items() if own not in known)
    together = new if kept is None else _joined(kept, new)
    names = [(0, number) for number in (kept.group if kept else ())] + [(1, number) for number in new.group]
    number_of = {name: number for number, name in enumerate(dict.fromkeys(names), 1)}
    return together.model_copy(update={"group": tuple(number_of[name] for name in names)})


def _joined(first: ReadingsT, second: ReadingsT) -> ReadingsT:
    """All readings of both; columns that one of them lacks are left out, and the first's note kept."""
    columns = {}
    for name in type(first).model_fields:
        one, other = getattr(first, name), getattr(second, name)
        if name != "note":
            columns[name] = None if one is None or other is None else (*one, *other)
    return first.model_copy(update=columns)


def check_models(readings: _Readings, models: Iterable[str], where: str) -> None:
    """Raise InputError, saying where, unless all models of the readings are known."""
    known = list(models)
    unknown = next((name for name in readings.model if name not in known), None)
    if unknown is not None:
        raise InputError(
            f"{where}.model: unknown model {describe(unknown)}{nearest(unknown, known)} (the profile's models:"
            f" {', '.join(known)})"
        )


def parse_csv(kind: type[ReadingsT], text: str, source: str) -> ReadingsT:
    """Read measurements from CSV text whose header names the columns of `kind`.

    Raises
    ------
    InputError
        A column is missing or unknown, or an entry is not a number.
    """
    if text.count(",") + text.count("\n") >= MOST_VALUES:
        raise InputError(f"{source}: holds more than {MOST_VALUES:,} values; give a smaller file")
    try:
        rows = list(csv.reader(line for line in io.StringIO(text) if line.strip()))
    except csv.Error as error:
        raise InputError(f"{source}: not CSV ({error})") from None
    if len(rows) < 2:
        raise InputError(f"{source}: no measurements (a header and one line per reading are needed)")
    header = [name.strip() for name in rows[0]]
    columns: dict[str, list[Any]] = {name: [] for name in header}
    if len(columns) < len(header):
        raise InputError(f"{source}: line 1: a column is given twice")
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise InputError(f"{source}: line {number}: {len(row)} entries, the header has {len(header)}")
        for name, entry in zip(header, row, strict=True):
            columns[name].append(_entry(name, entry.strip(), f"{source}: line {number}"))
    return parse_record(kind, columns, source)


def _entry(name: str, text: str, where: str) -> Any:
    if name == "model":
        return text
    try:
        return int(text) if name in _INTEGERS else float(text)
    except ValueError:
        what = "whole number" if name in _INTEGERS else "number"
        raise InputError(f"{where}: {name}: must be a {what}; found {describe(text)}") from None

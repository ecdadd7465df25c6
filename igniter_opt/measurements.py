"""Measured latencies of placements side by side: what predictions are judged by, and refined coefficients fitted to.

A file is JSON: where its rows come from, and columns. Rows with the same group number ran side by side on one GPU; a
group of one is a placement alone.
"""

import json
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from igniter_opt.errors import InputError
from igniter_opt.profile import Measured, Provenance
from igniter_opt.schema import Name, Record, exists, invalid, nearest, parse_json, parse_record, read_text

MEASUREMENTS_SCHEMA: Final = "igniter-opt/measurements@1"


class Measurements(Record):
    """Latencies measured on a card: `gpu`, how they were taken, and the rows."""

    schema_: Literal["igniter-opt/measurements@1"] = Field(default=MEASUREMENTS_SCHEMA, alias="schema")
    profile: Name
    gpu: str
    source: str
    provenance: Provenance = Provenance()
    rows: Measured

    @model_validator(mode="after")
    def _not_empty(self) -> "Measurements":
        if not self.rows.group:
            raise invalid("rows: there are none")
        return self


def shipped_measurements() -> list[str]:
    """Return the names of the measurements installed with the package."""
    folder = resources.files("igniter_opt.instances") / "measurements"
    return sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))


def read_measurements(name_or_path: str | Path) -> Measurements:
    """Read shipped measurements by name, or a file by path; raise InputError where there are none."""
    name = str(name_or_path)
    if name in shipped_measurements():
        text = (resources.files("igniter_opt.instances") / "measurements" / f"{name}.json").read_text("utf-8")
        return measurements_from_data(json.loads(text), f"measurements {name}")
    if not exists(Path(name)):
        shipped = shipped_measurements()
        raise InputError(
            f"unknown measurements {name!r}{nearest(name, shipped)} (shipped: {', '.join(shipped)}; no file at {name})"
        )
    return measurements_from_data(parse_json(read_text(Path(name)), name), name)


def measurements_from_data(data: Any, source: str) -> Measurements:
    """Validate the parsed content of a file of measurements."""
    if not isinstance(data, dict) or data.get("schema") != MEASUREMENTS_SCHEMA:
        raise InputError(f"{source}: not a file of measurements (`igniter-opt profile colocate` writes them)")
    return parse_record(Measurements, {"schema_" if k == "schema" else k: v for k, v in data.items()}, source)


def measurements_json(measurements: Measurements) -> str:
    """Render measurements as JSON text, one column a line."""
    data = measurements.model_dump(mode="json", by_alias=True, exclude_none=True)
    rows = data.pop("rows")
    columns = ",\n".join(f"  {json.dumps(name)}: {json.dumps(values)}" for name, values in rows.items())
    return json.dumps(data, indent=1)[:-2] + ',\n "rows": {\n' + columns + "\n }\n}\n"


def groups_of(rows: Measured) -> list[list[int]]:
    """Return the row numbers of every group, in the order of the rows."""
    return [list(members) for _, members in groupby(range(len(rows.group)), key=lambda row: rows.group[row])]

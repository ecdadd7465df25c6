"""Files of measurements: what predictions are judged by, and refined coefficients calibrated on.

A file is JSON: where its readings come from, and columns of readings alone and side by side. A CSV file with the
columns of `measurements.ColocatedMeasurements` will do, too.
"""

import json
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from pydantic import Field, model_validator

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import exists, parse_json, read_text
from igniter_opt.base.schema import Name, Record, invalid, name_from, nearest, parse_record
from igniter_opt.base.text import cut
from igniter_opt.data.measurements import (
    ColocatedMeasurements,
    SoloMeasurements,
    check_models,
    joined_groups,
    joined_solo,
    parse_csv,
)
from igniter_opt.data.profile import Profile, read_profile
from igniter_opt.data.provenance import Provenance

MEASUREMENTS_SCHEMA: Final = "igniter-opt/measurements@1"
# Of the logs that `--resume` keeps, one reading a line (profiler.record).
LOG_SCHEMA: Final = "igniter-opt/profiling@1"
UNKNOWN_GPU: Final = "unknown"
_COLOCATED = "-colocated"


class Measurements(Record):
    """Latencies measured on a card: `gpu`, how they were taken, and the readings."""

    schema_: Literal["igniter-opt/measurements@1"] = Field(default=MEASUREMENTS_SCHEMA, alias="schema")
    profile: Name
    gpu: str
    source: str
    provenance: Provenance = Provenance()
    solo: SoloMeasurements | None = None
    colocated: ColocatedMeasurements | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> "Measurements":
        if self.solo is None and self.colocated is None:
            raise invalid("there are no readings: give solo, colocated or both")
        return self

    def check_card(self, profile: Profile) -> None:
        """Raise InputError if they are of another card or precision than the profile's, as far as both say."""
        own, theirs = self.gpu, profile.hardware.gpu
        if own not in (UNKNOWN_GPU, theirs):
            raise InputError(
                f"measurements of a {cut(own)} do not judge profile {profile.name}, which is of a {cut(theirs)}"
            )
        kinds = [entry.precision for entry in (self.provenance, profile.provenance)]
        if None not in kinds and len({str(kind).lower() for kind in kinds}) > 1:
            raise InputError(
                f"measurements in {cut(str(kinds[0]))} do not judge profile {profile.name}, which is in"
                f" {cut(str(kinds[1]))}; measure in"
                " its precision"
            )

    def side_by_side(self) -> ColocatedMeasurements:
        """Return the readings side by side; raise InputError if there are none."""
        if self.colocated is None:
            raise InputError(f"measurements of {self.profile}: there are no readings side by side")
        return self.colocated

    def groups(self) -> "list[list[LatencyReading]]":
        """Return the readings of every group that ran side by side; first those that ran alone."""
        found = []
        if self.solo is not None:
            found += [[_reading(self.solo, k)] for k in range(len(self.solo.model))]
        if self.colocated is not None:
            members = self.colocated.members().values()
            found += [[_reading(self.colocated, k) for k in positions] for positions in members]
        return found


class LatencyReading(NamedTuple):
    """One placement's measured inference latency in ms (share in percent)."""

    model: str
    batch: int
    share_percent: float
    latency_ms: float


def _reading(columns: SoloMeasurements | ColocatedMeasurements, k: int) -> LatencyReading:
    return LatencyReading(columns.model[k], columns.batch[k], columns.share_percent[k], columns.latency_ms[k])


def with_measurements(profile: Profile, found: Measurements) -> Profile:
    """Return the profile with measurements among those that its refined coefficients are fitted to, and no margins.

    Readings of placements that it holds already, alone or in a group of the same placements, replace those.

    Raises
    ------
    InputError
        They are of another card or precision, or of models that the profile lacks.
    """
    found.check_card(profile)
    unit = profile.hardware.share_unit_percent
    changed: dict[str, SoloMeasurements | ColocatedMeasurements] = {}
    if found.solo is not None:
        check_models(found.solo, profile.models, "measurements: solo")
        changed["solo_measurements"] = joined_solo(profile.solo_measurements, found.solo, unit)
    if found.colocated is not None:
        check_models(found.colocated, profile.models, "measurements: colocated")
        changed["colocated_measurements"] = joined_groups(profile.colocated_measurements, found.colocated, unit)
    return profile.model_copy(update={**changed, "calibration": None})


def shipped_measurements() -> list[str]:
    """Return the names of the measurements side by side that are installed with the package."""
    folder = resources.files("igniter_opt.instances") / "measurements"
    return sorted(entry.name.rpartition(".")[0] for entry in folder.iterdir() if _COLOCATED in entry.name)


def read_measurements(name_or_path: str | Path) -> Measurements:
    """Read shipped measurements by name, or a file by path: JSON, or CSV with readings side by side.

    The columns of a CSV file are group, model, batch, share_percent, latency_ms and, if measured, std_ms.

    Raises
    ------
    InputError
        There are none, or the file is not as it should be.
    """
    name = str(name_or_path)
    folder = resources.files("igniter_opt.instances") / "measurements"
    for suffix in (".json", ".csv"):
        if name in shipped_measurements() and (folder / f"{name}{suffix}").is_file():
            text = (folder / f"{name}{suffix}").read_text("utf-8")
            found = _parse(text, f"measurements {name}", name, suffix)
            # A CSV file names no card; the shipped ones are of the shipped profile's.
            known = found.gpu != UNKNOWN_GPU
            return found if known else found.model_copy(update={"gpu": read_profile(found.profile).hardware.gpu})
    path = Path(name)
    if not exists(path):
        shipped = shipped_measurements()
        raise InputError(
            f"unknown measurements {name!r}{nearest(name, shipped)} (shipped: {', '.join(shipped)}; no file at {path})"
        )
    return _parse(read_text(path), name, path.stem, path.suffix)


def _parse(text: str, source: str, name: str, suffix: str) -> Measurements:
    if suffix == ".csv":
        readings = parse_csv(ColocatedMeasurements, text, source)
        profile = name_from(name.removesuffix(_COLOCATED))
        return Measurements(profile=profile, gpu=UNKNOWN_GPU, source=source, colocated=readings)
    _refuse_log(text, source)
    return measurements_from_data(parse_json(text, source), source)


def _refuse_log(text: str, source: str) -> None:
    """Raise InputError if this is a log of readings, which is easily taken for the file made of it."""
    try:
        head = json.loads(text.partition("\n")[0])
    except (ValueError, RecursionError):
        return
    if isinstance(head, dict) and head.get("schema") == LOG_SCHEMA:
        command = "measure" if head.get("kind") == "profile" else "colocate"
        raise InputError(
            f"{source}: is a log of `profile {command} --resume`, not a file of measurements; give the file that"
            " `profile colocate -o` wrote"
        )


def measurements_from_data(data: Any, source: str) -> Measurements:
    """Validate the parsed content of a file of measurements."""
    if not isinstance(data, dict) or data.get("schema") != MEASUREMENTS_SCHEMA:
        raise InputError(f"{source}: not a file of measurements (`igniter-opt profile colocate` writes them)")
    return parse_record(Measurements, data, source)


def measurements_json(measurements: Measurements) -> str:
    """Render measurements as JSON text, one column a line."""
    data = measurements.model_dump(mode="json", by_alias=True, exclude_none=True)
    blocks = []
    for kind in ("solo", "colocated"):
        columns = data.pop(kind, {})
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(values)}" for name, values in columns.items())
        blocks += [f' "{kind}": {{\n{lines}\n }}'] if columns else []
    return json.dumps(data, indent=1)[:-2] + ",\n" + ",\n".join(blocks) + "\n}\n"

"""GPU profiles: what was measured on a card, and how. Coefficients are derived, never stored here."""

import json
import re
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from igniter_opt.errors import InputError
from igniter_opt.schema import (
    Count,
    Integer,
    Name,
    NonNegative,
    Number,
    Positive,
    Record,
    exists,
    invalid,
    nearest,
    parse_json,
    parse_record,
    read_text,
)

CoefficientSet = Literal["igniter", "refined"]
COEFFICIENT_SETS: tuple[CoefficientSet, ...] = get_args(CoefficientSet)


class Provenance(Record):
    """How a profile's measurements were taken."""

    driver: str | None = None
    framework: str | None = None
    precision: str | None = None
    date: str | None = None
    note: str | None = None


class Coexecution(Record):
    """n = 1, 2, ... identical processes side by side: power (W), clock (MHz), idle time per kernel (ms)."""

    note: str | None = None
    power_w: tuple[NonNegative, ...] = Field(min_length=3)
    frequency_mhz: tuple[Positive, ...]
    scheduling_delay_ms_per_kernel: tuple[NonNegative, ...]

    @model_validator(mode="after")
    def _same_length(self) -> "Coexecution":
        lengths = {len(self.power_w), len(self.frequency_mhz), len(self.scheduling_delay_ms_per_kernel)}
        if len(lengths) != 1:
            raise invalid("power_w, frequency_mhz and scheduling_delay_ms_per_kernel must have equal lengths")
        return self


class Hardware(Record):
    """The card: SMs, clock (MHz), power (W), share granularity (percent of the SMs), PCIe bytes per ms."""

    gpu: str
    sm_count: Count
    max_frequency_mhz: Positive
    max_power_w: Positive
    idle_power_w: NonNegative
    share_unit_percent: Annotated[Positive, Field(ge=0.1, le=100)]
    pcie_bandwidth_bytes_per_ms: Positive
    memory_mib: Positive | None = None
    coexecution: Coexecution


class SoloGrid(Record):
    """Solo measurements; each table has one row per batch and one column per share.

    `relative_error` is the standard error of each mean latency, relatively.
    """

    batch: tuple[Count, ...] = Field(min_length=2)
    share_percent: tuple[Positive, ...] = Field(min_length=2)
    gpu_latency_ms: tuple[tuple[Positive, ...], ...]
    power_w: tuple[tuple[NonNegative, ...], ...]
    frequency_mhz: tuple[tuple[Positive, ...], ...]
    relative_error: tuple[tuple[NonNegative, ...], ...] | None = None

    @model_validator(mode="after")
    def _rectangular(self) -> "SoloGrid":
        for name in ("gpu_latency_ms", "power_w", "frequency_mhz", "relative_error"):
            table = getattr(self, name)
            if table is None:
                continue
            if len(table) != len(self.batch) or any(len(row) != len(self.share_percent) for row in table):
                raise invalid(f"{name} must have one row per batch and one column per share")
        for name in ("batch", "share_percent"):
            values = getattr(self, name)
            if any(later <= earlier for earlier, later in pairwise(values)):
                raise invalid(f"{name} must increase strictly")
        return self


class UtilisationPoint(Record):
    """L2 or DRAM utilisation (percent) at one point of the solo grid."""

    batch: Count
    share_percent: Positive
    value: NonNegative


class InterferenceProbe(Record):
    """Active time (ms) of one process alone and beside an identical one, same share and batch."""

    note: str | None = None
    active_time_alone_ms: Positive
    active_time_paired_ms: Positive
    frequency_paired_mhz: Positive
    power_paired_w: NonNegative | None = None
    l2_utilisation_percent: Positive


class ModelMemory(Record):
    """GPU memory of one server process: ``fixed_mib + per_item_mib * batch``."""

    fixed_mib: NonNegative
    per_item_mib: NonNegative = 0.0


class ModelProfile(Record):
    """Measurements of one model on the card."""

    kernels: Count
    input_bytes: NonNegative
    output_bytes: NonNegative
    scheduling_delay_ms: Number
    memory: ModelMemory | None = None
    solo_grid: SoloGrid
    l2_utilisation_percent_at: tuple[UtilisationPoint, ...] = Field(min_length=2)
    dram_utilisation_percent_at: tuple[UtilisationPoint, ...] | None = None
    interference_probe: InterferenceProbe

    @model_validator(mode="after")
    def _points_on_grid(self) -> "ModelProfile":
        grid = self.solo_grid
        points = {
            "l2_utilisation_percent_at": self.l2_utilisation_percent_at,
            "dram_utilisation_percent_at": self.dram_utilisation_percent_at or (),
        }
        for name, point in ((name, point) for name, entries in points.items() for point in entries):
            if point.batch not in grid.batch or point.share_percent not in grid.share_percent:
                raise invalid(
                    f"{name}: batch {point.batch}, share {point.share_percent:g} is not a"
                    f" point of solo_grid (batches {list(grid.batch)}, shares {list(grid.share_percent)})"
                )
        return self

    @property
    def max_batch(self) -> int:
        """Largest measured batch; larger ones would be extrapolated and are never planned."""
        return max(self.solo_grid.batch)


class Measured(Record):
    """Measured inference latencies in ms, as columns of equal length.

    Rows of one group, which follow each other, ran side by side on one GPU; a group of one ran alone. `relative_error`
    is that of the mean, where it is known.
    """

    group: tuple[Integer, ...]
    model: tuple[Name, ...]
    batch: tuple[Count, ...]
    share_percent: tuple[Positive, ...]
    latency_ms: tuple[Positive, ...]
    relative_error: tuple[NonNegative, ...] | None = None

    @model_validator(mode="after")
    def _columns_fit(self) -> "Measured":
        columns = {name: getattr(self, name) for name in type(self).model_fields}
        lengths = {name: len(values) for name, values in columns.items() if values is not None}
        if len(set(lengths.values())) != 1:
            raise invalid(f"columns must have equal lengths; found {lengths}")
        starts = [k for k in range(len(self.group)) if k == 0 or self.group[k] != self.group[k - 1]]
        if len(starts) != len(set(self.group)):
            raise invalid("rows of one group must follow each other")
        return self


class Profile(Record):
    """A card and the models measured on it.

    Attributes
    ----------
    measured
        Latencies beyond the models' own blocks, which refined coefficients are fitted to as well.
    coefficients
        Which coefficients are derived from the measurements: ``igniter``, those of Xu et al. 2023, or ``refined``.
    """

    name: Name
    source: str
    provenance: Provenance = Provenance()
    hardware: Hardware
    models: dict[Name, ModelProfile] = Field(min_length=1)
    measured: Measured | None = None
    coefficients: CoefficientSet = "igniter"

    def model(self, name: str) -> ModelProfile:
        """Return one model's measurements; raise InputError naming the known models."""
        if name not in self.models:
            known = ", ".join(self.models)
            raise InputError(
                f"profile {self.name}: unknown model {name!r}{nearest(name, self.models)} (its models: {known})"
            )
        return self.models[name]


def shipped_profiles() -> list[str]:
    """Return the names of the profiles installed with the package."""
    folder = resources.files("igniter_opt.instances") / "profiles"
    return sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))


def read_profile(name_or_path: str | Path, relative_to: Path | None = None) -> Profile:
    """Read a shipped profile by name, or a profile file by path.

    Parameters
    ----------
    name_or_path
        A shipped profile's name (see `shipped_profiles`) or the path of a JSON file.
    relative_to
        Folder that a relative path starts from; the current folder by default.

    Raises
    ------
    InputError
        No such profile, or its content is not valid.
    """
    name = str(name_or_path)
    if name in shipped_profiles():
        text = (resources.files("igniter_opt.instances") / "profiles" / f"{name}.json").read_text("utf-8")
        return profile_from_data(json.loads(text), f"profile {name}", name)
    path = Path(name) if relative_to is None else relative_to / name
    if not exists(path):
        shipped = shipped_profiles()
        raise InputError(
            f"unknown profile {name!r}{nearest(name, shipped)}"
            f" (shipped profiles: {', '.join(shipped)}; no file at {path})"
        )
    return profile_from_data(parse_json(read_text(path), str(path)), str(path), path.stem)


def profile_from_data(data: Any, source: str, default_name: str) -> Profile:
    """Validate a profile's parsed content; a profile without a name is called `default_name`."""
    if isinstance(data, dict):
        data = {"name": default_name, **data}
    return parse_record(Profile, data, source)


def profile_json(profile: Profile) -> str:
    """Render a profile as JSON text, a list of numbers a line."""
    text = json.dumps(profile.model_dump(mode="json", exclude_none=True, exclude_defaults=True), indent=1)
    return re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda found: "[" + re.sub(r"\s*\n\s*", " ", found[1]) + "]", text) + "\n"

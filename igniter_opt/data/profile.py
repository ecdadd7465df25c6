"""GPU profiles: what was measured on a card, and how. Coefficients are derived, never stored here."""

import json
from collections.abc import Iterable, Iterator
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath, as_path, exists, json_lines, parse_json, read_text
from igniter_opt.base.kinds import PROFILE, write_output
from igniter_opt.base.schema import (
    Count,
    Name,
    NonNegative,
    Number,
    Positive,
    Record,
    check_to_write,
    checked_number,
    in_short,
    invalid,
    name_from,
    nearest,
    one_of,
    parse_record,
)
from igniter_opt.data.measurements import ColocatedMeasurements, SoloMeasurements
from igniter_opt.data.named_files import FilesIn, NamedFiles
from igniter_opt.data.provenance import Provenance
from igniter_opt.data.serving import Serving

CoefficientSet = Literal["igniter", "refined"]
# A set is cautioned against where it errs more than so many times as much as another, and by more than this on average.
_MUCH_WORSE, _ERROR_TO_MIND = 2.0, 0.05
COEFFICIENT_SETS: tuple[CoefficientSet, ...] = ("igniter", "refined")


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
    """The card: SMs, clock (MHz), power (W), share granularity (percent of the SMs), PCIe bytes per ms.

    Attributes
    ----------
    least_share_percent
        What every smaller share is raised to by the card; the unit if absent.
    """

    gpu: str
    sm_count: Count
    max_frequency_mhz: Positive
    max_power_w: Positive
    idle_power_w: NonNegative
    share_unit_percent: Annotated[Positive, Field(ge=0.1, le=100)]
    least_share_percent: Annotated[Positive, Field(le=100)] | None = None
    pcie_bandwidth_bytes_per_ms: Positive
    memory_mib: Positive | None = None
    coexecution: Coexecution

    @model_validator(mode="after")
    def _whole_units(self) -> "Hardware":
        units = (self.least_share_percent or self.share_unit_percent) / self.share_unit_percent
        if units < 1 - 1e-6 or abs(units - round(units)) > 1e-6:
            raise invalid("least_share_percent must be a whole number of share units, one at least")
        return self


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
    batch: Count | None = None
    share_percent: Annotated[Positive, Field(le=50)] | None = None
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
    """Measurements of one model on the card.

    `source` says where the model comes from, as `profile measure --models` takes it after ``NAME=``; built-in models
    have none.
    """

    source: str | None = None
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


class PlannedReadings(Record):
    """Readings of GPUs of solved plans that margins allow for (see `Calibration`).

    Attributes
    ----------
    measurements, measurements_sha256
        Name and hash of the measurements.
    readings, groups
        How many latencies, of how many GPUs.
    mean_error
        Mean of |predicted / measured latency - 1|.
    """

    measurements: str
    measurements_sha256: str
    readings: Count
    groups: Count
    mean_error: NonNegative | None = None


class Calibration(Record):
    """Error margins of one coefficient set, by confidence (see `calibration`).

    Attributes
    ----------
    measurements, measurements_sha256
        Name and hash of the measurements.
    held_out
        ``unseen``: the coefficients are fitted to other data. ``cross-validated``: to these or to the same placements
        alone, so that every reading was predicted by fits without its like.
    readings, groups
        How many latencies, and how many groups ran side by side (absent from margins that did not count them).
    mean_error
        Mean of |predicted / measured latency - 1|, of the way to predict them that errs most (absent from margins of
        older versions).
    confidence, margin
        ``margin[k]`` is what predicted GPU latencies must be inflated by so that a fraction ``confidence[k]`` of the
        measured ones is no longer.
    margin_measured
        The same for placements whose batch and share were measured alone, where these were judged apart; plans hold
        others, too, and are made with `margin`.
    planned
        Readings of solved plans that `margin` suffices for, too, at the confidences that so many GPUs support.
    spread
        By model: how large its errors are beside the average. Margins are multiplied by it in plans at a confidence; by
        1 where it is absent.
    """

    measurements: str
    measurements_sha256: str
    date: str
    held_out: Literal["unseen", "cross-validated"]
    readings: Count
    groups: Count | None = None
    mean_error: NonNegative | None = None
    confidence: tuple[Annotated[Positive, Field(lt=1)], ...] = Field(min_length=1)
    margin: tuple[NonNegative, ...]
    margin_measured: tuple[NonNegative, ...] | None = None
    planned: PlannedReadings | None = None
    spread: dict[Name, Positive] | None = None

    @model_validator(mode="after")
    def _same_length(self) -> "Calibration":
        if {len(self.confidence)} != {
            len(column) for column in (self.margin, self.margin_measured) if column is not None
        }:
            raise invalid("confidence, margin and margin_measured must have equal lengths")
        if any(
            after[0] <= before[0] or after[1] < before[1]
            for before, after in pairwise(zip(self.confidence, self.margin, strict=True))
        ):
            raise invalid("confidence must increase strictly, and margin must not fall")
        return self


class Profile(Record):
    """A card and the models measured on it.

    Attributes
    ----------
    coefficients
        Which set of coefficients to derive from the measurements (`coefficients.fit_coefficients`).
    solo_measurements, colocated_measurements
        Latencies beyond the solo grid; the refined coefficients are fitted to them.
    calibration
        Error margins of each coefficient set.
    serving
        What the servers add to all latencies (`profile serve`); planned with, and in no other block.
    """

    name: Name
    source: str
    coefficients: CoefficientSet = "igniter"
    provenance: Provenance = Provenance()
    hardware: Hardware
    models: dict[Name, ModelProfile] = Field(min_length=1)
    solo_measurements: SoloMeasurements | None = None
    colocated_measurements: ColocatedMeasurements | None = None
    calibration: dict[CoefficientSet, Calibration] | None = None
    serving: Serving | None = None

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield from {"name": self.name, "gpu": self.hardware.gpu, "coefficients": self.coefficients}.items()
        yield "models", in_short(self.models)

    def margin_at(self, confidence: float) -> float:
        """Return the calibrated margin of the coefficient set: that of the next confidence at or above the given one.

        Raises
        ------
        InputError
            The profile has none.
        """
        checked_number("the confidence", confidence)
        entry = (self.calibration or {}).get(self.coefficients)
        how = f"`igniter-opt profile calibrate {self.name} MEASUREMENTS -o FILE`"
        if entry is None:
            raise InputError(
                f"profile {self.name} has no margins for its {self.coefficients} coefficients; {how} finds them"
            )
        for known, margin in zip(entry.confidence, entry.margin, strict=True):
            if known >= confidence - 1e-12:
                return margin
        raise InputError(
            f"profile {self.name}: its {self.coefficients} coefficients are calibrated on {entry.readings} readings, up"
            f" to a confidence of {entry.confidence[-1]:g}; {how} with more groups goes further"
        )

    def spread_of(self, model: str) -> float:
        """Return how large a model's errors are beside the average, as far as margins know that."""
        entry = (self.calibration or {}).get(self.coefficients)
        return 1.0 if entry is None or entry.spread is None else entry.spread.get(model, 1.0)

    def caution(self) -> str | None:
        """Say that another coefficient set than the profile's would be far better, if the calibration shows it."""
        calibration = self.calibration or {}
        own = calibration.get(self.coefficients)
        if own is None or own.mean_error is None or own.mean_error <= _ERROR_TO_MIND:
            return None
        others = [(entry.mean_error, name) for name, entry in calibration.items() if entry.mean_error is not None]
        least, best = min(others)
        if own.mean_error <= _MUCH_WORSE * least:
            return None
        return (
            f"the {self.coefficients} coefficients of profile {self.name} err by {100 * own.mean_error:.0f} % on"
            f" average on the {own.readings} latencies that they were calibrated on, the {best} ones by"
            f" {100 * least:.1f} %; take `--coefficients {best}`, or `coefficients: {best}` in the instance"
        )

    def bare(self) -> "Profile":
        """Return the profile of the models alone, without what serving adds."""
        return self.model_copy(update={"serving": None})

    def not_served(self, models: Iterable[str]) -> list[str]:
        """Return those of the models of which it is not known what serving adds."""
        known = {} if self.serving is None else self.serving.models
        return [name for name in dict.fromkeys(models) if name not in known]

    def model(self, name: str) -> ModelProfile:
        """Return one model's measurements; raise InputError naming the known models."""
        if not isinstance(name, str) or name not in self.models:
            known = ", ".join(self.models)
            raise InputError(
                f"profile {self.name}: unknown model {name!r}{nearest(name, self.models)} (its models: {known})"
            )
        return self.models[name]


def shipped_profiles() -> list[str]:
    """Return the names of the installed profiles of cards that are shared by MPS."""
    return _shipped("profiles")


def shipped_slice_profiles() -> list[str]:
    """Return the names of the installed profiles of cards that MIG cuts."""
    return _shipped("slices")


def _shipped(kind: str) -> list[str]:
    folder = resources.files("igniter_opt.instances") / kind
    return sorted(entry.name.removesuffix(".json") for entry in folder.iterdir() if entry.name.endswith(".json"))


def read_profile(name_or_path: StrPath, relative_to: Path | None = None, *, coefficients: str | None = None) -> Profile:
    """Read a shipped profile by name, or a profile file by path.

    Parameters
    ----------
    name_or_path
        A shipped profile's name (see `shipped_profiles`) or the path of a JSON file.
    relative_to
        Folder that a relative path starts from; the current folder by default.
    coefficients
        Coefficient set to use, one of `COEFFICIENT_SETS`; by default what the profile says, else ``igniter``.

    Raises
    ------
    InputError
        No such profile or coefficient set, or its content is not valid.
    """
    name = str(as_path(name_or_path, "a profile, or the name or path of one"))
    return named_profile(name, FilesIn(relative_to), coefficients)


def named_profile(name: str, files: NamedFiles, coefficients: str | None = None) -> Profile:
    """Read a profile as `read_profile` does, a name that is no shipped one's being what `files` take it for."""
    profile = _read_profile(name, files)
    return profile if coefficients is None else with_coefficients(profile, coefficients)


def as_profile(profile: Profile | StrPath) -> Profile:
    """Return a profile as it is, or read the one of this name or path."""
    return profile if isinstance(profile, Profile) else read_profile(profile)


def coefficient_set(name: object) -> CoefficientSet:
    """Return a coefficient set's name as such; raise InputError if there is none."""
    return one_of(name, COEFFICIENT_SETS, "unknown coefficients", "sets")


def with_coefficients(profile: Profile, name: str) -> Profile:
    """Return the profile with another coefficient set; raise InputError if there is none of that name."""
    return profile.model_copy(update={"coefficients": coefficient_set(name)})


def _read_profile(name: str, files: NamedFiles) -> Profile:
    data, source, default_name = profile_data(name, files)
    if shares_by(data) == "mig":
        raise InputError(
            f"{source}: is the profile of a card that MIG cuts; this takes those of cards that are shared by MPS"
        )
    return profile_from_data(data, source, default_name)


def profile_data(name: str, files: NamedFiles) -> tuple[Any, str, str]:
    """Return a profile's parsed content, what to call it in messages, and its name unless it says another.

    Of any profile: `shares_by` says of which kind.

    Raises
    ------
    InputError
        There is no such profile, or its file is no JSON.
    """
    for folder, names in (("profiles", shipped_profiles()), ("slices", shipped_slice_profiles())):
        if name in names:
            text = (resources.files("igniter_opt.instances") / folder / f"{name}.json").read_text("utf-8")
            return json.loads(text), f"profile {name}", name
    shipped = [*shipped_profiles(), *shipped_slice_profiles()]
    path = files.path(name, "a profile", f"give the profile itself, or a shipped one's name ({', '.join(shipped)})")
    if not exists(path):
        raise InputError(
            f"unknown profile {name!r}{nearest(name, shipped)}"
            f" (shipped profiles: {', '.join(shipped)}; no file at {path})"
        )
    return parse_json(read_text(path), str(path)), str(path), name_from(path.stem)


def shares_by(data: object) -> str:
    """Return how the card of a profile is shared: ``mps`` unless its content says otherwise."""
    return str(data.get("sharing", "mps")) if isinstance(data, dict) else "mps"


def profile_json(profile: Profile) -> str:
    """Render a profile as JSON text, one list of numbers or names a line; equal profiles give equal text."""
    return json_lines(profile.model_dump(mode="json", exclude_none=True)) + "\n"


def write_profile(profile: Profile, path: StrPath) -> None:
    """Write a profile file atomically.

    Raises
    ------
    InputError
        What is at the path is neither a profile nor empty, or nothing can be written there.
    """
    check_to_write(profile, Profile)
    write_output(path, profile_json(profile).encode(), PROFILE)


def profile_from_data(data: Any, source: str, default_name: str) -> Profile:
    """Validate a profile's parsed content; a profile without a name is called `default_name`."""
    if isinstance(data, dict):
        data = {"name": default_name, **data}
    return parse_record(Profile, data, source)

"""What a log of measurements may hold: its head and its entries, each of the shape that its key says."""

from collections.abc import Callable
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import Field, model_validator

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import (
    Count,
    Integer,
    NonNegative,
    Number,
    Positive,
    Record,
    describe,
    invalid,
    parse_record,
)
from igniter_opt.data.measurement_files import LOG_SCHEMA
from igniter_opt.profiler.models.catalogue import Precision

_Model = Annotated[str, Field(min_length=1)]
_Whole = Annotated[Integer, Field(ge=0)]


class _Head(Record):
    schema_: Literal["igniter-opt/profiling@1"] = Field(alias="schema")
    precision: Precision


class _ProfileHead(_Head):
    kind: Literal["profile"]
    batches: tuple[Count, ...] = Field(min_length=1)
    shares: tuple[Annotated[Positive, Field(le=100)], ...] = Field(min_length=1)


class _ColocationHead(_Head):
    kind: Literal["co-locations"]
    models: tuple[_Model, ...] = Field(min_length=1)
    pairs: _Whole
    larger: _Whole
    crowded: Count | None = None
    batches: tuple[Count, ...] | None = None
    shares: tuple[Annotated[Positive, Field(lt=100)], ...] | None = None
    planned: Count | None = None
    seed: _Whole


class _Card(Record):
    name: str
    driver: str
    framework: str
    sm_count: Count
    sms_granted: dict[float, Count] = Field(min_length=1)
    max_frequency_mhz: Positive
    max_power_w: Positive
    idle_power_w: NonNegative
    memory_mib: Positive
    copy_bytes_per_ms: Positive


class _Facts(Record):
    kernels: Count
    input_bytes: Count
    output_bytes: Count
    fixed_mib: NonNegative
    per_item_mib: NonNegative


class _Counter(Record):
    batch: Count
    l2_percent: NonNegative
    dram_percent: NonNegative


class _Job(Record):
    model: _Model
    batch: Count
    sms: Count


class _Reading(Record):
    batches: Count
    wall_ms: Positive
    wall_std_ms: NonNegative
    wall_median_ms: Positive
    gpu_ms: Positive
    copy_ms: Number


class _Group(Record):
    jobs: tuple[_Job, ...] = Field(min_length=1)
    readings: tuple[_Reading, ...]
    power_w: NonNegative
    frequency_mhz: Positive
    tries: Count

    @model_validator(mode="after")
    def _same_length(self) -> "_Group":
        if len(self.jobs) != len(self.readings):
            raise invalid("jobs and readings must have equal lengths")
        return self


ValueT = TypeVar("ValueT")


class _Entry(Record, Generic[ValueT]):
    key: str
    value: ValueT
    at_s: NonNegative | None = None


def _placement(kind: str) -> Callable[[_Group], str]:
    """The key of one job by itself."""
    return lambda group: f"{kind} {group.jobs[0].model} {group.jobs[0].batch} {group.jobs[0].sms}"


# Of each kind of group: the key that its jobs give, but for the number that groups are counted by.
_KEYS: dict[str, Callable[[_Group], str]] = {
    "solo": _placement("solo"),
    "alone": _placement("alone"),
    "probe": lambda group: f"probe {group.jobs[0].model} {len(group.jobs)}",
    "coexecution": lambda group: f"coexecution {len(group.jobs)}",
}


def check_head(data: Any, source: str) -> None:
    """Raise InputError unless parsed data are the head of a log."""
    if not isinstance(data, dict) or data.get("schema") != LOG_SCHEMA:
        raise InputError(f"{source}: not a file of measurements")
    parse_record(_ColocationHead if data.get("kind") == "co-locations" else _ProfileHead, data, source)


def check_entry(data: Any, source: str) -> None:
    """Raise InputError unless parsed data are an entry of a log, with a value of the shape that its key says."""
    if not isinstance(data, dict) or not isinstance(data.get("key"), str):
        raise InputError(f"{source}: not a measurement")
    key: str = data["key"]
    kind = key.partition(" ")[0]
    match kind:
        case "date":
            parse_record(_Entry[str], data, source)
        case "card":
            parse_record(_Entry[_Card], data, source)
        case "facts":
            parse_record(_Entry[_Facts], data, source)
        case "counters":
            parse_record(_Entry[Annotated[tuple[_Counter, ...], Field(min_length=2)]], data, source)
        case "solo" | "alone" | "probe" | "coexecution" | "group":
            group = parse_record(_Entry[_Group], data, source).value
            if kind == "group":
                fits = key.removeprefix("group ").isdecimal()
            else:
                fits = _KEYS[kind](group) == key and (kind not in ("solo", "alone") or len(group.jobs) == 1)
            if not fits:
                raise InputError(f"{source}: the jobs are not those of its key {describe(key)}")
        case _:
            raise InputError(f"{source}: unknown kind of measurement {describe(key)}")

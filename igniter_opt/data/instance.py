"""The problem: workloads with SLOs and rates, GPU types with prices. Instance files are YAML."""

import math
import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath, as_path, exists, read_text, write_bytes_atomically
from igniter_opt.base.frames import frame
from igniter_opt.base.schema import (
    Count,
    Name,
    Number,
    Positive,
    Record,
    check_to_write,
    checked_number,
    describe,
    in_short,
    invalid,
    matching,
    nearest,
    parse_record,
)
from igniter_opt.base.yaml_files import MOST_YAML_BYTES, parse_yaml
from igniter_opt.data.arrivals import Arrivals, ArrivalsField, either, with_arrivals
from igniter_opt.data.profile import Profile, as_profile, coefficient_set, read_profile, with_coefficients
from igniter_opt.data.slo_rule import admitted, has_percentile, list_rules, percentile_rules, rule_names

if TYPE_CHECKING:
    import pandas as pd

# Finer prices than this would make costs incomparable within floating-point accuracy.
PRICE_DECIMALS = 6
LARGEST_PRICE_RATIO = 1e6


# Far beyond anything served; keeps all arithmetic finite.
SloMs = Annotated[Positive, Field(ge=1e-6, le=1e9)]
LEAST_RATE, LARGEST_RATE = 1e-6, 1e9
RateRps = Annotated[Positive, Field(ge=LEAST_RATE, le=LARGEST_RATE)]
# A workload that needs more should be given as several.
MOST_REPLICAS = 100
Replicas = Annotated[Count, Field(le=MOST_REPLICAS)]


def _plain_price(value: float) -> float:
    if round(value, PRICE_DECIMALS) != value:
        raise invalid(f"must have at most {PRICE_DECIMALS} decimals; found {describe(value)}")
    return value


# No card costs as much; keeps sums finite.
LARGEST_PRICE = 1e9


def _no_free_gpu(value: object) -> object:
    """Refuse 0: gaps are relative to the cost, bounds are multiples of prices, and idle GPUs would be free."""
    if not isinstance(value, bool) and value == 0:
        raise invalid(
            "must be greater than 0; found 0 (for cards that you own, give all the same price, such as 1, so that cost"
            " counts GPUs; beside rented ones a far smaller one than theirs, such as 0.01, so that they are used first)"
        )
    return value


DEFAULT_CURRENCY = "USD"
# A code, a word such as credits, or a sign; it stands behind amounts everywhere.
Currency = Annotated[
    str, matching(r"^[A-Za-z$€£¥]{1,12}$", "must be 1 to 12 letters or currency signs, such as USD or EUR")
]
Price = Annotated[Positive, Field(le=LARGEST_PRICE), AfterValidator(_plain_price), BeforeValidator(_no_free_gpu)]
SloRule = Annotated[str, BeforeValidator(admitted), Field(json_schema_extra=list_rules)]
# Of rules that have one. Closer to 1, rounding errors would matter.
DEFAULT_PERCENTILE = 0.99
LEAST_PERCENTILE, LARGEST_PERCENTILE = 0.5, 0.999999
# A percentile is read from a trace that has so many requests beyond it at least.
FEWEST_LATE = 10
Percentile = Annotated[Number, Field(ge=LEAST_PERCENTILE, le=LARGEST_PERCENTILE)]


def percentile_name(probability: float) -> str:
    """Name a percentile, as in P99.9 for 0.999."""
    return f"P{100 * probability:.10g}"


class Workload(Record):
    """A stream of inference requests to one model.

    Attributes
    ----------
    slo_ms, rate_rps
        Latency objective in ms; arrival rate in requests per second.
    max_replicas
        Most replicas (of equal rate) that a plan may use. Not given: one, except that iGniter's greedy
        may still split a workload that is too large for a whole GPU, as its authors do.
    arrivals
        How its requests arrive, if not as the instance's do.
    """

    name: Name
    model: Name
    slo_ms: SloMs
    rate_rps: RateRps
    max_replicas: Replicas | None = None
    arrivals: ArrivalsField = None


def _named_profile(value: object, info: ValidationInfo) -> object:
    """Read a profile that a program names; what a file names is read by `parse_instance`, from the file's folder."""
    if info.context is not None or not isinstance(value, str | os.PathLike):
        return value
    try:
        return as_profile(value)
    except InputError as error:
        raise invalid(str(error)) from None


class GpuType(Record):
    """A kind of GPU that can be had.

    In files a type may have ``coefficients``, the set to be derived from its profile (`profile.Profile`).

    Attributes
    ----------
    profile
        The card and its models, or the name or path of a profile.
    price_per_hour
        Price in the instance's currency.
    count
        How many exist; unlimited when not given.
    memory_mib
        Memory of this offer, when it differs from the profile's card.
    """

    reading_keys: ClassVar[tuple[str, ...]] = ("coefficients",)

    name: Name
    profile: Annotated[Profile, BeforeValidator(_named_profile)]
    price_per_hour: Price
    count: Count | None = None
    memory_mib: Positive | None = None

    @property
    def memory_limit_mib(self) -> float | None:
        """Memory of one GPU in MiB where known."""
        return self.memory_mib if self.memory_mib is not None else self.profile.hardware.memory_mib


class Instance(Record):
    """Workloads and GPU types; everything a solver needs.

    In files an instance may have ``coefficients``, which hold for the GPU types that have none of their own.

    Attributes
    ----------
    currency
        Of all prices; shown behind amounts, never converted.
    percentile
        For rules that have one: which fraction of the requests must meet the SLO, `DEFAULT_PERCENTILE` when not given.
    arrivals
        For those rules: how requests arrive, for workloads that do not say it themselves; Poisson when not given.
    """

    reading_keys: ClassVar[tuple[str, ...]] = ("coefficients",)

    name: Name
    description: str = ""
    # Left out of files where it is the usual one, so that plans of earlier versions are the same plans still.
    currency: Annotated[Currency, Field(exclude_if=DEFAULT_CURRENCY.__eq__)] = DEFAULT_CURRENCY
    slo_rule: SloRule = "half"
    percentile: Percentile | None = None
    arrivals: ArrivalsField = None
    gpu_types: tuple[GpuType, ...] = Field(min_length=1)
    workloads: tuple[Workload, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.percentile is not None and not has_percentile(self.slo_rule):
            raise invalid(f"percentile: goes with slo_rule {percentile_rules()} only; the rule is {self.slo_rule}")
        _require_unique("gpu_types", [gpu.name for gpu in self.gpu_types])
        _require_unique("workloads", [workload.name for workload in self.workloads])
        prices = [gpu.price_per_hour for gpu in self.gpu_types]
        if max(prices) > LARGEST_PRICE_RATIO * min(prices):
            raise invalid(f"gpu_types: prices differ by more than a factor of {LARGEST_PRICE_RATIO:,.0f}")
        models = {model: None for gpu in self.gpu_types for model in gpu.profile.models}
        for position, workload in enumerate(self.workloads):
            if workload.model not in models:
                raise invalid(
                    f"workloads[{position}].model: unknown model {workload.model!r}"
                    f"{nearest(workload.model, models)} (models of the profiles: {', '.join(models)})"
                )
        self._check_traces()
        return self

    def _check_traces(self) -> None:
        """Refuse traces from which the percentile cannot be read."""
        if not has_percentile(self.slo_rule):
            return
        needed = math.ceil(FEWEST_LATE / (1.0 - self.required_percentile) * (1.0 - 1e-9))
        for position, workload in enumerate(self.workloads):
            recorded = self.arrivals_of(workload).recorded
            if recorded is None:
                continue
            try:
                requests = recorded.stream(workload.name).requests
            except InputError as error:
                raise invalid(f"workloads[{position}]: {error}") from None
            if requests < needed:
                raise invalid(
                    f"workloads[{position}]: the trace has {requests} requests of workload {workload.name}, too few to"
                    f" read {percentile_name(self.required_percentile)} from; it takes {needed:,} at least"
                )

    def arrivals_of(self, workload: Workload) -> Arrivals:
        """Return how a workload's requests arrive."""
        return workload.arrivals or self.arrivals or Arrivals()

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield from {"name": self.name, "slo_rule": self.slo_rule, "workloads": len(self.workloads)}.items()
        yield "gpu_types", in_short(gpu.name for gpu in self.gpu_types)

    @property
    def coefficients(self) -> str:
        """Which coefficients the GPU types are predicted with: ``refined``, or ``igniter (V100), refined (H200)``."""
        types: dict[str, list[str]] = {}
        for gpu in self.gpu_types:
            types.setdefault(gpu.profile.coefficients, []).append(gpu.name)
        if len(types) == 1:
            return next(iter(types))
        return ", ".join(f"{name} ({', '.join(gpus)})" for name, gpus in types.items())

    def cautions(self) -> list[str]:
        """Return what a user should know before trusting plans for this instance; nothing is wrong with it."""
        found = [(gpu.name, gpu.profile.caution()) for gpu in self.gpu_types]
        coefficients = [f"GPU type {name}: {text}" for name, text in found if text is not None]
        return coefficients + _memory_without_effect(self) + _arrivals_without_effect(self)

    def to_frame(self) -> "pd.DataFrame":
        """Return the workloads as a table."""
        return frame(map(dict, self.workloads))

    @property
    def required_percentile(self) -> float:
        """Fraction of the requests that must meet the SLO, where the rule or a test of the plan is about one."""
        return DEFAULT_PERCENTILE if self.percentile is None else self.percentile

    def with_options(
        self,
        slo_rule: SloRule | None = None,
        max_replicas: int | None = None,
        percentile: float | None = None,
        coefficients: str | None = None,
        scale: float | None = None,
        arrivals: Arrivals | None = None,
    ) -> "Instance":
        """Return a copy with another SLO rule, percentile or arrivals, or other replica limits, coefficients or rates.

        A rule that has no percentile drops the instance's. `scale` multiplies all rates. Arrivals, replica limits and
        coefficients take the place of all that the instance says of them.

        Raises
        ------
        InputError
            An option is out of range, or a percentile is given for a rule that has none.
        """
        if slo_rule is not None and slo_rule not in rule_names():
            raise InputError(f"unknown SLO rule {slo_rule!r} (rules: {', '.join(rule_names())})")
        if max_replicas is not None:
            max_replicas = int(checked_number("max_replicas", max_replicas, whole=True))
            if not 1 <= max_replicas <= MOST_REPLICAS:
                raise InputError(f"max_replicas must be in 1..{MOST_REPLICAS}; found {max_replicas!r}")
        changes: dict[str, Any] = {}
        rule = slo_rule or self.slo_rule
        if slo_rule is not None:
            changes["slo_rule"] = str(slo_rule)
        if not has_percentile(rule):
            changes["percentile"] = None
        if percentile is not None:
            if not has_percentile(rule):
                raise InputError(f"a percentile goes with the SLO rule {percentile_rules()} only; the rule is {rule}")
            percentile = checked_number("the percentile", percentile)
            if not LEAST_PERCENTILE <= percentile <= LARGEST_PERCENTILE:
                raise InputError(
                    f"the percentile must be in {LEAST_PERCENTILE:g}..{LARGEST_PERCENTILE:.6f}"
                    f" (0.99 is 99 %); found {percentile!r}"
                )
            changes["percentile"] = percentile
        if max_replicas is not None:
            changes["workloads"] = tuple(
                workload.model_copy(update={"max_replicas": max_replicas}) for workload in self.workloads
            )
        if scale is not None:
            changes["workloads"] = tuple(_scaled(entry, scale) for entry in changes.get("workloads", self.workloads))
        if coefficients is not None:
            changes["gpu_types"] = tuple(
                gpu.model_copy(update={"profile": with_coefficients(gpu.profile, coefficients)})
                for gpu in self.gpu_types
            )
        if arrivals is not None:
            names = [workload.name for workload in self.workloads]
            changes["arrivals"] = None if arrivals == Arrivals() else arrivals.planned(names)
            changes["workloads"] = tuple(
                workload.model_copy(update={"arrivals": None}) for workload in changes.get("workloads", self.workloads)
            )
        found = self.model_copy(update=changes)
        if arrivals is not None or percentile is not None or slo_rule is not None:
            try:
                found._check_traces()
            except PydanticCustomError as error:
                raise InputError(error.message()) from None
        return found


def _arrivals_without_effect(instance: Instance) -> list[str]:
    """Say that plans do not allow for the arrivals; they are simulated all the same."""
    if has_percentile(instance.slo_rule):
        return []
    planned = map(instance.arrivals_of, instance.workloads)
    words = either(arrivals.words for arrivals in planned if arrivals != Arrivals())
    if not words:
        return []
    return [
        f"the SLO rule {instance.slo_rule} assumes a constant rate and does not plan for {words}; rule"
        f" {percentile_rules()} does, and `simulate` says what they do to a plan"
    ]


def _memory_without_effect(instance: Instance) -> list[str]:
    """Say for which GPU types a limit of memory is given, and for which of its models it has no effect.

    Profiles need not say how much memory a model takes; of one that does not, any number fits.
    """
    found = []
    for gpu in instance.gpu_types:
        used = {workload.model: None for workload in instance.workloads if workload.model in gpu.profile.models}
        unknown = [model for model in used if gpu.profile.models[model].memory is None]
        if gpu.memory_mib is not None and unknown:
            found.append(
                f"memory_mib of GPU type {gpu.name} does not limit {', '.join(unknown)}: profile {gpu.profile.name}"
                " does not say how much memory they take"
            )
    return found


def _scaled(workload: Workload, scale: float) -> Workload:
    """Return a workload with its rate multiplied by a factor, as a decimal that people would write."""
    scale = checked_number("the scale", scale)
    if not 0 < scale < math.inf:
        raise InputError(f"the scale must be a finite number above 0; found {scale!r}")
    rate = float(f"{workload.rate_rps * scale:.12g}")
    if not LEAST_RATE <= rate <= LARGEST_RATE:
        raise InputError(
            f"scale {scale:g}: workload {workload.name} would have a rate of {rate:g} req/s; rates are"
            f" {LEAST_RATE:g} to {LARGEST_RATE:g}"
        )
    return workload.model_copy(update={"rate_rps": rate})


def _require_unique(kind: str, names: list[str]) -> None:
    seen: dict[str, int] = {}
    for position, name in enumerate(names):
        if name in seen:
            raise invalid(
                f"{kind}[{position}].name: {name!r} is already the name of {kind}[{seen[name]}]; names must be unique"
            )
        seen[name] = position


def shipped_instances() -> list[str]:
    """Return the names of the instances installed with the package."""
    folder = resources.files("igniter_opt.instances")
    return sorted(
        (entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")),
        key=_natural,
    )


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split("-")]


def shipped_instance_text(name: str) -> str:
    """Return a shipped instance's YAML text; raise InputError when there is none of that name."""
    if name not in shipped_instances():
        raise InputError(
            f"unknown instance {name!r}{nearest(name, shipped_instances())}"
            " (no such file, and no shipped instance of that name; `igniter-opt instances list` shows them)"
        )
    return (resources.files("igniter_opt.instances") / f"{name}.yaml").read_text("utf-8")


def as_instance(instance: Instance | StrPath) -> Instance:
    """Return an instance as it is, or read the one of this name or path."""
    return instance if isinstance(instance, Instance) else read_instance(instance)


def read_instance(name_or_path: StrPath) -> Instance:
    """Read an instance file by path, or a shipped instance by name.

    Raises
    ------
    InputError
        No such instance, or its content is not valid; the message names the file and the key.
    """
    path = as_path(name_or_path, "an instance, or the name or path of one")
    if exists(path) and (path.is_file() or str(name_or_path) not in shipped_instances()):
        text, source, folder = read_text(path, MOST_YAML_BYTES), str(path), path.parent
    elif len(path.parts) > 1 or path.suffix in {".yaml", ".yml", ".json"}:
        raise InputError(f"{path}: no such file")
    else:
        text, source, folder = shipped_instance_text(str(name_or_path)), f"instance {name_or_path}", Path()
    return parse_instance(text, source, folder)


def parse_instance(text: str, source: str, folder: Path) -> Instance:
    """Parse an instance's YAML text; profile paths are relative to `folder`."""
    data = parse_yaml(text, source)
    if isinstance(data, dict):
        schema = data.get("schema")
        if isinstance(schema, str) and schema.startswith("igniter-opt/plan"):
            raise InputError(f"{source}: is a plan, not an instance (`igniter-opt verify` takes plans)")
        everywhere = _coefficients(data, source)
        data = {key: value for key, value in data.items() if key != "coefficients"}
        if isinstance(data.get("gpu_types"), list):
            data["gpu_types"] = [
                _with_profile(entry, source, k, folder, everywhere) for k, entry in enumerate(data["gpu_types"])
            ]
        data = with_arrivals(data, source, folder)
    return parse_record(Instance, data, source)


def _coefficients(entry: dict[str, Any], where: str) -> str | None:
    """Return the coefficient set that a mapping asks for, if any."""
    if "coefficients" not in entry:
        return None
    try:
        return coefficient_set(entry["coefficients"])
    except InputError as error:
        raise InputError(f"{where}: coefficients: {error}") from None


def _with_profile(entry: object, source: str, position: int, folder: Path, everywhere: str | None) -> object:
    """Read the profile that an entry names, and set its coefficients."""
    if not isinstance(entry, dict):
        return entry
    where = f"{source}: gpu_types[{position}]"
    coefficients = _coefficients(entry, where) or everywhere
    entry = {key: value for key, value in entry.items() if key != "coefficients"}
    profile = entry.get("profile")
    if isinstance(profile, str):
        try:
            entry["profile"] = read_profile(profile, relative_to=folder, coefficients=coefficients)
        except InputError as error:
            raise InputError(f"{where}.profile: {error}") from None
    elif isinstance(profile, dict) and coefficients is not None:
        entry["profile"] = {**profile, "coefficients": coefficients}
    return entry


def instance_yaml(instance: Instance) -> str:
    """Render an instance as the YAML a person would write; shipped profiles are named, others inlined.

    The coefficients are always written beside a profile's name, so that the file means the same with every version.
    """
    gpu_types = []
    for gpu in instance.gpu_types:
        entry = gpu.model_dump(exclude_none=True)
        entry["profile"] = _profile_reference(gpu.profile)
        if isinstance(entry["profile"], str):
            entry["coefficients"] = gpu.profile.coefficients
        gpu_types.append(entry)
    head = {
        "name": instance.name,
        "description": instance.description,
        **({} if instance.currency == DEFAULT_CURRENCY else {"currency": instance.currency}),
        "slo_rule": instance.slo_rule,
        **({} if instance.percentile is None else {"percentile": instance.percentile}),
        **instance.model_dump(mode="json", include={"arrivals"}, exclude_none=True),
    }
    lines = [yaml.safe_dump(head, sort_keys=False, width=110, allow_unicode=True).rstrip(), "gpu_types:"]
    lines += ["  - " + _flow(entry) for entry in gpu_types]
    lines.append("workloads:")
    lines += ["  - " + _flow(workload.model_dump(exclude_none=True)) for workload in instance.workloads]
    return "\n".join(lines) + "\n"


def _flow(entry: dict[str, Any]) -> str:
    tidy = {key: int(v) if isinstance(v, float) and v.is_integer() else v for key, v in entry.items()}
    return yaml.safe_dump(tidy, default_flow_style=True, sort_keys=False, width=10**9).strip()


def _profile_reference(profile: Profile) -> str | dict[str, Any]:
    try:
        if read_profile(profile.name, coefficients=profile.coefficients) == profile:
            return profile.name
    except InputError:
        pass
    return profile.model_dump(mode="json", exclude_none=True)


def write_instance(instance: Instance, path: StrPath) -> None:
    """Write an instance file atomically."""
    check_to_write(instance, Instance)
    write_bytes_atomically(path, instance_yaml(instance).encode())

"""The problem: workloads with SLOs and rates, GPU types with prices."""

import math
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from igniter_opt.base.errors import InputError
from igniter_opt.base.frames import frame
from igniter_opt.base.schema import (
    EMPTY_CELLS,
    CheckedRecord,
    Count,
    Name,
    Number,
    Positive,
    checked_number,
    in_short,
    invalid,
    matching,
    nearest,
    one_of,
)
from igniter_opt.data.arrivals import ArrivalKind, Arrivals, ArrivalsField, as_arrivals, either
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.headroom import LARGEST_HEADROOM, Headroom, headroom_words, planned_rps
from igniter_opt.data.profile import with_coefficients
from igniter_opt.data.slo_rule import admitted, has_percentile, list_rules, percentile_rules, rule_names
from igniter_opt.data.split import SPLITS, Split, unless_random

if TYPE_CHECKING:
    import pandas as pd

LARGEST_PRICE_RATIO = 1e6


# Far beyond anything served; keeps all arithmetic finite.
SloMs = Annotated[Positive, Field(ge=1e-6, le=1e9)]
LEAST_RATE, LARGEST_RATE = 1e-6, 1e9
RateRps = Annotated[Positive, Field(ge=LEAST_RATE, le=LARGEST_RATE)]
# A workload that needs more should be given as several.
MOST_REPLICAS = 100
Replicas = Annotated[Count, Field(le=MOST_REPLICAS)]


DEFAULT_CURRENCY = "USD"
# A code, a word such as credits, or a sign; it stands behind amounts everywhere.
Currency = Annotated[
    str, matching(r"^[A-Za-z$€£¥]{1,12}$", "must be 1 to 12 letters or currency signs, such as USD or EUR")
]
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


class Workload(CheckedRecord):
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
    headroom
        Its own, in place of the instance's.
    """

    name: Name
    model: Name
    slo_ms: SloMs
    rate_rps: RateRps
    max_replicas: Annotated[Replicas | None, EMPTY_CELLS] = None
    arrivals: Annotated[ArrivalsField, EMPTY_CELLS] = None
    headroom: Annotated[Headroom | None, EMPTY_CELLS] = None


def _no_table(value: object) -> object:
    """Refuse a table of pandas, whose columns would be taken for its rows."""
    if hasattr(value, "iloc"):
        raise invalid('must be a list, one entry a row; found a table: give table.to_dict("records")')
    return value


class Instance(CheckedRecord):
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
    headroom
        Plan for rates that are higher by this (0.2: by 20 %), for workloads that do not say it themselves.
    split
        How replicas share a workload's requests: at random when not given, or in turn.
    """

    reading_keys: ClassVar[tuple[str, ...]] = ("coefficients",)

    name: Name
    description: str = ""
    # Left out of files where it is the usual one, so that plans of earlier versions are the same plans still.
    currency: Annotated[Currency, Field(exclude_if=DEFAULT_CURRENCY.__eq__)] = DEFAULT_CURRENCY
    slo_rule: SloRule = "half"
    percentile: Percentile | None = None
    arrivals: ArrivalsField = None
    headroom: Headroom | None = None
    split: Annotated[Split | None, AfterValidator(unless_random)] = None
    gpu_types: Annotated[tuple[GpuType, ...], BeforeValidator(_no_table)] = Field(min_length=1)
    workloads: Annotated[tuple[Workload, ...], BeforeValidator(_no_table)] = Field(min_length=1)

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
        self._check_headroom()
        return self

    def _check_headroom(self) -> None:
        """Refuse headrooms with which a rate would be too large."""
        for position, workload in enumerate(self.workloads):
            if planned_rps(workload.rate_rps, self.headroom_of(workload)) > LARGEST_RATE:
                raise invalid(
                    f"workloads[{position}]: a headroom of {self.headroom_of(workload):g} makes a rate of"
                    f" {workload.rate_rps:g} req/s larger than {LARGEST_RATE:g}, the largest there may be"
                )

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

    @property
    def only_recorded(self) -> bool:
        """Whether the requests of all workloads are recorded ones."""
        return all(self.arrivals_of(workload).kind == "trace" for workload in self.workloads)

    def demand_of(self, workload: Workload) -> tuple[Hashable, ...]:
        """Return what a workload asks for: in any plan, those that ask for the same may take each other's place."""
        stream: Hashable = None
        if has_percentile(self.slo_rule):
            arrivals = self.arrivals_of(workload)
            stream = arrivals if arrivals.recorded is None else arrivals.recorded.stream(workload.name)
        asked = (workload.model, workload.slo_ms, workload.rate_rps, workload.max_replicas)
        return (*asked, self.headroom_of(workload), stream)

    def headroom_of(self, workload: Workload) -> float:
        """Return by how much a workload's rate is planned higher, 0 for not."""
        own = self.headroom if workload.headroom is None else workload.headroom
        return 0.0 if own is None else own

    @property
    def planned_workloads(self) -> tuple[Workload, ...]:
        """The workloads with the rates that plans are for: those said, and their headroom."""
        if self.headroom_words is None:
            return self.workloads
        return tuple(
            entry.model_copy(update={"rate_rps": planned_rps(entry.rate_rps, self.headroom_of(entry))})
            for entry in self.workloads
        )

    @property
    def headroom_words(self) -> str | None:
        """The workloads' headrooms in a few words; None where there is none."""
        return headroom_words(map(self.headroom_of, self.workloads))

    def without_headroom(self, workload: str, rate_rps: float) -> float:
        """Return what users send of a rate that is planned for a workload or a part of it."""
        headroom = next((self.headroom_of(entry) for entry in self.workloads if entry.name == workload), 0.0)
        return rate_rps / (1.0 + headroom) if headroom else rate_rps

    @property
    def shared_types(self) -> tuple[GpuType, ...]:
        """The GPU types that are shared by MPS, or whole."""
        return tuple(gpu for gpu in self.gpu_types if not gpu.is_cut)

    def require_shared(self, what: str) -> None:
        """Raise InputError where MIG cuts a GPU type, for what does not know such cards: ``replan``, say."""
        if self.cut_types:
            names = ", ".join(gpu.name for gpu in self.cut_types)
            raise InputError(f"{what} does not know cards under MIG yet ({names}); take an instance without them")

    @property
    def cut_types(self) -> tuple[GpuType, ...]:
        """The GPU types that MIG cuts."""
        return tuple(gpu for gpu in self.gpu_types if gpu.is_cut)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield from {"name": self.name, "slo_rule": self.slo_rule, "workloads": len(self.workloads)}.items()
        yield "gpu_types", in_short(gpu.name for gpu in self.gpu_types)

    @property
    def coefficients(self) -> str:
        """Which coefficients the GPU types are predicted with: ``refined``, or ``igniter (V100), refined (H200)``."""
        types: dict[str, list[str]] = {}
        for gpu in self.gpu_types:
            kind = "readings of slices" if gpu.is_cut else gpu.mps_profile.coefficients
            types.setdefault(kind, []).append(gpu.name)
        if len(types) == 1:
            return next(iter(types))
        return ", ".join(f"{name} ({', '.join(gpus)})" for name, gpus in types.items())

    def cautions(self) -> list[str]:
        """Return what a user should know before trusting plans for this instance; nothing is wrong with it."""
        found = [(gpu.name, gpu.profile.caution()) for gpu in self.gpu_types]
        coefficients = [f"GPU type {name}: {text}" for name, text in found if text is not None]
        return coefficients + _memory_without_effect(self) + _arrivals_without_effect(self) + _serving_unknown(self)

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
        arrivals: ArrivalKind | Arrivals | None = None,
        headroom: float | None = None,
        split: Split | None = None,
    ) -> "Instance":
        """Return a copy with another SLO rule, percentile or arrivals, or other replica limits, coefficients or rates.

        A rule that has no percentile drops the instance's. `scale` multiplies all rates. Arrivals, headroom, split,
        replica limits and coefficients take the place of all that the instance says of them.

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
                gpu
                if gpu.is_cut
                else gpu.model_copy(update={"profile": with_coefficients(gpu.mps_profile, coefficients)})
                for gpu in self.gpu_types
            )
        if arrivals is not None:
            arrivals = as_arrivals(arrivals)
            names = [workload.name for workload in self.workloads]
            changes["arrivals"] = None if arrivals == Arrivals() else arrivals.planned(names)
            changes["workloads"] = tuple(
                workload.model_copy(update={"arrivals": None}) for workload in changes.get("workloads", self.workloads)
            )
        if headroom is not None:
            headroom = checked_number("the headroom", headroom)
            if not 0 <= headroom <= LARGEST_HEADROOM:
                raise InputError(
                    f"the headroom must be in 0..{LARGEST_HEADROOM:g} (0.2 is 20 % more); found {headroom!r}"
                )
            changes["headroom"] = headroom or None
            changes["workloads"] = tuple(
                workload.model_copy(update={"headroom": None}) for workload in changes.get("workloads", self.workloads)
            )
        if split is not None:
            changes["split"] = unless_random(one_of(split, SPLITS, "split: unknown way", "ways"))
        return self.model_copy(update=changes)


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


def _serving_unknown(instance: Instance) -> list[str]:
    """Say of which GPU types it is not known what a server adds to a batch, where a percentile is promised."""
    if not has_percentile(instance.slo_rule):
        return []
    lacking = {
        gpu.name: gpu.profile
        for gpu in instance.gpu_types
        if not gpu.is_cut
        and gpu.mps_profile.not_served(entry.model for entry in instance.workloads if entry.model in gpu.profile.models)
    }
    if not lacking:
        return []
    first = next(iter(lacking.values()))
    return [
        f"GPU type {', '.join(lacking)}: the profile does not say what the server adds to every batch and request, so"
        f" that on real servers latencies will be longer than planned; `igniter-opt profile serve {first.name} -o FILE`"
        " measures it on the card"
    ]


def _memory_without_effect(instance: Instance) -> list[str]:
    """Say for which GPU types a limit of memory is given, and for which of its models it has no effect.

    Profiles need not say how much memory a model takes; of one that does not, any number fits.
    """
    found = []
    for gpu in instance.shared_types:
        models = gpu.mps_profile.models
        used = {workload.model: None for workload in instance.workloads if workload.model in models}
        unknown = [model for model in used if models[model].memory is None]
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

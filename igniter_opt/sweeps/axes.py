"""What can be varied: one table, a row and a function each.

A function takes a setting (an instance and what it is solved with), what is meant (a workload, a GPU type, a profile)
and a value, and returns the setting with that value. Whatever is out of range is refused where records are made.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Literal, NamedTuple

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import checked_number, describe, nearest
from igniter_opt.base.text import cut
from igniter_opt.data.gpu_type import PRICE_DECIMALS, GpuType
from igniter_opt.data.instance import Instance, Workload
from igniter_opt.data.profile import Profile, with_coefficients
from igniter_opt.data.profile_files import read_card_profile
from igniter_opt.data.slice_profile import SliceProfile
from igniter_opt.options import SolveOptions

MOST_VALUES = 1_000
# Values are decimals that people would write.
_DIGITS = 12
_FORM = "KEY=FROM:TO:STEPS, as in slo=0.8:1.2:9, or KEY=VALUE,VALUE,..."


class SweepSetting(NamedTuple):
    """An instance, and what it is solved with."""

    instance: Instance
    options: SolveOptions


def _all_slos(setting: SweepSetting, _: object, value: float) -> SweepSetting:
    return _with_workloads(setting, [_with_slo(entry, entry.slo_ms * value) for entry in setting.instance.workloads])


def _one_slo(setting: SweepSetting, name: object, value: float) -> SweepSetting:
    workloads = setting.instance.workloads
    return _with_workloads(setting, [_with_slo(entry, value) if entry.name == name else entry for entry in workloads])


def _all_rates(setting: SweepSetting, _: object, value: float) -> SweepSetting:
    return setting._replace(instance=setting.instance.with_options(scale=value))


def _one_rate(setting: SweepSetting, name: object, value: float) -> SweepSetting:
    workloads = setting.instance.workloads
    changed = [entry.model_copy(update={"rate_rps": value}) if entry.name == name else entry for entry in workloads]
    return _with_workloads(setting, changed)


def _price(setting: SweepSetting, name: object, value: float) -> SweepSetting:
    types = setting.instance.gpu_types
    priced = [entry.model_copy(update={"price_per_hour": value}) if entry.name == name else entry for entry in types]
    return _with_types(setting, priced)


def _count(setting: SweepSetting, name: object, value: float) -> SweepSetting:
    """With a count of 0 the type is not on offer."""
    types = setting.instance.gpu_types
    if value == 0:
        left = [entry for entry in types if entry.name != name]
        if not left:
            raise InputError(f"a count of 0 leaves no GPU type: {name} is the only one; begin at 1")
        return _with_types(setting, left)
    counted = [entry.model_copy(update={"count": int(value)}) if entry.name == name else entry for entry in types]
    return _with_types(setting, counted)


def _new_type(setting: SweepSetting, profile: object, value: float) -> SweepSetting:
    assert isinstance(profile, Profile | SliceProfile)  # noqa: S101 (`_profile_named` finds it)
    if setting.options.coefficients is not None and isinstance(profile, Profile):
        profile = with_coefficients(profile, setting.options.coefficients)
    new = GpuType(name=profile.name, profile=profile, price_per_hour=value)
    return _with_types(setting, [*setting.instance.gpu_types, new])


def _margin(setting: SweepSetting, _: object, value: float) -> SweepSetting:
    return setting._replace(options=replace(setting.options, margin=value))


def _confidence(setting: SweepSetting, _: object, value: float) -> SweepSetting:
    return setting._replace(options=replace(setting.options, confidence=value))


def _percentile(setting: SweepSetting, _: object, value: float) -> SweepSetting:
    return setting._replace(instance=setting.instance.with_options(percentile=value))


def _with_slo(workload: Workload, slo_ms: float) -> Workload:
    return workload.model_copy(update={"slo_ms": _decimal(slo_ms)})


def _with_workloads(setting: SweepSetting, workloads: Iterable[Workload]) -> SweepSetting:
    return setting._replace(instance=setting.instance.model_copy(update={"workloads": tuple(workloads)}))


def _with_types(setting: SweepSetting, types: Iterable[GpuType]) -> SweepSetting:
    return setting._replace(instance=setting.instance.model_copy(update={"gpu_types": tuple(types)}))


def _decimal(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _workload_named(instance: Instance, name: str) -> str:
    names = [workload.name for workload in instance.workloads]
    if name not in names:
        raise InputError(f"the instance has no workload {describe(name)}{nearest(name, names)}")
    return name


def _type_named(instance: Instance, name: str) -> str:
    names = [gpu.name for gpu in instance.gpu_types]
    if not name and len(names) == 1:
        return names[0]
    if name not in names:
        raise InputError(
            f"the instance has no GPU type {describe(name)}{nearest(name, names)} (its: {', '.join(names)})"
        )
    return name


def _profile_named(instance: Instance, name: str) -> Profile | SliceProfile:
    profile = read_card_profile(name)
    if profile.name in [gpu.name for gpu in instance.gpu_types]:
        raise InputError(f"the instance has a GPU type {profile.name} already; vary price:{profile.name}")
    return profile


@dataclass(frozen=True)
class Variable:
    """A row of the table.

    Attributes
    ----------
    words, unit
        What is varied, and what its values are in.
    stricter
        Whether larger or smaller values ask for more: who plans for the one has a plan for the other, at no greater
        cost. This says where to look for plans and bounds that carry over; whether they do is checked each time
        (`carry`).
    vary
        The function.
    find
        What a name means; None where it is of the whole instance.
    whole
        Whether values are whole numbers.
    priced
        Whether values are prices, along which costs change without a change of the GPUs.
    of_rates
        Whether rates are varied, at lower ones of which a plan holds under some SLO rules only (`rule.Rule`).
    """

    words: str
    unit: str
    stricter: Literal["larger", "smaller"]
    vary: Callable[[SweepSetting, object, float], SweepSetting]
    find: Callable[[Instance, str], object] | None = None
    whole: bool = False
    priced: bool = False
    of_rates: bool = False


# By key; those with a colon are of one of several.
VARIABLES: Mapping[str, Variable] = {
    "slo": Variable("all SLOs", "times", "smaller", _all_slos),
    "slo:WORKLOAD": Variable("SLO of {name}", "ms", "smaller", _one_slo, _workload_named),
    "rate": Variable("all rates", "times", "larger", _all_rates, of_rates=True),
    "rate:WORKLOAD": Variable("rate of {name}", "req/s", "larger", _one_rate, _workload_named, of_rates=True),
    "price:TYPE": Variable("price of {name}", "per hour", "larger", _price, _type_named, priced=True),
    "count:TYPE": Variable("GPUs of type {name} on offer", "", "smaller", _count, _type_named, whole=True),
    "new:PROFILE": Variable("price of an added {name}", "per hour", "larger", _new_type, _profile_named, priced=True),
    "margin": Variable("margin", "", "larger", _margin),
    "confidence": Variable("confidence", "", "larger", _confidence),
    "percentile": Variable("percentile", "", "larger", _percentile),
}


@dataclass(frozen=True)
class Axis:
    """A variable, what it is of, and its values, rising.

    Attributes
    ----------
    key
        As it was asked for, such as ``slo:W7``.
    target
        What the name in the key means: a workload's or a type's name, or a profile.
    """

    key: str
    variable: Variable
    target: object
    values: tuple[float, ...]

    def title(self, currency: str) -> str:
        """Say what is varied, with its unit; prices are in a currency."""
        name = self.target.name if isinstance(self.target, Profile | SliceProfile) else self.target
        unit = f"{currency} per hour" if self.variable.priced else self.variable.unit
        return self.variable.words.format(name=name) + (f" ({unit})" if unit else "")

    def applied(self, setting: SweepSetting, value: float) -> SweepSetting:
        """Return a setting with a value.

        Raises
        ------
        InputError
            There can be no such value; the message says where.
        """
        try:
            return self.variable.vary(setting, self.target, value)
        except InputError as error:
            raise InputError(f"--vary {self.key}, value {value:g}: {error}") from None

    def as_loose(self, value: float, other: float) -> bool:
        """Whether a value asks for no more than another one."""
        return value >= other if self.variable.stricter == "smaller" else value <= other

    def between(self, low: float, high: float) -> float | None:
        """Return a value half-way between two; None if there is none."""
        middle = (Decimal(str(low)) + Decimal(str(high))) / 2
        value = _allowed(self.variable, float(middle // 1 if self.variable.whole else middle))
        return value if low < value < high else None


def _allowed(variable: Variable, value: float) -> float:
    """Return the nearest value that a variable can have."""
    return round(float(value), PRICE_DECIMALS) if variable.priced else _decimal(value)


def varied(instance: Instance, key: str, value: float) -> Instance:
    """Return an instance with one value of one key, other than of margin and confidence."""
    axis = axis_with(key, [value], instance)
    return axis.applied(SweepSetting(instance, SolveOptions()), axis.values[0]).instance


def parsed(text: str) -> tuple[str, list[float]]:
    """Read key and values of what is to be varied: ``KEY=FROM:TO:STEPS`` or ``KEY=VALUE,VALUE,...``.

    Raises
    ------
    InputError
        It is not of that form.
    """
    key, equals, words = text.rpartition("=")
    if not equals or not key:
        raise InputError(f"--vary {cut(text)}: must be {_FORM}")
    parts = words.split(":")
    numbers = words.split(",") if len(parts) == 1 else parts
    try:
        found = [Decimal(part.strip()) for part in numbers]
    except InvalidOperation:
        raise InputError(f"--vary {cut(text)}: {describe(words)} is not numbers; must be {_FORM}") from None
    if len(parts) == 1:
        return key.strip(), [float(value) for value in found]
    if len(found) != 3 or not all(value.is_finite() for value in found):
        raise InputError(f"--vary {cut(text)}: must be {_FORM}")
    first, last, steps = found
    if steps != steps.to_integral_value() or not 2 <= steps <= MOST_VALUES or first == last:
        raise InputError(
            f"--vary {cut(text)}: STEPS is the number of values, both ends included, a whole number from 2 to"
            f" {MOST_VALUES:,}, and FROM is not TO; for one value write {cut(key)}={first}"
        )
    return key.strip(), [float(first + (last - first) * k / (steps - 1)) for k in range(int(steps))]


def axis_with(key: str, values: Sequence[float], instance: Instance) -> Axis:
    """Make an axis of a key and values.

    Raises
    ------
    InputError
        There is no such key, workload, type or profile, or a value is none.
    """
    kind, colon, name = key.strip().partition(":")
    rows = {row.partition(":")[0]: row for row in VARIABLES if ":" in row}
    row = kind if kind in VARIABLES and not colon else rows.get(kind)
    if row is None:
        known = ", ".join(VARIABLES)
        if kind in VARIABLES:
            raise InputError(f"--vary {cut(key)}: {kind} is of the whole instance, and takes no name (keys: {known})")
        raise InputError(f"--vary {cut(key)}: unknown key{nearest(kind, {*rows, *VARIABLES})} (keys: {known})")
    variable = VARIABLES[row]
    try:
        target = None if variable.find is None else variable.find(instance, name)
    except InputError as error:
        raise InputError(f"--vary {cut(key)}: {error}") from None
    if not 1 <= len(values) <= MOST_VALUES:
        raise InputError(f"--vary {cut(key)}: takes 1 to {MOST_VALUES:,} values; found {len(values):,}")
    checked = [checked_number(f"--vary {cut(key)}: a value", value) for value in values]
    for value in checked:
        if not math.isfinite(value) or value < 0:
            raise InputError(f"--vary {cut(key)}: a value must be a finite number of at least 0; found {value!r}")
        if variable.whole and value != round(value):
            raise InputError(f"--vary {cut(key)}: values must be whole numbers; found {value:g} (as in {kind}=1:10:10)")
    named = key.strip() if variable.find is None or name else f"{kind}:{target}"
    return Axis(named, variable, target, tuple(sorted({_allowed(variable, value) for value in checked})))

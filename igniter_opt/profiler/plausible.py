"""What no card and no model can be: figures of a profile that are faults whatever was measured."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import parse_record
from igniter_opt.data.profile import Hardware, ModelProfile, Profile

Level = Literal["fault", "warning"]

# Smallest and largest figures of cards: SMs, MHz, bytes per ms (0.1 GB/s to 10 TB/s), MiB.
_SMS, _CLOCKS = (2, 1024), (100.0, 10_000.0)
_COPIES, _MEMORY = (1e5, 1e10), (512.0, 1e7)
# A share of more than this leaves no room for a second process.
_LARGEST_UNIT = 50.0
_ROUNDING, _PART_OF_SM = 1e-6, 0.01
# Clocks are read in steps, and counters may exceed their peak by a little.
_CLOCK_NOISE, _MOST_PERCENT = 1.005, 105.0


@dataclass(frozen=True)
class Finding:
    """Something wrong: `fault` (measure again) or `warning` (know about it), where, and what it means."""

    level: Level
    where: str
    message: str


def invalid_findings(profile: Profile) -> list[Finding]:
    """Return a fault for every value that no file of a profile may hold, such as NaN; objects can be made with it."""
    try:
        parse_record(Profile, profile.model_dump(), "profile")
    except InputError as error:
        lines = [line.removeprefix("profile: ").partition(": ") for line in str(error).splitlines()]
        # Of many only the first are listed, and how many more there are.
        return [Finding("fault", where.removeprefix("models."), message) for where, _, message in lines if message]
    return []


def implausible_findings(profile: Profile) -> list[Finding]:
    """Return faults: figures that no card or model can have; and warnings: unusual ones."""
    found = _hardware(profile.hardware)
    for name, model in profile.models.items():
        found += _model(name, model, profile.hardware)
    return found


def _fault(where: str, message: str) -> list[Finding]:
    return [Finding("fault", where, message)]


def _hardware(card: Hardware) -> list[Finding]:
    found = []
    if card.max_power_w <= card.idle_power_w:
        found += _fault(
            "hardware.max_power_w",
            f"the card may draw {card.max_power_w:g} W, no more than it does when idle ({card.idle_power_w:g} W)",
        )
    unit = card.share_unit_percent
    if unit > _LARGEST_UNIT:
        found += _fault("hardware.share_unit_percent", f"no two processes fit on a card with shares of {unit:g} %")
    sms = unit * card.sm_count / 100.0
    if abs(sms - round(sms)) > _PART_OF_SM or round(sms) < 1:
        level: Level = "fault" if sms < 1.0 - _PART_OF_SM else "warning"
        message = f"{unit:g} % of {card.sm_count} SMs is no whole number of them"
        found.append(Finding(level, "hardware.share_unit_percent", message))
    for name, what, value, (least, most) in (
        ("sm_count", "SMs", card.sm_count, _SMS),
        ("max_frequency_mhz", "MHz", card.max_frequency_mhz, _CLOCKS),
        ("pcie_bandwidth_bytes_per_ms", "bytes per ms", card.pcie_bandwidth_bytes_per_ms, _COPIES),
        ("memory_mib", "MiB", card.memory_mib, _MEMORY),
    ):
        if value is not None and not least <= value <= most:
            found += _fault(f"hardware.{name}", f"no card has {value:g} {what} ({least:g} to {most:g})")
    return found


def _model(name: str, model: ModelProfile, card: Hardware) -> list[Finding]:
    grid, found = model.solo_grid, []
    shares = grid.share_percent
    if shares[-1] > 100.0 * (1.0 + _ROUNDING):
        found += _fault(f"{name}.solo_grid", f"a share of {shares[-1]:g} % is more than the card")
    if shares[0] < card.share_unit_percent * (1.0 - _ROUNDING):
        found += _fault(
            f"{name}.solo_grid",
            f"a share of {shares[0]:g} % is less than the least that the card grants ({card.share_unit_percent:g} %)",
        )
    if np.max(grid.power_w) <= card.idle_power_w:
        found += _fault(f"{name}.solo_grid", "the busy card draws no more power than the idle one at any point")
    if np.max(grid.frequency_mhz) > card.max_frequency_mhz * _CLOCK_NOISE:
        found += _fault(f"{name}.solo_grid", "clocks above the highest were read")
    for what, value in (
        ("l2_utilisation_percent_at", max(point.value for point in model.l2_utilisation_percent_at)),
        ("dram_utilisation_percent_at", max((p.value for p in model.dram_utilisation_percent_at or ()), default=0.0)),
        ("interference_probe", model.interference_probe.l2_utilisation_percent),
    ):
        if value > _MOST_PERCENT:
            found += _fault(f"{name}.{what}", f"a utilisation of {value:g} % is more than all")
    if model.memory is not None and card.memory_mib is not None:
        needed = model.memory.fixed_mib + model.memory.per_item_mib * grid.batch[0]
        if needed > card.memory_mib:
            found += _fault(
                f"{name}.memory", f"batch {grid.batch[0]} takes {needed:g} MiB, the card has {card.memory_mib:g}"
            )
    return found

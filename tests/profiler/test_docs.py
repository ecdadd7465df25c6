"""The figures of docs/profile.md are those of the shipped readings."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from igniter_opt.cli.commands.profile import measure_command
from igniter_opt.data.measurement_files import read_measurements
from igniter_opt.data.profile import read_profile
from igniter_opt.profiler.check import check_profile
from igniter_opt.profiler.make import profile_of_log
from igniter_opt.profiler.record import read_log
from tests.profiler.helpers import H100_COLOCATED, H100_PROFILE, H200_COLOCATED, H200_PROFILE

TEXT = (Path(__file__).parents[2] / "docs" / "profile.md").read_text()
CARDS = [("H100", "h100", H100_PROFILE, H100_COLOCATED), ("H200", "h200", H200_PROFILE, H200_COLOCATED)]


def cells(card: str, table: int) -> list[str]:
    """The cells of a card's row in the n-th table that has one."""
    rows = [line for line in TEXT.splitlines() if line.startswith(f"| {card} |")]
    return [cell.strip() for cell in rows[table].strip("|").split("|")]


def readings(log: Path) -> dict[str, Any]:
    """What a log of co-locations holds, by key."""
    return {
        entry["key"]: entry["value"] for entry in list(read_log(log))[1:] if entry["key"].startswith(("alone", "group"))
    }


def times(log: Path) -> dict[str, float]:
    """When the readings of a log were taken, in seconds since it began."""
    # The H200's eighth model was added two days later.
    added = "efficientnet_b0" if log == H200_PROFILE else "date"
    rest = (entry for entry in list(read_log(log))[1:] if entry["key"] != "date")
    return {entry["key"]: entry["at_s"] for entry in rest if added not in entry["key"].split()}


@pytest.mark.parametrize(("card", "name", "profile", "colocated"), CARDS)
def test_minutes(card: str, name: str, profile: Path, colocated: Path) -> None:
    _, models, minutes, each, counters, _, together = cells(card, 0)
    at = times(profile)
    count = sum(key.startswith("facts") for key in at)
    last = max(at.values())
    counted = max(value for key, value in at.items() if key.startswith("counters"))
    counting = counted - max(value for key, value in at.items() if key.startswith("facts"))
    assert (models, minutes) == (str(count), f"{last / 60:.1f}")
    assert each == f"**{last / count:.0f} s**"
    assert counters == f"{counting / count:.0f} s"
    assert together == f"{max(times(colocated).values()) / 60:.1f}"


def test_seconds_per_model_are_the_same_everywhere() -> None:
    each = [int(cells(card, 0)[3].strip("*").removesuffix(" s")) for card, *_ in CARDS]
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    for text in (readme, measure_command.__doc__ or ""):
        said = re.search(r"(\d+) to (\d+) s per model", text)
        assert said is not None and int(said[1]) <= min(each) <= max(each) <= int(said[2])


def test_how_well_readings_repeat() -> None:
    said = re.search(
        r"at most ([\d.]+) % but for AlexNet, ([\d.]+) % on the H100 and ([\d.]+) % on the H200, and EfficientNet,"
        r" ([\d.]+) % on the H200",
        TEXT.replace("\n", " "),
    )
    assert said is not None
    found = {
        (name, entry.model): 100 * (entry.repeatability or np.inf)
        for name in ("h100", "h200")
        for entry in check_profile(read_profile(name)).models
    }
    named = [("h100", "alexnet"), ("h200", "alexnet"), ("h200", "efficientnet_b0")]
    rest = max(error for key, error in found.items() if key not in named)
    assert said.groups() == tuple(f"{error:.2f}" for error in (rest, *(found[key] for key in named)))


@pytest.mark.parametrize(("name", "log"), [("h100", H100_PROFILE), ("h200", H200_PROFILE)])
def test_what_a_rebuilt_profile_lacks(name: str, log: Path) -> None:
    built, shipped = profile_of_log(log, name), read_profile(name)
    lacking = {key for key in ("colocated_measurements", "calibration") if getattr(built, key) is None}
    assert lacking == {"colocated_measurements", "calibration"} and shipped.calibration is not None
    assert built.hardware.least_share_percent is None and shipped.hardware.least_share_percent is not None
    assert built.provenance.date is not None and built.provenance.date < "2026-11-26"
    assert "no co-locations and no calibration" in TEXT
    assert "begun before 2026-11-26" in TEXT.replace("\n", " ")


@pytest.mark.parametrize(("card", "name", "profile", "colocated"), CARDS)
def test_errors(card: str, name: str, profile: Path, colocated: Path) -> None:
    check = check_profile(read_profile(name, coefficients="igniter"), read_measurements(f"{name}-colocated"))
    _, means, worst, pairs, three, four = cells(card, 1)
    found = [100 * entry.mean_error for entry in check.models]
    assert means == f"{min(found):.1f} to {max(found):.1f} %"
    assert worst.startswith(f"{100 * max(entry.worst_error for entry in check.models):.0f} %")
    groups = {group.size: group.to_dict() for group in check.groups}
    assert pairs == f"{100 * groups[2]['mean_error']:.1f} %, {100 * groups[2]['bias']:+.1f} %"
    assert three == f"{100 * groups[3]['mean_error']:.1f} %"
    assert four == f"{100 * groups[4]['mean_error']:.1f} %"


def test_slow_downs_and_clocks() -> None:
    values = list(readings(H100_COLOCATED).values())
    alone = {json.dumps(v["jobs"][0]): v["readings"][0]["wall_ms"] for v in values if len(v["jobs"]) == 1}
    groups = [value for value in values if len(value["jobs"]) > 1]
    slow = [
        reading["wall_ms"] / alone[json.dumps(job)] - 1
        for group in groups
        for job, reading in zip(group["jobs"], group["readings"], strict=True)
    ]
    said = re.search(r"took ([\d.]+) % longer on average, ([\d.]+) % at most,\s+than alone \((\d+) placements\)", TEXT)
    assert said is not None
    assert said.groups() == (f"{100 * np.mean(slow):.1f}", f"{100 * np.max(slow):.1f}", str(len(slow)))
    assert f"{min(group['frequency_mhz'] for group in groups):,.0f} to 1,980 MHz" in TEXT
    clocks = [value["frequency_mhz"] for key, value in readings(H200_COLOCATED).items() if key.startswith("group")]
    assert f"fell to {min(clocks):,.0f} MHz, {100 * (1 - min(clocks) / 1980):.1f} %" in TEXT.replace("\n", " ")

"""Figures that no card and no model can have are faults, each named; a good profile has none."""

from math import nan
from pathlib import Path
from typing import Any

import pytest

from igniter_opt import InputError
from igniter_opt.data.profile import ModelMemory, Profile, read_profile, shipped_profiles
from igniter_opt.profiler.check import check_profile
from igniter_opt.profiler.plausible import implausible_findings
from tests.cli.helpers import invoke
from tests.profiler.test_check import said, with_grid, with_model


def with_hardware(profile: Profile, **changes: Any) -> Profile:
    return profile.model_copy(update={"hardware": profile.hardware.model_copy(update=changes)})


@pytest.mark.parametrize("name", shipped_profiles())
def test_shipped_profiles_are_plausible(name: str) -> None:
    assert implausible_findings(read_profile(name)) == []


@pytest.mark.parametrize(
    ("changes", "where", "message"),
    [
        ({"max_power_w": 53.5}, "max_power_w", "the card may draw 53.5 W, no more than it does when idle (53.5 W)"),
        ({"max_power_w": 1e-6}, "max_power_w", "the card may draw 1e-06 W, no more than it does when idle (53.5 W)"),
        ({"share_unit_percent": 52.5}, "share_unit_percent", "no two processes fit on a card with shares of 52.5 %"),
        ({"share_unit_percent": 1.0}, "share_unit_percent", "1 % of 80 SMs is no whole number of them"),
        ({"sm_count": 1}, "sm_count", "no card has 1 SMs (2 to 1024)"),
        ({"sm_count": 10**9}, "sm_count", "no card has 1e+09 SMs (2 to 1024)"),
        ({"max_frequency_mhz": 1e-3}, "max_frequency_mhz", "no card has 0.001 MHz (100 to 10000)"),
        (
            {"pcie_bandwidth_bytes_per_ms": 1e30},
            "pcie_bandwidth_bytes_per_ms",
            "no card has 1e+30 bytes per ms (100000 to 1e+10)",
        ),
        ({"memory_mib": 0.5}, "memory_mib", "no card has 0.5 MiB (512 to 1e+07)"),
    ],
)
def test_absurd_cards_are_faults(
    v100: Profile, tmp_path: Path, changes: dict[str, Any], where: str, message: str
) -> None:
    bad = with_hardware(v100, **changes)
    check = check_profile(bad)
    assert ("fault", message) in said(check, f"hardware.{where}") and not check.ok
    file = tmp_path / "bad.json"
    file.write_text(bad.model_dump_json())
    run = invoke("profile", "check", file)
    assert run.code == 1
    assert f"fault: hardware.{where}: {message}\n" in run.out


def test_a_unit_between_whole_sms_is_a_warning(v100: Profile) -> None:
    check = check_profile(with_hardware(v100, share_unit_percent=4.0))
    assert said(check, "hardware.share_unit_percent") == [("warning", "4 % of 80 SMs is no whole number of them")]
    assert check.ok


@pytest.mark.parametrize(
    ("changes", "where", "message"),
    [
        ({"sm_count": 0}, "hardware.sm_count", "must be at least 1; found 0"),
        ({"max_power_w": nan}, "hardware.max_power_w", "must be a finite number; found NaN"),
        ({"idle_power_w": -1.0}, "hardware.idle_power_w", "must be at least 0; found -1.0"),
        ({"share_unit_percent": nan}, "hardware.share_unit_percent", "must be a finite number; found NaN"),
    ],
)
def test_cards_that_no_file_can_hold_are_faults(
    v100: Profile, changes: dict[str, Any], where: str, message: str
) -> None:
    check = check_profile(with_hardware(v100, **changes))
    assert said(check, where) == [("fault", message)] and not check.ok
    assert check.to_dict()["ok"] is False


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"relative_error": ((nan,) * 3,) * 3}, "must be a finite number; found NaN"),
        ({"relative_error": ((-0.1,) * 3,) * 3}, "must be at least 0; found -0.1"),
        ({"share_percent": (10.0, nan, 100.0)}, "must be a finite number; found NaN"),
        ({"share_percent": (-10.0, 50.0, 100.0)}, "must be greater than 0; found -10.0"),
        ({"gpu_latency_ms": ((nan,) * 3,) * 3}, "must be a finite number; found NaN"),
    ],
)
def test_readings_that_no_file_can_hold_are_faults(v100: Profile, changes: dict[str, Any], message: str) -> None:
    check = check_profile(with_grid(v100, "alexnet", **changes))
    assert not check.ok
    assert all(finding.where.startswith("alexnet.solo_grid.") for finding in check.findings)
    assert message in {finding.message for finding in check.findings}


def test_absurd_models_are_faults(v100: Profile) -> None:
    probe, points = v100.models["ssd"].interference_probe, v100.models["ssd"].l2_utilisation_percent_at
    larger = {10.0: 10.0, 50.0: 50.0, 100.0: 250.0}
    at = tuple(point.model_copy(update={"share_percent": larger[point.share_percent]}) for point in points)
    high = points[0].model_copy(update={"value": 1000.0})
    for bad, where, message in (
        (
            with_model(with_grid(v100, "ssd", share_percent=(10.0, 50.0, 250.0)), "ssd", l2_utilisation_percent_at=at),
            "ssd.solo_grid",
            "a share of 250 % is more than the card",
        ),
        (
            with_hardware(v100, share_unit_percent=12.5),
            "ssd.solo_grid",
            "a share of 10 % is less than the least that the card grants (12.5 %)",
        ),
        (
            with_grid(v100, "ssd", power_w=((50.0,) * 3,) * 3),
            "ssd.solo_grid",
            "the busy card draws no more power than the idle one at any point",
        ),
        (
            with_grid(v100, "ssd", frequency_mhz=((1600.0,) * 3,) * 3),
            "ssd.solo_grid",
            "clocks above the highest were read",
        ),
        (
            with_model(v100, "ssd", l2_utilisation_percent_at=(high, *points[1:])),
            "ssd.l2_utilisation_percent_at",
            "a utilisation of 1000 % is more than all",
        ),
        (
            with_model(v100, "ssd", interference_probe=probe.model_copy(update={"l2_utilisation_percent": 200.0})),
            "ssd.interference_probe",
            "a utilisation of 200 % is more than all",
        ),
        (
            with_model(
                v100,
                "ssd",
                interference_probe=probe.model_copy(
                    update={"active_time_paired_ms": 5 * probe.active_time_alone_ms, "frequency_paired_mhz": 1530.0}
                ),
            ),
            "ssd.interference_probe",
            "beside a twin it takes 5 times as long as alone, although there is a share for each",
        ),
        (
            with_model(
                with_hardware(v100, memory_mib=16384.0),
                "ssd",
                memory=ModelMemory(fixed_mib=16000.0, per_item_mib=500.0),
            ),
            "ssd.memory",
            "batch 1 takes 16500 MiB, the card has 16384",
        ),
    ):
        check = check_profile(bad)
        assert ("fault", message) in said(check, where), where
        assert not check.ok


def test_numbers_that_no_fit_can_take_are_refused_in_one_line(v100: Profile) -> None:
    with pytest.raises(InputError, match="profile v100: no coefficients fit, its numbers are absurd"):
        check_profile(with_grid(v100, "alexnet", gpu_latency_ms=((1e300,) * 3,) * 3))


def test_a_probe_is_compared_with_the_point_of_the_grid_that_it_is(v100: Profile) -> None:
    """Whatever its batch and share, not only at the usual ones."""
    model = v100.models["vgg19"]
    grid = model.solo_grid
    alone = grid.gpu_latency_ms[0][0] - model.scheduling_delay_ms
    update = {"batch": grid.batch[0], "share_percent": grid.share_percent[0], "active_time_alone_ms": alone}
    same = model.interference_probe.model_copy(update={**update, "active_time_paired_ms": 1.2 * alone})
    other = same.model_copy(update={"active_time_alone_ms": 1.3 * alone, "active_time_paired_ms": 1.5 * alone})
    assert said(check_profile(with_model(v100, "vgg19", interference_probe=same)), "vgg19.interference_probe") == []
    found = said(check_profile(with_model(v100, "vgg19", interference_probe=other)), "vgg19.interference_probe")
    assert found[0][0] == "fault" and "30.0 % more or less" in found[0][1]

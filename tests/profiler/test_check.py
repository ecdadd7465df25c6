"""Judging profiles: a good one passes, and every kind of damage is found and named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from igniter_opt.base.errors import InputError
from igniter_opt.data.measurement_files import Measurements, read_measurements
from igniter_opt.data.profile import Profile, read_profile, shipped_profiles, with_coefficients
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.predict import predict
from igniter_opt.profiler.check import ProfileCheck, check_profile
from igniter_opt.report.profiles import plot_profile
from tests.cli.helpers import invoke


def with_grid(profile: Profile, model: str, **changes: Any) -> Profile:
    grid = profile.models[model].solo_grid.model_copy(update=changes)
    return with_model(profile, model, solo_grid=grid)


def with_model(profile: Profile, model: str, **changes: Any) -> Profile:
    changed = profile.models[model].model_copy(update=changes)
    return profile.model_copy(update={"models": {**profile.models, model: changed}})


def latencies(profile: Profile, model: str) -> np.ndarray:
    return np.array(profile.models[model].solo_grid.gpu_latency_ms)


def tuples(table: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in table)


def said(check: ProfileCheck, where: str) -> list[tuple[str, str]]:
    return [(finding.level, finding.message) for finding in check.findings if finding.where == where]


@pytest.mark.parametrize("name", shipped_profiles())
def test_shipped_profiles_have_no_fault(name: str) -> None:
    assert check_profile(read_profile(name)).ok


def test_residuals_are_those_of_the_predictor(v100: Profile) -> None:
    check = next(entry for entry in check_profile(v100).models if entry.model == "vgg19")
    grid = v100.models["vgg19"].solo_grid
    for row, batch in enumerate(grid.batch):
        for column, share in enumerate(grid.share_percent):
            found = predict(v100, [("vgg19", batch, share)]).gpu_latency_ms[0]
            assert check.error[row, column] == pytest.approx(found / grid.gpu_latency_ms[row][column] - 1, abs=1e-12)
    assert check.points == 9
    assert check.worst_error == pytest.approx(0.0826, abs=1e-3)


def test_shares_without_effect_are_a_fault(v100: Profile) -> None:
    """Without MPS, or where kernels are launched too slowly, all shares take about the same time."""
    table = latencies(v100, "alexnet")
    same = with_grid(v100, "alexnet", gpu_latency_ms=tuples(np.repeat(table[:, -1:], 3, axis=1) * [1.02, 1.01, 1.0]))
    check = check_profile(same)
    assert not check.ok
    assert any(
        "MPS shares had no effect" in text for level, text in said(check, "alexnet.solo_grid") if level == "fault"
    )


@pytest.mark.parametrize(("factor", "level"), [(1.03, "warning"), (1.3, "fault")])
def test_latencies_that_grow_with_the_share(v100: Profile, factor: float, level: str) -> None:
    table = latencies(v100, "vgg19")
    table[1, 2] = table[1, 1] * factor
    found = said(check_profile(with_grid(v100, "vgg19", gpu_latency_ms=tuples(table))), "vgg19.solo_grid")
    assert (level, f"latency grows by up to {100 * (factor - 1):.1f} % although the share does") in found


def test_latencies_that_fall_with_the_batch(v100: Profile) -> None:
    table = latencies(v100, "vgg19")
    table[1, 0] = table[0, 0] * 0.5
    check = check_profile(with_grid(v100, "vgg19", gpu_latency_ms=tuples(table)))
    assert any("falls by up to 50.0 %" in text for _, text in said(check, "vgg19.solo_grid"))
    assert not check.ok


@pytest.mark.parametrize(("error", "level"), [(0.005, None), (0.02, "warning"), (0.1, "fault")])
def test_readings_that_do_not_repeat(v100: Profile, error: float, level: str | None) -> None:
    known = with_grid(v100, "alexnet", relative_error=tuples(np.full((3, 3), error)))
    found = said(check_profile(known), "alexnet.solo_grid")
    assert [entry for entry, text in found if "least steady" in text] == ([] if level is None else [level])


def test_a_card_that_was_idle_while_it_was_measured(v100: Profile) -> None:
    run = v100.hardware.coexecution.model_copy(update={"power_w": (53.0,) * 5, "frequency_mhz": (1530.0,) * 5})
    idle = v100.model_copy(update={"hardware": v100.hardware.model_copy(update={"coexecution": run})})
    assert said(check_profile(idle), "hardware.coexecution")[0][0] == "fault"


def bent(profile: Profile) -> Profile:
    """The profile with L2 utilisation of VGG-19 that is no line over throughput."""
    points = profile.models["vgg19"].l2_utilisation_percent_at
    values = [1.0, 90.0, 1.0]
    changed = tuple(p.model_copy(update={"value": v}) for p, v in zip(points, values, strict=True))
    return with_model(profile, "vgg19", l2_utilisation_percent_at=changed)


def lines_missed(profile: Profile, coefficients: str) -> set[str]:
    findings = check_profile(with_coefficients(profile, coefficients)).findings
    return {finding.where for finding in findings if "off the line" in finding.message}


def test_l2_utilisation_is_judged_as_a_line_where_the_coefficients_take_it_as_one(v100: Profile) -> None:
    where = "vgg19.l2_utilisation_percent_at"
    for profile in (v100, read_profile("h100")):
        assert not {place for place in lines_missed(profile, "refined") if "l2" in place}
        assert where in lines_missed(bent(profile), "igniter")
    # Neither counters of all traffic nor co-locations: refined coefficients keep the line.
    bare = v100.model_copy(update={"colocated_measurements": None, "solo_measurements": None, "calibration": None})
    assert where in lines_missed(bent(bare), "refined") and where not in lines_missed(bare, "refined")


def test_power_of_refined_coefficients_is_judged_with_its_part_by_share(v100: Profile) -> None:
    profile = with_coefficients(v100, "refined")
    fitted = fit_coefficients(profile).models["alexnet"]
    assert fitted.refined is not None and fitted.refined.power_per_share > 1
    model = profile.models["alexnet"]
    shares = np.array(model.solo_grid.share_percent)
    batch = np.array(model.solo_grid.batch)[:, None]
    rate = 1000 * batch / (latencies(profile, "alexnet") - model.scheduling_delay_ms)
    power = fitted.power_slope * rate + fitted.power_intercept + fitted.refined.power_per_share * shares
    check = check_profile(with_grid(profile, "alexnet", power_w=tuples(power + profile.hardware.idle_power_w)))
    assert not said(check, "alexnet.power_w")


def test_neighbours_that_help_are_mentioned(v100: Profile) -> None:
    probe = v100.models["vgg19"].interference_probe
    helped = probe.model_copy(
        update={"active_time_paired_ms": 0.9 * probe.active_time_alone_ms, "frequency_paired_mhz": 1530.0}
    )
    check = check_profile(with_model(v100, "vgg19", interference_probe=helped))
    assert [level for level, _ in said(check, "vgg19.interference_probe")] == ["warning"]
    assert not next(entry for entry in check.models if entry.model == "vgg19").planned


@pytest.mark.parametrize(("factor", "levels"), [(1.0, []), (1.08, ["warning"]), (1.3, ["fault"])])
def test_probe_that_contradicts_the_grid(v100: Profile, factor: float, levels: list[str]) -> None:
    model = v100.models["vgg19"]
    alone = (model.solo_grid.gpu_latency_ms[1][1] - model.scheduling_delay_ms) * factor
    paired = {"active_time_alone_ms": alone, "active_time_paired_ms": alone * 1.1}
    probe = model.interference_probe.model_copy(update=paired)
    check = check_profile(with_model(v100, "vgg19", interference_probe=probe))
    assert [level for level, _ in said(check, "vgg19.interference_probe")] == levels


def test_pole_below_the_measured_shares_is_mentioned() -> None:
    shipped = read_profile("h100", coefficients="igniter")
    hardware = shipped.hardware.model_copy(update={"least_share_percent": None})
    check = check_profile(shipped.model_copy(update={"hardware": hardware}))
    # The card grants no such share, so that for the shipped profile it does not matter.
    assert not any("nothing sensible" in text for _, text in said(check_profile(shipped), "vit_b_16.solo_grid"))
    assert any("nothing sensible up to a share of 4.55 %" in text for _, text in said(check, "vit_b_16.solo_grid"))


def test_errors_on_measurements_by_group_size() -> None:
    profile, measured = read_profile("h100"), read_measurements("h100-colocated")
    groups = check_profile(profile, measured).groups
    assert [group.size for group in groups] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert sum(len(group.errors) for group in groups) == sum(map(len, measured.groups()))


def test_exact_predictions_have_no_error(v100: Profile) -> None:
    together = [("alexnet", 4, 20.0), ("vgg19", 8, 50.0)]
    latency = predict(v100, together).latency_ms
    rows = {
        "group": (1, 1),
        "model": ("alexnet", "vgg19"),
        "batch": (4, 8),
        "share_percent": (20.0, 50.0),
        "latency_ms": (float(latency[0]), float(latency[1]) / 1.1),
    }
    measured = Measurements.model_validate(
        {"profile": "v100", "gpu": v100.hardware.gpu, "source": "test", "colocated": rows}
    )
    (group,) = check_profile(v100, measured).groups
    assert group.errors == pytest.approx([0.0, 0.1])
    assert group.to_dict()["worst_error"] == pytest.approx(0.1)


def test_command_and_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = invoke("profile", "check", "h100", "--measurements", "h100-colocated", "--plot", "h100.svg", "--json")
    assert run.code == 0
    assert {entry["model"] for entry in run.json()["models"]} == set(read_profile("h100").models)
    assert [entry["placements_side_by_side"] for entry in run.json()["measurements"]] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert Path("h100.svg").read_text().startswith("<?xml")
    plot_profile(read_profile("h100"), check_profile(read_profile("h100")), Path("again.png"))
    assert Path("again.png").stat().st_size > 10_000
    assert "h100: no fault" in invoke("profile", "check", "h100").out


def test_command_judges_either_coefficients() -> None:
    worst = {}
    for chosen in ("igniter", "refined"):
        run = invoke("profile", "check", "h100", "--coefficients", chosen, "--json")
        assert run.code == 0
        worst[chosen] = max(entry["worst_error"] for entry in run.json()["models"])
    assert worst["refined"] < worst["igniter"]
    assert invoke("profile", "check", "h100", "--coefficients", "refind").code == 2


def test_command_finds_fault(v100: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bad = with_grid(v100, "alexnet", relative_error=tuples(np.full((3, 3), 0.2)))
    Path("bad.json").write_text(bad.model_dump_json())
    run = invoke("profile", "check", "bad.json")
    assert run.code == 1
    assert "fault: alexnet.solo_grid: the least steady mean latency is known to 20.0 % only" in run.out
    assert "bad: 1 fault(s); measure again" in run.out or "v100: 1 fault(s); measure again" in run.out


def test_numbers_too_absurd_for_a_prediction_are_no_pass(v100: Profile) -> None:
    probe = v100.models["vgg19"].interference_probe.model_copy(update={"l2_utilisation_percent": 5e-324})
    with pytest.raises(InputError, match=r"^models\.vgg19: the latencies predicted for its own grid are not finite"):
        check_profile(with_model(v100, "vgg19", interference_probe=probe))

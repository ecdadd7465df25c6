"""The shipped files of real cards follow from the logs of readings, to the last digit."""

import json
from pathlib import Path

import numpy as np
import pytest

from igniter_opt import InputError
from igniter_opt.data.measurement_files import Measurements, read_measurements, with_measurements
from igniter_opt.data.measurements import joined_groups
from igniter_opt.data.profile import Profile, read_profile
from igniter_opt.fitting.calibration import calibrate
from igniter_opt.fitting.fresh import calibrate_fresh
from igniter_opt.profiler.colocate import OLD_BATCHES, build_measurements
from igniter_opt.profiler.make import make_measurements, make_profile, profile_of_log
from igniter_opt.profiler.record import Log, read_log
from igniter_opt.profiler.runners.recorded import RecordedRunner
from igniter_opt.profiler.runners.runner import Job
from tests.profiler.helpers import (
    H100_ALONE,
    H100_COLOCATED,
    H100_CROWDED,
    H100_GRANTED,
    H100_ONNX,
    H100_PROFILE,
    H200_ALONE,
    H200_COLOCATED,
    H200_CROWDED,
    H200_DAY,
    H200_FIRST,
    H200_FRESH,
    H200_GRANTED,
    H200_PROFILE,
    H200_SOLVED,
    H200_SOLVED_SECOND,
    MODELS,
)

LOGS = {
    "h100": (H100_COLOCATED, H100_CROWDED, H100_ALONE),
    "h200": (H200_COLOCATED, H200_CROWDED, H200_ALONE),
}


def bare(name: str) -> Profile:
    """A shipped profile without what was measured beyond its own log."""
    nothing = {"solo_measurements": None, "colocated_measurements": None, "calibration": None}
    shipped = read_profile(name)
    # The log of the profile does not say the least share, see below.
    hardware = shipped.hardware.model_copy(update={"least_share_percent": None})
    return shipped.model_copy(update={**nothing, "hardware": hardware})


def measured_in(log: Path, profile: Profile) -> Measurements:
    """Put the measurements of a log together."""
    kept = Log(None, {})
    kept.entries = {entry["key"]: entry["value"] for entry in list(read_log(log))[1:]}
    return build_measurements(kept, profile, "tf32")


@pytest.mark.parametrize(("name", "granted"), [("h100", H100_GRANTED), ("h200", H200_GRANTED)])
def test_shipped_least_shares_are_what_was_granted(name: str, granted: Path) -> None:
    found, hardware = json.loads(granted.read_text()), read_profile(name).hardware
    assert found["gpu"] == hardware.gpu
    fewest = min(found["sms"].values())
    assert hardware.least_share_percent == pytest.approx(100 * fewest / hardware.sm_count)
    # Above it shares are rounded down to the unit.
    for share, sms in found["sms"].items():
        steps = float(share) / hardware.share_unit_percent
        unit_sms = round(hardware.share_unit_percent * hardware.sm_count / 100)
        assert sms == max(fewest, int(steps + 1e-9) * unit_sms)


@pytest.mark.parametrize("name", ["h100", "h200"])
def test_shipped_measurements_are_those_of_all_logs(name: str) -> None:
    profile = bare(name)
    for log in LOGS[name]:
        profile = with_measurements(profile, measured_in(log, profile))
    shipped = read_measurements(f"{name}-colocated")
    assert (profile.solo_measurements, profile.colocated_measurements) == (shipped.solo, shipped.colocated)


def test_shipped_measurements_of_solved_plans_are_those_of_the_logs() -> None:
    shipped, card = read_measurements("h200-colocated-solved"), read_profile("h200")
    first, second = (measured_in(log, card) for log in (H200_SOLVED, H200_SOLVED_SECOND))
    both = joined_groups(first.colocated, second.side_by_side(), card.hardware.share_unit_percent)
    assert shipped == first.model_copy(update={"colocated": both})
    assert shipped.solo is None and len(shipped.side_by_side().members()) == 32 + 31


def test_shipped_fresh_measurements_are_those_of_the_logs() -> None:
    card, random = read_profile("h200"), 72
    unit, found = card.hardware.share_unit_percent, measured_in(H200_FIRST, card).side_by_side()
    groups = sorted(found.members())
    assert read_measurements("h200-colocated-day").colocated == measured_in(H200_DAY, card).colocated
    before, after = read_measurements(str(H200_FRESH)).side_by_side(), found.take(groups[:random])
    assert after is not None
    assert read_measurements("h200-colocated-fresh").colocated == joined_groups(before, after, unit)
    assert read_measurements("h200-colocated-fresh-solved").colocated == found.take(groups[random:])


def test_the_h200_holds_its_measurements_and_the_margins_that_fresh_ones_gave() -> None:
    profile, held = read_profile("h200"), bare("h200")
    for name in ("", "-solved", "-day"):
        held = with_measurements(held, read_measurements(f"h200-colocated{name}"))
    names = ("h200-colocated-fresh", "h200-colocated-fresh-solved")
    random, planned = ((name, read_measurements(name).side_by_side()) for name in names)
    assert profile.calibration is not None
    kept = profile.calibration["refined"]
    again = calibrate_fresh(held, random, planned, kept.date).calibration
    assert again is not None
    fitted = {"margin", "spread", "mean_error"}
    assert again["refined"].model_dump(exclude={*fitted, "planned"}) == kept.model_dump(exclude={*fitted, "planned"})
    assert again["refined"].margin == pytest.approx(kept.margin, abs=2e-3)
    assert again["refined"].spread == pytest.approx(kept.spread, abs=2e-2)
    for name in names:
        held = with_measurements(held, read_measurements(name))
    assert profile.colocated_measurements == held.colocated_measurements
    assert profile.solo_measurements == held.solo_measurements


@pytest.mark.parametrize("name", ["h100"])
def test_shipped_profiles_hold_the_shipped_measurements_and_the_margins_they_give(name: str) -> None:
    profile, measured = read_profile(name), read_measurements(f"{name}-colocated")
    assert profile.calibration is not None and measured.colocated is not None
    held = with_measurements(bare(name), measured)
    assert profile.solo_measurements == measured.solo
    assert profile.colocated_measurements == held.colocated_measurements
    for coefficients, kept in profile.calibration.items():
        chosen = profile.model_copy(update={"coefficients": coefficients})
        planned = kept.planned and (
            kept.planned.measurements,
            read_measurements(kept.planned.measurements).side_by_side(),
        )
        again = calibrate(
            chosen, measured.colocated, f"{name}-colocated", kept.date, planned=planned or None
        ).calibration
        assert again is not None
        margins = {"margin", "margin_measured"}
        assert again[coefficients].model_dump(exclude=margins) == kept.model_dump(exclude=margins)
        assert again[coefficients].margin == pytest.approx(kept.margin, abs=2e-3)
        assert again[coefficients].margin_measured == pytest.approx(kept.margin_measured, abs=2e-3)


def test_shipped_h200_is_what_the_readings_say() -> None:
    assert profile_of_log(H200_PROFILE, "h200") == bare("h200")
    # The session was stopped after 193 of its 194 groups.
    keys = [entry["key"] for entry in list(read_log(H200_COLOCATED))[1:]]
    assert sum(key.startswith("group ") for key in keys) == 193


def test_shipped_h100_is_what_the_readings_say() -> None:
    assert profile_of_log(H100_PROFILE, "h100") == bare("h100")


def test_a_session_on_the_recorded_card_makes_the_same_profile() -> None:
    runner = RecordedRunner(H100_PROFILE)
    made = make_profile(runner, "h100", MODELS, precision="tf32")
    shipped = read_profile("h100")
    # The grid, a pair of each model, and two to five side by side; one alone is on the grid as well.
    assert len(set(runner.measured)) == len(MODELS) * (36 + 1) + 4
    assert made.provenance.precision == "tf32"
    for name, model in shipped.models.items():
        # Counters are read at the smallest and the largest batch; the shipped profile has one more between.
        points = model.l2_utilisation_percent_at
        assert made.models[name].l2_utilisation_percent_at == (points[0], points[-1])
        # Points that were measured twice may be given in the other order: twice is never far from once.
        np.testing.assert_allclose(
            made.models[name].solo_grid.gpu_latency_ms, model.solo_grid.gpu_latency_ms, rtol=0.03
        )


@pytest.mark.parametrize("log", [H100_COLOCATED, H100_CROWDED])
def test_a_session_on_the_recorded_card_makes_the_same_measurements(log: Path) -> None:
    head = RecordedRunner(log).head
    sizes = {name: head[name] for name in ("pairs", "larger", "crowded", "seed") if name in head}
    profile = read_profile("h100")
    made = make_measurements(
        RecordedRunner(log), profile, head["models"], precision="tf32", batches=OLD_BATCHES, **sizes
    )
    assert (made.solo, made.colocated) == (measured_in(log, profile).solo, measured_in(log, profile).colocated)


def test_models_and_points_that_were_not_recorded_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"h100-profile\.jsonl: holds no measurement of vgg19 batch 3 on 26 SMs"):
        RecordedRunner(H100_PROFILE).measure([Job("vgg19", 3, 26)], 1.0)
    with pytest.raises(InputError, match="holds no measurement 'facts lenet'"):
        RecordedRunner(H100_PROFILE).facts(["lenet"], [1])
    with pytest.raises(InputError, match="holds no counters of vgg19 at batch 2"):
        RecordedRunner(H100_PROFILE).counters(["vgg19"], [2])
    with pytest.raises(InputError, match="no such file"):
        RecordedRunner(tmp_path / "none.jsonl")


def test_what_is_said_of_onnx_files_was_measured() -> None:
    said = " ".join((Path(__file__).parents[3] / "docs" / "profile.md").read_text("utf-8").split())
    modules, files = read_profile("h100").models, profile_of_log(H100_ONNX, "onnx").models
    ratio = {
        name: np.array(files[name].solo_grid.gpu_latency_ms) / modules[name].solo_grid.gpu_latency_ms for name in files
    }
    transformers = [ratio.pop("bert_base"), ratio.pop("vit_b_16")]
    means = [float(found.mean()) for found in ratio.values()]
    assert f"the convolutional ones take {min(means):.2f} to {max(means):.2f} of the module's time" in said
    means = [float(found.mean()) for found in transformers]
    least, most = min(map(np.min, transformers)), max(map(np.max, transformers))
    assert f"{min(means):.1f} to {max(means):.1f} times it ({least:.1f} to {most:.1f} over the grid)" in said

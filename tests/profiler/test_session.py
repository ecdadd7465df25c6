"""Sessions: a known card is found again, nothing is measured twice, unsteady points are repeated."""

import json
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from igniter_opt import InputError
from igniter_opt.base.stop import StopRequest
from igniter_opt.data.profile import Profile, read_profile, with_coefficients
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.predict import predict
from igniter_opt.profiler.colocate import OLD_BATCHES, random_groups
from igniter_opt.profiler.make import make_measurements, make_profile, profile_of_log
from igniter_opt.profiler.runners.runner import Card, Job, Moment, Reading
from igniter_opt.profiler.runners.synthetic import SyntheticRunner
from igniter_opt.profiler.session import (
    FEWEST,
    FURTHER,
    MOST_S,
    REPEATS,
    TOGETHER,
    StoppedError,
    granted_step,
    sms_for,
)
from tests.profiler.helpers import MODELS

V100_MODELS = MODELS[:4]


def uncapped(profile: Profile) -> Profile:
    """A card that never lowers its clock, so that every reading shows its coefficients unmixed."""
    run = profile.hardware.coexecution
    steady = run.model_copy(update={"frequency_mhz": (profile.hardware.max_frequency_mhz,) * len(run.power_w)})
    changes = {"max_power_w": 1e4, "coexecution": steady}
    return profile.model_copy(update={"hardware": profile.hardware.model_copy(update=changes)})


def test_fit_recovers_the_coefficients_of_a_known_card(v100: Profile) -> None:
    truth = uncapped(v100)
    made = make_profile(SyntheticRunner(truth), "again", V100_MODELS)
    assert made.coefficients == "refined"
    wanted, found = fit_coefficients(truth), fit_coefficients(with_coefficients(made, "igniter"))
    assert found.hardware.delay_slope == pytest.approx(wanted.hardware.delay_slope, rel=1e-4)
    assert found.hardware.delay_intercept == pytest.approx(wanted.hardware.delay_intercept, rel=1e-4)
    assert found.hardware.share_unit_percent == pytest.approx(wanted.hardware.share_unit_percent)
    np.testing.assert_allclose(found.table, wanted.table, rtol=2e-3, atol=1e-6)


def test_fit_recovers_the_clock_of_a_capped_card(v100: Profile) -> None:
    made = make_profile(SyntheticRunner(v100), "again", V100_MODELS)
    slope = fit_coefficients(v100).hardware.frequency_slope
    assert fit_coefficients(made).hardware.frequency_slope == pytest.approx(slope, rel=1e-2)


def test_noise_of_single_batches_hardly_moves_predictions(v100: Profile) -> None:
    truth = uncapped(v100)
    made = make_profile(SyntheticRunner(truth, noise=0.02, seed=3), "again", V100_MODELS)
    together = [("alexnet", 4, 20.0), ("vgg19", 8, 50.0), ("ssd", 2, 30.0)]
    np.testing.assert_allclose(predict(made, together).latency_ms, predict(truth, together).latency_ms, rtol=0.05)
    errors = np.array(made.models["vgg19"].solo_grid.relative_error)
    assert 0 < errors.max() <= 0.01


def test_nothing_in_the_log_is_measured_again(v100: Profile, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    stop = StopRequest()

    def stop_late(what: str, done: int, of_all: int) -> None:
        if what.startswith("vgg19: solo vgg19 4"):
            stop.set()

    first = SyntheticRunner(v100)
    with pytest.raises(StoppedError):
        make_profile(first, "p", V100_MODELS, log=log, report=stop_late, stop=stop)
    log.write_text(log.read_text() + '{"key": "solo vgg19 4 28", "val')  # cut off while it was written
    second = SyntheticRunner(v100)
    resumed = make_profile(second, "p", V100_MODELS, log=log)
    whole = SyntheticRunner(v100)
    assert resumed == make_profile(whole, "p", V100_MODELS)
    assert len(first.measured) + len(second.measured) == len(whole.measured)
    third = SyntheticRunner(v100)
    assert make_profile(third, "p", V100_MODELS, log=log) == resumed
    assert not third.measured
    for line in log.read_text().splitlines():
        json.loads(line)


def test_a_log_of_something_else_is_refused(v100: Profile, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    make_profile(SyntheticRunner(v100), "p", ["alexnet"], log=log)
    before = log.read_bytes()
    with pytest.raises(InputError, match="another precision"):
        make_profile(SyntheticRunner(v100), "p", ["alexnet"], precision="fp16", log=log)
    assert log.read_bytes() == before


class Unsteady(SyntheticRunner):
    """Every group's first reading varies wildly."""

    def measure(self, jobs: Sequence[Job], seconds: float) -> Moment:
        found = super().measure(jobs, seconds)
        if self.measured.count(tuple(jobs)) > 1:
            return found
        wild = [r._replace(wall_ms=2 * r.wall_ms, wall_std_ms=5 * r.wall_ms) for r in found.readings]
        return found._replace(readings=tuple(wild))


def test_unsteady_points_are_measured_again_and_the_steadiest_kept(v100: Profile) -> None:
    runner = Unsteady(v100)
    made = make_profile(runner, "p", ["alexnet", "vgg19"])
    steady = make_profile(SyntheticRunner(v100), "p", ["alexnet", "vgg19"])
    assert made.models == steady.models
    counts = {group: runner.measured.count(group) for group in runner.measured}
    # One alone of a pair, or of five, is a point of the grid too; slow batches are first tried for too short a time.
    assert set(counts.values()) <= {2, 3, 4}
    assert REPEATS >= 1


class Wavering(SyntheticRunner):
    """Every group's tries vary by another part of their mean."""

    deviations = (0.5, 0.2, 0.3)

    def measure(self, jobs: Sequence[Job], seconds: float) -> Moment:
        found = super().measure(jobs, seconds)
        part = self.deviations[(self.measured.count(tuple(jobs)) - 1) % 3]
        longer = [(reading, reading.wall_ms * (1 + part)) for reading in found.readings]
        wild = [reading._replace(batches=16, wall_ms=wall, wall_std_ms=part * wall) for reading, wall in longer]
        return found._replace(readings=tuple(wild))


@pytest.mark.parametrize("order", list(permutations(Wavering.deviations)))
def test_of_tries_that_all_vary_the_steadiest_is_kept(
    v100: Profile, tmp_path: Path, order: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Wavering, "deviations", order)
    log = tmp_path / "log"
    grid = make_profile(Wavering(v100), "p", ["vgg19"], log=log).models["vgg19"].solo_grid
    steady = make_profile(SyntheticRunner(v100), "p", ["vgg19"]).models["vgg19"].solo_grid
    assert grid.relative_error is not None
    np.testing.assert_allclose(grid.relative_error, 0.2 / 4, atol=1e-6)
    np.testing.assert_allclose(grid.gpu_latency_ms, 1.2 * np.array(steady.gpu_latency_ms), rtol=1e-5)
    entries = [json.loads(line) for line in log.read_text().splitlines()[1:]]
    assert {entry["value"]["tries"] for entry in entries if "solo" in entry["key"]} == {REPEATS + 1}


class Single(SyntheticRunner):
    """A batch takes nearly as long as the longest try, so that one is all that fits; alone it has no deviation."""

    batch_s = 1.8

    def measure(self, jobs: Sequence[Job], seconds: float) -> Moment:
        found = super().measure(jobs, seconds)
        count = max(1, int(seconds / self.batch_s))
        slow = Reading(count, 1800.0, 5.0 if count > 1 else 0.0, 1800.0, 1799.0, 0.1)
        return found._replace(readings=(slow,) * len(jobs))


def test_one_batch_is_no_steady_reading(v100: Profile, tmp_path: Path) -> None:
    log = tmp_path / "log"
    grid = make_profile(Single(v100), "p", ["vgg19"], log=log).models["vgg19"].solo_grid
    assert grid.relative_error is not None and min(map(min, grid.relative_error)) > 0
    counts = [reading["batches"] for line in log.read_text().splitlines()[1:] for reading in _readings(line)]
    assert min(counts) == FEWEST + 1
    # What an older log has as one batch is measured again, and is no profile.
    lines = log.read_text().splitlines(keepends=True)
    single = [line.replace('"batches": 4', '"batches": 1') if '"solo vgg19 8 40"' in line else line for line in lines]
    log.write_text("".join(single))
    with pytest.raises(InputError, match="'solo vgg19 8 40' is one batch only; measure it again with --resume"):
        profile_of_log(log, "p")
    runner = Single(v100)
    make_profile(runner, "p", ["vgg19"], log=log)
    assert set(runner.measured) == {(Job("vgg19", 8, 40),)}


def test_batches_of_which_no_two_are_measured_are_refused(v100: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Single, "batch_s", 1e3)
    with pytest.raises(InputError, match=r"no more than one batch was finished within 7.2 s: .*vgg19.*; give smaller"):
        make_profile(Single(v100), "p", ["vgg19"])


def _readings(line: str) -> list[dict[str, Any]]:
    value = json.loads(line)["value"]
    return value["readings"] if isinstance(value, dict) and "readings" in value else []


class Slow(SyntheticRunner):
    """A batch takes longer than the first try lasts."""

    def measure(self, jobs: Sequence[Job], seconds: float) -> Moment:
        found = super().measure(jobs, seconds)
        if seconds < MOST_S:
            none = Reading(0, 0.0, 0.0, 0.0, 0.0, 0.0)
            return found._replace(readings=(none,) * len(jobs))
        return found


def test_slow_batches_are_given_more_time(v100: Profile) -> None:
    made = make_profile(Slow(v100), "p", ["vgg19"])
    assert made.models == make_profile(SyntheticRunner(v100), "p", ["vgg19"]).models


def test_measured_groups_fit_on_the_card_and_are_what_the_card_does(v100: Profile) -> None:
    found = make_measurements(SyntheticRunner(v100), v100, V100_MODELS, pairs=12, larger=6, seed=5, batches=OLD_BATCHES)
    sizes = [len(members) for members in found.groups()]
    assert (sizes.count(2), sum(size in (3, 4) for size in sizes)) == (12, 6)
    for members in found.groups():
        shares = [reading.share_percent for reading in members]
        assert sum(shares) <= 100 + 1e-6
        assert all(abs(share / 2.5 - round(share / 2.5)) < 1e-6 for share in shares)
        said = predict(v100, [reading[:3] for reading in members])
        np.testing.assert_allclose([reading.latency_ms for reading in members], said.latency_ms, rtol=1e-5)
        # No batch is one that the coefficients were fitted to.
        assert not {reading.batch for reading in members} & set(v100.models["ssd"].solo_grid.batch)


def test_crowded_groups_have_many_small_placements_and_come_last() -> None:
    card = read_profile("h100", coefficients="refined")
    names = list(card.models)
    runner = SyntheticRunner(card)
    found = make_measurements(runner, card, names, pairs=3, larger=2, crowded=40, seed=5, precision="tf32")
    assert found.colocated is not None and found.solo is not None
    groups = [[found.colocated.share_percent[k] for k in rows] for rows in found.colocated.members().values()]
    sizes = [len(group) for group in groups]
    assert sizes[:3] == [2, 2, 2] and set(sizes[3:5]) <= {3, 4} and set(sizes[5:]) == {5, 6, 7, 8}
    for group in groups:
        assert 60 - 1e-6 <= sum(group) <= 100 + 1e-6
    unit = card.hardware.share_unit_percent
    crowded = [share for group in groups[5:] for share in group]
    assert min(crowded) == pytest.approx(4 * unit) and max(crowded) <= 20.5
    assert all(abs(share / unit - round(share / unit)) < 1e-6 for share in crowded)
    # Workers of the usual groups are done with before those of crowded ones begin; each placement alone once.
    measured = [len(jobs) for jobs in runner.measured]
    assert max(measured[: measured.index(1)]) <= 4 and 1 in measured[measured.index(8) :]
    alone = list(zip(found.solo.model, found.solo.batch, found.solo.share_percent, strict=True))
    side = zip(found.colocated.model, found.colocated.batch, found.colocated.share_percent, strict=True)
    assert len(set(alone)) == len(alone) and set(alone) == set(side)
    fewer = make_measurements(SyntheticRunner(card), card, names, pairs=3, larger=2, seed=5, precision="tf32")
    assert fewer.colocated is not None
    assert [fewer.colocated.model[k] for k in range(6)] == [found.colocated.model[k] for k in range(6)]


def test_models_alone_at_batches_and_shares_given(v100: Profile, tmp_path: Path) -> None:
    grid = {"alone_batches": [1, 5], "alone_shares": [20, 41, 100]}
    runner = SyntheticRunner(v100)
    found = make_measurements(runner, v100, V100_MODELS[:2], pairs=0, larger=0, **grid, log=tmp_path / "log")
    assert found.colocated is None
    expected = {(m, b, s) for m in V100_MODELS[:2] for b in (1, 5) for s in (20.0, 40.0, 100.0)}
    rows = [reading for (reading,) in found.groups()]
    assert {reading[:3] for reading in rows} == expected and len(rows) == len(expected)
    for reading in rows:
        assert reading.latency_ms == pytest.approx(float(predict(v100, [reading[:3]]).latency_ms[0]), rel=1e-5)
    # More of them go on with the same log; what it holds is not measured again.
    runner = SyntheticRunner(v100)
    grid["alone_batches"] = [1, 5, 7]
    again = make_measurements(runner, v100, V100_MODELS[:2], pairs=0, larger=0, **grid, log=tmp_path / "log")
    assert len(again.groups()) == 18 and {job.batch for jobs in runner.measured for job in jobs} == {7}


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        ({"alone_batches": [1]}, "give batches and shares, or neither"),
        ({"alone_batches": [0], "alone_shares": [50]}, "batches must be at least 1"),
        ({"alone_batches": [1], "alone_shares": [50, 101]}, "at most 100 %"),
    ],
)
def test_placements_alone_that_make_no_sense(v100: Profile, grid: dict[str, list[int]], says: str) -> None:
    with pytest.raises(InputError, match=says):
        make_measurements(SyntheticRunner(v100), v100, V100_MODELS, **grid)


def with_sms(profile: Profile, count: int, step: int) -> Profile:
    changes = {"sm_count": count, "share_unit_percent": 100.0 * step / count}
    return profile.model_copy(update={"hardware": profile.hardware.model_copy(update=changes)})


SM_COUNTS = (16, 20, 28, 30, 40, 46, 56, 58, 66, 68, 72, 78, 80, 84, 108, 114, 128, 132, 142, 144, 148, 170, 188)


@pytest.mark.parametrize("count", SM_COUNTS)
@pytest.mark.parametrize("step", [1, 2])
def test_cards_of_any_size_can_be_profiled(v100: Profile, count: int, step: int) -> None:
    card = with_sms(v100, count, step)
    runner = SyntheticRunner(card)
    made = make_profile(runner, "p", ["alexnet", "ssd"], batches=[1, 8, 16, 32])
    assert granted_step(runner.card()._asdict()) == step
    for group in runner.measured:
        assert sum(job.sms for job in group) <= count
        assert all(job.sms % step == 0 for job in group)
    assert runner.measured.count((Job("ssd", 8, count),)) == 1
    for model in made.models.values():
        shares = model.solo_grid.share_percent
        assert shares[-1] == 100
        # The probe's share is a point of the grid, so that the two can be compared, and two of it fit.
        assert model.interference_probe.share_percent in shares
        assert 50 - 100 * step / count < model.interference_probe.share_percent <= 50
    found = make_measurements(SyntheticRunner(card), made, ["alexnet", "ssd"], pairs=6, larger=6, crowded=3)
    assert len({tuple(members) for members in found.groups() if len(members) > 1}) > 6


@pytest.mark.parametrize("step", [1, 2])
def test_shares_and_processes_fit_on_cards_of_all_sizes(step: int) -> None:
    for count in range(16, 193, step):
        half, few = sms_for(50, count, step, step), sms_for(20, count, step, step, 5)
        assert count / 2 - step < half <= count / 2
        assert step <= few and 5 * few <= count and abs(few - count / 5) < step
        assert sms_for(100, count, step, step) == count


def test_shares_that_are_one_on_the_card_are_refused_before_anything_is_measured(v100: Profile) -> None:
    runner = SyntheticRunner(with_sms(v100, 16, 8))
    with pytest.raises(InputError, match="shares: all are the same 16 SMs on this card, which grants its 16 in steps"):
        make_profile(runner, "p", ["alexnet"], shares=[90, 100])
    assert not runner.measured


def test_a_log_of_other_shares_is_measured_again(v100: Profile, tmp_path: Path) -> None:
    """As logs are in which two processes at half a card took more than all of it."""
    log = tmp_path / "log.jsonl"
    card = with_sms(v100, 46, 2)
    made = make_profile(SyntheticRunner(card), "p", ["alexnet"], log=log)
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(line.replace('"sms": 22', '"sms": 24') if '"probe ' in line else line for line in lines))
    again = SyntheticRunner(card)
    assert make_profile(again, "p", ["alexnet"], log=log) == made
    assert set(again.measured) == {(Job("alexnet", 16, 22),) * n for n in (1, 2)}


def test_same_seed_same_groups(v100: Profile) -> None:
    first, second = (
        make_measurements(SyntheticRunner(v100), v100, V100_MODELS, pairs=5, larger=2, seed=9).groups() for _ in "ab"
    )
    assert first == second


def test_another_card_is_refused(v100: Profile) -> None:
    other = v100.model_copy(update={"hardware": v100.hardware.model_copy(update={"gpu": "NVIDIA T4"})})
    with pytest.raises(InputError, match="this card is a NVIDIA T4, profile v100 is of a NVIDIA V100"):
        make_measurements(SyntheticRunner(other), v100, V100_MODELS, pairs=1, larger=0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batches": [1, 2]}, "batches: give at least three"),
        ({"batches": [4, 2, 1]}, "ascending"),
        ({"batches": [0, 1, 2]}, "from 1 to 4096"),
        ({"batches": [1, 2, 10**6]}, "from 1 to 4096"),
        ({"batches": []}, "batches: give at least three"),
        ({"shares": []}, "shares: give at least two"),
        ({"shares": [50, 10, 100]}, "ascending"),
        ({"shares": [0, 100]}, "ascending"),
        ({"shares": [10, float("nan"), 100]}, "ascending"),
        ({"shares": [float("nan"), 100]}, "ascending"),
        ({"shares": [10, float("inf")]}, "the last 100"),
        ({"name": "my card"}, "the profile's name must be 1 to 63 letters, .*; found 'my card'"),
        ({"name": ""}, "the profile's name must be 1 to 63 letters"),
        ({"name": "x\n"}, "the profile's name must be 1 to 63 letters"),
        ({"models": []}, "models: give at least one, each once"),
        ({"models": ["ssd", "ssd"]}, "models: give at least one, each once"),
        ({"models": ["ssd", "ssd=tests.profiler.tiny:pictures"]}, "models: give at least one, each once"),
        ({"models": ["x=tests.profiler.failing:f"]}, "cannot be imported"),
        ({"shares": [100]}, "shares: give at least two"),
        ({"shares": [10, 50]}, "the last 100"),
    ],
)
def test_what_cannot_be_profiled_is_refused_before_anything_is_asked(
    v100: Profile, tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    runner = Untouched(v100)
    with pytest.raises(InputError, match=says):
        make_profile(runner, **{"name": "p", "models": ["alexnet"], "log": tmp_path / "log", **options})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pairs": 0, "larger": 0}, "nothing to measure"),
        ({"pairs": -1, "larger": 3}, "no negative number"),
        ({"models": []}, "models: give at least one, each once"),
        ({"models": ["ssd", "ssd"]}, "models: give at least one, each once"),
    ],
)
def test_what_cannot_be_co_located_is_refused_before_anything_is_asked(
    v100: Profile, tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        make_measurements(Untouched(v100), v100, **{"models": ["alexnet"], "log": tmp_path / "log", **options})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("count", "step", "sizes"), [(16, 8, {"larger": 1}), (14, 2, {"crowded": 1})])
def test_a_card_with_too_few_shares_for_a_group_is_refused(count: int, step: int, sizes: dict[str, int]) -> None:
    counts = {"pairs": 0, "larger": 0, "crowded": 0, **sizes}
    with pytest.raises(InputError, match=f"this card grants its {count} SMs in steps of {step}, {step} at least, so"):
        random_groups(["ssd"], count, step, step, seed=0, **counts)


def test_a_log_that_cannot_be_written_is_noticed_first(v100: Profile, tmp_path: Path) -> None:
    log = tmp_path / "log"
    make_profile(SyntheticRunner(v100), "p", ["alexnet"], log=log)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(InputError, match="log: cannot be used"):
        real = Path.open

        def read_only(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
            if "r" not in mode:
                raise PermissionError(13, "Permission denied")
            return real(path, mode, *rest, **options)

        patch.setattr(Path, "open", read_only)
        make_profile(Untouched(v100), "p", ["alexnet"], log=log)


class Untouched(SyntheticRunner):
    """A card that must not even be asked what it is."""

    def card(self) -> Card:
        raise AssertionError


def test_profiles_hold_what_lies_beyond_their_grid(tmp_path: Path) -> None:
    truth = read_profile("h200")
    names, log = ["alexnet", "bert_base"], tmp_path / "log.jsonl"
    how = {"precision": "tf32", "further": 6, "together": 2}
    runner = SyntheticRunner(truth)
    made = make_profile(runner, "p", names, log=log, **how)
    solo, side, grid = made.solo_measurements, made.colocated_measurements, made.models["alexnet"].solo_grid
    assert solo is not None and side is not None and made.calibration is None
    assert [solo.model.count(name) for name in names] == [6, 6]
    for batch, share in zip(solo.batch, solo.share_percent, strict=True):
        assert share <= 50.0 + 1e-6 and batch <= max(grid.batch)
        on_grid = batch in grid.batch and any(abs(share - known) < 1e-6 for known in grid.share_percent)
        assert not on_grid
    # The grid has nothing between 26 and 46 SMs, where some models run badly.
    assert any(26 < round(share * 1.32) < 46 for share in solo.share_percent)
    sizes = [len(rows) for rows in side.members().values()]
    assert len(sizes) == 4 and min(sizes) >= 5 and max(sizes) <= 8
    again = SyntheticRunner(truth)
    assert make_profile(again, "p", names, log=log, **how) == made
    assert not again.measured
    assert profile_of_log(log, "p") == made


def test_a_profile_with_what_lies_beyond_its_grid_predicts_crowds_better() -> None:
    truth, names = read_profile("h200"), ["alexnet", "bert_base", "vgg19"]
    plain, whole = (
        make_profile(SyntheticRunner(truth, noise=0.01, seed=2), "p", names, precision="tf32", further=f, together=t)
        for f, t in ((0, 0), (FURTHER, TOGETHER))
    )
    random, errors = np.random.default_rng(5), []
    for _ in range(20):
        step = truth.hardware.share_unit_percent
        group = [
            (str(random.choice(names)), int(random.integers(1, 13)), step * int(random.integers(4, 14)))
            for _ in range(5)
        ]
        wanted = np.array(predict(truth, group).latency_ms)
        errors.append(
            [np.abs(np.array(predict(card, group).latency_ms) / wanted - 1.0).mean() for card in (plain, whole)]
        )
    before, after = np.mean(errors, axis=0)
    assert after < 0.7 * before


def test_a_card_without_room_for_crowds_is_profiled_without_them(v100: Profile) -> None:
    coarse = v100.hardware.model_copy(update={"share_unit_percent": 20.0, "least_share_percent": None})
    made = make_profile(SyntheticRunner(v100.model_copy(update={"hardware": coarse})), "p", ["alexnet"], together=3)
    assert made.colocated_measurements is None


def test_crowds_are_as_many_as_the_card_has_memory_for() -> None:
    truth, names = read_profile("h200"), ["alexnet", "bert_base"]
    sizes = []
    for part in (1.0, 0.1, 0.01):
        mib = part * (truth.hardware.memory_mib or 0.0)
        card = truth.model_copy(update={"hardware": truth.hardware.model_copy(update={"memory_mib": mib})})
        made = make_profile(SyntheticRunner(card), "p", names, precision="tf32", together=4).colocated_measurements
        sizes.append(0 if made is None else len(made.members()))
    assert sizes[0] == 8 and 0 < sizes[1] < 8 and sizes[2] == 0


@pytest.mark.parametrize("wrong", [{"further": -1}, {"together": -1}, {"further": 10_000}])
def test_absurd_numbers_beyond_the_grid_are_refused(v100: Profile, wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="further placements, groups"):
        make_profile(SyntheticRunner(v100), "p", ["alexnet"], **wrong)


def test_the_model_of_the_co_execution_is_not_counted_unless_it_is_profiled(v100: Profile, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    make_profile(SyntheticRunner(v100), "p", ["alexnet"], log=log)
    keys = {json.loads(line).get("key") for line in log.read_text().splitlines()}
    assert {"facts alexnet", "facts vgg19", "counters alexnet"} <= keys and "counters vgg19" not in keys

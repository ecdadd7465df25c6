"""Sweeps against exhaustion at every point, and what a direction that is wrong would do to them."""

import math
import multiprocessing
import os
import signal
from dataclasses import replace
from functools import cache

import pytest

from igniter_opt import Caution, GpuType, InputError, Instance, Sweep, Workload, verify, whatif
from igniter_opt.base.errors import VerificationError
from igniter_opt.base.stop import StopRequest
from igniter_opt.options import SolveOptions
from igniter_opt.sweeps import axes as table
from igniter_opt.sweeps import carry
from igniter_opt.sweeps.axes import VARIABLES, SweepSetting, axis_with
from tests.formulations.test_patterns import random_case
from tests.support.brute_force import cheapest

# Instances of up to four workloads: one and two GPU types, counts, replicas, margins, rules half and deadline.
SEEDS = (2, 3, 5, 8, 11, 15)
AXES = {
    "slo": [0.6, 0.75, 0.9, 1.0, 1.2, 1.5, 2.0],
    "rate": [0.4, 0.6, 0.8, 1.0, 1.3, 1.6],
    "price": [0.5, 1.0, 1.5, 2.0, 3.0, 4.0],
    "count": [1.0, 2.0, 3.0, 4.0],
    "margin": [0.0, 0.1, 0.2, 0.3, 0.5],
}


@cache
def case(seed: int) -> tuple[Instance, float]:
    instance, margin = random_case(seed)
    return instance.model_copy(update={"workloads": instance.workloads[:4]}), margin


@cache
def truth(seed: int, kind: str, value: float) -> float:
    instance, margin = case(seed)
    options = SolveOptions(margin=None if kind == "margin" else margin)
    setting = axis_with(key(seed, kind), [value], instance).applied(SweepSetting(instance, options), value)
    found = cheapest(setting.instance, setting.options.margin or 0.0)
    return math.inf if found is None else found[0]


def key(seed: int, kind: str) -> str:
    name = case(seed)[0].gpu_types[-1].name
    return f"{kind}:{name}" if kind in ("price", "count") else kind


def swept(seed: int, kind: str) -> Sweep:
    instance, margin = case(seed)
    options = SolveOptions(margin=None if kind == "margin" else margin, time_limit=20.0)
    return whatif(instance, {key(seed, kind): AXES[kind]}, options, workers=1)


@cache
def known(seed: int, kind: str) -> Sweep:
    return swept(seed, kind)


def require_truth(sweep: Sweep, seed: int, kind: str) -> None:
    """At this size all must be proven, and be what exhaustion finds."""
    assert len(sweep.points) == len(AXES[kind])
    for point in sweep.points:
        assert point.proven
        expected = truth(seed, kind, point.coordinates[0])
        assert point.infeasible == (expected == math.inf)
        if point.plan is not None:
            assert point.cost_per_hour == pytest.approx(expected, abs=1e-9)
            assert verify(point.plan).ok


def cases() -> list[tuple[int, str]]:
    """Every instance along two axes, other ones for each."""
    kinds = list(AXES)
    return [(seed, kinds[(k + step) % len(kinds)]) for k, seed in enumerate(SEEDS) for step in (0, 2)]


@pytest.mark.parametrize(("seed", "kind"), cases())
def test_costs_and_proofs_along_a_line_are_those_of_exhaustion(seed: int, kind: str) -> None:
    require_truth(known(seed, kind), seed, kind)


def test_some_points_are_not_solved() -> None:
    """Else nothing of the above would be about what carries over."""
    found = [known(seed, kind) for seed, kind in cases()]
    assert sum(not point.solved for sweep in found for point in sweep.points) >= 10


@pytest.mark.parametrize("kind", ["slo", "margin"])
def test_a_wrong_direction_is_refused_by_the_comparison(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    turn(kind, monkeypatch)
    seed = turning(kind)
    sweep = swept(seed, kind)
    require_truth(sweep, seed, kind)
    # Neither bounds nor plans are of any use then.
    assert all(point.solved for point in sweep.points)


@pytest.mark.parametrize("kind", ["slo", "margin"])
def test_a_wrong_direction_without_the_comparison_breaks_the_test_above(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn(kind, monkeypatch)
    monkeypatch.setattr(carry, "admits_all_plans", lambda *_: True)
    seed = turning(kind)
    with pytest.raises((AssertionError, VerificationError)):
        require_truth(swept(seed, kind), seed, kind)


def turn(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = VARIABLES[kind]
    other = "larger" if row.stricter == "smaller" else "smaller"
    monkeypatch.setattr(table, "VARIABLES", {**VARIABLES, kind: replace(row, stricter=other)})


@cache
def turning(kind: str) -> int:
    """An instance whose cost half-way is below that of the end that asks for more: what a wrong bound would hide."""
    values = AXES[kind] if VARIABLES[kind].stricter == "larger" else AXES[kind][::-1]
    middle, strict = values[len(values) // 2], values[-1]
    return next(seed for seed in SEEDS if truth(seed, kind, middle) < truth(seed, kind, strict))


def test_along_prices_few_points_are_solved_and_the_best_gpus_change_where_said() -> None:
    with pytest.warns(Caution, match="GPU type h100: the igniter coefficients") as said:
        sweep = whatif(
            "igniter-table3", "new:h100=2:20:10", SolveOptions(coefficients="igniter"), refine=0.2, workers=1
        )
    assert len(said) == 1
    assert all(point.proven for point in sweep.points)
    assert sum(point.solved for point in sweep.points) <= 8
    # 6 V100 at 3.06 cost what 2 V100 and 1 H100 cost at 12.24.
    last = sweep.steps[-1]
    assert (last.proven, last.words.endswith("then 6 V100")) == (True, True)
    assert last.below <= 12.24 <= last.above
    assert last.above - last.below <= 0.2


def test_a_step_is_found_between_points_and_is_proven() -> None:
    sweep = whatif("igniter-table3", "slo=0.9:1.4:3", refine=0.01, workers=1)
    (step,) = sweep.steps
    assert step.words == f"1 GPU less from {step.above:g} times on"
    assert step.proven
    assert 0 < step.above - step.below <= 0.01
    for value, gpus in ((step.below, 6), (step.above, 5)):
        alone = whatif("igniter-table3", {"slo": [value]}, workers=1)
        assert (alone.points[0].proven, len(alone.points[0].plan.gpus)) == (True, gpus)  # type: ignore[union-attr]


GRID = ["slo=0.8:1.4:4", "rate=0.7:1.1:3"]


@cache
def grid() -> Sweep:
    return whatif("igniter-table3", GRID, workers=1)


def test_rows_are_the_same_for_any_number_of_workers_even_if_one_is_killed() -> None:
    killed: list[int] = []

    def kill_one(*_: int) -> None:
        if not killed:
            process = multiprocessing.active_children()[0]
            killed.append(process.pid or 0)
            os.kill(killed[0], signal.SIGKILL)

    sweep = whatif("igniter-table3", GRID, workers=2, on_progress=kill_one)
    assert killed
    assert sweep.to_csv() == grid().to_csv()
    assert not multiprocessing.active_children()


def test_a_grid_has_a_row_for_every_pair_and_costs_fall_with_slos_and_rise_with_rates() -> None:
    costs = {
        point.coordinates: math.inf if point.infeasible else point.cost_per_hour or math.nan for point in grid().points
    }
    assert len(costs) == 12
    assert all(point.proven for point in grid().points)
    for (slo, rate), cost in costs.items():
        assert all(cost <= other for (s, r), other in costs.items() if s <= slo and r >= rate)


def test_a_stop_leaves_the_points_so_far(capsys: pytest.CaptureFixture[str]) -> None:
    stop = StopRequest()
    sweep = whatif(
        "igniter-table3", "slo=0.8:1.4:9", workers=1, stop=stop, on_progress=lambda done, _: done < 4 or stop.set()
    )
    assert sweep.interrupted
    assert len(sweep.points) == 4
    assert capsys.readouterr().err == ""


def test_ctrl_c_leaves_the_points_so_far_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    def press(done: int, _: int) -> None:
        if done == 3:
            signal.raise_signal(signal.SIGINT)

    sweep = whatif("igniter-table3", "slo=0.8:1.4:9", workers=2, on_progress=press)
    assert sweep.interrupted
    assert 3 <= len(sweep.points) < 9
    assert "interrupted: " in capsys.readouterr().err
    assert not multiprocessing.active_children()


def test_with_cards_under_mig_every_point_is_solved() -> None:
    card = GpuType(name="A100", profile="a100-mig-synthetic", price_per_hour=4.0)
    load = [Workload(name=name, model=name, slo_ms=200, rate_rps=500) for name in ("alexnet", "resnet50")]
    instance = Instance(name="slices", gpu_types=(card,), workloads=tuple(load))
    with pytest.warns(Caution, match="synthetic"):
        sweep = whatif(instance, "slo=0.8:1.2:3", workers=1)
    assert [(point.cost_per_hour, point.proven, point.solved) for point in sweep.points] == [(4.0, True, True)] * 3


@pytest.mark.parametrize(
    ("vary", "options", "said"),
    [
        ([], {}, "vary one thing, or two different ones; found none"),
        (["slo=1,2", "slo=3,4"], {}, "two different ones; found slo, slo"),
        (["slo=1,2", "rate=1,2", "margin=0,1"], {}, "found slo, rate, margin"),
        (7, {}, "what to vary must be text"),
        (["slo=1:2:1000", "rate=1:2:1000"], {}, "at most 10,000 points; found 1,000,000"),
        ("slo=1,2", {"refine": 0.0}, "must be a finite number above 0"),
        ("slo=1,2", {"refine": 1e-9}, "too fine"),
        (["slo=1,2", "rate=1,2"], {"refine": 0.1}, "goes with one --vary"),
        ("slo=1,2", {"workers": 0}, "the number of workers must be 1 to"),
        ("slo=1,2", {"engine": "ray"}, "there is none; a cluster is reached by Dask"),
        ("slo=1,2", {"engine": "slurm"}, "unknown engine"),
        ("slo=1,2", {"engine": "dask"}, "needs the address of a cluster's scheduler"),
        ("slo=1,2", {"scheduler": "tcp://x"}, "a scheduler goes with --engine dask"),
        ("margin=0,1000", {}, "the margin must be at most 100"),
        ("confidence=0.9", {"options": SolveOptions(margin=0.1)}, "give a margin or a confidence, not both"),
    ],
)
def test_what_is_refused_says_why(vary: object, options: dict, said: str) -> None:
    with pytest.raises(InputError) as error:
        whatif("igniter-table3", vary, **options)  # type: ignore[arg-type]
    assert said in str(error.value)

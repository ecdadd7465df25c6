"""The exact benchmark's parts: instances by name, one run, the files, the check of bounds against plans."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from bench.exact.__main__ import time_limit
from bench.exact.plots import draw, draw_scaling
from bench.exact.run import Event, Row, run, thinned, why_skipped
from bench.exact.table import (
    ContradictionError,
    check_bounds,
    histories_path,
    markdown,
    read_rows,
    saving_percent,
    write_csv,
    write_histories,
)
from bench.instances import MOST_SHARE_PERCENT, RANGES, SETS, build, law, scaled_profile
from igniter_opt import InputError, read_instance, read_profile
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.physics.interference import is_monotone
from igniter_opt.predict import predict
from igniter_opt.problem.configurations import Problem


def test_every_name_of_the_sets_is_an_instance_and_the_same_every_time() -> None:
    for names in SETS.values():
        for name in names:
            if name.endswith(("24-2", "24-1", "50-2", "deadline", "replicas3")):
                assert build(name) == build(name)
                assert build(name).name == name
    assert build("uniform-24-2").workloads != build("uniform-24-3").workloads
    for name in ("uniform-24", "synthetic-types-7-1", "nothing-deadline"):
        with pytest.raises(InputError):
            build(name)


def test_generated_instances_follow_the_law_of_the_shipped_ones() -> None:
    shipped = read_instance("uniform-24-1")
    assert law() in shipped.description
    for instance in (shipped, build("uniform-100-2"), build("synthetic-types-24-1")):
        for workload in instance.workloads:
            slo, rate = RANGES[workload.model]
            assert slo[0] <= workload.slo_ms <= slo[1]
            assert rate[0] <= workload.rate_rps <= rate[1]
        assert Problem(instance).least_share_percent[:, 0].max() <= MOST_SHARE_PERCENT


def test_kinds() -> None:
    instance = build("kinds-5-60-1")
    assert len(instance.workloads) == 60
    assert len({(entry.model, entry.slo_ms, entry.rate_rps) for entry in instance.workloads}) == 5


@pytest.mark.parametrize(("time", "power"), [(1.6, 0.6), (0.7, 1.3), (1.0, 1.0)])
def test_scaled_profiles_scale_predictions(time: float, power: float) -> None:
    base = read_profile("v100")
    scaled = scaled_profile(base, "scaled", time=time, power=power)
    assert is_monotone(fit_coefficients(scaled))
    assert "ynthetic" in scaled.source
    placements = [("alexnet", 4, 20.0), ("vgg19", 3, 50.0)]
    before, after = predict(base, placements), predict(scaled, placements)
    assert after.gpu_latency_ms == pytest.approx(time * before.gpu_latency_ms, rel=1e-4)
    assert after.power_w == pytest.approx(power * before.power_w, rel=1e-4)


@pytest.mark.parametrize("method", ["igniter", "bestfit", "patterns", "assignment"])
def test_one_run(method: str) -> None:
    row = run("igniter-three", method, 10.0)
    assert (row.gpus, row.cost_per_hour, row.workloads, row.kinds) == (1, 3.06, 3, 3)
    assert row.first_s is not None and row.best_s is not None and row.total_s is not None
    assert 0 < row.first_s <= row.best_s <= row.total_s
    assert row.peak_mib is not None and row.peak_mib > 10
    if method in {"patterns", "assignment"}:
        assert (row.status, row.bound_per_hour, row.gap_percent) == ("optimal", 3.06, 0.0)
        assert row.proof_s is not None and row.best_s <= row.proof_s <= row.total_s
    else:
        assert (row.status, row.bound_per_hour, row.proof_s) == ("heuristic", None, None)
    assert row.history[-1].cost == 3.06


def row_of(instance: str, method: str, cost: float | None, bound: float | None, **more: object) -> Row:
    return Row.model_validate(
        {"instance": instance, "workloads": 3, "method": method, "cost_per_hour": cost, "bound_per_hour": bound} | more
    )


def test_bounds_are_checked_against_plans_of_all_methods_and_known_ones() -> None:
    greedy, exact = row_of("a", "igniter", 9.18, None), row_of("a", "patterns", 6.12, 6.12)
    check_bounds([greedy, exact, row_of("b", "cpsat", 30.6, 27.54)])
    with pytest.raises(ContradictionError, match=r"a: the bound 9\.18 by cpsat is above the plan of 6\.12 by patterns"):
        check_bounds([greedy, exact, row_of("a", "cpsat", 9.18, 9.18)])
    with pytest.raises(ContradictionError, match="infeasible"):
        check_bounds([greedy, row_of("a", "patterns", None, None, status="infeasible")])
    check_bounds([row_of("a", "igniter", 3.06, None, searched=False), exact])
    with pytest.raises(ContradictionError, match="instances/results"):
        check_bounds([row_of("igniter-three", "patterns", 6.12, 6.12)])
    with pytest.raises(ContradictionError, match="instances/results"):
        check_bounds([row_of("igniter-table3", "igniter", 3.06, None)])


def test_files_can_be_read_back_and_drawn(tmp_path: Path) -> None:
    history = [Event(seconds=0.5, cost=9.18, bound=None), Event(seconds=2.0, cost=6.12, bound=6.12)]
    times = {"first_s": 0.5, "best_s": 1.0, "proof_s": 2.0, "total_s": 2.0, "peak_mib": 100.0}
    rows = [
        row_of("a", "igniter", 9.18, None, total_s=0.1, history=history[:1]),
        row_of("a", "patterns", 6.12, 6.12, status="optimal", history=history, **times),
        row_of("a", "cpsat", None, None, status="skipped", message="more than 1 workloads"),
    ]
    table = tmp_path / "exact.csv"
    write_csv(rows, table)
    write_histories(rows, histories_path(table))
    assert read_rows(table) == rows
    assert saving_percent(rows[1], rows) == pytest.approx(100 / 3)
    text = markdown(rows)
    assert "| a | 3 | `patterns` | optimal | - | 6.12 | 6.12 | 0.00 | 33.33 | 0.50 | 1.00 | 2.00 | 2.00 | 100 |" in text
    assert "not run: a, `cpsat` (more than 1 workloads)" in text
    drawn = draw(rows, table)
    assert [path.name for path in drawn] == ["exact-over-time.svg", "exact-scaling.svg"]
    assert all(path.stat().st_size > 5000 for path in drawn)
    assert draw(rows[:1], table) == []


def test_no_gap_does_not_look_like_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr("bench.exact.plots.save_figure", lambda figure, _: figures.append(figure))
    times = {"proof_s": 2.0, "total_s": 2.0, "peak_mib": 100.0}
    assert draw_scaling([row_of("a", "patterns", 6.12, 6.12, status="optimal", **times)], tmp_path / "scaling.svg")
    low, high = figures[0].axes[0].get_ylim()
    assert low == 0.0
    assert high >= 1.0


def test_limits_and_sizes() -> None:
    assert [time_limit("large", size, None) for size in (300, 1000)] == [240.0, 480.0]
    assert time_limit("huge", 10_000, 5.0) == 5.0
    assert why_skipped("assignment", 60) is None
    assert why_skipped("assignment", 61) == "more than 60 workloads"
    assert why_skipped("patterns", 10_000) is None


def test_histories_are_thinned_to_changes() -> None:
    events = [Event(seconds=k, cost=cost, bound=1.0) for k, cost in enumerate([None, 3.0, 3.0, 2.0, 2.0])]
    assert [event.seconds for event in thinned(events)] == [0, 1, 3]

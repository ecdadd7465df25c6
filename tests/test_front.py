"""The front of cost against total share: beside exhaustion, interrupted, written and drawn."""

import json
from pathlib import Path

import numpy as np
import pytest

import igniter_opt as ig
from igniter_opt.base.errors import SolveInterruptedError
from igniter_opt.base.stop import StopRequest
from igniter_opt.options import SolveOptions
from igniter_opt.report.front_plot import plot_front
from tests.cli.helpers import invoke
from tests.formulations.test_patterns import random_case
from tests.support.brute_force import every_plan
from tests.support.mig import instance_of, random_profile

ALL_SEEDS, SAMPLE = 200, 14
MOST = 3.0
SHARE = 1e-3


def least_share(plans: list[tuple[float, float]], cost: float) -> float:
    return min(share for other, share in plans if other <= cost + 1e-9)


def checked(seed: int) -> list[bool]:
    """Find a front and hold it against all plans; return which of its points are proven."""
    instance, margin = random_case(seed)
    plans = [(round(cost, 9), round(share, 6)) for _, cost, share in every_plan(instance, margin)]
    try:
        found = ig.front(instance, most=MOST, options=SolveOptions(margin=margin, time_limit=20.0))
    except ig.InfeasibleError:
        assert not plans
        return []
    costs = [point.cost for point in found.points]
    shares = [point.total_share_percent for point in found.points]
    proven = [row["proven"] for row in found.to_dicts()]
    assert costs == sorted(set(costs))
    assert costs[0] == pytest.approx(min(cost for cost, _ in plans))
    assert shares == sorted(set(shares), reverse=True)
    for point, sure in zip(found.points, proven, strict=True):
        assert ig.verify(point.plan).ok
        bound = point.plan.solver.total_share_lower_bound_percent
        assert bound is not None
        least = least_share(plans, point.cost)
        assert bound - SHARE <= least <= point.total_share_percent + SHARE
        assert not sure or least == pytest.approx(point.total_share_percent, abs=SHARE)
    best = {cost: least_share(plans, cost) for cost, _ in plans if cost <= MOST * costs[0] + 1e-9}
    for cost, least in best.items():
        within = [share for other, share in zip(costs, shares, strict=True) if other <= cost + 1e-9]
        assert least >= min(within) - found.open_percent - SHARE
    if found.complete:
        steps = [cost for cost in sorted(best) if all(best[c] > best[cost] + SHARE for c in best if c < cost)]
        assert costs == pytest.approx(steps)
        assert shares == pytest.approx([best[cost] for cost in steps])
    return proven


def test_points_and_bounds_are_those_of_exhaustion() -> None:
    proven = [sure for seed in (*range(SAMPLE), 19, 169) for sure in checked(seed)]
    assert len(proven) > SAMPLE
    assert sum(proven) > 0.8 * len(proven)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SAMPLE, ALL_SEEDS))
def test_further_points_and_bounds_are_those_of_exhaustion(seed: int) -> None:
    checked(seed)


@pytest.fixture(scope="module")
def table3() -> ig.Front:
    return ig.front("igniter-table3", options=SolveOptions(time_limit=30.0))


def test_table3_takes_a_share_unit_less_on_a_seventh_card(table3: ig.Front) -> None:
    assert [(point.cost, point.total_share_percent) for point in table3.points] == [(18.36, 465.0), (21.42, 462.5)]
    assert [row["proven"] for row in table3.to_dicts()] == [True, True]
    assert [point.status for point in table3.points] == ["optimal", "feasible"]
    assert table3.complete
    assert table3.most_cost == pytest.approx(27.54)
    assert len(table3.to_frame()) == 2


def test_a_stop_keeps_the_points_so_far() -> None:
    stop = StopRequest()
    found = ig.front(
        "uniform-24-1", stop=stop, on_progress=lambda progress: stop.set() if progress.cost is not None else None
    )
    assert found.interrupted
    assert found.open_percent > 10.0
    assert len(found.points) == 1
    assert found.points[0].verification.ok


def test_a_stop_before_there_is_a_plan_raises() -> None:
    stop = StopRequest()
    stop.set()
    with pytest.raises(SolveInterruptedError):
        ig.front("uniform-24-1", stop=stop)


def test_bounds_hold_without_time() -> None:
    """S(6 GPUs) of this instance is above 547 %, and 520 % is the least with 9."""
    found = ig.front("uniform-24-1", options=SolveOptions(time_limit=1.0))
    for row in found.to_dicts():
        assert row["total_share_lower_bound_percent"] <= row["total_share_percent"] + SHARE
        assert row["total_share_lower_bound_percent"] <= (552.5 if row["gpus"] == 6 else 532.5)


def test_plans_are_written_and_replaced_and_nothing_else_is(table3: ig.Front, tmp_path: Path) -> None:
    folder = tmp_path / "plans"
    paths = table3.write_plans(folder)
    assert [path.name for path in paths] == ["plan-18.36.json", "plan-21.42.json"]
    assert [ig.read_plan(path) for path in table3.write_plans(folder)] == [point.plan for point in table3.points]
    assert json.loads((folder / "front.json").read_text())["points"] == table3.to_dicts()
    paths[1].write_text("{}")
    paths[0].unlink()
    with pytest.raises(ig.InputError, match="is not a plan"):
        table3.write_plans(folder)
    assert not paths[0].exists()
    with pytest.raises(ig.InputError, match="is no folder"):
        table3.write_plans(paths[1])
    with pytest.raises(ig.InputError, match="does not exist"):
        table3.write_plans(tmp_path / "nowhere" / "plans")


def test_it_is_drawn_the_same_every_time(table3: ig.Front, tmp_path: Path) -> None:
    plot_front(table3, tmp_path / "a.png")
    plot_front(table3, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_command_shows_writes_and_prints(tmp_path: Path) -> None:
    arguments = ["solve", "igniter-three", "--front", "-o", tmp_path / "plans", "--plot", tmp_path / "front.png"]
    run = invoke(*arguments)
    assert run.code == 0
    assert "this is proven to be the front" in run.out
    assert (tmp_path / "front.png").stat().st_size > 1000
    printed = invoke(*arguments, "--json").json()
    assert printed == json.loads((tmp_path / "plans" / "front.json").read_text())
    assert printed["points"][0]["proven"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--front", "--method", "ffd++"), "--method: not with --front"),
        (("--front", "--history", "h.json", "--mip-solver", "scip"), "--history, --mip-solver: not with --front"),
        (("--front", "--front-most", "0.5"), "most must be from 1"),
        (("--front-most", "2"), "--front-most is of --front"),
        (("--front", "-o", "nowhere/plans"), "does not exist"),
        (("--front", "--plot", "front.txt"), "must end in"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments: tuple[str, ...], message: str) -> None:
    run = invoke("solve", "igniter-three", *arguments)
    assert run.code == 2
    assert message in run.err
    assert "Traceback" not in run.err


def test_cards_under_mig_are_refused() -> None:
    profile = random_profile(np.random.default_rng(0))
    cut = instance_of(profile, [{"model": next(iter(profile.models)), "slo_ms": 500.0, "rate_rps": 1.0}])
    with pytest.raises(ig.InputError, match="none yet for cards under MIG"):
        ig.front(cut)
    for options in ({"keep_model": True}, {"mip_solver": "scip"}):
        with pytest.raises(ig.InputError, match="neither another MIP solver nor the model"):
            ig.solve(cut, **options)  # type: ignore[arg-type]


def test_a_front_whose_first_cost_is_not_proven_is_not_complete() -> None:
    options = SolveOptions(gap=0.6, time_limit=3.0, max_replicas=3)
    found = ig.front("igniter-table3", most=1.0, options=options)
    assert found.complete == (found.points[0].status == "optimal")
    if found.lower_bound is not None and found.lower_bound < found.points[0].cost:
        assert not found.complete

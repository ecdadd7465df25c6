import json
from pathlib import Path

import pytest

from igniter_opt import InputError, read_instance, solve
from igniter_opt.data.history import read_history
from igniter_opt.result import history_of, write_history


def test_points_rise_to_the_final_cost_and_bound(tmp_path: Path) -> None:
    result = solve(read_instance("igniter-table3"))
    write_history(result, tmp_path / "history.json")
    history = read_history(tmp_path / "history.json", result.plan)
    assert history == history_of(result)
    times = [point.elapsed_s for point in history.points]
    bounds = [point.lower_bound_per_hour or 0.0 for point in history.points]
    costs = [point.cost_per_hour for point in history.points]
    assert times == sorted(times)
    assert bounds == sorted(bounds)
    assert None not in costs
    assert costs == sorted(costs, reverse=True)
    assert (costs[-1], bounds[-1]) == (result.cost, result.lower_bound)


def test_a_heuristics_history_is_its_end(tmp_path: Path) -> None:
    result = solve(read_instance("igniter-three"), "igniter")
    assert [point.lower_bound_per_hour for point in history_of(result).points] == [None]


def test_histories_of_other_solves_and_other_files_are_refused(tmp_path: Path) -> None:
    one, other = (solve(read_instance(name), "igniter") for name in ("igniter-three", "igniter-motivation"))
    path = tmp_path / "history.json"
    write_history(one, path)
    with pytest.raises(InputError, match="another solve"):
        read_history(path, other.plan)
    path.write_text(json.dumps({"schema": "igniter-opt/plan@1"}))
    with pytest.raises(InputError, match="not a history"):
        read_history(path, one.plan)

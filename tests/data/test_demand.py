"""Demand files: what is read, in longer steps, scaled, and what is refused in one message."""

from pathlib import Path

import numpy as np
import pytest

import igniter_opt as ig
from igniter_opt.data.demand import LEAST_PLANNED_RPS, Demand, demand_csv, demand_of_text, scaled_to

TEXT = "time_s,A,B\n0,1,10\n600,3,20\n1200,2,0\n1800,5,40\n"


def test_a_file_is_read() -> None:
    demand = demand_of_text(TEXT, "demand.csv")
    assert demand.names == ("A", "B")
    assert demand.step_s == 600.0
    assert demand.rates.tolist() == [[1, 10], [3, 20], [2, 0], [5, 40]]


def test_longer_steps_have_the_highest_of_their_rows() -> None:
    demand = demand_of_text(TEXT, "demand.csv").in_steps_of(1200.0)
    assert demand.rates.tolist() == [[3, 20], [5, 40]]
    # A last step that is not whole counts as one.
    assert demand_of_text(TEXT, "demand.csv").in_steps_of(1800.0).rates.tolist() == [[3, 20], [5, 40]]
    with pytest.raises(ig.InputError, match="no whole multiple"):
        demand.in_steps_of(1000.0)
    with pytest.raises(ig.InputError, match="less than a step"):
        demand.in_steps_of(12_000.0)


def test_writing_and_reading_are_each_others_reverse(tmp_path: Path) -> None:
    demand = demand_of_text(TEXT, "demand.csv")
    ig.write_demand(demand, tmp_path / "demand.csv")
    again = ig.read_demand(tmp_path / "demand.csv")
    assert demand_csv(again) == demand_csv(demand)
    (tmp_path / "other.csv").write_text("somebody's\n")
    with pytest.raises(ig.InputError, match="is not a demand"):
        ig.write_demand(demand, tmp_path / "other.csv")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the first line must be 'time_s' and the names of workloads"),
        ("time,A\n0,1\n1,1\n", "found 'time,A'"),
        ("time_s,A,A\n0,1,1\n1,1,1\n", "two columns are called 'A'"),
        ("time_s,A\n0,1\n", "has 1 rows; two at least"),
        ("time_s,A\n0,1\n600,1,2\n", "line 3: has 3 cells, the first line 2"),
        ("time_s,A\n0,1\n600,x\n", "line 3: A must be a number; found 'x'"),
        ("time_s,A\n0,1\n600,nan\n", "line 3: A must be a number; found 'nan'"),
        ("time_s,A\n0,1\n600,-2\n", "line 3: the rate of A must be 0 to 1e+09 req/s; found '-2'"),
        ("time_s,A\n0,1\n0,2\n", "line 3: the time 0 s is there twice"),
        ("time_s,A\n0,1\n600,2\n600,2\n", "line 4: the time 600 s is there twice"),
        ("time_s,A\n0,1\n600,2\n300,2\n", "line 4: the time 300 s is before the one above it"),
        ("time_s,A\n0,1\n600,2\n1800,2\n", "line 4: is 1200 s after the one above it, the first two are 600 s apart"),
        ('time_s,A\n0,"1\n', "not a CSV file"),
    ],
)
def test_bad_files_are_refused(text: str, says: str) -> None:
    with pytest.raises(ig.InputError) as error:
        demand_of_text(text, "demand.csv")
    assert str(error.value).startswith("demand.csv: ")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_workloads_and_columns_must_be_the_same() -> None:
    instance = ig.read_instance("igniter-three")
    with pytest.raises(ig.InputError, match="the demand has no column for R, S; every workload needs one"):
        demand_of_text("time_s,A\n0,1\n1,1\n", "x").of(instance)
    with pytest.raises(ig.InputError, match="a column 'r', and the instance no such workload"):
        demand_of_text("time_s,A,R,S,r\n0,1,1,1,1\n1,1,1,1,1\n", "x").of(instance)
    # In the instance's order, and never nothing.
    rates = demand_of_text("time_s,S,A,R\n0,1,2,3\n1,4,0,6\n", "x").of(instance)
    assert rates.tolist() == [[2, 3, 1], [LEAST_PLANNED_RPS, 6, 4]]


def test_streams_are_scaled_to_workloads() -> None:
    instance = ig.read_instance("igniter-three")
    streams = Demand(("x", "y", "z", "more"), np.arange(4000.0).reshape(1000, 4), 600.0)
    scaled = scaled_to(streams, instance, percentile=50.0, scale=2.0)
    assert scaled.names == ("A", "R", "S")
    assert np.percentile(scaled.rates, 50.0, axis=0) == pytest.approx([2400.0, 1200.0, 100.0])
    shape = scaled.rates / scaled.rates[-1]
    assert shape == pytest.approx(streams.rates[:, :3] / streams.rates[-1, :3])
    with pytest.raises(ig.InputError, match="fewer than the 3 workloads"):
        scaled_to(Demand(("x",), np.ones((2, 1)), 600.0), instance)
    with pytest.raises(ig.InputError, match="the stream y is 0 at percentile"):
        scaled_to(Demand(("x", "y", "z"), np.array([[1.0, 0.0, 1.0]] * 2), 600.0), instance)

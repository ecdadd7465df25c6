"""Rows and steps of a sweep whose points are made up: what is said of what is proven, and of what is not."""

import csv
import io
import json
import math
from functools import cache
from pathlib import Path

import pytest

from igniter_opt import InputError, Instance, Plan, Sweep, read_instance, solve
from igniter_opt.sweeps.axes import axis_with
from igniter_opt.sweeps.results import SweepPoint

CARDS = read_instance("cards-table3")


@cache
def plan_of(gpus: tuple[str, ...]) -> Plan:
    """A plan with these GPUs; nobody looks at what stands on them."""
    plan = solve("igniter-motivation", "igniter").plan
    made = tuple(plan.gpus[0].model_copy(update={"name": f"{name}-{k}", "type": name}) for k, name in enumerate(gpus))
    prices = {gpu.name: gpu.price_per_hour for gpu in CARDS.gpu_types}
    cost = round(sum(prices[name] for name in gpus), 6)
    return plan.model_copy(
        update={"gpus": made, "solver": plan.solver.model_copy(update={"cost_per_hour": cost, "status": "feasible"})}
    )


def point(value: float, bound: float | None, *gpus: str, h100: float = 6.88) -> SweepPoint:
    prices = {"V100": 3.06, "H100": h100}
    plan = None
    if gpus:
        plan = plan_of(gpus)
        cost = round(sum(prices[name] for name in gpus), 6)
        plan = plan.model_copy(update={"solver": plan.solver.model_copy(update={"cost_per_hour": cost})})
    return SweepPoint((float(value),), prices, plan, bound, solved=True)


def sweep(key: str, *points: SweepPoint, rule: str = "half", instance: Instance = CARDS) -> Sweep:
    axis = axis_with(key, [entry.coordinates[0] for entry in points], instance)
    return Sweep(instance.name, "USD", rule, (axis,), list(points))


def words(found: Sweep) -> list[tuple[str, bool]]:
    return [(step.words, step.proven) for step in found.steps]


V = "V100"


def test_a_step_is_proven_by_the_bound_on_the_dear_side() -> None:
    cheap = point(2, 3.06, V)
    assert words(sweep("slo", point(1, 6.12, V, V), cheap)) == [("1 GPU less from 2 times on", True)]
    assert words(sweep("slo", point(1, 3.07, V, V), cheap)) == [("1 GPU less from 2 times on", True)]
    for bound in (3.06, None):
        assert words(sweep("slo", point(1, bound, V, V), cheap)) == [("1 GPU less from 2 times on", False)]
    # Of the cheap side nothing need be proven: its plan holds.
    assert words(sweep("slo", point(1, 6.12, V, V), point(2, None, V))) == [("1 GPU less from 2 times on", True)]


def test_equal_costs_are_no_step_whatever_is_proven() -> None:
    assert words(sweep("slo", point(1, 3.06, V), point(2, None, V), point(3, 0.0))) == []


def test_rising_costs_are_told_from_below() -> None:
    found = sweep("rate:W1", point(100, 3.06, V), point(200, 9.18, V, V, V))
    assert words(found) == [("2 GPUs less up to 100 req/s", True)]
    found = sweep("rate", point(1, 3.06, V), point(2, 9.18, V, V, V), rule="deadline")
    assert words(found) == [("2 GPUs less at 1 times, not at 2 times", True)]
    found = sweep("margin", point(0.1, 3.06, V), point(0.2, math.inf))
    assert words(found) == [("a plan (1 V100) up to 0.1", True)]
    found = sweep("count:H100", point(1, math.inf), point(2, 13.76, "H100", "H100"))
    assert words(found) == [("a plan (2 H100) from 2 on", True)]


def test_other_cards_are_told_by_what_they_cost() -> None:
    found = sweep("slo", point(1, 6.88, "H100"), point(2, 6.12, V, V))
    assert words(found) == [("0.76 per hour less (2 V100) from 2 times on", True)]


def test_along_prices_a_step_is_where_other_gpus_are_best() -> None:
    low, high = point(5, 5.0, "H100", h100=5.0), point(7, 6.12, V, V, h100=7.0)
    assert words(sweep("price:H100", low, high)) == [("1 H100 up to 5, then 2 V100", True)]
    assert words(sweep("price:H100", point(5, 4.0, "H100", h100=5.0), high)) == [("1 H100 up to 5, then 2 V100", False)]
    # At a price at which both cost the same, both are best.
    tied = point(6.12, 6.12, "H100", h100=6.12), point(6.12, 6.12, V, V, h100=6.12)
    assert words(sweep("price:H100", *tied)) == []


def test_rows_say_what_is_proven() -> None:
    found = sweep("slo", point(1, 3.06, V, V), point(2, 3.06, V), point(3, math.inf), point(4, None))
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [row["slo"] for row in rows] == ["1.0", "2.0", "3.0", "4.0"]
    assert [row["proven"] for row in rows] == ["False", "True", "True", "False"]
    assert [row["status"] for row in rows] == ["feasible", "feasible", "infeasible", "no plan"]
    assert [row["lower_bound_per_hour"] for row in rows] == ["3.06", "3.06", "", ""]
    assert [row["mix"] for row in rows] == ["2 V100", "1 V100", "", ""]
    assert "points=4, proven=2" in repr(found)
    json.dumps(found.to_dict(), allow_nan=False)
    assert "p99's safe limits" in sweep("slo", point(1, 3.06, V), rule="p99").to_csv()
    assert list(Sweep("x", "USD", "half", found.axes).to_frame().columns) == list(rows[0])


def test_a_file_of_another_kind_is_not_replaced(tmp_path: Path) -> None:
    found, path = sweep("slo", point(1, 3.06, V)), tmp_path / "sweep.csv"
    for _ in range(2):
        found.write(path)
    assert path.read_text() == found.to_csv()
    path.write_text("instance,method,saving_percent\n")
    with pytest.raises(InputError, match="is not a sweep"):
        found.write(path)

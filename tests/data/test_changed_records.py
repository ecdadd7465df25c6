"""Changed copies of what users make are checked; tables of pandas come in and out; kinds of arrivals may be named."""

import math
from typing import Any

import pandas as pd
import pytest

import igniter_opt as ig
from igniter_opt.generate import generate_instance

INSTANCE = ig.read_instance("igniter-motivation")
GAMMA = ig.Arrivals("gamma")


@pytest.mark.parametrize(
    ("record", "update", "says"),
    [
        (INSTANCE.workloads[0], {"slo_ms": -20}, "Workload: slo_ms: must be greater than 0; found -20"),
        (INSTANCE.workloads[0], {"slo": 20}, "Workload: unknown key 'slo'; did you mean 'slo_ms'"),
        (INSTANCE.gpu_types[0], {"count": 0}, "GpuType: count: must be at least 1"),
        (INSTANCE, {"workloads": ()}, "Instance: workloads: must have at least 1 entries"),
        (INSTANCE, {"workloads": INSTANCE.workloads * 2}, "names must be unique"),
    ],
)
def test_a_changed_copy_is_checked(record: Any, update: dict[str, Any], says: str) -> None:
    with pytest.raises(ig.InputError, match=says):
        record.model_copy(update=update)


def test_a_changed_copy_is_what_a_new_record_would_be() -> None:
    first = INSTANCE.workloads[0]
    assert first.model_copy() == first
    changed = first.model_copy(update={"slo_ms": 40})
    assert changed == ig.Workload(**{**dict(first), "slo_ms": 40.0})
    assert isinstance(changed.slo_ms, float)
    other = INSTANCE.model_copy(update={"workloads": (changed, *INSTANCE.workloads[1:])})
    assert [entry.slo_ms for entry in other.workloads[:1]] == [40.0]
    assert other.gpu_types[0] is INSTANCE.gpu_types[0]


def test_a_table_comes_back_as_the_same_workloads() -> None:
    some = INSTANCE.workloads[0].model_copy(update={"max_replicas": 2})
    instance = INSTANCE.model_copy(update={"workloads": (some, *INSTANCE.workloads[1:])})
    table = instance.to_frame()
    assert table["max_replicas"].isna().any()
    again = ig.Instance(**{**dict(instance), "workloads": table.to_dict("records")})
    assert again == instance


def test_an_empty_cell_is_not_given_and_a_table_is_no_list() -> None:
    cells: dict[str, Any] = {"max_replicas": math.nan, "arrivals": math.nan}
    workload = ig.Workload(name="w", model="vgg19", slo_ms=30, rate_rps=10, **cells)
    assert (workload.max_replicas, workload.arrivals) == (None, None)
    with pytest.raises(ig.InputError, match="slo_ms: must be a finite number; found NaN"):
        ig.Workload(name="w", model="vgg19", slo_ms=math.nan, rate_rps=10)
    table: Any = pd.DataFrame([{"name": "w", "model": "vgg19", "slo_ms": 30, "rate_rps": 10}])
    with pytest.raises(ig.InputError, match=r'found a table: give table.to_dict\("records"\)') as caught:
        ig.Instance(name="x", gpu_types=INSTANCE.gpu_types, workloads=table)
    assert str(caught.value).count("\n") == 0


def test_a_kind_of_arrivals_may_be_named() -> None:
    kind: Any = "gamma"
    workload = ig.Workload(name="w", model="vgg19", slo_ms=30, rate_rps=10, arrivals=kind)
    assert workload.arrivals == GAMMA
    changed = INSTANCE.with_options("p99", arrivals="gamma")
    assert changed.arrivals == GAMMA
    with pytest.raises(ig.InputError, match="unknown kind 'gama'; did you mean 'gamma'"):
        ig.Workload(name="w", model="vgg19", slo_ms=30, rate_rps=10, arrivals="gama")


def test_what_is_no_list_and_no_function_is_one_message() -> None:
    profiles: Any = "v100"
    with pytest.raises(ig.InputError, match="profiles must be a list, one entry per GPU type; found 'v100'"):
        generate_instance("g", 2, 7, profiles, [3.06])
    price: Any = 3.06
    with pytest.raises(ig.InputError, match=r"prices must be a list, one entry per GPU type; found 3.06"):
        generate_instance("g", 2, 7, ["v100"], price)
    yes: Any = True
    with pytest.raises(ig.InputError, match="on_progress must be a function, such as print; found True"):
        ig.solve(INSTANCE, on_progress=yes)
    with pytest.raises(ig.InputError, match=r"the gap must be below 1 \(0.05 is 5 %\)"):
        ig.solve(INSTANCE, gap=5)


def test_predictions_beyond_what_was_measured_warn() -> None:
    with pytest.warns(ig.Caution, match=r"0.6 % would be raised to it \(shares are in percent; 60 is 60 %\)"):
        ig.predict("v100", [("vgg19", 3, 0.6)])
    with pytest.warns(ig.Caution, match="vgg19 was profiled up to batch 32; batch 1000 is extrapolated"):
        ig.predict("v100", [("vgg19", 1000, 60)])


def test_a_study_is_a_table() -> None:
    study = ig.sensitivity(ig.solve(INSTANCE, "patterns").plan, time_s=1)
    table = study.to_frame()
    assert len(table) == len(study.everything) + sum(len(own.changes) for own in study.workloads)
    assert {"workload", "kind", "percent", "cost_per_hour", "saving_per_hour"} <= set(table.columns)

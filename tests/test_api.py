"""The package as a program sees it: its names, what values look like, and that its own errors are the only ones."""

import ast
import base64
import importlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import igniter_opt as ig
from igniter_opt.base.schema import describe
from igniter_opt.data.history import read_history
from igniter_opt.data.plan import plan_from_data
from igniter_opt.data.profile import write_profile
from igniter_opt.generate import generate_instance
from igniter_opt.profiler.check import check_profile
from igniter_opt.result import write_history

MOTIVATION, V100 = ig.read_instance("igniter-motivation"), ig.read_profile("v100")
HOSTILE = "<script>alert(1)</script>"


@cache
def result(name: str = "igniter-motivation") -> ig.Result:
    return ig.solve(name, "igniter")


@cache
def comparison() -> ig.Comparison:
    return ig.compare(["igniter-motivation", "igniter-table3"], ["igniter", "ffd"], requests=0)


def simulation() -> ig.Simulation:
    return ig.simulate(result().plan, requests=200, seeds=1)


def sensitivity() -> ig.Sensitivity:
    return ig.Sensitivity(3.06, None, 60.0, cheaper_plan=result().plan)


# ---- names ------------------------------------------------------------------------------------------


def test_the_package_shows_its_public_names_only() -> None:
    assert set(dir(ig)) == {*ig.__all__, "__version__"}
    assert all(hasattr(ig, name) for name in dir(ig))


@pytest.mark.parametrize("first", ["igniter_opt", "igniter_opt.compare", "igniter_opt.sensitivity"])
def test_functions_named_as_their_modules_stay_functions(first: str) -> None:
    """Importing a module puts it into its package's namespace, but only when it is loaded."""
    shared = [name for name in ig.__all__ if importlib.util.find_spec(f"igniter_opt.{name}") is not None]
    assert {"compare", "sensitivity", "simulate", "solve", "verify"} <= set(shared)
    program = f"import {first}, igniter_opt as ig\n"
    program += "".join(f"import igniter_opt.{name}\nfrom igniter_opt.{name} import *\n" for name in shared)
    program += f"import types\nassert all(isinstance(getattr(ig, name), types.FunctionType) for name in {shared})"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_importing_the_package_and_showing_values_loads_no_plots_and_no_tables() -> None:
    program = "import sys, igniter_opt as ig; repr(ig.read_instance('igniter-table3')); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"matplotlib", "pandas"} & set(done.stdout.split())


# ---- what values look like --------------------------------------------------------------------------

VALUES: dict[str, Callable[[], object]] = {
    "Result": lambda: result("igniter-table3"),
    "Plan": lambda: result("igniter-table3").plan,
    "PlanGpu": lambda: result("igniter-table3").plan.gpus[0],
    "Placement": lambda: result("igniter-table3").plan.gpus[0].placements[0],
    "Verification": lambda: result("igniter-table3").verification,
    "Instance": lambda: ig.read_instance("uniform-24-1"),
    "GpuType": lambda: MOTIVATION.gpu_types[0],
    "Workload": lambda: MOTIVATION.workloads[0],
    "Profile": lambda: ig.read_profile("h100"),
    "ModelProfile": lambda: V100.models["alexnet"],
    "Comparison": comparison,
    "Simulation": simulation,
    "ServiceStatistics": lambda: simulation().workloads[0],
    "Sensitivity": sensitivity,
    "Explanation": lambda: ig.explain(result("igniter-table3").plan),
}


@pytest.mark.parametrize("kind", VALUES)
def test_reprs_take_one_short_line(kind: str) -> None:
    value = VALUES[kind]()
    assert type(value).__name__ == kind
    most = 650 if kind == "ModelProfile" else 250
    for text in (repr(value), str(value)):
        assert "\n" not in text
        assert len(text) < most, text
    assert repr(value).startswith(f"{kind}(")


def test_reprs_say_what_matters() -> None:
    assert repr(result().plan) == (
        "Plan(instance='igniter-motivation', method='igniter', status='heuristic', gpus=1, cost_per_hour=3.06)"
    )
    assert "gpus=1, cost_per_hour=3.06, ok=True" in repr(result())
    assert "slo_rule='half', workloads=3, gpu_types='V100'" in repr(MOTIVATION)
    assert "models='alexnet, resnet50, vgg19, ssd'" in repr(V100)
    assert repr(comparison()).endswith("methods='igniter, ffd', rows=4)")
    broken = ig.verify(_with_method(result().plan, HOSTILE).model_copy(update={"gpus": ()}))
    assert f"ok=False, violations={len(broken.violations)}" in repr(broken)
    many = ig.read_instance("uniform-24-1")
    gpu = result().plan.gpus[0].model_copy(update={"placements": result().plan.gpus[0].placements * 3})
    assert "... (9 in all)" in repr(gpu)
    assert "workloads=24" in repr(many)


def _with_method(plan: ig.Plan, method: str) -> ig.Plan:
    return plan.model_copy(update={"solver": plan.solver.model_copy(update={"method": method})})


def _html(value: Any) -> str:
    return str(value._repr_html_())


def test_notebooks_show_plans_and_results_as_pictures() -> None:
    for value in (result("igniter-table3"), result("igniter-table3").plan):
        html = _html(value)
        found = re.search(r'src="data:image/png;base64,([^"]+)"', html)
        assert found is not None
        assert base64.b64decode(found[1]).startswith(b"\x89PNG")
        assert html.count("<img") == 1
        assert "does not hold" not in html


def test_notebooks_say_what_is_wrong_with_a_plan_and_escape_every_name() -> None:
    plan = _with_method(result().plan, HOSTILE)
    wrong = plan.model_copy(update={"gpus": (plan.gpus[0].model_copy(update={"name": HOSTILE, "type": HOSTILE}),)})
    html = _html(wrong)
    assert "The plan does not hold" in html
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "<img" not in _html(plan.model_copy(update={"gpus": plan.gpus * 101}))


def test_notebooks_show_comparisons_as_tables_and_escape_every_name() -> None:
    html = _html(comparison())
    assert html.count("<tr") == 1 + 4
    assert "<th>cost/h</th>" in html
    assert "18.36" in html
    hostile = ig.Comparison()
    hostile.rows = [
        type(row)(**{**vars(row), "instance": HOSTILE, "method": HOSTILE, "message": HOSTILE})
        for row in comparison().rows
    ]
    assert "<script" not in _html(hostile)
    assert _html(hostile).count("&lt;script&gt;") == 4 * 5


def test_notebooks_draw_comparisons_that_have_plans() -> None:
    assert _html(comparison()).count("<img") == 1
    assert "<img" not in _html(ig.Comparison())


def test_tables_have_a_row_for_each() -> None:
    plan = result("igniter-table3").plan
    placements = [(gpu.name, entry.workload, entry.batch) for gpu in plan.gpus for entry in gpu.placements]
    for table in (plan.to_frame(), result("igniter-table3").to_frame()):
        assert list(zip(table["gpu"], table["workload"], table["batch"], strict=True)) == placements
    workloads = plan.instance.to_frame()
    assert list(workloads["rate_rps"]) == [entry.rate_rps for entry in plan.instance.workloads]
    assert list(workloads["name"])[-1] == "W12"


def test_tables_without_pandas_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    for value in (MOTIVATION, result(), result().plan, comparison(), simulation()):
        with pytest.raises(ig.InputError, match="pip install pandas"):
            value.to_frame()  # type: ignore[attr-defined]


# ---- names and paths --------------------------------------------------------------------------------


class Named:
    """A path of somebody else's kind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


def _same(one: ig.Plan, other: ig.Plan) -> bool:
    def timeless(plan: ig.Plan) -> ig.Plan:
        return plan.model_copy(update={"solver": plan.solver.model_copy(update={"runtime_s": 0.0})})

    return timeless(one) == timeless(other)


@pytest.mark.parametrize("kind", [str, Path, Named])
def test_strings_and_paths_do_wherever_files_are_meant(kind: Any, tmp_path: Path) -> None:
    instance, plan = kind(tmp_path / "mine.yaml"), kind(tmp_path / "plan.json")
    history = kind(tmp_path / "history.json")
    ig.write_instance(MOTIVATION, instance)
    ig.write_plan(result().plan, plan)
    write_history(result(), history)
    assert ig.read_instance(instance) == MOTIVATION
    assert ig.read_plan(plan) == result().plan
    assert read_history(history, result().plan).instance == "igniter-motivation"
    assert _same(ig.solve(instance, "igniter").plan, result().plan)
    assert ig.verify(plan) == result().verification
    assert ig.simulate(plan, requests=200, seeds=1).to_dict() == simulation().to_dict()
    assert ig.compare(instance, "igniter", requests=0).rows[0].cost_per_hour == 3.06
    with pytest.raises(ig.InputError, match="the time for what-ifs must be a finite number"):
        ig.sensitivity(plan, time_s=0.0)
    assert ig.explain(plan).placements == ig.explain(result().plan).placements
    profile = kind(tmp_path / "card.json")
    write_profile(V100, profile)
    group = [("alexnet", 4, 10.0)]
    assert ig.predict(profile, group).power_w == ig.predict(V100, group).power_w
    assert ig.GpuType(name="V100", profile=profile, price_per_hour=1.0).profile == V100
    assert generate_instance("made", 2, 1, [profile], [1.0]) == generate_instance("made", 2, 1, [V100], [1.0])
    assert check_profile(profile).to_dict() == check_profile(V100).to_dict()


def test_names_do_wherever_shipped_things_are_meant() -> None:
    assert _same(ig.solve("igniter-motivation", "igniter").plan, result().plan)
    assert [row.instance for row in comparison().rows] == ["igniter-motivation"] * 2 + ["igniter-table3"] * 2
    group = [("alexnet", 4, 10.0), ("vgg19", 6, 37.5)]
    np.testing.assert_array_equal(ig.predict("v100", group).latency_ms, ig.predict(V100, group).latency_ms)
    assert ig.GpuType(name="V100", profile="v100", price_per_hour=3.06).profile == V100
    made = ig.Instance(
        name="made",
        gpu_types=[{"name": "V100", "profile": "v100", "price_per_hour": 3.06}],
        workloads=[{"name": "A", "model": "alexnet", "slo_ms": 15, "rate_rps": 500}],
    )
    assert made.gpu_types[0].profile == V100
    assert generate_instance("made", 3, 1, ["v100"], [1.0]) == generate_instance("made", 3, 1, [V100], [1.0])


def test_plans_from_files_name_no_profiles() -> None:
    """A plan is complete in itself; a name in it would be looked up on the machine of whoever reads it."""
    data = result().plan.model_dump(mode="json", by_alias=True)
    data["instance"]["gpu_types"][0]["profile"] = "v100"
    with pytest.raises(
        ig.InputError, match=r"gpu_types\[0\].profile: must be a mapping of keys to values; found 'v100'"
    ):
        plan_from_data(data, "plan.json")


# ---- errors -----------------------------------------------------------------------------------------

WORKLOAD: dict[str, Any] = {"name": "A", "model": "alexnet", "slo_ms": 15, "rate_rps": 500}
BAD: dict[str, tuple[Callable[[], object], str]] = {
    "value": (lambda: ig.Workload(**WORKLOAD | {"slo_ms": -1}), "Workload: slo_ms: must be greater than 0; found -1"),
    "key": (lambda: ig.Workload(**WORKLOAD, slo=1), "Workload: unknown key 'slo'; did you mean 'slo_ms'?"),
    "position": (lambda: ig.Workload("A", "alexnet"), "Workload: give every value by name, as in Workload(name=...,"),
    "lacking": (lambda: ig.Profile(name="x", source="x", models={}), "Profile: hardware: this key is required"),
    "price": (lambda: ig.GpuType(name="V", profile=V100, price_per_hour=0), "GpuType: price_per_hour: must be greater"),
    "card": (lambda: ig.GpuType(name="V", profile="v10", price_per_hour=1), "profile: unknown profile 'v10'; did you"),
    "no card": (lambda: ig.GpuType(name="V", profile=7, price_per_hour=1), "profile: must be a mapping of keys to val"),
    "inner": (
        lambda: ig.Instance(name="x", gpu_types=MOTIVATION.gpu_types, workloads=[WORKLOAD | {"rate_rps": "fast"}]),
        "Instance: workloads[0].rate_rps: must be a number; found 'fast'",
    ),
    "twice": (
        lambda: ig.Instance(name="x", gpu_types=MOTIVATION.gpu_types * 2, workloads=MOTIVATION.workloads),
        "Instance: gpu_types[1].name: 'V100' is already the name of gpu_types[0]",
    ),
    "frozen": (lambda: setattr(MOTIVATION, "name", "x"), "Instance: name cannot be set: records do not change"),
    "kept": (lambda: delattr(MOTIVATION, "name"), "Instance: name cannot be deleted: records do not change"),
    "nothing": (lambda: ig.solve(None), "expected an instance, or the name or path of one; found nothing"),
    "unknown": (lambda: ig.solve("igniter-table4"), "unknown instance 'igniter-table4'; did you mean 'igniter-table3'"),
    "method": (lambda: ig.solve(MOTIVATION, 5), "unknown method 5 (methods: auto,"),
    "limit": (lambda: ig.solve(MOTIVATION, time_limit="60"), "the time limit must be a number; found '60'"),
    "margin": (lambda: ig.solve(MOTIVATION, margin="0.1"), "the margin must be a number; found '0.1'"),
    "confidence": (lambda: ig.solve(MOTIVATION, confidence="0.9"), "the confidence must be a number; found '0.9'"),
    "seed": (lambda: ig.solve(MOTIVATION, seed=1.5), "the seed must be a whole number; found 1.5"),
    "replicas": (lambda: ig.solve(MOTIVATION, max_replicas="3"), "max_replicas must be a whole number; found '3'"),
    "percentile": (
        lambda: ig.solve(MOTIVATION, slo_rule="p99", percentile="99"),
        "the percentile must be a number; found '99'",
    ),
    "start": (lambda: ig.solve(MOTIVATION, start="nowhere.json"), "nowhere.json: no such file"),
    "judged": (lambda: ig.verify(result()), "expected a plan, or the path of one; found Result(instance='ig"),
    "requests": (lambda: ig.simulate(result().plan, requests=1e3), "requests must be a whole number; found 1000.0"),
    "seeds": (lambda: ig.simulate(result().plan, seeds=None), "seeds must be a whole number; found nothing"),
    "scale": (lambda: ig.simulate(result().plan, scale="2"), "scale must be a number; found '2'"),
    "traces": (
        lambda: ig.simulate(result().plan, "trace", traces=["x.csv"]),
        "traces: give pairs of a workload's name",
    ),
    "burst": (lambda: ig.Arrivals("gamma", burstiness="x"), "burstiness must be a number; found 'x'"),
    "compared": (lambda: ig.compare(7), "expected an instance, or the name or path of one; found 7"),
    "counted": (lambda: ig.compare(MOTIVATION, requests="9"), "requests must be a whole number; found '9'"),
    "studied": (lambda: ig.sensitivity("nowhere.json"), "nowhere.json: no such file"),
    "time": (lambda: ig.sensitivity(result().plan, time_s="5"), "the time for what-ifs must be a number; found '5'"),
    "pair": (lambda: ig.predict(V100, [("alexnet", 4)]), "predict: a placement is (model, batch, share); found ("),
    "flat": (lambda: ig.predict(V100, ("alexnet", 4, 9.0)), "predict: a placement is (model, batch, share); found 'a"),
    "batch": (lambda: ig.predict(V100, [("alexnet", "4", 9.0)]), "predict: alexnet: batch must be a number; found '4'"),
    "model": (lambda: ig.predict(V100, [([], 4, 9.0)]), "profile v100: unknown model [] (its models: alexnet"),
    "null": (lambda: ig.read_plan("a\0b"), "'a\\x00b': cannot be read or written (no file's name has"),
    "bytes": (lambda: ig.read_instance(b"x"), "expected an instance, or the name or path of one; found b'x'"),
    "number": (lambda: ig.read_profile(7), "expected a profile, or the name or path of one; found 7"),
    "swapped": (
        lambda: ig.write_plan("x.json", result().plan),
        "give first what is to be written, of type Plan; found 'x.json'",
    ),
    "unwritten": (
        lambda: ig.write_plan(result().plan, None),
        "expected a path (text or a pathlib.Path); found nothing",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_arguments_are_input_errors_of_one_line(what: str) -> None:
    call, said = BAD[what]
    with pytest.raises(ig.InputError) as caught:
        call()
    assert said in str(caught.value)
    if what != "lacking":
        assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_numbers_of_numpy_are_numbers() -> None:
    found = ig.solve(MOTIVATION, "igniter", time_limit=np.float64(9), seed=np.int64(1), max_replicas=np.int32(2))
    assert found.plan.solver.seed == 1


def test_values_in_messages_are_short() -> None:
    assert len(describe(result("igniter-table3").plan)) <= 60


def homes() -> set[tuple[str, str]]:
    """Names and modules that type checkers are told of."""
    tree = ast.parse(Path(str(ig.__file__)).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {
        (alias.name, node.module) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }


def test_names_are_where_type_checkers_are_told_that_they_are() -> None:
    assert {(name, f"igniter_opt.{module}") for name, module in ig._MODULE_OF.items()} == homes()
    assert set(ig.__all__) == {name for name, _ in homes()}
    assert set(dir(ig)) == {*ig.__all__, "__version__"}
    for name, module in homes():
        assert getattr(ig, name) is getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("name", ["compare", "predict", "sensitivity", "simulate", "solve", "verify"])
def test_a_function_named_as_its_module_stays_one(name: str) -> None:
    """Importing a module puts it where the package's attribute of its name is."""
    program = (
        f"import igniter_opt.{name} as first, igniter_opt, sys; from igniter_opt import {name} as second;"
        f"assert first is second is igniter_opt.{name} is sys.modules['igniter_opt.{name}'].{name};"
        "assert callable(first)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'slove'"):
        _ = ig.slove  # type: ignore[attr-defined]

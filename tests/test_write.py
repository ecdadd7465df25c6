"""Writing from Python replaces files of its own kind and empty ones, and no plan that misses SLOs unasked."""

from collections.abc import Callable
from pathlib import Path

import pytest

import igniter_opt as ig
from igniter_opt.data.profile import write_profile
from igniter_opt.deploy.approval import make_approval, write_approval
from igniter_opt.measure.results import Measurement, write_measurement
from igniter_opt.report.plots import plot_plan
from igniter_opt.result import write_history

INSTANCE = ig.read_instance("igniter-motivation")
RESULT = ig.solve(INSTANCE, "igniter")
MEASUREMENT = Measurement(source="x", started_at="now", duration_s=1.0, workloads=())
WRITERS: dict[str, Callable[[Path], object]] = {
    "a plan": lambda path: ig.write_plan(RESULT.plan, path),
    "an instance": lambda path: ig.write_instance(INSTANCE, path),
    "a profile": lambda path: write_profile(ig.read_profile("v100"), path),
    "a history": lambda path: write_history(RESULT, path),
    "an approval": lambda path: write_approval(make_approval(RESULT.plan), path),
    "a measurement": lambda path: write_measurement(MEASUREMENT, path),
    "a picture": lambda path: plot_plan(RESULT, path),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_writers_leave_other_files_alone(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"services.{ {'a picture': 'png', 'a measurement': 'json'}.get(kind, 'csv') }"
    write = WRITERS[kind]
    path.write_text("service,owner\nmilk,me\n")
    with pytest.raises(ig.InputError, match=f"services.*exists and is not {kind}; choose another path"):
        write(path)
    assert path.read_text() == "service,owner\nmilk,me\n"
    path.write_text("")
    for _ in range(2):  # over an empty file, then over its own kind
        write(path)
        assert path.stat().st_size > 0


def test_a_plan_is_not_written_over_an_instance_nor_an_instance_over_a_plan(tmp_path: Path) -> None:
    instance, plan = tmp_path / "ten.yaml", tmp_path / "plan.json"
    ig.write_instance(INSTANCE, instance)
    ig.write_plan(RESULT.plan, plan)
    with pytest.raises(ig.InputError, match="is not a plan"):
        ig.write_plan(RESULT.plan, instance)
    with pytest.raises(ig.InputError, match="is not an instance"):
        ig.write_instance(INSTANCE, plan)
    assert ig.read_instance(instance) == INSTANCE
    assert ig.read_plan(plan) == RESULT.plan


def test_a_plan_that_misses_slos_says_so_and_is_written_when_asked(tmp_path: Path) -> None:
    result = ig.solve("igniter-table3", "ffd", slo_rule="p99")
    assert not result.verification.ok
    assert result.status == result.plan.solver.status == "violates"
    path = tmp_path / "plan.json"
    with pytest.raises(ig.InputError, match=r"ffd misses SLOs or rates.*allow_violations=True"):
        ig.write_plan(result.plan, path)
    assert not path.exists()
    ig.write_plan(result.plan, path, allow_violations=True)
    assert ig.read_plan(path) == result.plan
    assert {entry.where for entry in ig.verify(path).violations} == {
        entry.where for entry in result.verification.violations
    }


def test_a_plan_of_a_blind_method_that_holds_is_written(tmp_path: Path) -> None:
    result = ig.solve("igniter-motivation", "ffd", scale=0.1)
    assert (result.status, result.verification.ok) == ("heuristic", True)
    ig.write_plan(result.plan, tmp_path / "plan.json")

"""A heuristic from outside of the package: one file (`one_each.py`), one row, and all that lists methods knows it."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import igniter_opt as ig
from igniter_opt import methods
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import DraftGpu
from igniter_opt.report.comparison_plots import plot_comparison
from igniter_opt.report.findings import gather
from igniter_opt.report.page import render_page
from tests.cli.helpers import invoke
from tests.extend import one_each

TABLE3 = ig.read_instance("igniter-table3")
# Of which there are as many GPUs as anybody asks for.
TABLE3 = TABLE3.model_copy(update={"gpu_types": (TABLE3.gpu_types[0].model_copy(update={"count": None}),)})
NAME = one_each.ROW.name


@pytest.fixture
def registered() -> Iterator[None]:
    ig.register_method(one_each.ROW)
    try:
        yield
    finally:
        ig.unregister_method(NAME)


@pytest.mark.usefixtures("registered")
def test_it_solves_and_its_plan_is_verified() -> None:
    assert NAME in ig.METHODS
    result = ig.solve(TABLE3, NAME)
    assert (result.plan.solver.method, result.status) == (NAME, "heuristic")
    assert len(result.plan.gpus) == len(TABLE3.workloads)
    assert result.verification.ok
    assert ig.verify(result.plan).ok


@pytest.mark.usefixtures("registered")
def test_it_is_compared_and_drawn_with_the_others(tmp_path: Path) -> None:
    comparison = ig.compare("igniter-motivation", requests=0)
    row = next(row for row in comparison.rows if row.method == NAME)
    assert (row.status, row.solved_by, row.gpus) == ("heuristic", NAME, 3)
    assert row.saving_percent is not None
    assert row.saving_percent < 0
    plot_comparison(comparison, tmp_path / "cost.svg")
    assert NAME in (tmp_path / "cost.svg").read_text()


@pytest.mark.usefixtures("registered")
def test_reports_name_it_among_the_baselines(tmp_path: Path) -> None:
    ig.write_plan(ig.solve("igniter-motivation", NAME).plan, tmp_path / "plan.json")
    findings = gather(tmp_path / "plan.json", what_if_time_s=0, command="report")
    baseline = next(entry for entry in findings.baselines if entry.method == NAME)
    assert (baseline.description, baseline.gpus, baseline.usable) == (one_each.ROW.words, 3, True)
    assert one_each.ROW.words in render_page(findings)


@pytest.mark.usefixtures("registered")
def test_the_commands_take_it_where_the_program_registered_it(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    assert invoke("solve", "igniter-motivation", "--method", NAME, "-o", path).code == 0
    assert invoke("verify", path).code == 0
    rows = invoke("compare", "igniter-motivation", "--methods", f"igniter,{NAME}", "--requests", "0", "--json").json()
    assert [row["method"] for row in rows] == ["igniter", NAME]


def test_afterwards_nobody_knows_it() -> None:
    ig.register_method(one_each.ROW)
    ig.unregister_method(NAME)
    with pytest.raises(ig.InputError, match=f"unknown method '{NAME}'"):
        ig.solve(TABLE3, NAME)


def test_exact_methods_begin_with_it_by_its_rank(request: pytest.FixtureRequest) -> None:
    asked = []

    def place(problem: Problem) -> list[DraftGpu]:
        asked.append(NAME)
        return one_each.place(problem)

    request.addfinalizer(lambda: ig.unregister_method(NAME))
    ig.register_method(replace(one_each.ROW, place=place, start_rank=-1))
    # In no time only the first is tried.
    assert len(ig.solve(TABLE3, "assignment", time_limit=0.0).plan.gpus) == len(TABLE3.workloads)
    assert asked == [NAME]


def test_a_seed_reaches_those_that_take_one(request: pytest.FixtureRequest) -> None:
    seeds = []

    def place(problem: Problem, seed: int) -> list[DraftGpu]:
        seeds.append(seed)
        return one_each.place(problem)

    request.addfinalizer(lambda: ig.unregister_method(NAME))
    ig.register_method(replace(one_each.ROW, place=place, seeded=True))
    assert ig.solve(TABLE3, NAME, seed=7).plan.solver.seed == 7
    assert seeds == [7]


def test_one_that_is_not_compared_by_itself_is_compared_on_request(request: pytest.FixtureRequest) -> None:
    request.addfinalizer(lambda: ig.unregister_method(NAME))
    ig.register_method(replace(one_each.ROW, compared=False))
    assert NAME not in methods.compared_heuristics()
    assert [row.method for row in ig.compare("igniter-motivation", NAME, requests=0).rows] == [NAME]


@pytest.mark.parametrize("verified", [True, False])
def test_what_it_promises_decides_what_a_bad_plan_is(verified: bool, request: pytest.FixtureRequest) -> None:
    def place(problem: Problem) -> list[DraftGpu]:
        return [
            gpu._replace(placements=[draft._replace(level=1) for draft in gpu.placements])
            for gpu in one_each.place(problem)
        ]

    request.addfinalizer(lambda: ig.unregister_method(NAME))
    ig.register_method(replace(one_each.ROW, place=place, verified=verified))
    if verified:
        with pytest.raises(ig.VerificationError, match=f"method {NAME} made a plan that the predictor rejects"):
            ig.solve(TABLE3, NAME)
    else:
        assert not ig.solve(TABLE3, NAME).verification.ok


@pytest.mark.parametrize("name", ["igniter", "auto", "patterns"])
def test_no_row_takes_the_name_of_another(name: str) -> None:
    before = dict(ig.METHODS)
    with pytest.raises(ig.InputError, match=re.escape(f"there is a method {name} already")):
        ig.register_method(replace(one_each.ROW, name=name))
    with pytest.raises(ig.InputError, match="was registered"):
        ig.unregister_method(name)
    assert dict(ig.METHODS) == before


@pytest.mark.parametrize("name", ["", "a,b", "a b", "Größe"])
def test_names_can_be_typed(name: str) -> None:
    with pytest.raises(ig.InputError, match="is no name of a method"):
        ig.register_method(replace(one_each.ROW, name=name))


def test_a_row_is_needed() -> None:
    with pytest.raises(ig.InputError, match="a Heuristic or an ExactMethod"):
        ig.register_method("one-each")  # type: ignore[arg-type]

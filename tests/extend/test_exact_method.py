"""An exact method from outside of the package: one search, one row."""

from collections.abc import Callable, Iterator

import pytest

import igniter_opt as ig
from igniter_opt.base.stop import StopRequest
from igniter_opt.methods import ExactMethod, exact_method, is_exact
from igniter_opt.options import SolveOptions
from igniter_opt.problem.bounds import price_grid, share_bound_units
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import DraftGpu
from igniter_opt.problem.exact_outcome import Outcome

TABLE3 = ig.read_instance("igniter-table3")
NAME = "shares-only"


def search(
    problem: Problem,
    start: list[DraftGpu] | None,
    options: SolveOptions,
    stop: StopRequest,
    on_progress: Callable[[ig.Progress], object],
) -> Outcome:
    """Keep the plan to begin with, and prove what shares alone prove."""
    on_progress(ig.Progress(0.0, "cost", None, None, None))
    grid = price_grid(problem)
    return Outcome(start, grid.round_up(share_bound_units(problem, grid), grid.all_units), 0.0)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    ig.register_method(ExactMethod(name=NAME, words="shares alone", search=search))
    try:
        yield
    finally:
        ig.unregister_method(NAME)


def test_it_begins_with_the_best_heuristic_plan_and_its_bound_is_reported() -> None:
    result = ig.solve(TABLE3, NAME)
    assert (result.plan.solver.method, result.status) == (NAME, "feasible")
    assert result.verification.ok
    assert result.lower_bound is not None
    assert 0 < result.lower_bound < result.cost == ig.solve(TABLE3, "igniter").cost
    assert [entry.phase for entry in result.history] == ["cost"]


def test_without_a_start_it_finds_no_plan() -> None:
    with pytest.raises(ig.InfeasibleError, match="no plan was found within the time limit"):
        ig.solve(TABLE3, NAME, warm_start=False)


def test_a_plan_of_the_user_is_what_it_begins_with() -> None:
    start = ig.solve(TABLE3, "igniter").plan
    assert len(ig.solve(TABLE3, NAME, warm_start=False, start=start).plan.gpus) == len(start.gpus)


def test_it_is_exact_and_auto_does_not_take_it() -> None:
    assert is_exact(NAME)
    assert exact_method(Problem(TABLE3)) == "patterns"

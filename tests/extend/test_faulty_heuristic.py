"""What is wrong with a method of a user's is said at its registration, else by its own row; others go on."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import igniter_opt as ig
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import Draft, DraftGpu
from tests.extend import one_each

NAME = "faulty"


@pytest.fixture
def register() -> Iterator[Callable[..., None]]:
    def added(place: Any, **settings: Any) -> None:
        ig.register_method(ig.Heuristic(name=NAME, words="a faulty one", place=place, **settings))

    yield added
    if NAME in ig.METHODS:
        ig.unregister_method(NAME)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"place": "two"}, r"method faulty: place must be a function of \(problem\); found 'two'"),
        ({"place": lambda: []}, r"must be a function of \(problem\); the one given: too many positional arguments"),
        ({"place": lambda _: [], "seeded": True}, r"must be a function of \(problem, seed\)"),
        ({"words": None}, "words must be text; found nothing"),
        ({"name": 3}, "name must be text; found 3"),
        ({"start_rank": True}, "start_rank must be a whole number or nothing; found True"),
        ({"verified": "no"}, "verified must be True or False; found 'no'"),
        ({"tuning": 3}, "tuning must be a class derived from Tuning; found 3"),
    ],
)
def test_a_row_that_could_not_run_is_refused(row: dict[str, Any], says: str) -> None:
    with pytest.raises(ig.InputError, match=says):
        ig.register_method(ig.Heuristic(**{"name": NAME, "words": "x", "place": one_each.place, **row}))
    assert NAME not in ig.METHODS


def _with(**changes: Any) -> Callable[[Problem], list[DraftGpu]]:
    def place(problem: Problem) -> list[DraftGpu]:
        first, *rest = one_each.place(problem)
        return [first._replace(placements=[first.placements[0]._replace(**changes)]), *rest]

    return place


def _fails(_: Problem) -> list[DraftGpu]:
    raise KeyError("tags")


@pytest.mark.parametrize(
    ("place", "says"),
    [
        (_fails, r"method faulty failed: 'tags' \[KeyError\]"),
        (lambda _: None, "method faulty: place must return a list of DraftGpu, one at least; found nothing"),
        (lambda _: [], "list of DraftGpu"),
        (lambda _: [[0, []]], "list of DraftGpu"),
        (lambda _: [DraftGpu(7, [])], r"GPU 0: gpu_type must be in 0\.\.0; found 7"),
        (lambda _: [DraftGpu(0, [])], r"GPU 0: placements must be a list of Draft"),
        (_with(level=99), r"GPU 0, placement 0: level must be in 1\.\.40; found 99"),
        (_with(level=1.5), "level must be a whole number; found 1.5"),
        (_with(batch=0), "batch must be in 1"),
        (_with(workload=3), r"workload must be in 0\.\.2; found 3"),
        (_with(replica="a"), "replica must be a whole number; found 'a'"),
        (_with(rate_rps=float("nan")), "rate_rps must be a finite number above 0; found NaN"),
    ],
)
def test_one_message_names_the_method_and_comparisons_go_on(
    register: Callable[..., None], place: Any, says: str
) -> None:
    register(place)
    with pytest.raises(ig.InputError, match=says) as caught:
        ig.solve("igniter-motivation", NAME)
    assert str(caught.value).startswith(f"method {NAME}")
    if place is _fails:
        assert isinstance(caught.value.__cause__, KeyError)
    comparison = ig.compare("igniter-motivation", ["igniter", NAME], requests=0)
    assert [(row.method, row.status) for row in comparison.rows] == [("igniter", "heuristic"), (NAME, "no plan")]
    assert comparison.rows[1].message == str(caught.value)


def test_numbers_of_numpy_are_numbers(register: Callable[..., None]) -> None:
    register(_with(workload=np.int64(0), replica=np.int32(1)))
    assert ig.solve("igniter-motivation", NAME).verification.ok


def test_a_plan_that_does_not_hold_is_no_fault_of_the_package(register: Callable[..., None]) -> None:
    def crowd(problem: Problem) -> list[DraftGpu]:
        return [DraftGpu(0, [Draft(k, 1, 1, 1, entry.rate_rps) for k, entry in enumerate(problem.workloads)])]

    register(crowd)
    with pytest.raises(ig.VerificationError, match="mend the method, or register it with verified=False"):
        ig.solve("igniter-motivation", NAME)
    comparison = ig.compare("igniter-motivation", ["igniter", NAME], requests=0)
    assert comparison.rows[1].status == "no plan"
    assert "verified=False" in (comparison.rows[1].message or "")
    ig.unregister_method(NAME)
    register(crowd, verified=False)
    assert ig.solve("igniter-motivation", NAME).status == "violates"

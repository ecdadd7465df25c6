"""Options of a solve, and the constants of methods that a researcher may change."""

from typing import Any

import pytest

from igniter_opt import Heuristic, InputError, methods, read_instance, solve
from igniter_opt.options import AssignmentTuning, BestFitTuning, PatternsTuning, SolveOptions, Tuning
from igniter_opt.packing.local_search import LocalSearch
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import DraftGpu

TABLE3 = read_instance("igniter-table3")
ONE = BestFitTuning(repeats=1, least_repeats=1, rounds=1)


@pytest.fixture
def constructions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Seeds of the best-fit constructions."""
    seeds: list[int] = []
    construct = LocalSearch.construct

    def noted(search: LocalSearch, items: list[int], noise: float, seed: int) -> object:
        seeds.append(seed)
        return construct(search, items, noise, seed)

    monkeypatch.setattr(LocalSearch, "construct", noted)
    return seeds


def test_best_fit_takes_its_constants(constructions: list[int]) -> None:
    assert solve(TABLE3, "bestfit", tuning=ONE).verification.ok
    assert constructions == [0]
    solve(TABLE3, "bestfit")
    assert len(constructions) == 1 + BestFitTuning().repeats


@pytest.mark.parametrize("method", ["patterns", "auto"])
def test_patterns_begins_with_a_plan_of_the_constants_given(method: str, constructions: list[int]) -> None:
    assert solve(TABLE3, method, tuning=PatternsTuning(best_fit=ONE, starts=0)).status == "optimal"
    assert set(constructions) == {0}
    constructions.clear()
    assert solve(TABLE3, method).status == "optimal"
    # Those of best fit, and where columns are needed those that they begin with.
    assert {*range(BestFitTuning().repeats)} <= set(constructions)


@pytest.mark.parametrize(
    ("method", "tuning", "says"),
    [
        ("igniter", ONE, "method igniter takes no constants"),
        ("patterns", AssignmentTuning(), "method patterns takes PatternsTuning"),
        ("assignment", ONE, "method assignment takes AssignmentTuning"),
        ("bestfit", {"rounds": 1}, "method bestfit takes BestFitTuning"),
    ],
)
def test_constants_of_another_method_are_refused(method: str, tuning: Tuning, says: str) -> None:
    with pytest.raises(InputError, match=f"tuning: {says}"):
        solve(TABLE3, method, tuning=tuning)


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [
        (BestFitTuning, {"rounds": 1.5}, "BestFitTuning.rounds must be a whole number"),
        (BestFitTuning, {"repeats": 0}, "one construction at least"),
        (BestFitTuning, {"noise": float("nan")}, "BestFitTuning.noise must be finite"),
        (AssignmentTuning, {"share_part": -0.1}, "AssignmentTuning.share_part must be finite and at least 0"),
        (PatternsTuning, {"bound_parts": ()}, "PatternsTuning.bound_parts must be a tuple of numbers"),
        (PatternsTuning, {"bound_parts": ("a",)}, "PatternsTuning.bound_parts must be a number"),
        (PatternsTuning, {"counts_until": (0.5,)}, "counts_until must have one number more than bound_parts_several"),
        (PatternsTuning, {"best_fit": PatternsTuning()}, "PatternsTuning.best_fit must be a BestFitTuning"),
    ],
)
def test_constants_are_checked(kind: type[Tuning], values: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        kind(**values)


def test_a_registered_heuristic_may_have_constants(request: pytest.FixtureRequest) -> None:
    given = []

    def place(problem: Problem, tuning: BestFitTuning = ONE) -> list[DraftGpu]:
        given.append(tuning)
        return methods.heuristics()["igniter"].run(problem)

    request.addfinalizer(lambda: methods.unregister_method("mine"))
    methods.register_method(Heuristic(name="mine", words="mine", place=place, tuning=BestFitTuning))
    other = BestFitTuning(rounds=7)
    solve(TABLE3, "mine", tuning=other)
    solve(TABLE3, "mine")
    assert given == [other, ONE]


def test_options_are_those_of_solve() -> None:
    """One default, and one name, for each."""
    defaults = {
        name: value for name, value in (solve.__kwdefaults__ or {}).items() if name not in ("on_progress", "stop")
    }
    assert defaults == {name: getattr(SolveOptions(), name) for name in SolveOptions.__dataclass_fields__}


@pytest.mark.parametrize("changed", [{"bound_parts": (2, 3)}, {"bound_parts": (0.5, 1.1)}, {"share_part": 1.5}])
def test_parts_of_the_time_limit_are_at_most_all_of_it(changed: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"PatternsTuning.{next(iter(changed))} must be at most 1"):
        PatternsTuning(**changed)
    assert PatternsTuning(bound_parts=(0.5, 1)).bound_parts == (0.5, 1)

"""Ctrl-C in a program: what there is so far, said in one line; then, or where there is nothing, KeyboardInterrupt."""

import signal
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

import igniter_opt as ig
from igniter_opt.base import stop
from igniter_opt.base.errors import SolveInterruptedError
from igniter_opt.formulations import patterns
from igniter_opt.result import Progress

# Its function has its name.
replanned = import_module("igniter_opt.replan")


def _press(*_: object) -> None:
    signal.raise_signal(signal.SIGINT)


def _press_once_there_is_a_plan(progress: Progress) -> None:
    if progress.cost is not None:
        _press()


def _solve() -> ig.Result:
    return ig.solve("uniform-24-1", "patterns", on_progress=_press_once_there_is_a_plan, max_replicas=3)


def test_a_sweep_that_goes_on_after_errors_ends_with_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "compile_kernels", _press)

    def sweep() -> Iterator[str]:
        for _ in range(3):
            yield "begun"
            try:
                ig.solve("igniter-table3", "patterns")
            except (ig.IgniterOptError, Exception):
                yield "swallowed"

    seen = []
    with pytest.raises(SolveInterruptedError, match="before a plan was found"):
        seen.extend(sweep())
    assert issubclass(SolveInterruptedError, KeyboardInterrupt)
    assert seen == ["begun"]


def test_a_result_so_far_says_so_and_a_second_ctrl_c_ends_a_loop(capsys: pytest.CaptureFixture[str]) -> None:
    found = _solve()
    assert found.interrupted
    assert found.verification.ok
    assert "interrupted=True" in repr(found)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "interrupted: this is the best plan so far; another Ctrl-C within 10 s raises KeyboardInterrupt" in said
    with pytest.raises(KeyboardInterrupt):
        _solve()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_later_ctrl_c_asks_for_the_plan_so_far_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop, "AGAIN_S", 0.0)
    assert _solve().interrupted
    assert _solve().interrupted


def test_a_stop_request_of_the_program_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    request = stop.StopRequest()

    def look(progress: Progress) -> None:
        if progress.cost is not None:
            request.set()

    found = ig.solve("uniform-24-1", "patterns", on_progress=look, stop=request, max_replicas=3)
    assert found.interrupted
    assert not capsys.readouterr().err
    assert _solve().interrupted


def test_a_comparison_and_a_study_say_that_they_are_not_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ig.compare("igniter-motivation", ["igniter"], requests=0)
    assert "interrupted" not in repr(whole)
    calls: list[str] = []

    def look(_: str, method: str, __: Progress) -> None:
        calls.append(method)
        if method == "ffd++":
            _press()

    comparison = ig.compare("igniter-motivation", ["igniter", "ffd++"], requests=0, on_progress=look)
    assert [row.method for row in comparison.rows] == ["igniter"]
    assert comparison.interrupted
    assert "interrupted=True" in repr(comparison)
    assert "interrupted: 1 row so far" in capsys.readouterr().err
    stop._Last.again_until = 0.0
    study_of = ig.sensitivity  # only now is its module there
    monkeypatch.setattr(sys.modules["igniter_opt.sensitivity"]._Study, "run", _press)
    study = study_of(ig.solve("igniter-motivation", "igniter").plan, time_s=10)
    assert "interrupted=True" in repr(study)
    assert "interrupted: this is what was examined so far" in capsys.readouterr().err


@pytest.mark.parametrize("amid", ["ordered", "price_grid"])
def test_a_new_plan_is_not_lost_amid_its_migration(
    amid: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    running = ig.solve("igniter-table3", "igniter").plan
    wanted = ig.read_instance("igniter-table3").with_options(scale=0.8)
    real = getattr(replanned, amid)

    def pressed(*arguments: Any) -> object:
        _press()
        return real(*arguments)

    monkeypatch.setattr(replanned, amid, pressed)
    found = ig.replan(running, wanted, "igniter")
    assert found.interrupted
    assert found.verification.ok
    assert "interrupted: this is the best plan so far" in capsys.readouterr().err

"""Compilation is counted apart, told of, and ended by a stop request."""

import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import pytest

from igniter_opt import Progress, read_instance, simulate, solve
from igniter_opt.base import compilation
from igniter_opt.base.compiled import compiled
from igniter_opt.base.errors import SimulationInterruptedError, SolveInterruptedError
from igniter_opt.base.stop import StopRequest
from igniter_opt.compare import compare
from igniter_opt.formulations import patterns
from igniter_opt.heuristics import bestfit
from tests.support.refined_profiles import refined_profile

TABLE3 = read_instance("igniter-table3")


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[], Any]:
    """Makes a function that is compiled when it is called, and calls one that is, too."""

    def make() -> Any:
        def inner(number: int) -> int:
            return number + 1

        def outer(number: int) -> int:
            return called(called(number))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
            called = compiled(inner)
            return compiled(outer)

    return make


@pytest.fixture
def interrupt_amid_compilation(fresh: Callable[[], Any]) -> Callable[..., None]:
    """Presses Ctrl-C while something is compiled."""

    def interrupt(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)
        fresh()(0)
        raise AssertionError("compilation was not ended")

    return interrupt


def test_a_stopwatch_leaves_compilation_out(fresh: Callable[[], Any]) -> None:
    watch, before, began = compilation.Stopwatch(), compilation.seconds(), time.perf_counter()
    with compilation.counted_apart():
        assert fresh()(0) == 2  # within: nothing is counted twice
        time.sleep(0.05)
    time.sleep(0.01)
    whole = time.perf_counter() - began
    compiling = compilation.seconds() - before
    assert compiling >= 0.05
    assert 0.01 <= watch.elapsed() <= whole - compiling + 0.005


def test_what_is_compiled_is_told_of(fresh: Callable[[], Any]) -> None:
    told: list[tuple[int, float]] = []
    compilation.watch(lambda *state: told.append(state))
    try:
        assert fresh()(0) == 2
    finally:
        compilation.watch(None)
    assert len(told) >= 2
    assert told == sorted(told)


def test_a_stop_request_ends_compilation_and_nothing_else(fresh: Callable[[], Any]) -> None:
    stop, function = StopRequest(), fresh()
    stop.set()
    before = compilation.seconds()
    with pytest.raises(KeyboardInterrupt), compilation.ended_by(stop):
        function(0)
    with pytest.raises(KeyboardInterrupt), compilation.ended_by(stop):
        function(0)
    assert function(0) == 2
    assert compilation.seconds() > before
    with compilation.ended_by(stop):
        assert function(0) == 2


def test_a_solve_interrupted_amid_compilation_has_the_start_or_no_plan(
    monkeypatch: pytest.MonkeyPatch, interrupt_amid_compilation: Callable[..., None]
) -> None:
    start = solve(TABLE3, "igniter").plan
    monkeypatch.setattr(patterns, "compile_kernels", interrupt_amid_compilation)
    with pytest.raises(SolveInterruptedError, match="before a plan was found"):
        solve(TABLE3, "patterns")
    found = solve(TABLE3, "patterns", start=start)
    assert found.interrupted
    assert found.plan.gpus == start.gpus
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_warm_starts_interrupted_amid_compilation_leave_the_best_so_far(
    monkeypatch: pytest.MonkeyPatch, interrupt_amid_compilation: Callable[..., None]
) -> None:
    monkeypatch.setattr(bestfit, "place", interrupt_amid_compilation)
    found = solve(read_instance("igniter-three"), "assignment")
    assert found.interrupted
    assert found.verification.ok


def test_a_simulation_interrupted_amid_compilation_is_interrupted(
    monkeypatch: pytest.MonkeyPatch, interrupt_amid_compilation: Callable[..., None]
) -> None:
    plan = solve(TABLE3, "igniter").plan
    monkeypatch.setattr(sys.modules["igniter_opt.simulate"], "serve_alone", interrupt_amid_compilation)
    with pytest.raises(SimulationInterruptedError):
        simulate(plan)


@pytest.mark.parametrize(
    ("method", "where", "name"), [("bestfit", bestfit, "local_search"), ("patterns", patterns, "compile_kernels")]
)
def test_times_of_methods_leave_compilation_out(
    monkeypatch: pytest.MonkeyPatch, method: str, where: ModuleType, name: str
) -> None:
    instance = read_instance("igniter-motivation")
    original = getattr(where, name)
    solve(instance, method)  # what it really needs is there

    def slow(*arguments: Any) -> Any:
        with compilation.counted_apart():
            time.sleep(5.0)
        return original(*arguments)

    monkeypatch.setattr(where, name, slow)
    found = compare([instance], [method], requests=0)
    assert found.rows[0].runtime_s < 4.0
    assert found.results[instance.name, method].plan.solver.runtime_s < 4.0


def test_limits_of_rule_p99_are_told_of_and_can_be_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["igniter_opt.solve"], "_REPORT_EVERY_S", 0.0)
    told: list[str] = []
    stop = StopRequest()

    def look(progress: Progress) -> None:
        told.append(str(progress))
        if len(told) == 2:
            signal.raise_signal(signal.SIGINT)

    options: dict[str, Any] = {"slo_rule": "p99", "max_replicas": 3}
    with pytest.raises(SolveInterruptedError):
        solve(TABLE3, "patterns", on_progress=look, stop=stop, **options)
    assert stop.is_set()
    assert [line.split("  ")[-1] for line in told] == [f"limits of rule p99: {k} of 12 workloads" for k in (1, 2)]
    result = solve(TABLE3, "patterns", **options)
    assert all(entry.doing is None for entry in result.history)


def test_fits_that_take_a_while_are_told_of_once() -> None:
    told: list[str | None] = []
    # Made for this test: not fitted in this process yet.
    profile = refined_profile(random.Random(411))
    instance = TABLE3.model_copy(
        update={
            "gpu_types": (TABLE3.gpu_types[0].model_copy(update={"profile": profile}),),
            "workloads": (TABLE3.workloads[0].model_copy(update={"model": next(iter(profile.models))}),),
        }
    )
    for _ in range(2):
        solve(instance, "igniter", on_progress=lambda progress: told.append(progress.doing))
    assert told == [f"fitting coefficients of {profile.name}", "method igniter", "method igniter"]


def _next(number: int) -> int:
    return number + 1


def test_code_is_read_from_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image holds compiled code in a file system that may be read-only."""

    def refuse(**_: object) -> None:
        raise OSError("read-only file system")

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    compiled(_next)(1)
    assert len(list(tmp_path.rglob("*.nbc"))) == 1
    monkeypatch.setattr(numba.core.caching.tempfile, "TemporaryFile", refuse)
    again = compiled(_next)
    assert again(1) == 2
    assert sum(again._cache_hits.values()) == 1
    assert not again._cache_misses

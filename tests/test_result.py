"""Logs and tables of how a solve went."""

from functools import cache

import pytest

import igniter_opt as ig
from igniter_opt.cli.console import ProgressPrinter
from igniter_opt.result import PROGRESS_TITLES, problem_line


@cache
def solved() -> ig.Result:
    return ig.solve("igniter-table3", "patterns", time_limit=30)


def test_the_log_of_patterns_has_head_titles_moments_and_outcome() -> None:
    result = solved()
    head, titles, *moments, outcome = result.log
    assert head == "patterns: igniter-table3, 12 workloads, rule half; V100 at 3.06 (at most 10) USD per hour"
    assert titles == PROGRESS_TITLES
    assert moments == [str(entry) for entry in result.history]
    assert outcome.startswith("optimal: cost 18.36 USD per hour, bound 18.36, gap 0.00 %; 6 GPUs, ")


def test_every_line_fits_a_terminal_and_stands_under_its_titles() -> None:
    for entry in solved().history:
        line = str(entry)
        assert len(line.partition("  share")[0]) <= 80
        if entry.doing is None:
            cost = "-" if entry.cost is None else f"{entry.cost:.2f}"
            at = PROGRESS_TITLES.index("cost/h") + len("cost/h")
            assert line[:at].rsplit(maxsplit=1)[-1] == cost
            assert line[PROGRESS_TITLES.index("bound/h") - 2 :].split(maxsplit=1)[0] == f"{entry.lower_bound:.2f}"
    large = ig.Progress(
        3600.0, "plans", 123456.78, 123456.78, 0.9999, nodes=99_999_999, columns=1_234_567, lp_value=9e5
    )
    assert len(str(large)) <= 80


def test_iterations_are_records() -> None:
    table = solved().history_frame()
    assert list(table["elapsed_s"]) == [entry.elapsed_s for entry in solved().history]
    assert table["lower_bound"].is_monotonic_increasing
    assert table["columns"].max() > 0
    assert {"phase", "cost", "gap", "lp_value", "nodes", "cells"} <= set(table.columns)
    assert list(ig.solve("igniter-three", "igniter").history_frame().columns) == list(table.columns)


def test_other_logs_are_left_as_they_are() -> None:
    assert ig.solve("igniter-three", "igniter").log == []
    log = ig.solve("igniter-three", "assignment").log
    assert log
    assert PROGRESS_TITLES not in log


def test_a_terminal_shows_head_and_titles_once(capsys: pytest.CaptureFixture[str]) -> None:
    printer = ProgressPrinter("what is solved")
    printer.active = True
    printer(ig.Progress(0.0, "start", None, None, None, doing="fitting"))
    for cost in (3.0, 2.0):
        printer(ig.Progress(1.0, "cost", cost, 1.0, 0.5, improved=True))
    printer(ig.Progress(2.0, "cost", 2.0, 1.0, 0.5, improved=True), prefix="other ")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["what", "0.0s", "time", "*", "*", "other", "time", "*"]
    assert lines[2] == PROGRESS_TITLES
    assert lines[6] == PROGRESS_TITLES


def test_replicas_and_several_types_are_said() -> None:
    instance = ig.read_instance("cards-table3").with_options(max_replicas=3)
    line = problem_line(instance, "auto")
    assert "12 workloads, up to 36 replicas, rule half" in line
    assert line.count(" at ") == len(instance.gpu_types)

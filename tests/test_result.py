"""Logs and tables of how a solve went."""

from functools import cache

import pytest

import igniter_opt as ig
from igniter_opt.cli.console import ProgressPrinter
from igniter_opt.result import PROGRESS_LEGEND, PROGRESS_TITLES, SOURCES, problem_line


@cache
def solved() -> ig.Result:
    return ig.solve("igniter-table3", "patterns", time_limit=30)


def test_the_log_of_patterns_has_head_titles_moments_and_outcome() -> None:
    result = solved()
    head, legend, titles, *moments, outcome = result.log
    assert head == "patterns: igniter-table3, 12 workloads, rule half; V100 at 3.06 (at most 10) USD per hour"
    assert (legend, titles) == (PROGRESS_LEGEND, PROGRESS_TITLES)
    assert moments == [str(entry) for entry in result.history]
    assert outcome.startswith("optimal: cost 18.36 USD per hour, bound 18.36, gap 0.00 %; 6 GPUs, ")


def test_every_line_fits_a_terminal_and_stands_under_its_titles() -> None:
    for entry in solved().history:
        line = str(entry)
        assert len(line) <= 80
        if entry.doing is None:
            found, bound = entry.cost, entry.lower_bound
            shown = "-" if found is None else f"{found:.2f}", f"{bound:.2f}"
            if entry.phase == "share":
                shown = f"{entry.total_share_percent:.1f}%", f"{entry.share_lower_bound_percent:.1f}%"
            for title, text in zip(("cost/h", "bound/h"), shown, strict=True):
                at = PROGRESS_TITLES.index(title) + len(title)
                assert line[:at].rsplit(maxsplit=1)[-1] == text
    large = ig.Progress(
        3600.0, "plans", 123456.78, 123456.78, 0.9999, nodes=99_999_999, columns=1_234_567, lp_value=9e5
    )
    assert len(str(large)) <= 80


def test_iterations_are_records() -> None:
    table = solved().history_frame()
    assert list(table["elapsed_s"]) == [entry.elapsed_s for entry in solved().history]
    assert table["lower_bound"].is_monotonic_increasing
    assert table["columns"].max() > 0
    assert {"phase", "cost", "gap", "lp_value", "nodes", "cells", "raw_bound", "source"} <= set(table.columns)
    assert list(ig.solve("igniter-three", "igniter").history_frame().columns) == list(table.columns)


def test_other_logs_are_left_as_they_are() -> None:
    assert ig.solve("igniter-three", "igniter").log == []
    log = ig.solve("igniter-three", "assignment").log
    assert log[0].startswith("assignment, least ")
    assert PROGRESS_TITLES not in log


def test_a_terminal_shows_head_and_titles_once(capsys: pytest.CaptureFixture[str]) -> None:
    printer = ProgressPrinter("what is solved")
    printer.active = True
    printer(ig.Progress(0.0, "start", None, None, None, doing="fitting"))
    for cost in (3.0, 2.0):
        printer(ig.Progress(1.0, "cost", cost, 1.0, 0.5, improved=True))
    printer(ig.Progress(2.0, "cost", 2.0, 1.0, 0.5, improved=True), prefix="other ")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["what", "0.0s", "better", "time", "*", "*", "other", "time", "*"]
    assert lines[3] == PROGRESS_TITLES
    assert lines[7] == PROGRESS_TITLES


def test_replicas_and_several_types_are_said() -> None:
    instance = ig.read_instance("cards-table3").with_options(max_replicas=3)
    line = problem_line(instance, "auto")
    assert "12 workloads, up to 36 replicas, rule half" in line
    assert line.count(" at ") == len(instance.gpu_types)


def test_in_phase_share_every_number_is_of_shares() -> None:
    entries = [entry for entry in solved().history if entry.phase == "share"]
    assert entries
    for entry in entries:
        assert entry.total_share_percent is not None
        assert entry.share_lower_bound_percent is not None
        assert entry.lp_value is not None
        assert entry.raw_bound is not None
        # Percent of some GPUs, whose price is another number by far.
        assert entry.lp_value > 100.0
        assert entry.raw_bound <= entry.share_lower_bound_percent + 1e-3 <= entry.total_share_percent + 2e-3
    assert entries[-1].share_lower_bound_percent == solved().plan.solver.total_share_lower_bound_percent


def test_bounds_before_rounding_are_told_and_below_the_rounded_ones() -> None:
    entries = [entry for entry in solved().history if entry.phase != "share"]
    assert any(entry.raw_bound for entry in entries)
    assert all(entry.raw_bound <= entry.lower_bound + 1e-3 for entry in entries)


def test_plans_say_where_they_come_from_and_partial_sets_are_counted_on() -> None:
    history = ig.solve("igniter-table3", "patterns", max_replicas=3, time_limit=30).history
    better = [entry for entry in history if entry.improved]
    # Which of the searches comes next depends on what each meets first.
    assert better[0].source == "best fit"
    assert better[1].source in {"local search", "dive"}
    assert all(str(entry)[0] == SOURCES[entry.source or ""] for entry in better)
    assert all(entry.source is None for entry in history if not entry.improved)
    nodes = [entry.nodes for entry in history]
    assert nodes == sorted(nodes)
    # In phase share, too.
    assert nodes[-1] > 0


def test_the_last_line_says_why_it_ended() -> None:
    assert solved().ended == "cost and total share are proven"
    assert solved().log[-1].endswith("; ended: cost and total share are proven")
    within = ig.solve("igniter-table3", "patterns", max_replicas=3, gap=0.2, time_limit=30)
    assert within.ended == "the gap is within the 20 % asked for"
    short = ig.solve("uniform-100-1", "patterns", time_limit=1.0)
    assert short.ended.startswith("the time limit of 1 s, whose last 10 % are for the total share")
    built = ig.solve("igniter-table3", "assignment", max_replicas=3, time_limit=0.5)
    assert built.ended.endswith("while the model was being built")

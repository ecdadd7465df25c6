"""The one verdict: what it says, and what forbids one."""

import pytest

from igniter_opt.data.verdict import judge, load_conditions, sent_too_late
from igniter_opt.measure.results import Measurement, statistics, with_verdict
from tests.measure.test_results import HEAD, records


def test_words_say_outcome_and_conditions() -> None:
    verdict = judge({"A": True, "B": False}, "P99", (), load_conditions(0.02, cpu=True, partial="interrupted"))
    assert verdict is not None and (verdict.outcome, verdict.over) == ("violates", ("B",))
    assert verdict.text == (
        "at 0.02 times the plan's rates, on servers without GPUs and shares, until it ended early (interrupted): P99 is"
        " within the SLO for 1 of 2 workloads"
    )
    none = judge({"A": True}, "P99", ["the machine is too small"])
    assert none is not None and (none.outcome, none.text) == ("none", "no verdict: the machine is too small")
    assert judge({}, "P99") is None
    assert load_conditions(1.0) == []


@pytest.mark.parametrize(
    ("late", "slo", "p50", "found"),
    [(None, 10, 5, False), (1.0, 10, 5, False), (1.01, 10, 5, True), (3.0, 40, 5, False), (3.0, None, 5, True)],
)
def test_sending_late_is_judged_against_the_slo(
    late: float | None, slo: float | None, p50: float | None, found: bool
) -> None:
    assert sent_too_late(late, slo, p50) == found


def test_a_measurement_gets_the_verdict_of_its_own_numbers() -> None:
    entry = statistics(HEAD, records([1.0, 2.0, 3.0]), (0.0, 3e7))
    found = Measurement(source="x", started_at="now", duration_s=0.03, workloads=(entry,))
    verdict = with_verdict(found).verdict
    assert verdict is not None and (verdict.outcome, verdict.judged, verdict.conditions) == ("holds", "P90", ())
    late = found.model_copy(update={"workloads": (entry.model_copy(update={"sent_late_ms": 7.0}),)})
    verdict = with_verdict(late).verdict
    assert verdict is not None and verdict.outcome == "none"
    assert "requests of W were sent up to 7.0 ms too late" in verdict.text
    # Without a plan there is nothing to judge, but numbers that are no measurement are said to be none.
    unjudged = {"holds": None, "slo_ms": None}
    found = found.model_copy(update={"workloads": (entry.model_copy(update=unjudged),)})
    assert with_verdict(found).verdict is None
    unjudged["sent_late_ms"] = 7.0
    found = found.model_copy(update={"workloads": (entry.model_copy(update=unjudged),)})
    verdict = with_verdict(found).verdict
    assert verdict is not None and verdict.outcome == "none"

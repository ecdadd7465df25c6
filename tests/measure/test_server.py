"""A server's own statistics, as Triton 2.51 gave them before and after two seconds of load at 1,200 req/s."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from igniter_opt.measure.server import is_alive, model_statistics, split, together
from tests.measure.fake_server import MODEL, Behaviour, serving

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("recorded_statistics.json").read_text())
BEFORE, AFTER = RECORDED["before"], RECORDED["after"]


def mean_ms(key: str) -> float:
    old, new = BEFORE["inference_stats"], AFTER["inference_stats"]
    return float((new[key]["ns"] - old[key]["ns"]) / (new["success"]["count"] - old["success"]["count"]) / 1e6)


def test_what_happened_between_two_looks() -> None:
    found = split(BEFORE, AFTER)
    assert found is not None
    assert (found.requests, found.executions) == (2420 - 2, 411 - 2)
    assert found.mean_batch == pytest.approx(2418 / 409)
    assert found.queue_ms == pytest.approx(mean_ms("queue"))
    assert found.input_ms == pytest.approx(mean_ms("compute_input"))
    assert found.compute_ms == pytest.approx(mean_ms("compute_infer"))
    assert found.output_ms == pytest.approx(mean_ms("compute_output"))
    # Two batches, of 1 and 6, were there before: the launcher's check.
    assert found.batches == {"1": 1, "3": 2, "4": 6, "5": 13, "6": 387}
    assert sum(int(size) * count for size, count in found.batches.items()) == found.requests
    assert sum(found.batches.values()) == found.executions
    assert found.batch_ms["6"] == pytest.approx((2022100957 - 5060592) / 387 / 1e6)
    assert found.batch_ms["3"] == pytest.approx(6847798 / 2 / 1e6)


def test_times_are_those_of_the_plan_where_time_is_slowed() -> None:
    whole, slowed = split(BEFORE, AFTER), split(BEFORE, AFTER, 0.1)
    assert whole is not None and slowed is not None
    assert slowed.queue_ms == pytest.approx((whole.queue_ms or 0) / 10)
    assert slowed.batch_ms["6"] == pytest.approx(whole.batch_ms["6"] / 10)
    assert (slowed.requests, slowed.batches) == (whole.requests, whole.batches)


def test_nothing_happened() -> None:
    found = split(AFTER, AFTER)
    assert found is not None
    assert (found.requests, found.executions, found.batches) == (0, 0, {})
    assert (found.mean_batch, found.queue_ms, found.compute_ms) == (None, None, None)


def test_servers_together_are_weighted_by_their_requests() -> None:
    first = split(BEFORE, AFTER)
    half = copy.deepcopy(AFTER)
    for key in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        for name in ("count", "ns"):
            half["inference_stats"][key][name] += 4 * AFTER["inference_stats"][key][name]
    second = split(AFTER, half)
    assert first is not None and second is not None
    both = together([first, second])
    assert both is not None
    assert both.requests == first.requests + second.requests == 2418 + 4 * 2420
    total = first.requests * (first.queue_ms or 0) + second.requests * (second.queue_ms or 0)
    assert both.queue_ms == pytest.approx(total / both.requests)
    assert both.batches == first.batches  # the second tells of no executions
    assert both.batch_ms == pytest.approx(first.batch_ms)
    again = together([first, first])
    assert again is not None
    assert again.batches == {size: 2 * count for size, count in first.batches.items()}
    assert again.batch_ms == pytest.approx(first.batch_ms)
    assert (again.mean_batch, again.compute_ms) == pytest.approx((first.mean_batch, first.compute_ms))


def test_unknown_or_damaged_statistics_are_none() -> None:
    restarted = split(AFTER, BEFORE)  # the server was started anew in between: counts fell
    assert restarted is None
    assert split(None, AFTER) is None and split(BEFORE, None) is None
    assert split(BEFORE, {"inference_stats": {}}) is None
    assert together([split(BEFORE, AFTER), None]) is None


def test_asking_a_server() -> None:
    behaviour = Behaviour()
    with serving(behaviour) as (_, url):
        assert is_alive(url)
        assert model_statistics(url, MODEL)["execution_count"] == 0
        assert model_statistics(url, "other") is None
        behaviour.alive = False
        assert not is_alive(url)
    assert not is_alive(url)
    assert model_statistics(url, MODEL) is None
    assert model_statistics(None, MODEL) is None

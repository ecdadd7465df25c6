"""What serving adds is found again from what a server says of its batches."""

import numpy as np
import pytest

import igniter_opt as ig
from igniter_opt.base.errors import DeploymentError, InputError
from igniter_opt.data.profile import Profile
from igniter_opt.measure.results import LoadStatistics, ServerSplit
from igniter_opt.overhead.added import BatchTime, batch_times, fitted_line, served_model, sizes_known, way_ms
from igniter_opt.overhead.plans import BATCH, SHARE_PERCENT, expected_ms, plans_for
from igniter_opt.verify import verify_busy


def load(batches: dict[int, tuple[int, float]], mean_ms: float = 12.0, **split: float) -> LoadStatistics:
    """Return what a server with these batches (how many, how long) says."""
    requests = sum(size * count for size, (count, _) in batches.items())
    times = {"queue_ms": 4.0, "input_ms": 0.25, "compute_ms": 6.0, "output_ms": 0.05} | split
    return LoadStatistics(
        workload="w",
        model="m",
        rate_rps=100.0,
        percentile=0.99,
        requests=requests,
        answered=requests,
        failed=0,
        offered_rps=100.0,
        throughput_rps=100.0,
        mean_ms=mean_ms,
        p50_ms=mean_ms,
        p90_ms=mean_ms,
        p95_ms=mean_ms,
        p99_ms=mean_ms,
        p999_ms=mean_ms,
        max_ms=mean_ms,
        percentile_ms=mean_ms,
        sent_late_ms=0.0,
        server=ServerSplit(
            requests=requests,
            executions=sum(count for count, _ in batches.values()),
            mean_batch=None,
            batches={str(size): count for size, (count, _) in batches.items()},
            batch_ms={str(size): taken for size, (_, taken) in batches.items()},
            **times,
        ),
    )


def test_a_line_is_found_again() -> None:
    expected = [2.0, 3.0, 4.5, 5.0, 8.0]
    times = {k: BatchTime(10 * k, expected[k - 1] + 0.8 + 0.2 * k) for k in (1, 2, 3, 5)}
    assert fitted_line(times, expected) == pytest.approx((0.8, 0.2, 0.0), abs=1e-4)


@pytest.mark.parametrize(("added", "expected"), [((1.0, 0.8, 0.6), (0.8, 0.0)), ((0.05, 0.4, 0.75), (0.0, 0.224))])
def test_neither_part_is_negative(added: tuple[float, ...], expected: tuple[float, float]) -> None:
    line = fitted_line({k: BatchTime(1, 1.0 + value) for k, value in enumerate(added, 1)}, [1.0] * 3)
    assert line[:2] == pytest.approx(expected, abs=0.01)
    assert line.residual_ms > 0


def test_measurements_are_joined_and_copies_are_part_of_a_batch() -> None:
    joined = batch_times([load({1: (10, 2.0), 2: (5, 3.0)}), load({2: (15, 5.0)}, input_ms=0.0)])
    assert joined[1] == (10, pytest.approx(2.3))
    assert joined[2] == (20, pytest.approx((5 * 3.3 + 15 * 5.05) / 20))


def test_the_way_is_what_is_left_of_a_request() -> None:
    first, second = load({1: (10, 2.0)}), load({1: (30, 2.0)}, mean_ms=14.3)
    assert way_ms([first]) == pytest.approx(12.0 - 10.3)
    assert way_ms([second, first]) == pytest.approx(1.7)  # the second one was disturbed
    assert way_ms([load({1: (10, 2.0)}, mean_ms=9.0)]) == 0.0


def test_sizes_that_the_profile_has_count_where_there_are_three(v100: Profile) -> None:
    """At other sizes the prediction may be wrong, here by far."""
    expected = [2.0, 4.0, 60.0, 8.0]
    batches = {k: (20, value + 1.0 + 0.1 * k - 0.3) for k, value in zip((1, 2, 4), (2.0, 4.0, 8.0), strict=True)}
    found = served_model([load({**batches, 3: (500, 6.0)})], expected, {1, 2, 4, 8})
    assert (found.batch_ms, found.request_ms) == pytest.approx((1.0, 0.1), abs=1e-3)
    assert found.batches == 560
    assert served_model([load({**batches, 3: (500, 6.0)})], expected, {1, 2}).batch_ms == 0.0
    grid = v100.models["ssd"].solo_grid
    assert sizes_known(v100, "ssd", grid.share_percent[0]) >= set(grid.batch)
    assert sizes_known(v100, "ssd", grid.share_percent[0] + 0.3) == set()


def test_a_server_without_statistics_is_said() -> None:
    with pytest.raises(DeploymentError, match="gave no statistics"):
        served_model([load({1: (1, 1.0)}).model_copy(update={"server": None})], [1.0], [])


def test_plans_have_every_model_once_and_can_be_served() -> None:
    card = ig.read_profile("h200")
    plans = plans_for(card, list(card.models))
    placements = [entry for plan in plans for gpu in plan.gpus for entry in gpu.placements]
    assert [entry.model for entry in placements] == list(card.models)
    assert {entry.batch for entry in placements} == {BATCH}
    assert max(entry.share_percent for entry in placements) <= SHARE_PERCENT
    for plan in plans:
        assert sum(entry.share_percent for entry in plan.gpus[0].placements) <= 100
        kinds = {entry.kind for entry in verify_busy(plan).violations if entry.where != "solver"}
        assert not kinds & {"share", "batch", "rate", "model", "profile"}
    with pytest.raises(InputError, match="unknown model"):
        plans_for(card, ["resnet51"])
    with pytest.raises(InputError, match="at least 2"):
        plans_for(card, ["resnet50"], 1)


def test_what_is_expected_is_the_bare_model(v100: Profile) -> None:
    shares = v100.models["ssd"].solo_grid.share_percent
    times = expected_ms(v100, "ssd", 3, shares[0])
    alone = [ig.predict(v100, [("ssd", k, shares[0])]).latency_ms[0] for k in (1, 2, 3)]
    np.testing.assert_allclose(times, alone)

"""When emulated batches end, against the exact engine of the simulation."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from igniter_opt.physics.batcher import serve
from igniter_opt.rehearse.emulated_model import AT_ONCE_NS, Clockwork

MS = 1_000_000


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 8 * MS), min_size=1, max_size=120),
    st.integers(1, 4),
    st.integers(0, 10 * MS),
    st.integers(0, 2 * MS),
    st.randoms(use_true_random=False),
)
def test_batches_end_as_in_the_engine_although_every_step_comes_late(
    gaps: list[int], largest: int, delay: int, load: int, random: object
) -> None:
    """The batcher forms the engine's batches, but hands each over late, and the model wakes up late."""
    arrival = np.cumsum(gaps).astype(float)
    busy = [(3 + 2 * k) * MS for k in range(largest)]
    gpu = np.array(busy, dtype=float)
    latency, batches = np.empty(len(arrival)), np.zeros(largest, dtype=np.int64)
    zeros = np.zeros(largest)
    serve(arrival, 0, 0.0, arrival[-1], float(delay), gpu, zeros + load, zeros, np.empty(0), latency, batches)
    ends = (arrival + latency).astype(int)
    clockwork = Clockwork(busy, [load] * largest, delay)
    latest = 400_000
    worst, i = 0, 0
    while i < len(arrival):
        j = i
        while j < len(arrival) and ends[j] == ends[i]:
            j += 1
        start = ends[i] - load - busy[j - i - 1]
        handed_over = max(start, clockwork.answered) + random.randrange(latest)  # type: ignore[attr-defined]
        end = clockwork.end(handed_over, j - i, [int(at) for at in arrival[i:j]])
        answered = max(end, handed_over) + random.randrange(latest)  # type: ignore[attr-defined]
        clockwork.was_answered(answered)
        worst = max(worst, answered - ends[i])
        assert answered >= ends[i]
        i = j
    # Late by no more than one answer, one hand-over, and the loading that the engine overlaps: never by a sum.
    assert worst <= 3 * latest + load


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 3 * MS), min_size=1, max_size=200),
    st.integers(1, 6),
    st.integers(0, 2 * MS),
    st.randoms(use_true_random=False),
)
def test_while_requests_wait_batches_end_exactly_as_in_the_engine(
    offsets: list[int], largest: int, load: int, random: object
) -> None:
    """All come while the first batch runs, which is handed over in time: no later delay shows in any end."""
    arrival = np.array([0, *sorted(offsets)], dtype=float)
    busy = [(3 + 2 * k) * MS for k in range(largest)]
    latency, batches, zeros = np.empty(len(arrival)), np.zeros(largest, dtype=np.int64), np.zeros(largest)
    gpu = np.array(busy, dtype=float)
    serve(arrival, 0, 0.0, arrival[-1], 0.0, gpu, zeros + load, zeros, np.empty(0), latency, batches)
    ends = (arrival + latency).astype(int)
    clockwork = Clockwork(busy, [load] * largest, 0)
    now, i, free = int(arrival[0]), 0, 0
    while i < len(arrival):
        free_before = free
        size = next(
            k for k in range(1, largest + 1) if ends[i] == max(free_before, int(arrival[i])) + busy[k - 1] + load
        )
        end = clockwork.end(now, size, [int(at) for at in arrival[i : i + size]])
        assert end == ends[i]
        free = end - load
        answered = max(end, now) + random.randrange(busy[0])  # type: ignore[attr-defined]
        clockwork.was_answered(answered)
        now = answered + random.randrange(busy[0])  # type: ignore[attr-defined]
        i += size
    assert i == len(arrival)


def test_without_times_of_sending_only_batches_that_come_at_once_have_waited() -> None:
    clockwork = Clockwork([10 * MS], [0], 0)
    assert clockwork.end(0, 1, None) == 10 * MS
    clockwork.was_answered(10 * MS + 100_000)
    assert clockwork.end(10 * MS + 100_000 + AT_ONCE_NS, 1, None) == 20 * MS
    clockwork.was_answered(20 * MS)
    later = 20 * MS + AT_ONCE_NS + 1
    assert clockwork.end(later, 1, None) == later + 10 * MS


def test_a_batch_larger_than_planned_takes_the_time_of_the_largest() -> None:
    assert Clockwork([MS, 2 * MS], [0, 0], 0).end(0, 5, None) == 2 * MS

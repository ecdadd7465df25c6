import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igniter_opt.packing.cells import NOTHING, OFFER, knapsack
from igniter_opt.packing.partition import Partition
from tests.packing.small import likely_values, placements, servable, sets_of

SAMPLE, ALL = 6, 40


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 6), st.one_of(st.integers(-3, 6).map(float), st.floats(-2, 5)), st.integers(0, 3)),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 5),
    st.integers(1, 12),
)
def test_knapsack_equals_exhaustion(items: list[tuple[int, float, int]], count: int, units: int) -> None:
    offers = np.array([(w, c, p) for w, p, c in items], dtype=OFFER)
    weight, copies, profit = (offers[name] for name in ("weight", "copies", "profit"))
    members = np.zeros(count, dtype=np.int64)
    found = knapsack(offers, units, count, members)
    best = None
    for chosen in itertools.product(*(range(min(c, count) + 1) for c in copies.tolist())):
        if sum(chosen) == count and np.dot(chosen, weight) <= units:
            worth = float(np.dot(chosen, profit))
            best = worth if best is None else max(best, worth)
    if best is None:
        assert found == NOTHING
        return
    assert found == pytest.approx(best, abs=1e-9)
    used = np.bincount(members, minlength=len(items))
    assert (used <= copies).all()
    assert weight[members].sum() <= units
    assert profit[members].sum() == pytest.approx(found, abs=1e-9)


@pytest.mark.parametrize("seed", [pytest.param(k, marks=[pytest.mark.slow] if k >= SAMPLE else []) for k in range(ALL)])
@pytest.mark.parametrize("level_price", [0.0, 0.03])
def test_cells_cover_all_sets_and_bound_their_worth(seed: int, level_price: float) -> None:
    rng = np.random.default_rng(seed)
    for _, _, known in servable(range(seed, seed + 1), 4, types=1 + seed % 2):
        types = len(known.packed.cards)
        listed = [
            (gpu, members, found)
            for gpu in range(types)
            for members in sets_of(known, gpu, int(known.packed.cards[gpu].most))
            if len((found := placements(known, gpu, members)).levels)
        ]
        partition = Partition(known)
        prices, goal = np.full(types, level_price), np.full(types, 1e-3)
        for turn in range(25):
            value = likely_values(known, 1000 * seed + turn)
            partition.sweep(value, prices, goal, steps=int(rng.integers(0, 8)))
            rows = partition.alive
            cells = partition.cells[rows]
            for gpu, members, found in listed:
                worth = value[list(members)].sum() - level_price * found.levels
                here = cells[(cells["gpu"] == gpu) & (cells["count"] == len(members))]
                inside = (
                    (found.cache[:, None] >= here["cache_low"])
                    & (found.cache[:, None] <= here["cache_high"])
                    & (found.power[:, None] >= here["power_low"])
                    & (found.power[:, None] <= here["power_high"])
                    & (found.traffic[:, None] >= here["traffic_low"])
                    & (found.traffic[:, None] <= here["traffic_high"])
                )
                assert inside.any(axis=1).all(), (gpu, members)
                short = inside & (here["bound"] < worth[:, None] - 1e-9)
                assert not short.any(), (gpu, members)
            worst = partition.worst()
            for gpu in range(types):
                of_type = cells["bound"][cells["gpu"] == gpu]
                assert worst[gpu] == of_type.max(initial=-np.inf) or of_type.max() <= NOTHING
            # Those of highest bounds, and some at random.
            chosen = {int(rows[np.argmax(cells["bound"])]), int(rng.choice(rows))}
            for row in chosen:
                children = partition.split(row)
                assert set(children) <= set(partition.alive_rows)
                partition.sweep(value, prices, goal, rows=np.array(children, dtype=np.int64))
        assert len(partition.alive_rows) == len(set(partition.alive_rows))

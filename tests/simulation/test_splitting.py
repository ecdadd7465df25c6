"""Replicas get their parts of a stream."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from igniter_opt.simulation.splitting import split


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(0, 400))
@settings(deadline=None)
def test_round_robin_gives_every_replica_its_part_at_all_times(rates: list[int], requests: int) -> None:
    chosen = split("round-robin", np.array(rates, dtype=float), requests, np.random.default_rng(0))
    assert chosen.shape == (requests,)
    for replica, rate in enumerate(rates):
        given_so_far = np.cumsum(chosen == replica)
        due = np.arange(1, requests + 1) * rate / sum(rates)
        assert (np.abs(given_so_far - due) < len(rates)).all()


def test_round_robin_over_equal_replicas_takes_turns() -> None:
    chosen = split("round-robin", np.full(3, 400 / 3), 3000, np.random.default_rng(0))
    assert (chosen == np.arange(3000) % 3).all()


def test_random_split_is_independent_and_in_proportion() -> None:
    chosen = split("random", np.array([1.0, 3.0, 4.0]), 400_000, np.random.default_rng(0))
    assert np.bincount(chosen) / len(chosen) == pytest.approx([1 / 8, 3 / 8, 1 / 2], abs=0.004)
    together = np.bincount(3 * chosen[:-1] + chosen[1:], minlength=9) / (len(chosen) - 1)
    assert together == pytest.approx(np.outer([1 / 8, 3 / 8, 1 / 2], [1 / 8, 3 / 8, 1 / 2]).ravel(), abs=0.004)

import numpy as np
import pytest

from igniter_opt.packing.one_card import CardSearch
from igniter_opt.packing.plans import Placer
from tests.packing.small import likely_values, servable, sets_of


@pytest.mark.parametrize("types", [1, 2])
def test_sets_are_feasible_worth_more_than_the_goal_and_mostly_the_best_is_among_them(types):
    hits = []
    for seed, _, known in servable(range(18), 8, types=types, unit=20.0):
        value, placer = likely_values(known, seed), Placer(known)
        best = np.zeros(len(known.packed.cards))
        for gpu, card in enumerate(known.packed.cards):
            for members in sets_of(known, gpu, int(card.most)):
                if placer.feasible((gpu, members)):
                    best[gpu] = max(best[gpu], value[list(members)].sum())
        goal = np.where(best > 0, 0.9 * best, np.inf)
        found = CardSearch(known).run(value, goal, rounds=20_000, seed=seed)
        assert found == CardSearch(known).run(value, goal, rounds=20_000, seed=seed)
        assert len(set(found)) == len(found)
        worths = {pattern: value[list(pattern[1])].sum() for pattern in found}
        assert all(placer.feasible(pattern) and worths[pattern] > 0.9 * best[pattern[0]] for pattern in found)
        for gpu in np.flatnonzero(best).tolist():
            most = max(worth for pattern, worth in worths.items() if pattern[0] == gpu)
            hits.append(most > best[gpu] - 1e-9)
    assert len(hits) >= 8
    assert sum(hits) >= 0.9 * len(hits)


def test_a_type_without_gpus_is_left_out():
    known = next(servable(range(5), 8, types=2, unit=20.0))[2]
    found = CardSearch(known).run(likely_values(known, 0), [np.inf, 0.1], rounds=2_000, seed=0)
    assert found
    assert {gpu for gpu, _ in found} == {1}

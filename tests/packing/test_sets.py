import numpy as np
import pytest

from igniter_opt.packing.items import catalogue
from igniter_opt.packing.plans import Placer
from igniter_opt.packing.sets import FEASIBLE, INFEASIBLE, UNKNOWN, holds, least_point, new_members, place
from tests.packing.small import exact_levels, placements, random_problem, servable, sets_of

SAMPLE, ALL = 8, 60
MANY_TRIALS = 100_000


def of_items(members):
    """Work space that holds a set."""
    work = new_members(len(members))
    work["index"] = members
    return work


def placed(known, gpu, members, units=None, trials=MANY_TRIALS):
    size = len(members)
    units = int(known.packed.cards[gpu].units) if units is None else units
    work = of_items(members)
    return place(known.packed, gpu, units, work, size, trials), work


def some_sets(known, gpu, seed, number=120):
    found = sets_of(known, gpu, int(known.packed.cards[gpu].most))
    chosen = np.random.default_rng(seed).permutation(len(found))[:number]
    return [found[k] for k in chosen.tolist()]


CASES = [pytest.param(k, marks=[pytest.mark.slow] if k >= SAMPLE else []) for k in range(ALL)]


@pytest.mark.parametrize("seed", CASES)
def test_place_decides_like_exhaustion(seed):
    kinds, feasible, refuted = [(20.0, 3), (12.5, 2), (25.0, 4)], 0, 0
    unit, batch = kinds[seed % 3]
    for _, _, known in servable(range(seed, seed + 1), 5, types=1 + seed % 2, unit=unit, max_batch=batch):
        for gpu in range(len(known.packed.cards)):
            for members in some_sets(known, gpu, seed):
                levels = exact_levels(known, gpu, members)
                answer, work = placed(known, gpu, members)
                assert answer == (INFEASIBLE if levels is None else FEASIBLE), members
                if levels is None:
                    refuted += 1
                    continue
                feasible += 1
                units = int(known.packed.cards[gpu].units)
                assert holds(known.packed, gpu, units, work, len(members))
    assert feasible + refuted > 0 or not list(servable(range(seed, seed + 1), 5, unit=unit, max_batch=batch))


@pytest.mark.parametrize("seed", CASES)
def test_least_share_is_least(seed):
    for _, _, known in servable(range(100 + seed, 101 + seed), 5, types=1 + seed % 2, unit=[20.0, 12.5][seed % 2]):
        placer = Placer(known)
        for gpu in range(len(known.packed.cards)):
            for members in some_sets(known, gpu, seed, 60):
                levels = exact_levels(known, gpu, members)
                chosen = placer.least_share((gpu, members))
                assert (levels is None) == (chosen is None)
                assert placer.feasible((gpu, members)) == (levels is not None)
                if levels is not None:
                    assert placer.levels((gpu, members)) == levels
                    answer, _ = placed(known, gpu, members, units=levels - 1)
                    assert answer == INFEASIBLE


@pytest.mark.parametrize("seed", CASES)
def test_least_point_never_refutes_what_exists(seed):
    """Also for parts of a set, with the whole set's size and the floors of a placement's own totals."""
    for _, _, known in servable(range(200 + seed, 201 + seed), 5, unit=20.0):
        packed = known.packed
        units = int(packed.cards[0].units)
        for members in some_sets(known, 0, seed, 60):
            size = len(members)
            work = of_items(members)
            found = placements(known, 0, members)
            first = (found.levels[:20], found.cache[:20], found.power[:20], found.traffic[:20])
            for levels, cache, power, traffic in zip(*first, strict=True):
                for part in range(1, size + 1):
                    floors = tuple(total * (1 - 1e-12) for total in (cache, power, traffic))
                    assert least_point(packed, 0, units, work, part, size, *floors)
                    assert least_point(packed, 0, int(levels), work, part, size, 0.0, 0.0, 0.0)
                    assert work["level"][:part].sum() <= levels
                    assert work["power_w"][:part].sum() + packed.cards[0].idle_power_w <= power * (1 + 1e-12)
                    assert work["cache"][:part].sum() <= cache * (1 + 1e-12)
                    assert work["traffic"][:part].sum() <= traffic * (1 + 1e-12)


def test_few_trials_never_give_a_wrong_answer():
    answers = set()
    for seed, _, known in servable(range(300, 330), 5, unit=12.5):
        for members in some_sets(known, 0, seed, 30):
            exact, _ = placed(known, 0, members)
            quick, _ = placed(known, 0, members, trials=0)
            answers.add(quick)
            assert quick in {exact, UNKNOWN}
    assert {FEASIBLE, INFEASIBLE} <= answers


def test_a_set_with_more_items_than_fit_is_refuted():
    problem = random_problem(1, 6)
    known = catalogue(problem)
    item = int(np.argmax(known.packed.items["copies"][0]))
    too_many = (item,) * (int(known.packed.cards[0].most) + 1)
    assert placed(known, 0, too_many)[0] == INFEASIBLE
    assert Placer(known).least_share((0, too_many)) is None

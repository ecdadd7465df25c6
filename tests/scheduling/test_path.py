"""The path through a pool against all paths, and moves between layouts against all matchings."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from igniter_opt.scheduling.course import course_of
from igniter_opt.scheduling.path import cheapest_path, moves_between, starts_between
from igniter_opt.scheduling.universe import Layout


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_the_cheapest_path_is_the_cheapest_of_all(layouts: int, steps: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    holds = rng.random((layouts, steps)) < 0.7
    gpus, first = rng.integers(1, 9, layouts).astype(float), rng.integers(0, 4, layouts).astype(float)
    change = rng.integers(0, 9, (layouts, layouts)).astype(float)
    np.fill_diagonal(change, 0.0)

    def cost(path: tuple[int, ...]) -> float:
        moved = sum(change[a, b] for a, b in itertools.pairwise(path))
        return float(first[path[0]] + gpus[list(path)].sum() + moved)

    paths = itertools.product(range(layouts), repeat=steps)
    costs = [cost(path) for path in paths if all(holds[k, s] for s, k in enumerate(path))]
    found = cheapest_path(holds, gpus, change, first)
    assert (found is None) == (not costs)
    if found is not None:
        assert found[1] == min(costs)
        assert cost(tuple(found[0])) == found[1]
        assert all(holds[k, s] for s, k in enumerate(found[0]))


def random_layout(rng: np.random.Generator, replicas: list[int]) -> Layout:
    servers = [(w, count) for w, count in enumerate(replicas) for _ in range(count)]
    gpus: dict[int, list[tuple[int, int]]] = {}
    for server in servers:
        gpus.setdefault(int(rng.integers(0, 3)), []).append(server)
    return tuple(sorted((int(gpu == 2), tuple(sorted(members))) for gpu, members in gpus.items()))


def moves_by_exhaustion(one: Layout, other: Layout) -> int:
    """Of all ways in which GPUs of one layout are GPUs of the other, the one in which the fewest servers move."""

    def count(layout: Layout) -> dict[int, int]:
        return {w: n for _, members in layout for w, n in members}

    both = sum(min(n, count(other).get(w, 0)) for w, n in count(one).items())
    best = 0
    slots = [*range(len(other)), *[None] * len(one)]
    for chosen in itertools.permutations(slots, len(one)):
        stays = 0
        for (kind, members), position in zip(one, chosen, strict=True):
            if position is not None and other[position][0] == kind:
                here, there = [w for w, _ in members], [w for w, _ in other[position][1]]
                stays += sum(min(here.count(w), there.count(w)) for w in set(here))
        best = max(best, stays)
    return both - best


@given(st.integers(0, 2**32 - 1))
def test_moves_are_those_of_the_best_matching(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = (random_layout(rng, rng.integers(1, 3, 3).tolist()) for _ in range(2))
    assert moves_between([one, other])[0, 1] == moves_by_exhaustion(one, other)
    # What follows layouts step by step moves no more.
    assert course_of([one, other]).moves() == moves_between([one, other])[0, 1]


def test_starts_are_of_gpus_that_were_not_there() -> None:
    one, other = ((0, ((0, 1),)), (1, ((1, 1),))), ((0, ((0, 1),)), (0, ((1, 1),)))
    assert starts_between([one, other], [2.0, 5.0]).tolist() == [[0.0, 2.0], [5.0, 0.0]]

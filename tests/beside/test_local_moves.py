"""Moves among plans, with sets that hold by a rule made up here: sizes within a GPU's."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from igniter_opt.beside.local_moves import LocalMoves
from igniter_opt.packing.plans import Pattern

Sizes = dict[int, int]


class BySize:
    """Sets hold where sizes add up to no more than a type's room; `fine` may refuse some of them."""

    def __init__(self, sizes: Sizes, rooms: tuple[int, ...], refused: tuple[Pattern, ...] = ()) -> None:
        self.sizes, self.rooms, self.refused = sizes, rooms, refused
        cards = np.zeros(len(rooms), dtype=[("units", np.int64)]).view(np.recarray)
        cards["units"] = rooms
        levels = np.array([[sizes[item] for item in range(len(sizes))]] * len(rooms))
        self.known = SimpleNamespace(packed=SimpleNamespace(cards=cards), least_levels=levels)

    def least_level(self, gpu: int, item: int) -> int:
        return self.sizes[item]

    def may_hold(self, pattern: Pattern) -> bool:
        return sum(self.sizes[item] for item in pattern[1]) <= self.rooms[pattern[0]]

    def settle(self, pattern: Pattern) -> object | None:
        return None if pattern in self.refused else pattern


def moves(settler: BySize, prices: tuple[int, ...] = (10,), counts: tuple[int | None, ...] = (None,)) -> LocalMoves:
    return LocalMoves(cast(Any, settler), prices, counts, 0)


def items(plan: list[Pattern] | None) -> list[int]:
    assert plan is not None
    return sorted(item for _, members in plan for item in members)


def test_a_gpu_less() -> None:
    own = moves(BySize({0: 4, 1: 4, 2: 3, 3: 3}, (10,)))
    found = own.cheaper([(0, (0,)), (0, (1,)), (0, (2, 3))])
    assert found is not None
    assert own.cost(found) == 20
    assert items(found) == [0, 1, 2, 3]
    assert own.cheaper(found) is None


def test_smaller_ones_make_room() -> None:
    """5 goes where 3 is, 3 goes where 7 is: no other way."""
    own = moves(BySize({0: 7, 1: 5, 2: 3, 3: 5}, (10,)))
    found = own.cheaper([(0, (0,)), (0, (1, 2)), (0, (3,))])
    assert found == [(0, (0, 2)), (0, (1, 3))]


def test_a_cheaper_gpu_instead_where_there_is_one() -> None:
    sizes = {0: 4, 1: 9}
    plan: list[Pattern] = [(0, (0,)), (0, (1,))]
    settler = BySize(sizes, (10, 5))
    found = moves(settler, (10, 4), (None, None)).cheaper(plan)
    assert found is not None
    assert sorted(found) == [(0, (1,)), (1, (0,))]
    assert moves(settler, (10, 4), (None, 0)).cheaper(plan) is None


def test_a_proposal_is_mended() -> None:
    """A set that does not hold gives up its smallest item that helps, which goes elsewhere."""
    own = moves(BySize({0: 4, 1: 3, 2: 3, 3: 5}, (10,), refused=((0, (0, 1, 2)),)))
    found = own.mended([(0, (0, 1, 2)), (0, (3,))])
    assert found is not None
    assert own.cost(found) == 20
    assert items(found) == [0, 1, 2, 3]
    assert (0, (0, 1, 2)) not in found


def test_a_hopeless_proposal_is_not() -> None:
    own = moves(BySize({0: 6, 1: 6, 2: 6}, (10,)))
    assert own.mended([(0, (0, 1)), (0, (2,))]) is None

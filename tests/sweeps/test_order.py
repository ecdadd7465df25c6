"""Ends first, then by bisection; whatever the grid, every point once, and after those it lies between."""

import itertools

from igniter_opt.sweeps.order import levels, rounds


def test_levels_are_those_of_bisection() -> None:
    assert levels(1) == [0]
    assert levels(2) == [0, 0]
    assert levels(9) == [0, 3, 2, 3, 1, 3, 2, 3, 0]


def test_every_value_lies_between_two_of_earlier_rounds() -> None:
    for number in range(3, 40):
        found = levels(number)
        for k in range(1, number - 1):
            assert any(level < found[k] for level in found[:k])
            assert any(level < found[k] for level in found[k + 1 :])


def test_every_point_of_a_grid_comes_once() -> None:
    axes = [[1.0, 2.0, 3.0], [5.0], [7.0, 8.0, 9.0, 10.0]]
    found = rounds(axes)
    assert sorted(itertools.chain(*found)) == sorted(itertools.product(*axes))
    assert found[0] == [(1.0, 5.0, 7.0), (1.0, 5.0, 10.0), (3.0, 5.0, 7.0), (3.0, 5.0, 10.0)]

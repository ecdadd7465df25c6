from decimal import Decimal
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igniter_opt import VerificationError
from igniter_opt.costs import PriceGrid, common_step, share_step


def test_grid_of_cents() -> None:
    grid = PriceGrid.of([3.06, 0.9, 12.24], [None, 2, 1])
    assert grid.step == Decimal("0.18")
    assert grid.units == (17, 5, 68)
    assert grid.cost(2 * 17 + 5) == Decimal("7.02")


def test_whole_prices_and_shares() -> None:
    assert PriceGrid.of([200.0, 300.0], [None, None]).units == (2, 3)
    assert common_step([12.5, 10.0]) == Decimal("2.5")


@pytest.mark.parametrize(
    ("units", "step"),
    [
        ([2.5], 2.5),
        ([100 / 66], 100 / 66),
        ([2.5, 100 / 66], 5 / 66),
        ([1.5151515151515151, 10.0, 12.5], 5 / 66),
        ([100 / 7, 100 / 13], 100 / 91),
        ([1.51], 1.51),
        ([1.51515], 1.51515),  # as a user might write it: another number than 100/66
        ([1.51515, 2.5], 0.00005),
    ],
)
def test_step_of_shares(units: list[float], step: float) -> None:
    assert share_step(units) == pytest.approx(step, rel=1e-12)


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(0, 500)), min_size=1, max_size=4))
def test_every_total_of_shares_is_a_multiple(parts: list[tuple[int, int]]) -> None:
    units = [100 / levels for levels, _ in parts]
    step = share_step(units)
    total = sum(unit * number for unit, (_, number) in zip(units, parts, strict=True))
    assert total == pytest.approx(round(total / step) * step, abs=1e-8)


def test_one_type_rounds_up_to_whole_gpus() -> None:
    grid = PriceGrid.of([3.06], [None])
    assert grid.round_up(4.625, 6) == 5
    assert grid.round_up(5.00000001, 6) == 5
    assert grid.round_up(5.01, 6) == 6
    assert grid.round_up(6.00001, 6) == 6


def test_a_bound_above_a_known_plan_is_an_error() -> None:
    with pytest.raises(VerificationError, match="please report"):
        PriceGrid.of([3.06], [None]).round_up(6.5, 6)


@given(
    st.lists(st.tuples(st.integers(1, 12), st.one_of(st.none(), st.integers(1, 3))), min_size=1, max_size=3),
    st.floats(0, 1),
    st.integers(1, 40),
)
def test_rounds_up_to_the_next_attainable_cost(
    types: list[tuple[int, int | None]], fraction: float, known: int
) -> None:
    grid = PriceGrid(Decimal(1), tuple(u for u, _ in types), tuple(c for _, c in types))
    bound = fraction * known
    ranges = [range((known if count is None else count) + 1) for _, count in types]
    costs = {sum(n * u for n, (u, _) in zip(numbers, types, strict=True)) for numbers in product(*ranges)}
    at_least = [cost for cost in costs if cost >= bound - 1e-4]
    assert grid.round_up(bound, known) == min([known, *at_least])


def test_fine_prices_count_as_equal_within_one_part_in_a_million() -> None:
    grid = PriceGrid.of([12.345678, 2.5], [None, None])
    known = sum(grid.units)
    assert grid.round_up(known - 0.5e-6 * known, known) == known
    assert grid.round_up(known - 3e-6 * known, known) < known


@pytest.mark.parametrize("value", [1e9, 1e12])
def test_huge_grids_still_round(value: float) -> None:
    grid = PriceGrid(Decimal("0.000001"), (3_060_000, 2_476_500), (None, None))
    found = grid.round_up(value, int(value * 1.1))
    assert value * (1 - 2e-6) <= found <= value + 1


@given(
    st.lists(st.tuples(st.integers(1, 12), st.one_of(st.none(), st.integers(0, 3))), min_size=1, max_size=3),
    st.integers(1, 25),
)
def test_below_is_the_largest_attainable_cost_below(types: list[tuple[int, int | None]], units: int) -> None:
    grid = PriceGrid(Decimal(1), tuple(u for u, _ in types), tuple(c for _, c in types))
    ranges = [range((units if count is None else count) + 1) for _, count in types]
    costs = {sum(n * u for n, (u, _) in zip(numbers, types, strict=True)) for numbers in product(*ranges)}
    assert grid.below(units) == max(cost for cost in costs if cost < units)


def test_below_on_huge_grids_is_a_step_less() -> None:
    grid = PriceGrid(Decimal("0.000001"), (3_060_000, 2_476_500), (None, 2))
    assert grid.below(3_060_001) >= 3_060_000
    assert grid.below(10**9) == 10**9 - 1

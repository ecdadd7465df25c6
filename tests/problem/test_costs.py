from decimal import Decimal
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from igniter_opt import VerificationError
from igniter_opt.problem.costs import NO_PLAN, PriceGrid, common_step, share_step


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


@pytest.mark.parametrize(
    ("prices", "known", "bound", "expected"),
    [
        ([100.0, 0.0001], "400.0004", "400.0003", "399.9999"),  # the bound is good to 0.0004
        ([100.0, 0.0001], "400.0004", "399.9", "399.8997"),
        ([3.06, 3.060001], "6.120002", "6.120001", "6.120000"),
        ([3.06, 3.060001], "6.120002", "6.1199", "6.120000"),
        ([1e6, 999999.999999], "4000000", "3999999.999999", "3999999.999996"),
        ([12.345678, 2.5], "14.845678", "14.845670", "14.845678"),  # no other cost is as near
    ],
)
def test_a_bound_is_not_raised_over_a_cost_that_it_does_not_exclude(
    prices: list[float], known: str, bound: str, expected: str
) -> None:
    grid = PriceGrid.of(prices, [None] * len(prices))
    found = grid.round_up(float(Decimal(bound) / grid.step), int(Decimal(known) / grid.step))
    assert grid.cost(found) == Decimal(expected)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.one_of(st.none(), st.integers(0, 3))), min_size=1, max_size=3),
    st.floats(0, 30),
    st.one_of(st.just(NO_PLAN), st.integers(1, 30)),
)
def test_fine_grids_round_as_coarse_ones(types: list[tuple[int, int | None]], bound: float, known: int) -> None:
    """With steps a million times finer the bit set is out of reach, and sums of prices take its place."""
    coarse = PriceGrid(Decimal(1), tuple(u for u, _ in types), tuple(c for _, c in types))
    fine = PriceGrid(Decimal("1e-6"), tuple(10**6 * u for u, _ in types), tuple(c for _, c in types))
    bound = min(bound, known)
    few = known == NO_PLAN and all(count is not None for _, count in types)
    if few and sum(unit * (count or 0) for unit, count in types) < bound:
        return  # proves that there is no plan; no cost to round to
    scaled = known if known == NO_PLAN else 10**6 * known
    # The relative guard is larger on the fine grid; away from attainable costs both give the same.
    if abs(bound - round(bound)) > 1e-3:
        assert fine.round_up(bound * 10**6, scaled) == 10**6 * coarse.round_up(bound, known)
    assert fine.below(10**6 * 30) == 10**6 * coarse.below(30)


@given(st.lists(st.integers(1, 50_000), min_size=1, max_size=3), st.integers(0, 200_000))
def test_a_bound_that_excludes_a_cost_is_rounded_above_it(prices: list[int], cost: int) -> None:
    grid = PriceGrid(Decimal(1), tuple(prices), (None,) * len(prices))
    assert grid.round_up(grid.excluding(cost)) > cost
    excluded = grid.excluded(float(cost))
    assert grid.excluding(excluded) <= cost or excluded == -1
    nearest = grid.below(cost + 1)
    assert nearest <= excluded or grid.excluding(nearest) > cost


def test_no_more_gpus_than_placements() -> None:
    """Otherwise a GPU at 100 costs what a million of the cheap ones cost."""
    grid = PriceGrid.of([100.0, 0.0001], [None, None], 5)
    assert grid.round_up(999_999.9) == 1_000_000
    assert grid.round_up(1_000_001.0, 1_000_001) == 1_000_000
    assert grid.below(1_000_000) == 5
    assert grid.vectors(999_990, 1_000_003, 10) == [
        (1_000_000, (1, 0)),
        (1_000_001, (1, 1)),
        (1_000_002, (1, 2)),
    ]
    assert grid.vectors(2_000_004, 2_000_005, 10) == []


@pytest.mark.parametrize("value", [1e9, 1e12])
def test_huge_grids_still_round(value: float) -> None:
    grid = PriceGrid(Decimal("0.000001"), (3_060_000, 2_476_500), (None, None))
    found = grid.round_up(value, int(value * 1.1))
    assert value * (1 - 2e-6) <= found <= value + 2_476_500


@given(
    st.lists(st.tuples(st.integers(1, 12), st.one_of(st.none(), st.integers(0, 3))), min_size=1, max_size=3),
    st.integers(1, 25),
)
def test_below_is_the_largest_attainable_cost_below(types: list[tuple[int, int | None]], units: int) -> None:
    grid = PriceGrid(Decimal(1), tuple(u for u, _ in types), tuple(c for _, c in types))
    ranges = [range((units if count is None else count) + 1) for _, count in types]
    costs = {sum(n * u for n, (u, _) in zip(numbers, types, strict=True)) for numbers in product(*ranges)}
    assert grid.below(units) == max(cost for cost in costs if cost < units)


def test_below_on_huge_grids_is_attainable_or_a_step_less() -> None:
    grid = PriceGrid(Decimal("0.000001"), (3_060_000, 2_476_500), (None, 2))
    assert grid.below(3_060_001) >= 3_060_000
    assert grid.below(10**9) == 2 * 2_476_500 + 325 * 3_060_000
    unknown = PriceGrid(Decimal("0.000001"), tuple(range(10**6, 10**6 + 9)), (None,) * 9)
    assert unknown.below(10**9) == 10**9 - 1

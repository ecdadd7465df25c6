"""Batches and shares by simulation: what holds, who gives share, and what is not simulated at all."""

import numpy as np
import pytest

from igniter_opt import GpuType, solve
from igniter_opt.beside.settle import Settled, Settler
from igniter_opt.data.instance_files import read_instance
from igniter_opt.packing.items import Catalogue, catalogue
from igniter_opt.problem.configurations import Problem
from igniter_opt.simulation.gpu_sample import GpuSample
from tests.support.rare import rare

TABLE3 = catalogue(Problem(read_instance("igniter-table3").with_options("p99", 3)))


def settler(known: Catalogue, target: float = 0.0085) -> Settler:
    return Settler(known, GpuSample(known.problem.instance, 0, 1), target)


def test_what_seldom_meets_holds_and_what_meets_often_does_not() -> None:
    pair = (0, (0, 1))
    often = settler(catalogue(Problem(rare(1.0))))
    assert often.settle(pair) is None
    seldom = settler(catalogue(Problem(rare(0.5))))
    found = seldom.settle(pair)
    assert found is not None
    assert found.simulated
    assert found.levels == (20, 20)
    seen = seldom.simulations
    assert seldom.settle(pair) is found
    assert seldom.simulations == seen


def test_what_rows_admit_is_not_simulated() -> None:
    own = settler(TABLE3)
    item = next(k for k in range(len(TABLE3.items)) if TABLE3.least_levels[0, k] <= 10)
    found = own.settle((0, (item,)))
    assert found is not None
    assert not found.simulated
    assert own.simulations == 0


def test_what_does_not_fit_alone_is_not_simulated() -> None:
    own = settler(catalogue(Problem(rare(0.5, pairs=2))))
    three = (0, (0, 0, 1))
    assert not own.may_hold(three)
    assert own.settle(three) is None
    assert own.simulations == 0


def test_all_share_is_given_away() -> None:
    """In proportion to the least shares, to the last unit, and to nobody less than it needs."""
    own = settler(TABLE3)
    small = tuple(sorted(range(len(TABLE3.items)), key=lambda item: TABLE3.least_levels[0, item])[:4])
    levels = own._all_share((0, small))
    assert levels is not None
    least = [int(TABLE3.least_levels[0, item]) for item in small]
    assert sum(levels) == int(TABLE3.packed.cards[0].units)
    assert all(level >= needed for level, needed in zip(levels, least, strict=True))


@pytest.mark.parametrize(
    ("late", "change"),
    [
        ([1.2, 0.1, 0.2], [1, -1, 0]),
        ([3.0, 0.1, 0.2], [2, -1, -1]),
        ([1.2, 0.1, 1.1], [1, -2, 1]),
        # Those near their own limit give nothing.
        ([1.2, 0.9, 0.8], None),
    ],
)
def test_share_moves_to_what_is_late(late: list[float], change: list[int] | None) -> None:
    own = settler(TABLE3)
    small = tuple(sorted(sorted(range(len(TABLE3.items)), key=lambda item: TABLE3.least_levels[0, item])[:3]))
    levels = own._all_share((0, small))
    assert levels is not None
    found = own._moved((0, small), levels, np.array(late))
    wanted = None if change is None else [level + more for level, more in zip(levels, change, strict=True)]
    assert found == wanted


def test_a_set_that_fails_its_test_gets_firmer_or_is_given_up() -> None:
    own = settler(catalogue(Problem(rare(0.5))))
    pair = (0, (0, 1))
    before = own.settle(pair)
    own.firmer(pair, np.array([0.5, 0.9]))
    assert own.settle(pair) == before
    own.firmer(pair, np.array([1.5, 0.1]))
    # Half of the GPU is the least for either, so that nobody can give.
    assert own.settle(pair) is None


@pytest.mark.parametrize(("memory_mib", "fits"), [(2500, True), (2000, False)])
def test_memory_counts(memory_mib: float, fits: bool) -> None:
    """On an H100 the two take 1,174 and 880 MiB at least; where there is less nothing is simulated."""
    card = GpuType(name="H100", profile="h100", price_per_hour=7, memory_mib=memory_mib)
    own = settler(catalogue(Problem(rare(0.5).model_copy(update={"gpu_types": (card,)}))))
    assert (own.settle((0, (0, 1))) is not None) == fits
    assert own.simulations == 0


def test_settled_shares_are_those_of_the_plan() -> None:
    plan = solve(rare(0.5), time_limit=60, neighbours="actual").plan
    own = settler(catalogue(Problem(rare(0.5)))).settle((0, (0, 1)))
    assert isinstance(own, Settled)
    assert [placement.batch for placement in plan.gpus[0].placements] == list(own.batches)

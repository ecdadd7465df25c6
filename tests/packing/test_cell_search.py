"""Sets that the search of a cell finds by steps of an amount are those that it finds without."""

import numpy as np
import pytest

from igniter_opt.packing.cell_search import close_cell
from igniter_opt.packing.cells import NOTHING
from igniter_opt.packing.partition import Partition
from igniter_opt.packing.plans import TRIALS
from igniter_opt.packing.sets import new_members
from tests.packing.small import likely_values, servable

SEEDS = 12
MANY = 1 << 40


def sets_in(known, partition, row, value, goal, *, by_steps):
    width = int(known.packed.cards["most"].max()) + 1
    found, worth = np.zeros((4000, width), dtype=np.int64), np.zeros(4000)
    number, nodes, complete, open_worth = close_cell(
        known.packed, partition.cells, row, partition.least, value, 0.0, goal, MANY, by_steps, TRIALS,
        new_members(width), found, worth,
    )  # fmt: skip
    assert complete
    assert open_worth <= NOTHING
    count = int(partition.cells[row].count)
    return {tuple(sorted(members)) for members in found[:number, :count].tolist()}, nodes


@pytest.mark.parametrize("seed", range(SEEDS))
def test_steps_of_an_amount_lose_no_set(seed):
    unit = [20.0, 12.5, 10.0][seed % 3]
    compared, fewer = 0, 0
    for _, _, known in servable(range(100 * seed, 100 * seed + 4), 12, unit=unit):
        value = likely_values(known, seed)
        partition = Partition(known)
        goal = np.full(len(known.packed.cards), 0.75)
        for _ in range(3):
            for row in list(partition.alive_rows):
                partition.sweep(value, np.zeros(len(goal)), goal, rows=np.array([row]), steps=20)
                plain, nodes = sets_in(known, partition, row, value, 0.75, by_steps=False)
                stepped, fewer_nodes = sets_in(known, partition, row, value, 0.75, by_steps=True)
                assert plain == stepped
                compared += len(plain)
                fewer += fewer_nodes < nodes
            for row in partition.alive_rows[::2]:
                partition.split(row)
    assert compared
    assert fewer

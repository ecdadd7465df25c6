"""Column generation within GPU counts that have no plan."""

import numpy as np
import pytest

from igniter_opt import read_instance
from igniter_opt.formulations.columns.generation import ColumnGeneration, lagrangian_bound
from igniter_opt.heuristics.bestfit import local_search
from igniter_opt.packing.items import catalogue
from igniter_opt.packing.pricing import Pricer
from igniter_opt.problem.bounds import price_grid
from igniter_opt.problem.configurations import Problem


def test_counts_that_cannot_carry_everything_are_excluded() -> None:
    """Where items stay uncovered, values are far above all prices; what is left to rounding grows with them."""
    problem = Problem(read_instance("cards-24-1"))
    known, grid = catalogue(problem), price_grid(problem)
    search, pricer = local_search(known), Pricer(known)
    cheaper = grid.vectors(round(10.0 / float(grid.step)), round(13.0 / float(grid.step)), 60)
    assert cheaper
    patterns, excluded = [], 0
    for cost, counts in cheaper:
        columns = ColumnGeneration(
            known, grid, search, pricer, counts=counts,
            seed=0, check=lambda: None, on_plan=lambda _: None, on_iteration=lambda _: None,
        )  # fmt: skip
        columns.master.add(patterns)
        target = grid.excluding(cost) / columns.scale
        columns.run([], lambda _, target=target: target)
        patterns = columns.master.patterns
        assert columns.solution is not None
        if columns.solution.uncovered > 0.01:
            assert columns.bound.cost >= target, counts
            excluded += 1
    assert excluded


def test_a_bound_is_no_proof_where_values_exceed_the_capacity_by_rounding_only() -> None:
    worst = np.array([1000.0, 2000.0])
    within = lagrangian_bound(4000.0 * (1 + 1e-7), worst, [1.0, 2.0], [2, 1])
    assert within.cost == pytest.approx(4.0)
    assert lagrangian_bound(4000.0 * (1 + 1e-5), worst, [1.0, 2.0], [2, 1]).cost == float("inf")

"""Vectors of GPU counts that cuts exclude, against exhaustion, and in which order they are excluded."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from igniter_opt.base.clock import Clock
from igniter_opt.base.stop import StopRequest
from igniter_opt.formulations.columns.exclusion import Exclusion
from igniter_opt.formulations.columns.incumbent import Incumbent
from igniter_opt.formulations.columns.vectors import CountVectors
from igniter_opt.heuristics.bestfit import best_fit, local_search
from igniter_opt.options import PatternsTuning
from igniter_opt.packing.items import Catalogue
from igniter_opt.packing.plans import Placer
from igniter_opt.packing.pricing import Pricer
from igniter_opt.problem.bounds import price_grid
from tests.packing.small import likely_values, servable
from tests.support.brute_force import every_plan

SEEDS = 40
SAMPLE = 10
CASES = [pytest.param(k, marks=[pytest.mark.slow] if k >= SAMPLE else []) for k in range(SEEDS)]
COUNTS = list(itertools.product(range(4), repeat=2))


def vectors_of(known: Catalogue) -> CountVectors:
    grid = price_grid(known.problem)
    incumbent = Incumbent(known, Placer(known), grid)
    incumbent.patterns = best_fit(known, local_search(known), 0)
    return CountVectors(grid, incumbent, 1_000)


def cut_off(known: Catalogue, value: np.ndarray, part: float = 1.0) -> set[tuple[int, ...]]:
    """Vectors that one cut excludes, from item values and a part of the worth of any set."""
    vectors = vectors_of(known)
    types = len(known.packed.cards)
    priced = Pricer(known).price(value, np.zeros(types), np.full(types, 1e-3))
    vectors.cut(known.total_value(value), part * priced.worst)
    return {counts for counts in COUNTS if vectors.is_excluded(counts)}


@pytest.mark.parametrize("seed", CASES)
def test_no_cut_excludes_counts_that_have_a_plan(seed: int) -> None:
    replicas = 2 if seed % 3 == 0 else None
    for _, problem, known in servable(range(seed, seed + 1), 4, types=2, replicas=replicas):
        used = {counts for counts, _, _ in every_plan(problem.instance, problem.margin)}
        # More GPUs than a plan has are no less.
        carry = {counts for counts in COUNTS if any(np.all(np.array(counts) >= least) for least in used)}
        for draw in range(4):
            value = likely_values(known, np.random.default_rng(100 * seed + draw))
            assert not cut_off(known, value) & carry


def test_cuts_exclude_what_they_can_and_would_exclude_plans_if_worths_were_too_low() -> None:
    excluded = wrong = 0
    for seed, problem, known in servable(range(12), 4, types=2):
        used = {counts for counts, _, _ in every_plan(problem.instance, problem.margin)}
        value = likely_values(known, np.random.default_rng(seed))
        excluded += len(cut_off(known, value) - {(0, 0)})
        wrong += len(cut_off(known, value, 0.5) & used)
    assert excluded
    assert wrong


def test_unknown_worths_exclude_only_what_has_no_such_gpu() -> None:
    _, _, known = next(servable(range(20), 4, types=2))
    vectors = vectors_of(known)
    vectors.cut(5.0, np.array([1.0, np.inf]))
    assert [vectors.is_excluded((4, 0)), vectors.is_excluded((5, 0)), vectors.is_excluded((0, 1))] == [
        True,
        False,
        False,
    ]
    vectors.cut(5.0, np.array([-1e300, 1.0]))
    assert vectors.is_excluded((9, 4))
    assert not vectors.is_excluded((9, 5))


class Asked:
    """Stands for the proofs of `Exclusion`."""

    def __init__(self, answers: dict[tuple[int, ...], bool | None]) -> None:
        self.answers, self.asked = answers, list[tuple[int, ...]]()

    def excludes(self, vectors: CountVectors) -> Callable[..., bool]:
        def answer(cost: int, counts: tuple[int, ...], *_: Any, **__: Any) -> bool:
            self.asked.append(counts)
            if self.answers.get(counts) is None:
                vectors.fractional.add(counts)
            return bool(self.answers.get(counts))

        return answer


class Programs:
    """Stands for `IntegerPrograms`."""

    def __init__(self) -> None:
        self.clock, self.tuning = Clock(60.0, StopRequest()), PatternsTuning()


@pytest.mark.parametrize("thorough", [False, True])
def test_vectors_are_excluded_up_to_the_first_that_only_integers_can_exclude(
    thorough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, known = next(entry for entry in servable(range(200), 8, types=2) if len(vectors_of(entry[2]).left(0)) >= 5)
    vectors = vectors_of(known)
    costs, order = zip(*vectors.left(0), strict=True)
    # By a cut of its own; by a proof; not at all.
    monkeypatch.setattr(vectors, "_cuts", [])
    vectors.excluded.add(order[1])
    asked = Asked({order[0]: True, order[2]: None, order[3]: True})
    excluder = Exclusion(vectors, Programs(), None, columns=None, on_plan=None)  # type: ignore[arg-type]
    monkeypatch.setattr(excluder, "excludes", asked.excludes(vectors))
    bounds: list[int] = []
    excluder.run(None, [], 0, 1.0, thorough=thorough, enough=lambda cost: cost > costs[3], on_bound=bounds.append)  # type: ignore[arg-type]
    assert asked.asked == [order[0], order[2], *([order[3]] if thorough else [])]
    assert bounds == [costs[2]] * (3 if thorough else 2)

"""Best fit with the exact set check, free batches and local search: near-optimal plans in about a second.

Workloads are inserted by falling least share, each on the GPU that it fills best; whether a set fits is decided
exactly (`packing.sets`), with batches and shares of all its members chosen anew. A few repeats with noise in the
order follow, then ruin and recreate from the best plan. Work is limited by counts, not by time, so plans are
reproducible.
"""

from collections.abc import Callable

from igniter_opt.base.errors import InfeasibleError, UnsuitableError
from igniter_opt.options import BestFitTuning
from igniter_opt.packing.items import Catalogue, catalogue
from igniter_opt.packing.local_search import LocalSearch
from igniter_opt.packing.plans import Pattern, Placer, drafts_of, trimmed
from igniter_opt.problem.bounds import price_grid
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import DraftGpu

_USUAL = BestFitTuning()


def place(problem: Problem, seed: int = 0, tuning: BestFitTuning = _USUAL) -> list[DraftGpu]:
    """Return a plan.

    Raises
    ------
    UnsuitableError
        A profile is not monotone (`interference.is_monotone`): the set check would prove nothing.
    InfeasibleError
        No plan was found.
    """
    require_monotone(problem, "bestfit")
    problem.require_feasible_workloads()
    known = catalogue(problem)
    best = best_fit(known, local_search(known), seed, tuning=tuning)
    if best is None:
        raise InfeasibleError("bestfit finds no plan within the GPU counts; none is proven not to exist")
    return drafts_of(known, Placer(known), best)


def require_monotone(problem: Problem, method: str) -> None:
    """Refuse GPU types on which a removed neighbour could make latencies worse."""
    for gpu, monotone in zip(problem.gpu_types, problem.monotone, strict=True):
        if not monotone:
            raise UnsuitableError(
                f"method {method}: the profile of GPU type {gpu.name} has negative interference coefficients, power or"
                " cache use, so that neighbours would help each other; mend the measurements, or use --method"
                " assignment"
            )


def local_search(known: Catalogue) -> LocalSearch:
    """Return the local search with prices scaled so that the dearest GPU costs 1."""
    grid = price_grid(known.problem)
    return LocalSearch(known, [unit / max(grid.units) for unit in grid.units], grid.counts)


def best_fit(
    known: Catalogue,
    search: LocalSearch,
    seed: int,
    hurry: Callable[[], bool] = lambda: False,
    tuning: BestFitTuning = _USUAL,
) -> list[Pattern] | None:
    """Construct, repeat with noise, improve; None if no plan was found.

    Asks `hurry` now and then, and once it says so, ends with the first plan there is.
    """
    choices = [search.items_of_a_plan(fewest=True), search.items_of_a_plan(fewest=False)]
    best: list[Pattern] | None = None
    repeats = min(tuning.repeats, max(tuning.least_repeats, tuning.placements // len(choices[0])))
    for repeat in range(repeats):
        found = search.construct(choices[repeat % 2], tuning.noise if repeat > 1 else 0.0, seed + repeat)
        if found is not None and (best is None or _cost(search, found) < _cost(search, best)):
            best = found
        if best is not None and hurry():
            return trimmed(known, best, known.demand)
    if best is None:
        return None
    value = search.share_cost * 1.08
    goal = search.prices * 10.0
    improved = search.improve(
        best, value, goal, rounds=tuning.rounds, temperature=tuning.temperature, seed=seed, hurry=hurry
    )
    return trimmed(known, improved.best, known.demand)


def _cost(search: LocalSearch, patterns: list[Pattern]) -> float:
    return float(sum(search.prices[gpu] for gpu, _ in patterns))

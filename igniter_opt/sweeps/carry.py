"""What one point of a sweep says about another: bounds that are proven there, and plans that hold there.

*Plans.* A plan for another point is judged here like any start (`start_plans.draft_of_start`): whether it holds is
computed, not concluded. At other prices it costs the sum of those.

*Bounds.* Let L be a proven bound at point A, and let every plan of B be a plan of A (below). If at all prices of B a
GPU costs at least what it costs at A, then an optimal plan of B, taken to A, costs no more there, so
``L ≤ OPT(A) ≤ cost_A(plan) ≤ cost_B(plan) = OPT(B)``: L is a bound at B. With two points A and A', and prices of B
that are at least ``θ p + (1 - θ) p'`` for one θ in [0, 1],

    OPT(B) = cost_B(plan) ≥ θ cost_A(plan) + (1 - θ) cost_A'(plan) ≥ θ L + (1 - θ) L',

for costs are linear in prices: as a function of prices the optimum is concave, and between two proven prices nothing is
below the line through their bounds. If no plan exists at A, there is none at B.

*Every plan of B is a plan of A*, by numbers that are compared one by one (`admits_all_plans`): the workloads and models
are the same; every GPU type of B is one of A, with an equal profile, at least as many GPUs and as much memory; a
workload may have as many replicas; and the limit D of every configuration that is feasible alone at B is no larger
there than at A (of the same batch, share and number of replicas). A placement's row
``A + K Δ + E (C - c) + E' (T - t) ≤ D φ`` has nothing else that differs, so it holds at A beside the same neighbours. A
configuration that is not feasible alone at B is in no plan of B where neighbours never help; where they may, all that
have a positive limit are compared.

So whether a variable goes the way its row says (`axes.Variable.stricter`) is not taken on trust. Rule ``deadline``,
say, grants a batch of 4 less at a lower rate, which takes longer to fill it: there bounds at low rates say nothing
about higher ones, and the comparison finds it out. Under rule ``p99`` limits are on the safe side by up to
`limit_search.STEP`; where that makes one of B's larger than A's, nothing is carried either. A bound there is on plans
within the limits (`rules.proven_within`), and those of B are within A's.

All arithmetic on bounds is exact (fractions), and `costs.PriceGrid.round_up` gives its guard back before it rounds up.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import numpy as np

from igniter_opt.data.instance import Instance
from igniter_opt.problem.bounds import price_grid
from igniter_opt.problem.configurations import Problem


@dataclass(frozen=True)
class ProvenBound:
    """A bound that is proven at a point.

    Attributes
    ----------
    instance, margin, confidence
        The point.
    cost_per_hour
        No plan there costs less; infinite where it is proven that there is none.
    """

    instance: Instance
    margin: float
    cost_per_hour: float
    confidence: float | None = None


# One bound, or two between whose prices the point may lie.
Source = tuple[ProvenBound, ...]


def carried_bound(problem: Problem, sources: Sequence[Source], known: float = math.inf) -> tuple[float, int | None]:
    """Return the best bound that carries over to a problem, and from which source.

    Parameters
    ----------
    sources
        Where bounds may come from, best first: none is looked at that could not be better.
    known
        Cost per hour of a known plan within the limits of exact methods, which the bound is rounded up to at most.

    Returns
    -------
    tuple[float, int | None]
        Cost per hour, 0 where nothing carries over; infinite where no plan exists.
    """
    best, origin = 0.0, None
    for number, source in enumerate(sources):
        if all(part.cost_per_hour <= best for part in source) or best == math.inf or best >= known:
            continue
        mixed = mixed_bound(problem.instance, source)
        if mixed is None or mixed <= Fraction(str(best)):
            continue
        if all(admits_all_plans(Problem(part.instance, part.margin, part.confidence), problem) for part in source):
            found = math.inf if mixed == math.inf else _rounded_up(problem, Fraction(mixed), known)
            if found > best:
                best, origin = found, number
    return best, origin


def mixed_bound(instance: Instance, source: Source) -> Fraction | float | None:
    """Return the best ``θ L + (1 - θ) L'`` whose prices are at most the instance's; None if there is no such θ.

    Infinite where one of the points has no plan at all, whatever prices are.
    """
    if any(part.cost_per_hour == math.inf for part in source):
        return math.inf
    first, last = source[0], source[-1]
    low, high = Fraction(0), Fraction(1)
    for gpu in instance.gpu_types:
        here = Fraction(str(gpu.price_per_hour))
        prices = [_price(part.instance, gpu.name) for part in (first, last)]
        if prices[0] is None or prices[1] is None:
            return None
        # θ p + (1 - θ) p' ≤ here, linear in θ.
        slope, rest = prices[0] - prices[1], here - prices[1]
        if slope > 0:
            high = min(high, rest / slope)
        elif slope < 0:
            low = max(low, rest / slope)
        elif rest < 0:
            return None
    if low > high:
        return None
    bounds = [Fraction(str(part.cost_per_hour)) for part in (first, last)]
    return max(theta * bounds[0] + (1 - theta) * bounds[1] for theta in (low, high))


def _price(instance: Instance, name: str) -> Fraction | None:
    return next((Fraction(str(gpu.price_per_hour)) for gpu in instance.gpu_types if gpu.name == name), None)


def _rounded_up(problem: Problem, bound: Fraction, known: float) -> float:
    grid = price_grid(problem)
    units = float(bound / Fraction(grid.step))
    if known == math.inf:
        return float(grid.cost(grid.round_up(units)))
    return float(grid.cost(grid.round_up(units, int(Decimal(str(known)) / grid.step))))


def admits_all_plans(looser: Problem, stricter: Problem) -> bool:
    """Whether every plan of one problem is a plan of another, as far as the comparison above shows it."""
    there = {gpu.name: number for number, gpu in enumerate(looser.gpu_types)}
    for gpu in stricter.gpu_types:
        if gpu.name not in there:
            return False
        other = looser.gpu_types[there[gpu.name]]
        if gpu.profile is not other.profile and gpu.profile != other.profile:
            return False
        if not _at_most(gpu.count, other.count) or not _at_most(gpu.memory_limit_mib, other.memory_limit_mib):
            return False
    if [(entry.name, entry.model) for entry in looser.workloads] != [
        (entry.name, entry.model) for entry in stricter.workloads
    ]:
        return False
    compared: set[tuple[Hashable, ...]] = set()
    for workload, demand in enumerate(stricter.workloads):
        if stricter.replica_limit(workload) > looser.replica_limit(workload):
            return False
        kind = (
            stricter.instance.demand_of(stricter.instance.workloads[workload]),
            looser.instance.demand_of(looser.instance.workloads[workload]),
        )
        if kind in compared:
            continue
        compared.add(kind)
        for number, gpu in enumerate(stricter.gpu_types):
            if demand.model in gpu.profile.models and not _limits_admit(
                looser, there[gpu.name], stricter, number, workload
            ):
                return False
    return True


def _at_most(here: float | None, there: float | None) -> bool:
    """Compare limits; None is none."""
    return there is None or (here is not None and here <= there)


def _limits_admit(looser: Problem, other_type: int, stricter: Problem, gpu_type: int, workload: int) -> bool:
    """Whether no configuration of a workload that may be in a plan has a larger limit in the stricter problem."""
    for replicas in range(1, stricter.replica_limit(workload) + 1):
        here = stricter.every_configuration(workload, gpu_type, replicas)
        there = looser.every_configuration(workload, other_type, replicas)
        possible = (here.limit_ms > 0) & np.isfinite(here.base_ms)
        if stricter.monotone[gpu_type]:
            possible &= stricter.feasible_alone(here, gpu_type)
        # Where margins differ by model, limits are those of times that are longer than predicted.
        model = stricter.workloads[workload].model
        own, other = stricter.time_factor(gpu_type, model), looser.time_factor(other_type, model)
        if not np.all(here.limit_ms[possible] / own <= there.limit_ms[possible] / other):
            return False
    return True

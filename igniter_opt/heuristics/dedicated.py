"""One whole GPU per replica: what serving costs where nothing shares a card, the baseline of most teams.

Every replica gets a GPU of its own, of the cheapest type that holds it, with the batch that leaves the most room. A
workload has as many equal replicas as make it cheapest within its `max_replicas`; without that, one, or the fewest that
whole GPUs carry. Where types are counted, workloads that fewer types hold choose first: that is a heuristic, and where
GPUs run out there may be a plan that it misses.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from igniter_opt.base.errors import InfeasibleError
from igniter_opt.data.instance import MOST_REPLICAS
from igniter_opt.problem.configurations import Problem
from igniter_opt.problem.draft import Draft, DraftGpu, draft_cost

# Whether fewer replicas suffice is told by rates, up to rounding.
_GUARD = 1e-9


class _Choice(NamedTuple):
    """A number of replicas, with the types that hold one of them and its batch there."""

    replicas: int
    held: dict[int, int]


def place(problem: Problem) -> list[DraftGpu]:
    """Return a plan in which no GPU has more than one placement.

    Raises
    ------
    InfeasibleError
        A workload is held by no number of whole GPUs that it may have, or the counts of the types are used up.
    """
    choices = [list(_choices(problem, workload)) for workload in range(len(problem.workloads))]
    for workload, found in enumerate(choices):
        if not found:
            raise InfeasibleError(problem.explain_infeasible(workload))
    counts = [math.inf if gpu.count is None else gpu.count for gpu in problem.gpu_types]
    gpus, lacking = _assigned(problem, choices, counts)
    if lacking is not None:
        needed, _ = _assigned(problem, choices, [math.inf] * len(counts))
        raise InfeasibleError(
            f"no whole GPU is left for workload {lacking} (the counts of the GPU types are used up); with GPUs without"
            f" end it would take {len(needed)}, for {draft_cost(problem, needed)}"
            f" {problem.instance.currency} per hour"
        )
    return gpus


def _assigned(problem: Problem, choices: list[list[_Choice]], counts: list[float]) -> tuple[list[DraftGpu], str | None]:
    """Give every workload its GPUs, or name the first for which too few are left."""
    left = list(counts)
    gpus: dict[int, list[DraftGpu]] = {}
    for workload in sorted(range(len(choices)), key=lambda k: len({g for choice in choices[k] for g in choice.held})):
        demand = problem.workloads[workload]
        options = [(types, choice.held) for choice in choices[workload] if (types := _cheapest(problem, choice, left))]
        if not options:
            return [], demand.name
        types, held = min(options, key=lambda option: sum(problem.gpu_types[g].price_per_hour for g in option[0]))
        gpus[workload] = []
        for number, gpu_type in enumerate(types, start=1):
            left[gpu_type] -= 1
            level = problem.coefficients[gpu_type].hardware.share_levels
            draft = Draft(workload, number, held[gpu_type], level, demand.rate_rps / len(types))
            gpus[workload].append(DraftGpu(gpu_type, [draft]))
    return [gpu for workload in sorted(gpus) for gpu in gpus[workload]], None


def _choices(problem: Problem, workload: int) -> Iterator[_Choice]:
    """Yield numbers of replicas worth considering.

    More replicas than a type needs only cost more on it, so a number counts where some type is held for the first time.
    """
    demand = problem.workloads[workload]
    known = [g for g in range(len(problem.gpu_types)) if problem.knows(workload, g)]
    held_before: set[int] = set()
    counts = range(1, (demand.max_replicas or 1) + 1)
    if demand.max_replicas is None and not any(_batch(problem, workload, g, 1) for g in known):
        rate = max(float(problem.largest_rates(workload, g).max()) for g in known)
        first = math.ceil(demand.rate_rps / rate * (1 - _GUARD)) if rate > 0 else MOST_REPLICAS + 1
        counts = range(first, MOST_REPLICAS + 1)
    for count in counts:
        held = {g: batch for g in known if (batch := _batch(problem, workload, g, count))}
        if not held.keys() <= held_before:
            held_before |= held.keys()
            yield _Choice(count, held)
        if len(held_before) == len(known) or (held and demand.max_replicas is None):
            return


def _batch(problem: Problem, workload: int, gpu_type: int, count: int) -> int:
    """Return the batch that uses least of its limit alone on a whole GPU; 0 if none holds."""
    every = problem.every_configuration(workload, gpu_type, count)
    memory = problem.gpu_types[gpu_type].memory_limit_mib
    whole = every.level == problem.coefficients[gpu_type].hardware.share_levels
    holds = whole & (every.limit_ms > 0) & (every.memory_mib <= (np.inf if memory is None else memory))
    found = every.take(holds)
    found = found.take(problem.feasible_alone(found, gpu_type))
    return int(found.batch[np.argmin(found.base_ms / found.limit_ms)]) if len(found) else 0


def _cheapest(problem: Problem, choice: _Choice, left: list[float]) -> list[int]:
    """Return the types of the cheapest GPUs that are left for all replicas; none if they are too few."""
    types: list[int] = []
    for gpu_type in sorted(choice.held, key=lambda g: problem.gpu_types[g].price_per_hour):
        types += [gpu_type] * int(min(left[gpu_type], choice.replicas - len(types)))
    return types if len(types) == choice.replicas else []

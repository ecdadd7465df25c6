"""The cheapest schedule by exhaustion: all partitions of workloads into GPUs in every step, in all sequences."""

import itertools
from collections.abc import Iterator

import numpy as np

from igniter_opt.data.instance import Instance
from igniter_opt.fitting.coefficients import fit_coefficients
from tests.support.brute_force import least_share, partitions

Partition = tuple[tuple[int, ...], ...]


def feasible(instance: Instance, rates: np.ndarray) -> Iterator[Partition]:
    """Partitions whose every block one GPU (of the only type) carries at some rates, one server a workload."""
    (gpu,) = instance.gpu_types
    coefficients = fit_coefficients(gpu.profile)
    items = [(w, float(rate)) for w, rate in zip(instance.workloads, rates, strict=True)]
    for partition in partitions(list(range(len(items)))):
        blocks = tuple(sorted(tuple(sorted(block)) for block in partition))
        limit = gpu.memory_limit_mib
        shares = (least_share(coefficients, limit, instance.slo_rule, [items[k] for k in b], 0.0) for b in blocks)
        if all(share is not None for share in shares):
            yield blocks


def moves(one: Partition, other: Partition) -> int:
    """The fewest servers that change their GPU, over all ways in which GPUs are the same."""
    number = sum(map(len, one))
    best = 0
    for chosen in itertools.permutations([*other, *[()] * len(one)], len(one)):
        best = max(best, sum(len(set(a) & set(b)) for a, b in zip(one, chosen, strict=True)))
    return number - best


def cheapest_schedule(instance: Instance, rates: np.ndarray, step_h: float, move_cost: float) -> float:
    """Least cost of GPUs and moves; changes in place cost nothing."""
    price = instance.gpu_types[0].price_per_hour
    options = [list(feasible(instance, row)) for row in rates]
    between = {(a, b): moves(a, b) for x, y in itertools.pairwise(options) for a in set(x) for b in set(y)}
    return min(
        sum(price * step_h * len(p) for p in path) + move_cost * sum(between[pair] for pair in itertools.pairwise(path))
        for path in itertools.product(*options)
    )

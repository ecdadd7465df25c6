"""Small random problems whose sets can all be listed, judged by plain arithmetic on configurations."""

import itertools
import random
from collections import Counter
from typing import NamedTuple

import numpy as np

from igniter_opt.packing.items import Catalogue, catalogue
from igniter_opt.problem.configurations import Problem
from tests.support.brute_force import least_share
from tests.support.refined_profiles import refined_profile
from tests.support.synthetic import random_instance, random_profile


def random_problem(
    seed: int,
    workloads: int,
    *,
    types: int = 1,
    unit: float = 20.0,
    max_batch: int = 2,
    duplicates: float = 0.3,
    replicas: int | None = None,
    counts: bool = False,
) -> Problem:
    """Features vary with the seed, coefficients too; some workloads are copies of others."""
    rng = random.Random(seed)
    make = refined_profile if seed % 5 == 4 else random_profile
    profiles = [
        make(
            rng,
            f"p{k}",
            unit=unit,
            max_batch=max_batch,
            interference=rng.choice([0.0, 1.0, 4.0, 8.0]),
            power_cap=rng.choice([120.0, 150.0, 300.0]),
            memory=rng.random() < 0.3,
        )
        for k in range(types)
    ]
    instance = random_instance(
        rng,
        profiles,
        workloads,
        slo_rule=rng.choice(["half", "deadline"]),
        max_replicas=replicas,
        counts=counts,
    )
    entries = list(instance.workloads)
    for position in range(1, len(entries)):
        if rng.random() < duplicates:
            entries[position] = entries[rng.randrange(position)].model_copy(update={"name": entries[position].name})
    return Problem(instance.model_copy(update={"workloads": tuple(entries)}), rng.choice([0.0, 0.1]))


def servable(seeds: range, workloads: int, **options):
    """Problems whose workloads can all be served alone, by seed."""
    for seed in seeds:
        problem = random_problem(seed, workloads, **options)
        if all(problem.replica_counts(k) for k in range(len(problem.workloads))):
            yield seed, problem, catalogue(problem)


def sets_of(known: Catalogue, gpu: int, largest: int) -> list[tuple[int, ...]]:
    """All multisets of up to `largest` items that are not more copies than one GPU may carry or a plan may have."""
    copies = known.packed.items["copies"][gpu].tolist()
    able = [item for item, count in enumerate(copies) if count > 0]
    return [
        members
        for size in range(1, largest + 1)
        for members in itertools.combinations_with_replacement(able, size)
        if all(count <= known.items[item].copies for item, count in Counter(members).items())
    ]


def exact_levels(known: Catalogue, gpu: int, members: tuple[int, ...]) -> int | None:
    """Least share levels of a set by exhaustion over all batches and shares; None if infeasible."""
    problem = known.problem
    coefficients = problem.coefficients[gpu]
    items = []
    for item in members:
        entry = known.items[item]
        workload = problem.workloads[known.classes[entry.workload_class].workloads[0]]
        items.append((workload, workload.rate_rps / entry.replicas))
    share = least_share(
        coefficients, problem.gpu_types[gpu].memory_limit_mib, problem.instance.slo_rule, items, problem.margin
    )
    return None if share is None else round(share / coefficients.hardware.share_unit_percent)


class Placements(NamedTuple):
    """All feasible choices of configurations for a set: total share levels, cache use, power (W) and traffic."""

    levels: np.ndarray
    cache: np.ndarray
    power: np.ndarray
    traffic: np.ndarray


def placements(known: Catalogue, gpu: int, members: tuple[int, ...]) -> Placements:
    packed, card = known.packed, known.packed.cards[gpu]
    choices = [range(packed.items[gpu, item].first, packed.items[gpu, item].end) for item in members]
    rows = packed.rows[np.array(list(itertools.product(*choices)), dtype=np.int64)]
    levels, memory = rows["level"].sum(axis=1), rows["memory_mib"].sum(axis=1)
    cache, traffic = rows["cache"].sum(axis=1), rows["traffic"].sum(axis=1)
    power = card.idle_power_w + rows["power_w"].sum(axis=1)
    ratio = np.minimum(1.0, card.clock_intercept + card.clock_slope * power)
    needed = (
        rows["alone"]
        + rows["kernels"] * packed.delay_ms[gpu, len(members)]
        + rows["sensitivity"] * (cache[:, None] - rows["cache"])
        + rows["traffic_sensitivity"] * (traffic[:, None] - rows["traffic"])
    )
    holds = (levels <= card.units) & (memory <= card.memory_limit_mib)
    holds &= (needed <= ratio[:, None]).all(axis=1)
    return Placements(levels[holds], cache[holds], power[holds], traffic[holds])


def likely_values(known: Catalogue, seed: int) -> np.ndarray:
    """Values like a master's duals: about what an item's least share costs."""
    rng = np.random.default_rng(seed)
    share = (known.least_levels / known.packed.cards["units"][:, None]).min(axis=0)
    return share * rng.uniform(0.6, 1.6, len(share)) * (rng.random(len(share)) > 0.1)

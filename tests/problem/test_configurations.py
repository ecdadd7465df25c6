import random

import numpy as np
import pytest

from igniter_opt import GpuType, Instance, Profile, Workload, read_instance
from igniter_opt.problem.aggregates import AggregateBounds
from igniter_opt.problem.bounds import least_total_share_percent, price_grid, share_bound_units
from igniter_opt.problem.configurations import Configurations, Problem
from igniter_opt.problem.conflicts import SetCheck, minimal_conflicts
from tests.support.brute_force import least_share
from tests.support.scalar_model import limit_scalar, predict_scalar
from tests.support.synthetic import random_instance, random_profile


def keys(found: Configurations) -> np.ndarray:
    """Everything that neighbours or the row itself can feel; smaller is better."""
    slack = found.limit_ms - found.base_ms
    return np.column_stack(
        [
            found.level,
            found.power_w,
            found.cache,
            found.memory_mib,
            found.base_ms / found.limit_ms,
            1 / slack,
            found.cache_ms / slack,
        ]
    )


@pytest.mark.parametrize("rule", ["half", "deadline"])
@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_rows_say_what_the_model_says(rule: str, margin: float) -> None:
    """Feasible alone by the row, for every configuration, exactly when the scalar model says so."""
    problem = Problem(read_instance("igniter-table3").with_options(slo_rule=rule), margin)
    coefficients = problem.coefficients[0]
    for k in (0, 4, 7, 11):
        workload = problem.workloads[k]
        every = problem.every_configuration(k, 0)
        found = problem.feasible_alone(every, 0)
        for at in range(0, len(every), 7):
            batch, share = int(every.batch[at]), 2.5 * int(every.level[at])
            alone = predict_scalar(coefficients, [(workload.model, batch, share)], margin)[0]
            limit = limit_scalar(rule, workload, workload.rate_rps, batch)
            assert found[at] == (alone.latency <= limit and alone.throughput >= workload.rate_rps)


def test_dropped_configurations_are_dominated_and_kept_ones_are_not() -> None:
    problem = Problem(read_instance("igniter-table3"))
    for k in range(12):
        every = problem.every_configuration(k, 0)
        feasible = every.take((every.limit_ms > 0) & problem.feasible_alone(every, 0))
        kept = problem.configurations(k, 0)
        assert kept is not None
        kept_keys = keys(kept)
        for key in keys(feasible):
            assert np.all(kept_keys <= key, axis=1).any()
        for position, key in enumerate(kept_keys):
            others = np.delete(kept_keys, position, axis=0)
            assert not np.all(others <= key, axis=1).any()


def test_replicas_share_the_rate() -> None:
    problem = Problem(read_instance("igniter-table3").with_options(max_replicas=3))
    assert problem.replica_counts(0) == [1, 2, 3]
    whole, third = problem.every_configuration(4, 0), problem.every_configuration(4, 0, 3)
    assert np.all(third.limit_ms >= whole.limit_ms)


@pytest.mark.parametrize("seed", range(12))
def test_conflicts_are_infeasible_and_pair_levels_are_bounds(seed: int) -> None:
    rng = random.Random(seed)
    profile = random_profile(rng, unit=10.0, max_batch=3, interference=3.0, power_cap=200.0, memory=seed % 3 == 0)
    instance = random_instance(rng, [profile], 5)
    problem = Problem(instance)
    found = [problem.configurations(k, 0) for k in range(5)]
    present = [k for k in range(5) if found[k] is not None]
    memory = instance.gpu_types[0].memory_limit_mib
    check = SetCheck(problem.coefficients[0].hardware, found, memory)
    conflicts = minimal_conflicts(check, present, 3, 1000)

    def truth(chosen: tuple[int, ...]) -> float | None:
        items = [(instance.workloads[k], instance.workloads[k].rate_rps) for k in chosen]
        return least_share(problem.coefficients[0], memory, "half", items, 0.0)

    assert all(truth(chosen) is None for chosen in conflicts)
    for pair in ((a, b) for a in present for b in present if a < b):
        bound = check.least_levels(np.array([pair]))[0].sum() * 10.0
        exact = truth(pair)
        assert exact is None or bound <= exact + 1e-9


@pytest.mark.parametrize("seed", range(8))
def test_aggregate_bounds_hold_for_random_gpus(seed: int) -> None:
    rng = random.Random(seed)
    problem = Problem(random_instance(rng, [random_profile(rng, max_batch=4)], 6))
    found = [problem.configurations(k, 0) for k in range(6)]
    hardware = problem.coefficients[0].hardware
    limits = AggregateBounds(hardware, found).limits()
    for _ in range(300):
        members = [k for k in range(6) if found[k] is not None and rng.random() < 0.5]
        chosen = [(found[k], rng.randrange(len(found[k]))) for k in members]
        if sum(int(entry.level[c]) for entry, c in chosen) <= hardware.share_levels:
            assert len(chosen) <= limits.count
            assert sum(float(entry.cache[c]) for entry, c in chosen) <= limits.cache[1] + 1e-9
            assert hardware.idle_power_w + sum(float(e.power_w[c]) for e, c in chosen) <= limits.power[1] + 1e-9


def test_share_bounds_of_table3() -> None:
    problem = Problem(read_instance("igniter-table3"))
    grid = price_grid(problem)
    assert grid.units == (1,)
    # Alone and with free batches the twelve need 462.5 %, so 4.625 GPUs at least.
    assert least_total_share_percent(problem) == 462.5
    assert share_bound_units(problem, grid) == pytest.approx(4.625)


def test_unknown_model_on_one_type(v100: Profile) -> None:
    small = v100.model_copy(update={"name": "small", "models": {"alexnet": v100.models["alexnet"]}})
    kinds = tuple(GpuType(name=p.name, profile=p, price_per_hour=1.0) for p in (small, v100))
    instance = Instance(name="x", gpu_types=kinds, workloads=(Workload(name="s", model="ssd", slo_ms=60, rate_rps=10),))
    problem = Problem(instance)
    assert problem.configurations(0, 0) is None
    assert problem.configurations(0, 1) is not None
    assert np.isinf(problem.least_share_percent[0, 0])

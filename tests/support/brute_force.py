"""The cheapest plan by exhaustion: all replica counts, set partitions, GPU types, batches and shares."""

import itertools
from collections.abc import Callable, Iterator
from functools import lru_cache, partial

import numpy as np

from igniter_opt.data.instance import Instance, Workload
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.physics.parameters import Coefficients
from igniter_opt.problem.configurations import Problem
from tests.support.scalar_model import surface_time

Item = tuple[Workload, float]
# For rule p99: the limits D of an item on one GPU type, shape (batches, levels).
Limits = Callable[[Item], np.ndarray]


def partitions(items: list[int]) -> Iterator[list[list[int]]]:
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for smaller in partitions(rest):
        yield [[first], *smaller]
        for k, block in enumerate(smaller):
            yield [*smaller[:k], [first, *block], *smaller[k + 1 :]]


@lru_cache(maxsize=64)
def level_vectors(count: int, units: int) -> np.ndarray:
    """All vectors of `count` positive levels with sum at most `units`."""
    grid = np.array(list(itertools.combinations(range(1, units + 1), count)))
    return np.diff(grid, axis=1, prepend=0)


def least_share(
    coefficients: Coefficients,
    memory: float | None,
    rule: str,
    items: list[Item],
    margin: float,
    limits: Limits | None = None,
) -> float | None:
    """Least total share (percent) of a feasible placement of all items on one GPU, or None."""
    if any(workload.model not in coefficients.models for workload, _ in items):
        return None
    hardware = coefficients.hardware
    unit = hardware.share_unit_percent
    if len(items) > int(100 / unit + 1e-9):
        return None
    levels = level_vectors(len(items), int(100 / unit + 1e-9))
    levels = levels[(levels >= hardware.least_level).all(axis=1)]
    if not len(levels):
        return None
    models = [coefficients.models[w.model] for w, _ in items]
    batches = np.array(list(itertools.product(*(range(1, m.max_batch + 1) for m in models))))
    if memory is not None:
        need = sum(m.memory_fixed_mib + m.memory_per_item_mib * batches[:, k] for k, m in enumerate(models))
        batches = batches[need <= memory]
    if len(batches) == 0:
        return None
    tables = None if limits is None else [limits(item) for item in items]
    order = np.argsort(levels.sum(axis=1), kind="stable")
    for chunk in np.array_split(levels[order], max(1, len(levels) * len(batches) // 200_000)):
        feasible = _feasible(
            coefficients, rule, items, models, margin, batches[:, None, :], chunk[None, :, :] * unit, tables
        )
        if feasible.any():
            # Chunks come by ascending total share, so the first feasible one holds the least.
            return float(chunk[feasible.any(axis=0)].sum(axis=1).min() * unit)
    return None


def _feasible(coefficients, rule, items, models, margin, batch, share, tables):  # type: ignore[no-untyped-def]
    hardware = coefficients.hardware
    shape = np.broadcast_shapes(batch.shape[:2], share.shape[:2])
    power = np.full(shape, hardware.idle_power_w)
    caches, actives, traffics, per_cache, per_traffic = [], [], [], [], []
    for k, model in enumerate(models):
        b, r = batch[..., k], share[..., k]
        extra = model.refined
        if extra is None:
            k1, k2, k3, k4, k5 = model.active
            active = (k1 * b**2 + k2 * b + k3) / (r + k4) + k5
            traffics.append(0.0)
            per_cache.append(model.cache_sensitivity * active)
            per_traffic.append(0.0)
        else:
            surface = np.vectorize(partial(surface_time, extra.surface))
            active, whole = surface(b, r), surface(b, 100.0)
            power = power + extra.power_per_share * r
            traffics.append(extra.traffic_slope * 1000.0 * b / active + extra.traffic_intercept)
            fixed = (extra.cache_kernel_ms * model.kernels, extra.traffic_kernel_ms * model.kernels)
            per_cache.append(model.cache_sensitivity * active + fixed[0] + extra.cache_whole * whole)
            per_traffic.append(extra.traffic_sensitivity * active + fixed[1] + extra.traffic_whole * whole)
        rate = 1000.0 * b / active
        power = power + model.power_slope * rate + model.power_intercept
        caches.append(model.cache_slope * rate + model.cache_intercept)
        actives.append(active)
    top = hardware.max_frequency_mhz
    clock = np.where(
        power <= hardware.max_power_w, top, top + hardware.frequency_slope * (power - hardware.max_power_w)
    )
    delta = hardware.delay_slope * len(items) + hardware.delay_intercept if len(items) > 1 else 0.0
    total, moved = sum(caches), sum(traffics)
    ok = clock > 0
    with np.errstate(all="ignore"):
        for k, (model, (workload, rate)) in enumerate(zip(models, items, strict=True)):
            b = batch[..., k]
            active = actives[k] + per_cache[k] * (total - caches[k]) + per_traffic[k] * (moved - traffics[k])
            gpu = (model.scheduling_delay_ms + delta * model.kernels + active) * top / clock * (1 + margin)
            load = b * model.input_bytes / hardware.pcie_bytes_per_ms
            feedback = b * model.output_bytes / hardware.pcie_bytes_per_ms
            if tables is not None:
                level = np.rint(share[..., k] / hardware.share_unit_percent).astype(int)
                limit = tables[k][b - 1, level - 1]
                ok = ok & (gpu <= limit * (1 + margin)) & (limit > 0)
                continue
            limit = workload.slo_ms / 2 if rule == "half" else workload.slo_ms - (b - 1) * 1000.0 / rate
            ok = ok & (load + gpu + feedback <= limit) & (1000.0 * b / (gpu + feedback) >= rate)
    return ok


def percentile_limits(problem: Problem, gpu_type: int) -> Limits | None:
    """The limits of rule p99 as the solvers have them: what exhaustion does without is their use, not their making."""
    if problem.instance.slo_rule != "p99":
        return None
    return lambda item: problem.limits_ms(problem.workloads.index(item[0]), gpu_type, item[1])


def every_plan(instance: Instance, margin: float = 0.0) -> Iterator[tuple[tuple[int, ...], float, float]]:
    """GPUs of each type, cost per hour and least total share of all plans (of all ways to put workloads on GPUs)."""
    problem = Problem(instance, margin)
    types = [(gpu, fit_coefficients(gpu.profile)) for gpu in instance.gpu_types]
    known: dict[tuple, float | None] = {}
    limits = [w.max_replicas or 1 for w in instance.workloads]
    for counts in itertools.product(*(range(1, limit + 1) for limit in limits)):
        items = [(w, w.rate_rps / n) for w, n in zip(instance.workloads, counts, strict=True) for _ in range(n)]
        for partition in partitions(list(range(len(items)))):
            options = []
            for block in partition:
                shares = []
                for g, (gpu, coefficients) in enumerate(types):
                    key = (g, tuple(sorted((items[k][0].name, items[k][1]) for k in block)))
                    if key not in known:
                        known[key] = least_share(
                            coefficients,
                            gpu.memory_limit_mib,
                            instance.slo_rule,
                            [items[k] for k in block],
                            margin,
                            percentile_limits(problem, g),
                        )
                    if known[key] is not None:
                        shares.append((g, known[key]))
                options.append(shares)
            for choice in itertools.product(*options):
                used = tuple(sum(g == t for g, _ in choice) for t in range(len(types)))
                if any(gpu.count is not None and used[t] > gpu.count for t, (gpu, _) in enumerate(types)):
                    continue
                yield used, sum(types[g][0].price_per_hour for g, _ in choice), sum(share for _, share in choice)


def cheapest(instance: Instance, margin: float = 0.0) -> tuple[float, float] | None:
    """Least cost per hour and, at that cost, least total share; None if no plan exists."""
    return min(((round(cost, 9), round(share, 6)) for _, cost, share in every_plan(instance, margin)), default=None)

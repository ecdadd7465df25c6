from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pyomo.environ as pyo
import pytest

from igniter_opt.formulations.highs import solve_mip
from igniter_opt.packing import partition, pricing
from igniter_opt.packing.plans import Placer
from igniter_opt.packing.pricing import Pricer
from igniter_opt.physics.interference import added_delay, clock_line
from tests.packing.small import exact_levels, likely_values, servable, sets_of

SAMPLE, ALL = 12, 80


def best_by_mip(problem, known, gpu, value, level_price):
    """The pricing problem as a mixed-integer program: one binary per copy of an item and configuration."""
    hardware = problem.coefficients[gpu].hardware
    intercept, slope = clock_line(hardware)
    units = hardware.share_levels
    chosen = []
    for t, item in enumerate(known.items):
        found = problem.configurations(known.classes[item.workload_class].workloads[0], gpu, item.replicas)
        chosen += [] if found is None else [(t, q, found) for q in range(min(item.copies, units))]
    cache_most = sum(sorted((float(found.cache.max()) for _, _, found in chosen), reverse=True)[:units])
    power_most = hardware.idle_power_w + sum(
        sorted((float(found.power_w.max()) for _, _, found in chosen), reverse=True)[:units]
    )
    m = pyo.ConcreteModel()
    m.x = pyo.Var([(k, c) for k, (_, _, f) in enumerate(chosen) for c in range(len(f))], domain=pyo.Binary)
    m.company = pyo.Var(domain=pyo.Binary)
    m.rows = pyo.ConstraintList()

    def total(name):
        return pyo.quicksum(float(getattr(f, name)[c]) * m.x[k, c] for k, (_, _, f) in enumerate(chosen)
                            for c in range(len(f)))  # fmt: skip

    m.n, m.cache, m.power = pyo.Var(bounds=(0, units)), pyo.Var(bounds=(0, cache_most)), pyo.Var(bounds=(0, power_most))
    m.rows.add(m.n == pyo.quicksum(m.x.values()))
    m.rows.add(m.cache == total("cache"))
    m.rows.add(m.power == hardware.idle_power_w + total("power_w"))
    m.rows.add(total("level") <= units)
    memory = problem.gpu_types[gpu].memory_limit_mib
    if memory is not None:
        m.rows.add(total("memory_mib") <= memory)
    # Two or more: the delay is a line; one: 0. The line at n = 1 is at most `one`.
    m.rows.add(m.n <= 1 + (units - 1) * m.company)
    delay_most = float(added_delay(hardware, units))
    m.delay = pyo.Var(bounds=(0, delay_most))
    m.rows.add(
        m.delay >= hardware.delay_slope * m.n + hardware.delay_intercept
        - (hardware.delay_slope * units + abs(hardware.delay_intercept)) * (1 - m.company)
    )  # fmt: skip
    for k, (_, _, found) in enumerate(chosen):
        m.rows.add(pyo.quicksum(m.x[k, c] for c in range(len(found))) <= 1)
        for c in range(len(found)):
            limit = float(found.limit_ms[c])
            base, kernels, sensitivity = (
                float(found.base_ms[c]) / limit, found.kernels / limit, float(found.cache_ms[c]) / limit
            )  # fmt: skip
            left = base + kernels * m.delay + sensitivity * (m.cache - float(found.cache[c]))
            most = base + kernels * delay_most + sensitivity * cache_most
            m.rows.add(left <= 1.0 + max(0.0, most - 1.0) * (1 - m.x[k, c]))
            least = min(1.0, intercept + slope * power_most)
            m.rows.add(left <= intercept + slope * m.power + max(0.0, most - least) * (1 - m.x[k, c]))
    worth = pyo.quicksum(float(value[t]) * m.x[k, c] for k, (t, _, f) in enumerate(chosen) for c in range(len(f)))
    m.objective = pyo.Objective(expr=level_price * total("level") - worth)
    result = solve_mip(m, time_limit=60.0)
    assert result.status == "optimal"
    return -result.objective


def true_worths(known, patterns, value, level_price):
    placer = Placer(known)
    return [
        float(value[list(members)].sum()) - level_price * placer.levels((gpu, members)) for gpu, members in patterns
    ]


@pytest.mark.parametrize("seed", [pytest.param(k, marks=[pytest.mark.slow] if k >= SAMPLE else []) for k in range(ALL)])
def test_exhaustive_pricing_equals_a_mixed_integer_program(seed: int) -> None:
    unit, workloads = [20.0, 12.5, 10.0][seed % 3], 10 + seed % 3
    level_price = 0.0 if seed % 4 else 0.04
    problems = servable(range(50 * seed, 50 * seed + 50), workloads, unit=unit, max_batch=3, duplicates=0.2)
    _, problem, known = next(problems)
    value = likely_values(known, seed)
    best = best_by_mip(problem, known, 0, value, level_price)
    prices = np.array([level_price])
    pricer = Pricer(known)
    below = pricer.price(value, prices, np.array([best * (1 - 1e-6)]))
    worths = true_worths(known, below.patterns, value, level_price)
    assert max(worths) == pytest.approx(best, rel=1e-7)
    assert below.worst[0] >= best - 1e-9
    # On the cells refined by the first call, and on fresh ones.
    for again in (pricer, Pricer(known)):
        goal = best * (1 + 1e-6)
        above = again.price(value, prices, np.array([goal]))
        assert all(worth <= best + 1e-7 for worth in true_worths(known, above.patterns, value, level_price))
        assert above.worst[0] >= best - 1e-9
        if level_price == 0.0:
            assert not above.patterns
            assert above.finished
            assert above.worst[0] == goal


@pytest.mark.parametrize("seed", [pytest.param(k, marks=[pytest.mark.slow] if k >= SAMPLE else []) for k in range(ALL)])
def test_worst_is_never_below_the_best_set(seed: int) -> None:
    """Tiny goals, several calls with other values on the same cells, small budgets, and exploring between."""
    for _, _, known in servable(range(seed, seed + 1), 5, types=1 + seed % 2):
        types = len(known.packed.cards)
        listed = [
            (gpu, members, levels)
            for gpu in range(types)
            for members in sets_of(known, gpu, int(known.packed.cards[gpu].most))
            if (levels := exact_levels(known, gpu, members)) is not None
        ]
        feasible = {(gpu, members) for gpu, members, _ in listed}
        pricer = Pricer(known)
        for turn in range(12):
            value = likely_values(known, 100 * seed + turn)
            level_price = [0.0, 0.0, 0.05][turn % 3]
            prices = np.full(types, level_price)
            best = np.full(types, -np.inf)
            for gpu, members, levels in listed:
                best[gpu] = max(best[gpu], value[list(members)].sum() - level_price * levels)
            goal = np.full(types, [1e-6, 0.4, 0.7, 0.9][turn % 4])
            if turn % 3 == 1:
                priced = pricer.explore(value, prices, goal, splits=3, everywhere=turn % 2 == 0)
            else:
                priced = pricer.price(value, prices, goal, budget=[1 << 40, 2, 0][turn % 3 if turn % 5 else 0])
            assert (priced.worst >= best - 1e-9).all()
            assert set(priced.patterns) <= feasible
            if level_price == 0.0:
                for (gpu, members), worth in priced.patterns.items():
                    assert worth == pytest.approx(value[list(members)].sum())
                    assert worth > goal[gpu] - 1e-9


def test_enough_ends_the_search_early() -> None:
    _, _, known = next(servable(range(50), 8, unit=12.5))
    value = np.ones(len(known.items))
    none, goal = np.zeros(1), np.array([0.5])
    few = Pricer(known).price(value, none, goal, enough=1)
    assert not few.finished
    assert 0 < len(few.patterns) < len(Pricer(known).price(value, none, goal).patterns)


def test_the_check_may_give_up() -> None:
    class GivenUpError(Exception):
        pass

    def give_up() -> None:
        raise GivenUpError

    _, _, known = next(servable(range(50), 6))
    with pytest.raises(GivenUpError):
        Pricer(known, give_up).price(np.ones(len(known.items)), np.zeros(1), np.array([0.5]))


@pytest.mark.parametrize("seed", range(4))
def test_results_do_not_depend_on_the_number_of_threads(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "_SHARED_FROM", 2)
    sets = 0
    for _, _, known in servable(range(10 * seed, 10 * seed + 3), 10, types=2, unit=12.5):
        value, found = likely_values(known, seed), []
        for number in (1, 3):
            for module in (pricing, partition):
                monkeypatch.setattr(module, "threads", partial(ThreadPoolExecutor, number))
            pricer = Pricer(known)
            priced = pricer.price(value, np.zeros(2), np.full(2, 0.7), budget=50)
            found.append((priced.patterns, priced.worst.tolist(), priced.finished, pricer.nodes))
        assert found[0] == found[1]
        sets += len(found[0][0])
    assert sets

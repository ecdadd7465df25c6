"""Hostile profiles and instances: the bound stays below what is known to be possible, and plans hold."""

import random
from decimal import Decimal

import pytest

from igniter_opt import Instance, read_instance, solve, verify
from igniter_opt.base.errors import InfeasibleError, UnsuitableError
from igniter_opt.data.profile import Profile
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.physics.interference import is_monotone
from tests.support.brute_force import cheapest
from tests.support.synthetic import random_instance, random_profile

SAMPLE, ALL = 3, 20
TABLE3 = read_instance("igniter-table3")
SEEDS = [pytest.param(k, marks=[pytest.mark.slow] if k >= SAMPLE else []) for k in range(ALL)]


def edited(profile: Profile, *, hardware=None, coexecution=None, probe=None, scale: float | None = None) -> Profile:
    """Change a profile's data; `scale` multiplies every time, and divides every rate with it."""
    data = profile.model_dump(mode="json", exclude_none=True)
    data["hardware"].update(hardware or {})
    data["hardware"]["coexecution"].update(coexecution or {})
    for model in data["models"].values():
        model["interference_probe"].update(probe or {})
    if scale is not None:
        data["hardware"]["pcie_bandwidth_bytes_per_ms"] /= scale
        delays = data["hardware"]["coexecution"]["scheduling_delay_ms_per_kernel"]
        data["hardware"]["coexecution"]["scheduling_delay_ms_per_kernel"] = [scale * delay for delay in delays]
        for model in data["models"].values():
            model["scheduling_delay_ms"] *= scale
            grid = model["solo_grid"]["gpu_latency_ms"]
            model["solo_grid"]["gpu_latency_ms"] = [[scale * entry for entry in row] for row in grid]
            for key in ("active_time_alone_ms", "active_time_paired_ms"):
                model["interference_probe"][key] *= scale
    return Profile.model_validate(data)


def known_plans(instance: Instance) -> list[float]:
    """Costs of plans that hold, by methods that know nothing of patterns."""
    costs = []
    for method in ("igniter", "ffd++"):
        try:
            result = solve(instance, method)
        except InfeasibleError:
            continue
        if result.verification.ok:
            costs.append(result.cost)
    return costs


def judged(instance: Instance, *, exact: bool = False, time_limit: float = 3.0):
    """Solve; check plan and bounds against what is known by other means."""
    expected = cheapest(instance) if exact else None
    try:
        result = solve(instance, "patterns", time_limit=time_limit)
    except InfeasibleError:
        assert not (expected if exact else known_plans(instance))
        return None
    assert verify(result.plan).ok
    solver = result.plan.solver
    assert solver.lower_bound_per_hour is not None
    assert solver.total_share_lower_bound_percent is not None
    assert solver.lower_bound_per_hour <= solver.cost_per_hour + 1e-9
    if exact:
        assert expected is not None
        assert solver.lower_bound_per_hour <= expected[0] + 1e-9 <= solver.cost_per_hour + 2e-9
        if solver.cost_per_hour <= expected[0] + 1e-9:
            assert solver.total_share_lower_bound_percent <= expected[1] + 1e-6 <= solver.total_share_percent + 2e-6
    else:
        assert all(solver.lower_bound_per_hour <= cost + 1e-9 for cost in known_plans(instance))
        assert solver.total_share_lower_bound_percent <= solver.total_share_percent + 1e-6
    return result


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("interference", [0.0, 50.0])
def test_no_and_huge_interference(seed: int, interference: float) -> None:
    rng = random.Random(seed)
    profile = random_profile(rng, unit=20.0, max_batch=2, interference=interference)
    judged(random_instance(rng, [profile], 6, slo_rule=["half", "deadline"][seed % 2]), exact=True)


@pytest.mark.parametrize("seed", SEEDS)
def test_hardly_any_delay_and_no_interference_at_all(seed: int) -> None:
    rng = random.Random(seed)
    profile = edited(
        random_profile(rng, unit=20.0, max_batch=2, interference=0.0),
        coexecution={
            "scheduling_delay_ms_per_kernel": [0.001 + k * 1e-9 for k in range(5)],
            "frequency_mhz": [1500.0] * 5,
        },
    )
    judged(random_instance(rng, [profile], 6), exact=True)


@pytest.mark.parametrize("seed", SEEDS)
def test_clock_always_capped(seed: int) -> None:
    """Even an idle card is above its power cap, so the clock falls with every watt."""
    rng = random.Random(seed)
    profile = edited(
        random_profile(rng, unit=20.0, max_batch=2, power_cap=300.0),
        hardware={"max_power_w": 40.0},
        coexecution={
            "power_w": [90.0, 130.0, 170.0, 210.0, 250.0],
            "frequency_mhz": [1450.0, 1380.0, 1300.0, 1230.0, 1150.0],
        },
    )
    hardware = fit_coefficients(profile).hardware
    assert hardware.frequency_slope < 0
    assert hardware.max_power_w < hardware.idle_power_w
    judged(random_instance(rng, [profile], 6), exact=True)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("scale", [1e-3, 0.05])
def test_tiny_times(seed: int, scale: float) -> None:
    """The same card with times in other orders of magnitude: power and cache use go with throughput."""
    rng = random.Random(seed)
    profile = edited(random_profile(rng, unit=20.0, max_batch=2), scale=scale)
    assert is_monotone(fit_coefficients(profile))
    judged(random_instance(rng, [profile], 6), exact=True)


@pytest.mark.parametrize("seed", SEEDS)
def test_share_unit_of_one_percent(seed: int) -> None:
    rng = random.Random(seed)
    profile = random_profile(rng, unit=1.0, max_batch=4)
    judged(random_instance(rng, [profile], 12, slo_rule=["half", "deadline"][seed % 2]))


@pytest.mark.parametrize("seed", SEEDS)
def test_one_workload(seed: int) -> None:
    rng = random.Random(seed)
    profiles = [random_profile(rng, f"p{k}", unit=10.0) for k in range(1 + seed % 2)]
    judged(random_instance(rng, profiles, 1, max_replicas=1 + seed % 3), exact=True)


@pytest.mark.parametrize(("copies", "replicas"), [(1, None), (7, None), (200, None), (1, 3), (7, 3), (40, 3)])
def test_all_workloads_identical(copies: int, replicas: int | None) -> None:
    """One item: a GPU carries so many copies at most, which says how many GPUs it takes."""
    rng = random.Random(5)
    instance = random_instance(rng, [random_profile(rng, unit=12.5)], 1, max_replicas=replicas)
    one = instance.workloads[0]
    workloads = tuple(one.model_copy(update={"name": f"w{k}"}) for k in range(copies))
    result = judged(instance.model_copy(update={"workloads": workloads}), time_limit=100.0)
    assert result is not None
    if replicas is None:
        most = max(len(gpu.placements) for gpu in result.plan.gpus)
        assert result.status == "optimal"
        assert len(result.plan.gpus) == -(-copies // most)


@pytest.mark.parametrize("seed", SEEDS)
def test_infeasible_together(seed: int) -> None:
    """Every workload can be served, but the GPUs that exist do not suffice."""
    rng = random.Random(seed)
    instance = random_instance(rng, [random_profile(rng, unit=20.0, max_batch=2)], 5)
    unlimited = cheapest(instance)
    if unlimited is None:
        return
    for count in range(1, round(unlimited[0])):
        gpu = instance.gpu_types[0].model_copy(update={"count": count})
        with pytest.raises(InfeasibleError):
            solve(instance.model_copy(update={"gpu_types": (gpu,)}), "patterns", time_limit=2.0)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_too_few_gpus_are_proven_infeasible(count: int) -> None:
    short = TABLE3.model_copy(update={"gpu_types": (TABLE3.gpu_types[0].model_copy(update={"count": count}),)})
    with pytest.raises(InfeasibleError) as caught:
        solve(short, "patterns", time_limit=20.0)
    assert caught.value.proven


@pytest.mark.parametrize("prices", [(12.345678, 2.5), (1.1, 0.333333), (3060.0, 0.5261), (1e-3, 1e3)])
def test_odd_prices(prices: tuple[float, float]) -> None:
    rng = random.Random(3)
    instance = random_instance(rng, [random_profile(rng, f"p{k}", unit=20.0, max_batch=2) for k in range(2)], 5)
    types = tuple(
        gpu.model_copy(update={"price_per_hour": price}) for gpu, price in zip(instance.gpu_types, prices, strict=True)
    )
    judged(instance.model_copy(update={"gpu_types": types}), exact=True)


def test_memory_is_the_only_limit() -> None:
    rng = random.Random(2)
    profile = random_profile(rng, unit=10.0, max_batch=2, interference=0.0, memory=True)
    instance = random_instance(rng, [profile], 6)
    workloads = tuple(w.model_copy(update={"slo_ms": w.slo_ms * 20, "rate_rps": 1.0}) for w in instance.workloads)
    gpus = (instance.gpu_types[0].model_copy(update={"memory_mib": 4000.0}),)
    judged(instance.model_copy(update={"workloads": workloads, "gpu_types": gpus}), exact=True)


def test_models_that_some_types_lack() -> None:
    """Each type serves one model only, so the plan is forced on both."""
    rng = random.Random(4)
    profiles = [random_profile(rng, f"p{k}", unit=20.0, max_batch=2) for k in range(2)]
    instance = random_instance(rng, profiles, 6)
    types = []
    for k, gpu in enumerate(instance.gpu_types):
        models = {name: entry for name, entry in gpu.profile.models.items() if name == f"m{k}"}
        types.append(gpu.model_copy(update={"profile": gpu.profile.model_copy(update={"models": models})}))
    workloads = tuple(w for w in instance.workloads if w.model != "m2")
    assert {w.model for w in workloads} == {"m0", "m1"}
    instance = instance.model_copy(update={"workloads": workloads, "gpu_types": tuple(types)})
    if all(solve_alone(instance, k) for k in range(len(workloads))):
        result = judged(instance, exact=True)
        assert result is not None
        assert {gpu.type for gpu in result.plan.gpus} == {"G0", "G1"}


def solve_alone(instance: Instance, k: int) -> bool:
    return cheapest(instance.model_copy(update={"workloads": (instance.workloads[k],)})) is not None


def test_negative_intercepts_are_refused() -> None:
    """A power line through negative watts: neighbours would cool each other."""
    profile = TABLE3.gpu_types[0].profile
    data = profile.model_dump(mode="json", exclude_none=True)
    for model in data["models"].values():
        model["solo_grid"]["power_w"] = [
            [55.0 + 0.001 * 1000 * batch / latency for latency in row]
            for batch, row in zip(model["solo_grid"]["batch"], model["solo_grid"]["gpu_latency_ms"], strict=True)
        ]
    data["hardware"]["idle_power_w"] = 80.0
    odd = Profile.model_validate(data)
    assert not is_monotone(fit_coefficients(odd))
    instance = TABLE3.model_copy(update={"gpu_types": (TABLE3.gpu_types[0].model_copy(update={"profile": odd}),)})
    for method in ("patterns", "bestfit"):
        with pytest.raises(UnsuitableError, match="assignment"):
            solve(instance, method)
    result = solve(instance, time_limit=3.0)
    assert verify(result.plan).ok
    assert result.lower_bound is not None
    assert Decimal(str(result.lower_bound)) <= Decimal(str(result.cost))

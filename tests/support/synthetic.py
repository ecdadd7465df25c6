"""Random profiles and instances for tests; the measurements follow a known law, so they can be fitted."""

import random
from typing import Any

from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.instance import Instance, Workload
from igniter_opt.data.profile import Profile, profile_from_data

TOP_CLOCK = 1500.0


def helped_by_company(profile: Profile) -> Profile:
    """The same profile, but by its probes neighbours speed each other up: no model that proofs can rest on."""
    models = {}
    for name, model in profile.models.items():
        probe = model.interference_probe
        quicker = probe.model_copy(update={"active_time_paired_ms": 0.9 * probe.active_time_alone_ms})
        models[name] = model.model_copy(update={"interference_probe": quicker})
    return profile.model_copy(update={"models": models})


def random_profile(
    rng: random.Random,
    name: str = "synthetic",
    *,
    models: int = 3,
    unit: float = 10.0,
    max_batch: int = 4,
    interference: float = 1.0,
    power_cap: float = 300.0,
    memory: bool = False,
) -> Profile:
    batches, shares = [1, max(2, max_batch // 2), max_batch], [10.0, 50.0, 100.0]
    batches = sorted(set(batches))
    data: dict[str, Any] = {
        "source": "made up by the tests",
        "hardware": {
            "gpu": name,
            "sm_count": 80,
            "max_frequency_mhz": TOP_CLOCK,
            "max_power_w": power_cap,
            "idle_power_w": 50.0,
            "share_unit_percent": unit,
            "pcie_bandwidth_bytes_per_ms": 1e7,
            "memory_mib": 8000.0 if memory else None,
            "coexecution": {
                "power_w": [120.0, 190.0, 260.0, power_cap, power_cap],
                "frequency_mhz": [TOP_CLOCK, TOP_CLOCK, TOP_CLOCK, TOP_CLOCK * 0.97, TOP_CLOCK * 0.93],
                "scheduling_delay_ms_per_kernel": [0.001, 0.002, 0.004, 0.006, 0.0085],
            },
        },
        "models": {f"m{k}": _random_model(rng, batches, shares, interference, memory) for k in range(models)},
    }
    return profile_from_data(data, "test profile", name)


def _random_model(
    rng: random.Random, batches: list[int], shares: list[float], interference: float, memory: bool
) -> dict[str, Any]:
    k2, k3 = rng.uniform(20, 150), rng.uniform(5, 40)
    k4, k5 = rng.uniform(0.1, 2), rng.uniform(0.2, 2)
    delay = rng.uniform(0.02, 0.15)
    active = [[(k2 * b + k3) / (r + k4) + k5 for r in shares] for b in batches]
    throughput = [[1000 * b / t for t in row] for b, row in zip(batches, active, strict=True)]
    watt, base = rng.uniform(0.02, 0.3), rng.uniform(2, 20)
    cache, floor = rng.uniform(0.005, 0.06), rng.uniform(0.1, 2)
    points = [(0, 0), (1, 1), (len(batches) - 1, 2)]
    alone = rng.uniform(2, 20)
    return {
        "kernels": rng.randint(10, 100),
        "input_bytes": rng.randint(10_000, 1_000_000),
        "output_bytes": rng.randint(1_000, 100_000),
        "scheduling_delay_ms": delay,
        "memory": {"fixed_mib": rng.uniform(500, 3000), "per_item_mib": rng.uniform(10, 200)} if memory else None,
        "solo_grid": {
            "batch": batches,
            "share_percent": shares,
            "gpu_latency_ms": [[t + delay for t in row] for row in active],
            "power_w": [[50 + base + watt * h for h in row] for row in throughput],
            "frequency_mhz": [[TOP_CLOCK for _ in shares] for _ in batches],
        },
        "l2_utilisation_percent_at": [
            {"batch": batches[i], "share_percent": shares[j], "value": floor + cache * throughput[i][j]}
            for i, j in points
        ],
        "interference_probe": {
            "active_time_alone_ms": alone,
            "active_time_paired_ms": alone * (1 + interference * rng.uniform(0.02, 0.2)),
            "frequency_paired_mhz": TOP_CLOCK,
            "l2_utilisation_percent": rng.uniform(8, 20),
        },
    }


def random_instance(
    rng: random.Random,
    profiles: list[Profile],
    workloads: int,
    *,
    slo_rule: str = "half",
    counts: bool = False,
    max_replicas: int | None = None,
) -> Instance:
    """Workloads of moderate size: SLOs and rates follow each model's speed on the first profile."""
    prices = [1.0, rng.choice([0.55, 0.8, 1.25, 1.7])]
    gpu_types = tuple(
        GpuType(
            name=f"G{k}",
            profile=profile,
            price_per_hour=prices[k],
            count=rng.randint(1, 3) if counts else None,
        )
        for k, profile in enumerate(profiles)
    )
    entries = []
    for number in range(workloads):
        model = rng.choice(sorted(profiles[0].models))
        grid = profiles[0].models[model].solo_grid
        middle = grid.gpu_latency_ms[1][1]
        speed = 1000.0 * grid.batch[1] / middle
        entries.append(
            Workload(
                name=f"w{number}",
                model=model,
                slo_ms=max(0.001, round(middle * rng.uniform(1.5, 5.0), 2)),
                rate_rps=round(speed * rng.uniform(0.1, 0.8), 1),
                max_replicas=max_replicas,
            )
        )
    return Instance(name="random", slo_rule=slo_rule, gpu_types=gpu_types, workloads=tuple(entries))

"""The instances of `bench.exact`: shipped ones, further seeds of their law, synthetic GPU types, a huge one.

Every instance is a function of its name alone, so a table's rows can be made again: `build`.

The law of the shipped ``uniform-*`` instances stands in their descriptions: the model is uniform over four, SLO and
rate are uniform in ranges per model, and SLO and rate are redrawn until the workload alone needs at most 60 % of a
V100. The further seeds here follow the same law with another random stream: ``uniform-N-S`` with S ≥ 2 is drawn here,
``uniform-N-1`` is the shipped file.

The instances of the set ``cards`` are shipped ones with several real cards, those of ``card-seeds`` further seeds.
Those with GPU types of which there are too few use *synthetic* ones: the V100's measurements with times and powers
scaled, under names that say so. They show how the methods cope with types, prices and counts, and say nothing about any
real card.
"""

import random
import re
from types import MappingProxyType
from typing import Any

from bench.make_instances import CARDS, cards
from igniter_opt.base.errors import InputError
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.instance import Instance, Workload
from igniter_opt.data.instance_files import read_instance, shipped_instances
from igniter_opt.data.profile import Profile, profile_from_data, read_profile
from igniter_opt.problem.configurations import Problem

V100_PRICE_PER_HOUR = 3.06
MOST_SHARE_PERCENT = 60.0
# SLO (ms) and rate (req/s) of each model.
RANGES: MappingProxyType[str, tuple[tuple[float, float], tuple[float, float]]] = MappingProxyType(
    {
        "alexnet": ((10, 25), (100, 1500)),
        "resnet50": ((20, 60), (50, 500)),
        "vgg19": ((30, 80), (30, 250)),
        "ssd": ((40, 100), (20, 150)),
    }
)
SETS: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "small": (
            "igniter-table3",
            "igniter-table3-deadline",
            "igniter-table3-replicas3",
            "uniform-24-1",
            "tight-24-1",
            "tiny-60-1",
        ),
        "medium": (
            "uniform-24-2",
            "uniform-24-3",
            "uniform-50-1",
            "uniform-50-2",
            "uniform-50-3",
            "uniform-100-1",
            "uniform-100-2",
            "uniform-100-3",
        ),
        "seeds": (
            *(f"uniform-24-{seed}" for seed in range(4, 9)),
            *(f"uniform-50-{seed}" for seed in range(4, 9)),
            *(f"uniform-100-{seed}" for seed in range(4, 7)),
            *(f"synthetic-types-24-{seed}" for seed in range(2, 5)),
        ),
        "large": ("uniform-300-1", "uniform-300-2", "uniform-300-3", "uniform-1000-1"),
        "mixed": ("synthetic-types-24-1", "synthetic-types-100-1"),
        "cards": ("cards-table3", "cards-24-1", "cards-100-1", "today-24-1", "today-100-1"),
        "card-seeds": tuple(
            f"{cards}-{workloads}-{seed}"
            for workloads in (24, 100)
            for cards in ("cards", "today")
            for seed in (2, 3, 4)
        ),
        "p99": ("uniform-100-1-p99", "cards-100-1-p99", "uniform-300-1-p99", "uniform-1000-1-p99"),
        "huge": ("kinds-200-10000-1",),
    }
)
# Synthetic GPU types: factors on the V100's times and powers, price, and how many exist per 24 and 100 workloads.
# Without either count there are cheaper plans: both bind.
_SLOW = ("synthetic-v100-slow", 1.6, 0.6, 1.2)
_FAST = ("synthetic-v100-fast", 0.7, 1.3, 3.72)
_COUNTS = {24: (2, 1), 100: (6, 3)}


def build(name: str) -> Instance:
    """Make the instance of a name.

    Shipped instances by their names; ``NAME-deadline``, ``NAME-replicasK`` and ``NAME-p99`` (up to three replicas) of
    them with that option; ``uniform-N-S``, ``cards-N-S``, ``today-N-S``, ``synthetic-types-N-S`` and ``kinds-K-N-S``
    with N workloads (of K kinds) and seed S.

    Raises
    ------
    InputError
        No instance has this name.
    """
    if name in shipped_instances():
        return read_instance(name)
    if match := re.fullmatch(r"(.+)-deadline", name):
        return _renamed(read_instance(match[1]).with_options(slo_rule="deadline"), name)
    if match := re.fullmatch(r"(.+)-replicas(\d+)", name):
        return _renamed(read_instance(match[1]).with_options(max_replicas=int(match[2])), name)
    if match := re.fullmatch(r"(.+)-p99", name):
        return _renamed(read_instance(match[1]).with_options(slo_rule="p99", max_replicas=3), name)
    if match := re.fullmatch(r"(cards|today)-(\d+)-(\d+)", name):
        return cards(name, CARDS[match[1]], int(match[2]), int(match[3]))
    if match := re.fullmatch(r"uniform-(\d+)-(\d+)", name):
        return uniform(name, int(match[1]), int(match[2]))
    if match := re.fullmatch(r"synthetic-types-(\d+)-(\d+)", name):
        return synthetic_types(name, int(match[1]), int(match[2]))
    if match := re.fullmatch(r"kinds-(\d+)-(\d+)-(\d+)", name):
        return kinds(name, int(match[1]), int(match[2]), int(match[3]))
    raise InputError(f"{name}: no such benchmark instance")


def _renamed(instance: Instance, name: str) -> Instance:
    return instance.model_copy(update={"name": name})


def law() -> str:
    """Describe the law of the uniform instances, in the words of the shipped files."""
    slo = ", ".join(f"{model} {low:g}-{high:g}" for model, ((low, high), _) in RANGES.items())
    rate = ", ".join(f"{low:g}-{high:g}" for _, (low, high) in RANGES.values())
    return (
        f"model uniform over four; SLO ms uniform in {slo}; rate req/s uniform in {rate};"
        f" least share alone at most {MOST_SHARE_PERCENT:g} %"
    )


def v100(count: int | None = None) -> GpuType:
    """Return the shipped card at the price of the shipped instances."""
    return GpuType(name="V100", profile=read_profile("v100"), price_per_hour=V100_PRICE_PER_HOUR, count=count)


def draw(rng: random.Random, workloads: int) -> list[Workload]:
    """Draw workloads of the uniform law; they are called w1, w2, ..."""
    gpu = v100()
    return [_draw_one(rng, f"w{number}", gpu) for number in range(1, workloads + 1)]


def _draw_one(rng: random.Random, name: str, gpu: GpuType) -> Workload:
    model = rng.choice(list(RANGES))
    slo, rate = RANGES[model]
    while True:
        workload = Workload(
            name=name, model=model, slo_ms=round(rng.uniform(*slo), 1), rate_rps=float(round(rng.uniform(*rate)))
        )
        problem = Problem(Instance(name="draw", gpu_types=(gpu,), workloads=(workload,)))
        if problem.least_share_percent[0, 0] <= MOST_SHARE_PERCENT:
            return workload


def _random(law_name: str, *numbers: int) -> random.Random:
    return random.Random("/".join([law_name, *map(str, numbers)]))  # noqa: S311 (reproducible, not secret)


def uniform(name: str, workloads: int, seed: int) -> Instance:
    """Draw an instance of the uniform law."""
    return Instance(
        name=name,
        description=f"Random (seed {seed}): {law()}.",
        gpu_types=(v100(),),
        workloads=tuple(draw(_random("uniform", workloads, seed), workloads)),
    )


def kinds(name: str, number: int, workloads: int, seed: int) -> Instance:
    """Draw some kinds of workloads by the uniform law, and every workload uniformly from them; each kind occurs."""
    rng = _random("kinds", number, workloads, seed)
    templates = draw(rng, number)
    chosen = templates + [rng.choice(templates) for _ in range(workloads - number)]
    rng.shuffle(chosen)
    return Instance(
        name=name,
        description=f"{workloads} workloads of {number} kinds (seed {seed}), the kinds random: {law()}.",
        gpu_types=(v100(),),
        workloads=tuple(entry.model_copy(update={"name": f"w{k}"}) for k, entry in enumerate(chosen, 1)),
    )


def synthetic_types(name: str, workloads: int, seed: int) -> Instance:
    """Draw uniform workloads for V100s and two synthetic GPU types of which there are too few.

    Raises
    ------
    InputError
        No counts are laid down for this number of workloads.
    """
    if workloads not in _COUNTS:
        raise InputError(f"{name}: synthetic types are there for {', '.join(map(str, _COUNTS))} workloads")
    base = read_profile("v100")
    types = [v100()]
    for (card, time, power, price), count in zip((_SLOW, _FAST), _COUNTS[workloads], strict=True):
        profile = scaled_profile(base, card, time=time, power=power)
        types.append(GpuType(name=card, profile=profile, price_per_hour=price, count=count))
    said = "; ".join(f"{card}: times x{time:g}, power x{power:g}" for card, time, power, _ in (_SLOW, _FAST))
    return Instance(
        name=name,
        description=f"SYNTHETIC GPU types beside the V100 ({said}; not real cards). Random (seed {seed}): {law()}.",
        gpu_types=tuple(types),
        workloads=tuple(draw(_random("synthetic-types", workloads, seed), workloads)),
    )


def scaled_profile(profile: Profile, name: str, *, time: float, power: float) -> Profile:
    """Make a synthetic card: every measured time and every power of a profile times a factor.

    Clocks, L2 readings, kernels, bytes, memory, PCIe bandwidth and the share unit stay. All fits scale with the
    measurements, so a monotone profile gives a monotone one (`igniter_opt.physics.interference.is_monotone`).
    """
    data = profile.model_dump(mode="json", exclude_none=True)
    note = f"measured times x {time:g}, powers x {power:g}"
    data["name"], data["provenance"] = name, {"note": f"Synthetic: {note}; not a real card."}
    data["source"] = f"Synthetic, made from profile {profile.name}: {note}."
    for block in ("solo_measurements", "colocated_measurements", "calibration"):
        data.pop(block, None)  # not scaled, and of no use to the faithful coefficients
    hardware = data["hardware"]
    run = hardware["coexecution"]
    hardware["gpu"] = f"synthetic, from {hardware['gpu']}"
    _scale(hardware, power, "max_power_w", "idle_power_w")
    _scale(run, power, "power_w")
    _scale(run, time, "scheduling_delay_ms_per_kernel")
    for model in data["models"].values():
        _scale(model, time, "scheduling_delay_ms")
        _scale(model["solo_grid"], time, "gpu_latency_ms")
        _scale(model["solo_grid"], power, "power_w")
        _scale(model["interference_probe"], time, "active_time_alone_ms", "active_time_paired_ms")
        _scale(model["interference_probe"], power, "power_paired_w")
    return profile_from_data(data, f"synthetic profile {name}", name)


def _scale(record: dict[str, Any], factor: float, *keys: str) -> None:
    for key in keys:
        if key in record:
            record[key] = _times(record[key], factor)


def _times(value: Any, factor: float) -> Any:
    return [_times(entry, factor) for entry in value] if isinstance(value, list) else value * factor

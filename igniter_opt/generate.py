"""Random benchmark instances, the same for the same arguments on every machine."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

from igniter_opt.base.errors import InputError
from igniter_opt.base.files import StrPath
from igniter_opt.base.schema import checked_number, describe, one_of, parse_record
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.instance import Instance, Workload
from igniter_opt.data.profile import Profile, as_profile
from igniter_opt.predict import predict
from igniter_opt.problem.configurations import Problem

# Ranges are multiples of a model's latency and throughput at this batch alone on a whole GPU.
_REFERENCE_BATCH = 8
_MOST_SHARE_PERCENT = 60.0
_TRIES = 1000


@dataclass(frozen=True)
class Family:
    """SLOs between two multiples of the reference latency, rates between two of the reference throughput."""

    slo: tuple[float, float]
    rate: tuple[float, float]
    one_model: bool = False


FAMILIES: MappingProxyType[str, Family] = MappingProxyType(
    {
        "mixed": Family(slo=(3.0, 8.0), rate=(0.05, 0.4)),
        "tight": Family(slo=(2.2, 3.2), rate=(0.05, 0.3)),
        "loose": Family(slo=(8.0, 20.0), rate=(0.05, 0.4)),
        "one-model": Family(slo=(3.0, 8.0), rate=(0.05, 0.4), one_model=True),
        "tiny": Family(slo=(3.0, 8.0), rate=(0.005, 0.05)),
    }
)


def generate_instance(
    name: str,
    workloads: int,
    seed: int,
    profiles: Sequence[Profile | StrPath],
    prices: Sequence[float],
    *,
    family: str = "mixed",
    model: str | None = None,
) -> Instance:
    """Draw a random instance.

    Models are uniform over those that all profiles have (or the one given), SLO and rate uniform in ranges
    that follow each model's speed on the first profile; every workload is redrawn until it needs at most
    60 % of a GPU of the first type alone under the ``half`` rule.

    Parameters
    ----------
    profiles, prices
        One GPU type each, at least one (or the names or paths of profiles); prices per hour.
    family
        One of `FAMILIES`.
    model
        For family ``one-model``: which; by default the first.

    Raises
    ------
    InputError
        Arguments out of range, no common model, or no feasible workload of a model found.
    """
    one_of(family, FAMILIES, "unknown family", "families")
    if checked_number("workloads", workloads, whole=True) < 1:
        raise InputError(f"workloads must be at least 1; found {workloads}")
    for what, given in (("profiles", profiles), ("prices", prices)):
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise InputError(f"{what} must be a list, one entry per GPU type; found {describe(given)}")
    if len(prices) != len(profiles):
        raise InputError(f"{len(profiles)} profile(s) and {len(prices)} price(s): give one price per profile")
    if not profiles:
        raise InputError("give at least one profile")
    cards = [as_profile(profile) for profile in profiles]
    models = [name for name in cards[0].models if all(name in profile.models for profile in cards)]
    if not models:
        raise InputError("the profiles have no model in common")
    if model is not None:
        cards[0].model(model)
        models = [model]
    elif FAMILIES[family].one_model:
        models = models[:1]
    ranges = {name: _ranges(cards[0], name, FAMILIES[family]) for name in models}
    rng = random.Random(f"{family}/{seed}")  # noqa: S311 (reproducible, not secret)
    gpu_types = [
        {"name": _type_name(cards, k), "profile": profile, "price_per_hour": price}
        for k, (profile, price) in enumerate(zip(cards, prices, strict=True))
    ]
    first = parse_record(GpuType, gpu_types[0], "generate")
    drawn = [_draw(f"w{number}", rng, models, ranges, first) for number in range(1, workloads + 1)]
    content = {
        "name": name,
        "description": _describe(family, seed, ranges),
        "gpu_types": gpu_types,
        "workloads": drawn,
    }
    return parse_record(Instance, content, "generate")


def _type_name(profiles: Sequence[Profile], position: int) -> str:
    """The profile's name in capitals, numbered where it occurs again."""
    name = profiles[position].name.upper()
    again = sum(profile.name == profiles[position].name for profile in profiles[:position])
    return f"{name}.{again + 1}" if again else name


Ranges = tuple[tuple[float, float], tuple[float, float]]


def _ranges(profile: Profile, model: str, family: Family) -> Ranges:
    batch = min(_REFERENCE_BATCH, profile.models[model].max_batch)
    alone = predict(profile, [(model, batch, 100.0)])
    latency, throughput = float(alone.latency_ms[0]), float(alone.throughput_rps[0])
    slo = (_tidy(family.slo[0] * latency), _tidy(family.slo[1] * latency))
    return slo, (_tidy(family.rate[0] * throughput), _tidy(family.rate[1] * throughput))


def _tidy(value: float) -> float:
    """Two significant digits."""
    return float(f"{value:.2g}")


def _draw(name: str, rng: random.Random, models: list[str], ranges: dict[str, Ranges], gpu: GpuType) -> Workload:
    model = rng.choice(models)
    slo, rate = ranges[model]
    for _ in range(_TRIES):
        workload = Workload(
            name=name,
            model=model,
            slo_ms=round(rng.uniform(*slo), 1),
            rate_rps=max(1.0, float(round(rng.uniform(*rate)))),
        )
        problem = Problem(Instance(name="draw", gpu_types=(gpu,), workloads=(workload,)))
        if problem.least_share_percent[0, 0] <= _MOST_SHARE_PERCENT:
            return workload
    raise InputError(f"model {model}: no workload of this family needs at most {_MOST_SHARE_PERCENT:g} % of a GPU")


def _describe(family: str, seed: int, ranges: dict[str, Ranges]) -> str:
    parts = [
        f"{model} SLO {slo[0]:g}-{slo[1]:g} ms, rate {rate[0]:g}-{rate[1]:g} req/s"
        for model, (slo, rate) in ranges.items()
    ]
    return (
        f"Random (family {family}, seed {seed}): model, SLO and rate uniform ({'; '.join(parts)});"
        f" least share alone at most {_MOST_SHARE_PERCENT:g} %."
    )

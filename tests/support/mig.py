"""Cards under MIG for tests: the published readings where they are at hand, random small profiles, exhaustion."""

import itertools
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from igniter_opt import Instance
from igniter_opt.data.slice_profile import SliceProfile

REFERENCE = next(
    (folder / "shared" / "reference" / "mig" for folder in Path(__file__).parents if (folder / "shared").is_dir()),
    Path("nowhere"),
)
# Sevenths, memory slots and starts of an A100's slices, written down a second time.
SLICES = {
    "1g.10gb": (1, 1, (0, 1, 2, 3, 4, 5, 6)),
    "1g.20gb": (1, 2, (0, 2, 4, 6)),
    "2g.20gb": (2, 2, (0, 2, 4)),
    "3g.40gb": (3, 4, (0, 4)),
    "4g.40gb": (4, 4, (0,)),
    "7g.80gb": (7, 8, (0,)),
}
NAMES = tuple(SLICES)
Counts = tuple[int, ...]


def scenarios() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((REFERENCE / "scenarios.json").read_text())
    return found


def instance_of(profile: SliceProfile, workloads: Sequence[dict[str, Any]], **settings: Any) -> Instance:
    named = [{"name": f"W{k}", **entry} for k, entry in enumerate(workloads, 1)]
    return Instance.model_validate(
        {
            "name": "cut",
            "slo_rule": "parvagpu",
            "gpu_types": [{"name": "A100", "profile": profile, "price_per_hour": 3.0}],
            "workloads": named,
            **settings,
        }
    )


def random_workloads(
    rng: np.random.Generator, number: int, slo_ms: tuple[int, int], rate_rps: tuple[int, int]
) -> list[dict[str, Any]]:
    """Workloads of four models, with SLOs and rates drawn from these ranges."""
    return [
        {"model": f"m{int(rng.integers(4))}", "slo_ms": float(rng.integers(*slo_ms)), "rate_rps": float(rate)}
        for rate in rng.integers(*rate_rps, number)
    ]


def random_profile(rng: np.random.Generator, models: int = 3) -> SliceProfile:
    """A profile with holes: not every model on every slice, few batches and numbers of processes."""
    content = {}
    for number in range(models):
        slices = {}
        for name, (sevenths, _, _) in SLICES.items():
            if rng.random() < 0.2 and slices:
                continue
            points = [(b, p) for b in (1, 4) for p in (1, 2) if rng.random() < 0.8] or [(1, 1)]
            latency = {
                (b, p): float(round(8 * (b + 2) * p / sevenths**0.8 * rng.uniform(0.8, 1.3), 2)) for b, p in points
            }
            slices[name] = {
                "batch": [b for b, _ in points],
                "processes": [p for _, p in points],
                "throughput_rps_per_process": [round(1000.0 * b / latency[b, p], 2) for b, p in points],
                "latency_ms": [latency[point] for point in points],
            }
        content[f"m{number}"] = {"slices": slices}
    return SliceProfile.model_validate({"name": "random", "source": "a test", "card": "a100-80gb", "models": content})


@lru_cache(maxsize=1)
def cuts() -> frozenset[Counts]:
    """All choices of slices that one A100 can be cut into, by trying every set of places."""
    places = [(name, start) for name, (_, _, starts) in SLICES.items() for start in starts]
    found: set[Counts] = set()

    def extend(first: int, taken: frozenset[int], sevenths: int, counts: Counts) -> None:
        found.add(counts)
        for position in range(first, len(places)):
            name, start = places[position]
            size, slots, _ = SLICES[name]
            here = frozenset(range(start, start + slots))
            if not (taken & here) and max(here) < 8 and sevenths + size <= 7:
                more = tuple(count + (NAMES[k] == name) for k, count in enumerate(counts))
                extend(position + 1, taken | here, sevenths + size, more)

    extend(0, frozenset(), 0, (0,) * len(NAMES))
    return frozenset(found)


def capacities(instance: Instance, part: float) -> list[dict[str, float]]:
    """What every kind of slice carries of every workload, from the profile's columns alone."""
    found = []
    for workload in instance.workloads:
        own: dict[str, float] = {}
        for gpu in instance.gpu_types:
            model = gpu.slice_profile.models.get(workload.model)
            for name, column in ({} if model is None else model.slices).items():
                rows = zip(column.processes, column.throughput_rps_per_process, column.latency_ms, strict=True)
                best = max((n * rate for n, rate, latency in rows if latency <= part * workload.slo_ms), default=0.0)
                if best:
                    own[name] = best
        found.append(own)
    return found


def enough(capacity: dict[str, float], rate: float, most: int = 7) -> list[Counts]:
    """Numbers of slices that carry a rate, without those that contain others."""
    names = [name for name in NAMES if name in capacity]
    found: list[Counts] = []
    for total in range(1, most + 1):
        for chosen in itertools.combinations_with_replacement(names, total):
            counts = tuple(chosen.count(name) for name in NAMES)
            if any(all(a <= b for a, b in zip(known, counts, strict=True)) for known in found):
                continue
            if sum(capacity[name] for name in chosen) >= rate * (1 - 1e-9):
                found.append(counts)
    return found


def fewest_cards(instance: Instance, part: float, most: int = 2) -> tuple[int, int] | None:
    """Fewest A100s that carry all workloads and the least sevenths among plans with so many; None: more than `most`."""
    options = [
        enough(own, workload.rate_rps, workload.max_replicas or 7)
        for own, workload in zip(capacities(instance, part), instance.workloads, strict=True)
    ]
    needs = {tuple(map(sum, zip(*choice, strict=True))) for choice in itertools.product(*options)}
    sizes = [SLICES[name][0] for name in NAMES]
    yields: set[Counts] = {(0,) * len(NAMES)}
    for cards in range(1, most + 1):
        yields = {tuple(map(sum, zip(a, b, strict=True))) for a in yields for b in cuts()}
        held = [sum(n * size for n, size in zip(need, sizes, strict=True)) for need in needs if need in yields]
        if held:
            return cards, min(held)
    return None


def placements(instance: Instance, gpus: Sequence[dict[str, Any]], part: float) -> Iterator[str]:
    """Everything that is wrong with the cards of a plan file, judged from its own profile without the package."""
    carried: dict[str, float] = {}
    for gpu in gpus:
        taken: set[int] = set()
        for place in gpu["placements"]:
            sevenths, slots, starts = SLICES[place["slice"]]
            here = set(range(place["slot"], place["slot"] + slots))
            if place["slot"] not in starts or taken & here:
                yield f"{gpu['name']}: {place['slice']} at {place['slot']}"
            taken |= here
            if abs(place["share_percent"] - 100 * sevenths / 7) > 1e-9:
                yield f"{gpu['name']}: share"
            workload = next(entry for entry in instance.workloads if entry.name == place["workload"])
            column = instance.gpu_types[0].slice_profile.models[workload.model].slices[place["slice"]]
            rows = zip(
                column.batch, column.processes, column.throughput_rps_per_process, column.latency_ms, strict=True
            )
            row = [
                (n * rate, latency) for b, n, rate, latency in rows if (b, n) == (place["batch"], place["processes"])
            ]
            if len(row) != 1 or row[0][1] > part * workload.slo_ms or row[0][0] < place["rate_rps"] * (1 - 1e-9):
                yield f"{gpu['name']}: {place['workload']}"
            carried[workload.name] = carried.get(workload.name, 0.0) + place["rate_rps"]
    for workload in instance.workloads:
        if abs(carried.get(workload.name, 0.0) - workload.rate_rps) > 1e-6 * workload.rate_rps:
            yield workload.name

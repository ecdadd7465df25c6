"""Random tiny instances on the shipped cards, as an instance file's content: plain data, with profiles inside."""

import copy
import functools
import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "instances" / "profiles"
CARDS = ("v100", "h100", "h200")
MODELS = ("alexnet", "resnet50", "vgg19", "ssd")
# igniter: the paper's fit. counters: the refined set without measurements side by side, all of whose parts have one
# answer. fitted: the refined set with them.
SETS = ("igniter", "counters", "fitted")
HOT = 1000
# The coefficients printed for the V100 (Xu et al. 2023): k1..k5; of power and of L2 utilisation per throughput.
PUBLISHED = {
    "alexnet": ((4.15351e-03, 8.71158, 23.7361, 5.55205e-02, 0.346011), (2.38930e-02, 37.1081), (3.09205e-03, 2.02957)),
    "resnet50": ((-1.75147e-02, 58.2645, -1.18622e-02, 0.344858, 1.90950), (0.162335, 4.62686), (2.19595e-02, 0.0)),
    "vgg19": ((-4.83465e-03, 158.193, 44.4521, 0.188407, 0.926192), (0.536729, 2.08185), (4.52175e-02, 2.72282)),
    "ssd": ((2.51596e-02, 235.847, -16.7816, 0.264273, 3.41698), (0.644894, 2.33932), (8.86305e-02, 0.0)),
}
# Largest batch, and how many of the card's units are one (V100, others): 4, 8 or about 20 shares, as exhaustion can do.
SHAPES = {
    "few": (3, (10, 16)),
    "coarse": (4, (10, 16)),
    "two": (2, (5, 8)),
    "some": (4, (5, 8)),
    "fine": (2, (2, 4)),
    "all": (32, (5, 8)),
}


@functools.cache
def _shipped(card: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((FOLDER / f"{card}.json").read_text("utf-8"))
    return data


def profile(card: str, coefficients: str, shape: str, least: int, hot: bool = False) -> dict[str, Any]:
    """A shipped card, made small: four models, batches and shares of a shape, a least share of some units.

    A hot one reaches its power cap early, and its clock falls steeply from there on.
    """
    return copy.deepcopy(_profile(card, coefficients, shape, least, hot))


@functools.cache
def _profile(card: str, coefficients: str, shape: str, least: int, hot: bool) -> dict[str, Any]:
    data = copy.deepcopy(_shipped(card))
    most, units = SHAPES[shape]
    unit = data["hardware"]["share_unit_percent"] * units[card != "v100"]
    data["name"] = f"{card}-{coefficients}-{shape}-{least}"
    data["coefficients"] = "igniter" if coefficients == "igniter" else "refined"
    data["hardware"] |= {"share_unit_percent": unit, "least_share_percent": least * unit}
    if hot:
        data["name"] += "-hot"
        run = data["hardware"]["coexecution"]
        data["hardware"]["max_power_w"] = 0.8 * run["power_w"][2]
        top = data["hardware"]["max_frequency_mhz"]
        run["frequency_mhz"] = [top, top, 0.9 * top, 0.75 * top, 0.6 * top]
        if coefficients != "fitted":
            # Their latencies are those of a card that is not hot.
            del data["solo_measurements"]
    data["models"] = {name: _small(card, name, data["models"][name], most) for name in MODELS}
    del data["calibration"]
    if "solo_measurements" in data:
        _thin(data["solo_measurements"], lambda k, block: block["model"][k] in MODELS and k % 3 == 0)
    if coefficients == "fitted":
        block = data["colocated_measurements"]
        foreign = {g for g, name in zip(block["group"], block["model"], strict=True) if name not in MODELS}
        _thin(block, lambda k, block: block["group"][k] not in foreign)
    else:
        del data["colocated_measurements"]
    return data


def _thin(block: dict[str, Any], keep: Any) -> None:
    chosen = [k for k in range(len(block["model"])) if keep(k, block)]
    for key, column in list(block.items()):
        if isinstance(column, list):
            block[key] = [column[k] for k in chosen]


def _small(card: str, name: str, model: dict[str, Any], most: int) -> dict[str, Any]:
    """The model with a grid up to a batch: by the published numbers, or between the batches that were measured."""
    if most == 32:
        return model
    grid = model["solo_grid"]
    shares = grid["share_percent"]
    batches = sorted({1, 2, most})
    if card == "v100":
        (k1, k2, k3, k4, k5), power, cache = PUBLISHED[name]
        active = [[(k1 * b * b + k2 * b + k3) / (r + k4) + k5 for r in shares] for b in batches]
        rate = [[1000.0 * b / t for t in row] for b, row in zip(batches, active, strict=True)]
        tables = {
            "gpu_latency_ms": [[t + model["scheduling_delay_ms"] for t in row] for row in active],
            "power_w": [[53.5 + power[0] * h + power[1] for h in row] for row in rate],
            "frequency_mhz": [[1530.0 for _ in row] for row in rate],
        }
        points = [(0, 0), (-2, 1), (-1, 2)]
        counters = {
            "l2_utilisation_percent_at": [
                {"batch": batches[i], "share_percent": shares[j], "value": cache[0] * rate[i][j] + cache[1]}
                for i, j in points
            ]
        }
    else:
        keys = ("gpu_latency_ms", "power_w", "frequency_mhz")
        tables = {
            key: [[_read(grid["batch"], column, b) for column in zip(*grid[key], strict=True)] for b in batches]
            for key in keys
        }
        counters = {}
        for key in ("l2_utilisation_percent_at", "dram_utilisation_percent_at"):
            knots = [math.log(point["batch"]) for point in model[key]]
            values = [point["value"] for point in model[key]]
            counters[key] = [
                {"batch": b, "share_percent": 100.0, "value": _read(knots, values, math.log(b))} for b in batches
            ]
    return {**model, "solo_grid": {"batch": batches, "share_percent": shares, **tables}, **counters}


def _read(knots: list[float], values: Any, x: float) -> float:
    for (left, low), (right, high) in itertools.pairwise(zip(knots, values, strict=True)):
        if x <= right:
            return float(low + (high - low) * (x - left) / (right - left))
    return float(values[-1])


def case(seed: int) -> tuple[dict[str, Any], float]:
    """An instance of 1 to 5 workloads, and a margin; rules, coefficients, cards and the rest vary with the seed.

    From seed `HOT` on cards are hot.
    """
    rng = random.Random(seed)
    rule = ("half", "deadline", "p99")[seed % 3]
    coefficients = SETS[(seed // 3) % 3]
    cards = rng.choice([[CARDS[(seed // 9) % 3]], [CARDS[(seed // 9) % 3]], rng.sample(CARDS, 2)])
    shape = rng.choice(["few", "coarse", "two"] if rule == "p99" else ["some", "fine", "all", "all"])
    # Fits that take long are made for few cards.
    least = rng.choice([1, 1, 2]) if coefficients != "fitted" else 1 + (shape in ("two", "some"))
    profiles = [profile(card, coefficients, shape, least, seed >= HOT) for card in cards]
    replicas = rng.random() < 0.25
    count = rng.choice([1, 2, 2, 3]) if replicas else rng.choice([2, 3, 3, 4, 4, 5])
    if rule == "p99":
        count = min(count, 2 if replicas else 4 if shape == "few" else 3)
    prices = [round(rng.uniform(0.5, 5.0), rng.choice([0, 1, 2, 3, 6])) or 0.7 for _ in profiles]
    gpu_types: list[dict[str, Any]] = []
    for k, (card, entry) in enumerate(zip(cards, profiles, strict=True)):
        gpu: dict[str, Any] = {"name": f"T{k}", "profile": entry, "price_per_hour": prices[k]}
        if rng.random() < 0.4:
            gpu["count"] = rng.choice([1, 1, 2, 3])
        if rng.random() < 0.4 and card != "v100":
            gpu["memory_mib"] = rng.choice([2000.0, 3000.0, 4500.0])
        gpu_types.append(gpu)
    workloads = []
    for number in range(count):
        name = rng.choice(MODELS)
        grid = profiles[0]["models"][name]["solo_grid"]
        # Latency and rate of a middling batch on about a third of the card.
        row = grid["gpu_latency_ms"][1]
        slow = 2.2 * row[-1] * (1.0 if shape != "all" else rng.uniform(0.4, 1.0))
        speed = 1000.0 * grid["batch"][1] / (2.2 * row[-1])
        loose = {"half": (1.2, 5.0), "deadline": (1.0, 4.0), "p99": (1.5, 6.0)}[rule]
        workload: dict[str, Any] = {
            "name": f"w{number}",
            "model": name,
            "slo_ms": round(slow * rng.uniform(*loose), 2),
            "rate_rps": round(speed * rng.uniform(0.15, 1.5 if replicas else 1.1), 1),
        }
        if replicas:
            workload["max_replicas"] = 2
        workloads.append(workload)
    if rng.random() < 0.2:
        workloads[-1] |= {key: workloads[0][key] for key in ("model", "slo_ms", "rate_rps")}
    instance: dict[str, Any] = {
        "name": f"case-{seed}",
        "slo_rule": rule,
        "gpu_types": gpu_types,
        "workloads": workloads,
    }
    if rule == "p99" and rng.random() < 0.4:
        instance["percentile"] = rng.choice([0.9, 0.95, 0.999])
    return instance, rng.choice([0.0, 0.0, 0.0, 0.05, 0.168353])

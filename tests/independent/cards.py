"""Cards and models as plain numbers, once more: the performance model from its documented formulas (docs/model.md).

Nothing of the package is imported. What is independent: the evaluation of every formula, and all fits that have one
answer, each by another route than the package's:

- the active time of the `igniter` set: for a given k4 the formula is linear in the others, so that what is left is a
  search in one number (the package: Levenberg-Marquardt in five);
- lines by their closed form; non-negative least squares by trying every set of columns;
- the surface's deviation by an eigenvalue decomposition of the covariance (the package: Cholesky).

What is not: the weights of power, clock and contention that the `refined` set fits to measurements side by side. That
problem is not convex and its answer depends on where the search begins; `refit` states it once more for a test of its
own. A judge of plans made with such weights is given the fitted numbers (`of_numbers`) and evaluates them by itself.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

Profile = dict[str, Any]
# What docs/model.md and the docstrings of `surface`, `solo` and `utilisation` state as fixed.
SCALES = tuple(itertools.product((0.05, 0.1, 0.2), (3.0, 6.0, 20.0), (0.5, 1.0)))
WHOLE_PART = 0.75


@dataclass
class Surface:
    """Active times at ascending batches (rows) and shares (columns)."""

    batches: list[float]
    shares: list[float]
    table: list[list[float]]

    def at(self, batch: float, share: float) -> float:
        """Linear in b between batches and in 1/r between shares; proportional to b and 1/r beyond."""
        columns = [_between(self.batches, [row[j] for row in self.table], batch) for j in range(len(self.shares))]
        time = _between([1.0 / r for r in reversed(self.shares)], columns[::-1], 1.0 / share)
        return time * max(1.0, batch / self.batches[-1]) * max(1.0, self.shares[0] / share)


@dataclass
class Model:
    """A model on a card: ms, W, percent; `active` is k(b, r), `utilisation` U(b)."""

    kernels: float
    input_bytes: float
    output_bytes: float
    delay: float
    max_batch: int
    memory_fixed: float
    memory_per_item: float
    active: Callable[[float, float], float]
    power: tuple[float, float, float]  # per throughput, constant, per share
    cache: tuple[float, float]  # per throughput, constant
    suffers: tuple[float, float, float]  # of active time, per kernel, of active time on the whole card
    utilisation: Callable[[float], float] | None = None
    traffic: tuple[float, float] = (0.0, 0.0)
    suffers_traffic: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def memory(self, batch: int) -> float:
        return self.memory_fixed + self.memory_per_item * batch


@dataclass
class Card:
    """A GPU type's card (units as in the files) and its models."""

    top_mhz: float
    cap_w: float
    idle_w: float
    clock_slope: float  # MHz/W
    delay_slope: float
    delay_constant: float
    bytes_per_ms: float
    unit: float
    least_share: float
    memory: float | None
    models: dict[str, Model]

    @property
    def levels(self) -> int:
        """How many share units there are in 100 percent."""
        return int(100.0 / self.unit + 1e-6)

    @property
    def least_level(self) -> int:
        return round(self.least_share / self.unit)


def _between(knots: Sequence[float], values: Sequence[float], x: float) -> float:
    if x <= knots[0]:
        return values[0]
    for left in range(len(knots) - 1):
        if x <= knots[left + 1]:
            part = (x - knots[left]) / (knots[left + 1] - knots[left])
            return values[left] + part * (values[left + 1] - values[left])
    return values[-1]


def line(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """Slope and intercept of the least-squares line."""
    mx, my = math.fsum(x) / len(x), math.fsum(y) / len(y)
    slope = math.fsum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / math.fsum((a - mx) ** 2 for a in x)
    return slope, my - slope * mx


def non_negative(rows: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Non-negative least squares by all sets of columns: the best one whose free solution has no negative part."""
    best, best_cost = np.zeros(rows.shape[1]), float(target @ target)
    for size in range(1, rows.shape[1] + 1):
        for chosen in itertools.combinations(range(rows.shape[1]), size):
            scale = np.linalg.norm(rows[:, chosen], axis=0)
            found = np.linalg.lstsq(rows[:, chosen] / scale, target, rcond=None)[0] / scale
            cost = float(((rows[:, chosen] @ found - target) ** 2).sum())
            if found.min() >= 0.0 and cost < best_cost * (1 - 1e-13):
                best, best_cost = np.zeros(rows.shape[1]), cost
                best[list(chosen)] = found
    return best


def uncapped(power: Sequence[float], clock: Sequence[float], top: float, idle: float) -> list[float]:
    """Power of the coexecution run, continued with the mean step seen before the clock fell."""
    first = next((k for k, mhz in enumerate(clock) if mhz < top), len(power))
    before = [idle, *power[:first]] if first <= 1 else list(power[:first])
    steps = [after - own for own, after in itertools.pairwise(before)]
    found = list(power[:first])
    for _ in range(first, len(power)):
        found.append((found[-1] if found else idle) + (math.fsum(steps) / len(steps) if steps else power[0] - idle))
    return found


def _hardware(data: Profile) -> Card:
    card = data["hardware"]
    run, top, cap = card["coexecution"], card["max_frequency_mhz"], card["max_power_w"]
    clock = run["frequency_mhz"]
    drawn = uncapped(run["power_w"], clock, top, card["idle_power_w"])
    fallen = [(watt - cap, mhz - top) for watt, mhz in zip(drawn, clock, strict=True)]
    fallen = fallen[next((k for k, mhz in enumerate(clock) if mhz < top), len(clock)) :]
    square = math.fsum(over * over for over, _ in fallen)
    waits = [ms * mhz / top for ms, mhz in zip(run["scheduling_delay_ms_per_kernel"], clock, strict=True)]
    added = [ms - waits[0] for ms in waits[1:]]
    slope, constant = line(range(2, 2 + len(added)), added)
    if slope < 0:
        slope, constant = 0.0, max(0.0, math.fsum(added) / len(added))
    return Card(
        top_mhz=top,
        cap_w=cap,
        idle_w=card["idle_power_w"],
        clock_slope=math.fsum(over * less for over, less in fallen) / square if square else 0.0,
        delay_slope=slope,
        delay_constant=constant,
        bytes_per_ms=card["pcie_bandwidth_bytes_per_ms"],
        unit=card["share_unit_percent"],
        least_share=card.get("least_share_percent") or card["share_unit_percent"],
        memory=card.get("memory_mib"),
        models={},
    )


def grid_of(model: Profile, top: float) -> list[tuple[int, float, float, float, float]]:
    """Batch, share, GPU latency, power and clock of every point of the solo grid."""
    grid = model["solo_grid"]
    return [
        (b, r, grid["gpu_latency_ms"][i][j], grid["power_w"][i][j], grid["frequency_mhz"][i][j])
        for i, b in enumerate(grid["batch"])
        for j, r in enumerate(grid["share_percent"])
    ]


def formula(points: list[tuple[float, float, float]]) -> Callable[[float, float], float]:
    """Fit ``(k1 b² + k2 b + k3) / (r + k4) + k5``: the best k4, with the others by linear least squares."""
    b, r, active = (np.array(column, dtype=float) for column in zip(*points, strict=True))

    def others(k4: float) -> tuple[float, np.ndarray]:
        rows = np.column_stack([b * b, b, np.ones_like(b), r + k4]) / (r + k4)[:, None]
        scale = np.linalg.norm(rows, axis=0)
        found = np.linalg.lstsq(rows / scale, active, rcond=None)[0] / scale
        return float(((rows @ found - active) ** 2).sum()), found

    def cost(k4: float) -> float:
        return others(k4)[0]

    # The formula is one with a pole below every measured share; the search begins wherever a coarse one is best.
    tries = [-0.9 * min(r) + step for step in np.geomspace(0.05, 200.0, 400)]
    at = min(range(len(tries)), key=lambda k: cost(tries[k]))
    low, high = tries[max(at - 1, 0)], tries[min(at + 1, len(tries) - 1)]
    k4 = float(minimize_scalar(cost, bounds=(low, high), method="bounded", options={"xatol": 1e-11}).x)
    k1, k2, k3, k5 = others(k4)[1].tolist()

    def at_point(batch: float, share: float) -> float:
        if share + k4 <= 0:
            return math.inf
        time = (k1 * batch * batch + k2 * batch + k3) / (share + k4) + k5
        return time if time > 0 else math.inf

    return at_point


def _faithful(model: Profile, card: Card) -> Model:
    points = grid_of(model, card.top_mhz)
    delay, memory = model["scheduling_delay_ms"], model.get("memory") or {}
    rate = {(b, r): 1000.0 * b / (ms - delay) for b, r, ms, _, _ in points}
    free = [(b, r, watt) for b, r, _, watt, mhz in points if mhz > card.top_mhz - 1]
    power = line([rate[b, r] for b, r, _ in free], [watt - card.idle_w for *_, watt in free])
    read = model["l2_utilisation_percent_at"]
    cache = line([rate[p["batch"], p["share_percent"]] for p in read], [p["value"] for p in read])
    probe = model["interference_probe"]
    slower = probe["active_time_paired_ms"] * probe["frequency_paired_mhz"] / card.top_mhz
    slower = slower / probe["active_time_alone_ms"] - 1.0
    return Model(
        kernels=model["kernels"],
        input_bytes=model["input_bytes"],
        output_bytes=model["output_bytes"],
        delay=delay,
        max_batch=max(model["solo_grid"]["batch"]),
        memory_fixed=memory.get("fixed_mib", 0.0),
        memory_per_item=memory.get("per_item_mib", 0.0),
        active=formula([(b, r, ms * min(1.0, mhz / card.top_mhz) - delay) for b, r, ms, _, mhz in points]),
        power=(*power, 0.0),
        cache=cache,
        suffers=(slower / probe["l2_utilisation_percent"], 0.0, 0.0),
    )


def clock_ratio(card: Card, power: float) -> float:
    """The clock over the highest: 1 up to the power cap, a falling line above."""
    return min(1.0, 1.0 + card.clock_slope / card.top_mhz * (power - card.cap_w))


def active_alone(card: Card, model: Model, batch: float, share: float, latency: float) -> float:
    """Active time at the highest clock behind an inference latency alone, by bisection.

    What is sought is the largest k with ``s + k = gpu φ(P(k))``: a longer k draws less power, and where the clock falls
    steeply, absurdly short ones at hardly any clock would do as well.
    """
    gpu = latency - batch * (model.input_bytes + model.output_bytes) / card.bytes_per_ms

    def too_long(active: float) -> bool:
        power = card.idle_w + model.power[0] * 1000.0 * batch / active + model.power[1] + model.power[2] * share
        return model.delay + active > gpu * max(0.1, clock_ratio(card, power))

    high = gpu - model.delay
    if not too_long(high):
        return high
    low = high
    while low > 1e-3 * gpu and too_long(low):
        high, low = low, 0.98 * low
    for _ in range(100):
        middle = (low + high) / 2.0
        low, high = (low, middle) if too_long(middle) else (middle, high)
    return high


def surface(points: list[tuple[float, float, float, float]]) -> Surface:
    """Fit the measured surface to (batch, share, active time, relative noise)."""
    b, r, active, noise = (np.array(column, dtype=float) for column in zip(*points, strict=True))

    def trend(batch: Any, share: Any) -> np.ndarray:
        one = np.ones_like(batch)
        return np.column_stack([one / share, batch / share, one, batch])

    weight = 1.0 / np.sqrt(noise**2 + 0.02**2)
    w = non_negative(trend(b, r) * (weight / active)[:, None], weight)
    off = np.log(active / (trend(b, r) @ w))
    batches, shares = sorted(set(b.tolist())), sorted(set(r.tolist()))
    places = [(x, y) for x in batches for y in shares]
    at = np.array(places)
    votes, means = [], []
    own = np.column_stack([b, r])
    for scales in SCALES:
        values, vectors = np.linalg.eigh(_covariance(own, own, scales) + np.diag(noise**2))
        seen = vectors.T @ off
        votes.append(-0.5 * float((seen**2 / values).sum()) - 0.5 * float(np.log(values).sum()))
        means.append(_covariance(at, own, scales) @ (vectors @ (seen / values)))
    chances = [math.exp(vote - max(votes)) for vote in votes]
    mean = sum(c * m for c, m in zip(chances, means, strict=True)) / math.fsum(chances)
    raw = dict(zip(places, (trend(at[:, 0], at[:, 1]) @ w * np.exp(mean)).tolist(), strict=True))
    # Never longer for a larger share; for a larger batch shorter by 3 % at least, or not at all; and a billionth
    # between neighbouring shares.
    kept = {}
    for i, x in enumerate(batches):
        for j, y in enumerate(shares):
            own = max(raw[x, larger] for larger in shares[j:])
            most = max(raw[smaller, larger] for smaller in batches[: i + 1] for larger in shares[j:])
            kept[x, y] = most if own > 0.97 * most else own
    table = [
        [max(kept[x, y] for y in shares[j:]) * (1.0 + 1e-9 * (len(shares) - 1 - j)) for j in range(len(shares))]
        for x in batches
    ]
    return Surface(batches, shares, table)


def _covariance(one: np.ndarray, other: np.ndarray, scales: tuple[float, float, float]) -> np.ndarray:
    """Of deviations at (batch, share) points: exponential in the distance of their logarithms."""
    steps = np.log(one[:, None, :] / other[None, :, :]) / np.array(scales[1:])
    return np.asarray(scales[0] ** 2 * np.exp(-np.sqrt((steps**2).sum(axis=2))))


def solo_points(data: Profile, name: str, card: Card, known: Model) -> list[tuple[float, float, float, float]]:
    """What a profile says of a model's active time alone: batch, share, ms at the highest clock, relative noise."""
    model, top = data["models"][name], card.top_mhz
    grid = [(b, r, ms * min(1.0, mhz / top) - known.delay) for b, r, ms, _, mhz in grid_of(model, top)]
    block = data.get("solo_measurements")
    extra = [] if block is None else list(zip(*(block[key] for key in _COLUMNS), strict=True))
    more = [(b, r, active_alone(card, known, b, r, ms)) for own, b, r, ms in extra if own == name]
    noise = 0.03 if len(more) >= len(grid) else 0.01
    return [(*point, noise) for point in grid] + [(*point, 0.01) for point in more]


_COLUMNS = ("model", "batch", "share_percent", "latency_ms")


def counted(data: Profile) -> bool:
    """Whether DRAM utilisation and the probes' batch and share are known of every model."""
    return all(
        model.get("dram_utilisation_percent_at")
        and model["interference_probe"].get("batch") is not None
        and model["interference_probe"].get("share_percent") is not None
        for model in data["models"].values()
    )


def utilisation(model: Profile, of: Surface) -> Callable[[float], float]:
    """L2 and DRAM utilisation on the whole card over the batch: each linear in log b, constant beyond its ends."""
    curves = []
    for key in ("l2_utilisation_percent_at", "dram_utilisation_percent_at"):
        read: dict[float, list[float]] = {}
        for p in model[key]:
            slower = of.at(p["batch"], p["share_percent"]) / of.at(p["batch"], 100.0)
            read.setdefault(p["batch"], []).append(p["value"] * slower)
        knots = sorted(read)
        curves.append(([math.log(b) for b in knots], [math.fsum(read[b]) / len(read[b]) for b in knots]))
    return lambda batch: math.fsum(_between(*curve, math.log(batch)) for curve in curves)


def fits_contention(data: Profile) -> bool:
    """Whether there is enough side by side for the fit that has no one answer: 12 readings of every model."""
    block = data.get("colocated_measurements")
    return block is not None and all(block["model"].count(name) >= 12 for name in data["models"])


def card_of(data: Profile) -> Card:
    """Fit the coefficient set that the profile names; for the refined one without weights fitted side by side."""
    card = _hardware(data)
    faithful = {name: _faithful(model, card) for name, model in data["models"].items()}
    if data.get("coefficients", "igniter") == "igniter":
        card.models = faithful
        return card
    surfaces = {name: surface(solo_points(data, name, card, model)) for name, model in faithful.items()}
    card.models = by_counters(data, card, faithful, surfaces)
    return card


def by_counters(data: Profile, card: Card, known: dict[str, Model], surfaces: dict[str, Surface]) -> dict[str, Model]:
    """Measured surfaces, and contention by counters and probes where the profile has them."""
    found = {}
    for name, model in known.items():
        found[name] = Model(**{**model.__dict__, "active": surfaces[name].at})
    if not counted(data):
        return found
    each = {}
    for name, model in data["models"].items():
        probe, of = model["interference_probe"], surfaces[name]
        b, r = probe["batch"], probe["share_percent"]
        clock = min(1.0, probe["frequency_paired_mhz"] / card.top_mhz)
        slower = max(0.0, probe["active_time_paired_ms"] * clock / probe["active_time_alone_ms"] - 1.0)
        faster = of.at(b, 100.0) / of.at(b, r)
        caused = utilisation(model, of)(b) * faster
        each[name] = slower / (caused * (1.0 - WHOLE_PART + WHOLE_PART * faster)) if caused > 0 else 0.0
    mean = math.fsum(each.values()) / len(each)
    for name, model in found.items():
        gamma = (each[name] + mean) / 2.0
        model.cache = (0.0, 0.0)
        model.utilisation = utilisation(data["models"][name], surfaces[name])
        model.suffers = (gamma * (1.0 - WHOLE_PART), 0.0, gamma * WHOLE_PART)
        if min(model.power) < 0:
            model.power = _falling_power(data["models"][name], card, model.delay)
    return found


def _falling_power(model: Profile, card: Card, delay: float) -> tuple[float, float, float]:
    """Power over throughput where the clock is free, neither part negative."""
    points = [
        (1000.0 * b / (ms * min(1.0, mhz / card.top_mhz) - delay), max(0.0, watt - card.idle_w))
        for b, _, ms, watt, mhz in grid_of(model, card.top_mhz)
        if mhz > card.top_mhz - 1
    ]
    rows = np.array([(rate, 1.0) for rate, _ in points])
    slope, constant = non_negative(rows, np.array([watt for _, watt in points])).tolist()
    return slope, constant, 0.0


def of_numbers(numbers: dict[str, Any]) -> Card:
    """A card of numbers fitted elsewhere: the fields of `igniter_opt.physics.parameters.Coefficients`, as a dict."""
    hardware = numbers["hardware"]
    models = {}
    for name, own in numbers["models"].items():
        extra = own["refined"]
        table = extra["surface"]
        counts = extra["utilisation"]
        of = Surface(list(table["batches"]), list(table["shares"]), [list(row) for row in table["active_ms"]])
        models[name] = Model(
            kernels=own["kernels"],
            input_bytes=own["input_bytes"],
            output_bytes=own["output_bytes"],
            delay=own["scheduling_delay_ms"],
            max_batch=own["max_batch"],
            memory_fixed=own["memory_fixed_mib"],
            memory_per_item=own["memory_per_item_mib"],
            active=of.at,
            power=(own["power_slope"], own["power_intercept"], extra["power_per_share"]),
            cache=(own["cache_slope"], own["cache_intercept"]),
            suffers=(own["cache_sensitivity"], extra["cache_kernel_ms"], extra["cache_whole"]),
            utilisation=None if counts is None else _counts(counts["batches"], counts["percent"]),
            traffic=(extra["traffic_slope"], extra["traffic_intercept"]),
            suffers_traffic=(extra["traffic_sensitivity"], extra["traffic_kernel_ms"], extra["traffic_whole"]),
        )
    return Card(
        top_mhz=hardware["max_frequency_mhz"],
        cap_w=hardware["max_power_w"],
        idle_w=hardware["idle_power_w"],
        clock_slope=hardware["frequency_slope"],
        delay_slope=hardware["delay_slope"],
        delay_constant=hardware["delay_intercept"],
        bytes_per_ms=hardware["pcie_bytes_per_ms"],
        unit=hardware["share_unit_percent"],
        least_share=hardware["least_level"] * hardware["share_unit_percent"],
        memory=hardware["memory_mib"],
        models=models,
    )


def _counts(batches: Sequence[float], percent: Sequence[float]) -> Callable[[float], float]:
    knots = [math.log(b) for b in batches]
    return lambda batch: _between(knots, percent, math.log(batch))

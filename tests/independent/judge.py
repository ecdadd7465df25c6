"""A judge of plan files that shares nothing with the package: JSON in, what is wrong out.

It re-computes everything from the plan's own instance and profiles (`cards`) in scalars, one placement at a time. Rule
p99 is judged by `waiting`. Numbers that the package fitted are only used for types that the caller gives a card.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from tests.independent.cards import Card, Model, card_of, clock_ratio
from tests.independent.waiting import MOST_UTILISATION, fraction_late

TOLERANCE = 1e-9


class Place(NamedTuple):
    """What runs beside others on one GPU: a model of the card, batch, and share in percent."""

    model: Model
    batch: int
    share: float


def throughput_alone(place: Place) -> float:
    return 1000.0 * place.batch / place.model.active(place.batch, place.share)


def power(place: Place) -> float:
    per_rate, constant, per_share = place.model.power
    return per_rate * throughput_alone(place) + constant + per_share * place.share


def cache(place: Place) -> float:
    slope, constant = place.model.cache
    used = slope * throughput_alone(place) + constant
    if place.model.utilisation is not None:
        faster = place.model.active(place.batch, 100.0) / place.model.active(place.batch, place.share)
        used += place.model.utilisation(place.batch) * faster
    return used


def traffic(place: Place) -> float:
    slope, constant = place.model.traffic
    return slope * throughput_alone(place) + constant


class Neighbours(NamedTuple):
    """All that a placement suffers from: how many others, what they use of the cache and of the second kind, W."""

    count: int
    cache: float
    traffic: float
    power: float


def neighbours(places: Sequence[Place], own: int) -> Neighbours:
    others = [place for k, place in enumerate(places) if k != own]
    return Neighbours(
        len(others),
        math.fsum(cache(place) for place in others),
        math.fsum(traffic(place) for place in others),
        math.fsum(power(place) for place in others),
    )


def added_delay(card: Card, count: int) -> float:
    """What every kernel waits longer where `count` run."""
    return card.delay_slope * count + card.delay_constant if count >= 2 else 0.0


def gpu_latency(card: Card, place: Place, beside: Neighbours) -> float:
    """``(s + K Δ(n) + active time) / φ(P)`` in ms, infinite without a clock or an active time."""
    model = place.model
    alone = model.active(place.batch, place.share)
    if not math.isfinite(alone):
        return math.inf
    whole = model.active(place.batch, 100.0) if model.suffers[2] or model.suffers_traffic[2] else 0.0
    active = alone
    for (per_active, per_kernel, per_whole), others in (
        (model.suffers, beside.cache),
        (model.suffers_traffic, beside.traffic),
    ):
        active += (per_active * alone + per_kernel * model.kernels + per_whole * whole) * others
    clock = clock_ratio(card, card.idle_w + beside.power + power(place))
    if clock <= 0:
        return math.inf
    return (model.delay + model.kernels * added_delay(card, beside.count + 1) + active) / clock


def loading(card: Card, place: Place) -> float:
    return place.batch * place.model.input_bytes / card.bytes_per_ms


def feedback(card: Card, place: Place) -> float:
    return place.batch * place.model.output_bytes / card.bytes_per_ms


def latency_limit(rule: str, slo: float, rate: float, batch: int) -> float:
    """Limit of the inference latency (p99: of its percentile), rate per second."""
    return {"half": slo / 2, "deadline": slo - 1000.0 * (batch - 1) / rate, "p99": slo}[rule]


class Times(NamedTuple):
    """Of batches of 1 .. b, in ms: how long the GPU's server is busy, and from dispatch to answer."""

    busy: list[float]
    latency: list[float]


def batch_times(card: Card, place: Place, beside: Neighbours, margin: float = 0.0) -> Times:
    """Smaller batches beside the same neighbours, which run their full ones."""
    busy, latency = [], []
    for size in range(1, place.batch + 1):
        part = place._replace(batch=size)
        busy.append(gpu_latency(card, part, beside) * (1.0 + margin) + feedback(card, part))
        latency.append(busy[-1] + loading(card, part))
    return Times(busy, latency)


def strain(
    card: Card, rule: str, slo: float, rate: float, place: Place, beside: Neighbours, margin: float = 0.0
) -> float:
    """How far a placement is stretched by rules half and deadline: it holds if this is at most 1.

    It is the GPU latency over the largest that both the limit of the latency and the throughput leave.
    """
    back = feedback(card, place)
    room = latency_limit(rule, slo, rate, place.batch) - loading(card, place) - back
    room = min(room, 1000.0 * place.batch / rate - back)
    return gpu_latency(card, place, beside) * (1.0 + margin) / room if room > 0 else math.inf


def keeps_percentile(slo: float, q: float, rate: float, times: Times, tolerance: float = TOLERANCE) -> bool:
    """Rule p99: whether a fraction q of the requests is answered within the SLO, and the queue settles."""
    utilisation = rate / 1000.0 * times.busy[-1] / len(times.busy)
    if not utilisation <= MOST_UTILISATION * (1.0 + tolerance):
        return False
    late = fraction_late(rate / 1000.0, times.busy, times.latency, slo * (1.0 + tolerance))
    return late <= (1.0 - q) * (1.0 + 1e-9)


@dataclass
class Judged:
    """One placement: latencies and throughput without the margin, and whether it holds with it.

    `times`, under rule p99, are those of all its batches, without the margin.
    """

    gpu: str
    workload: str
    replica: int
    gpu_ms: float
    latency: float
    limit: float
    throughput: float
    rate: float
    times: Times | None
    ok: bool


class Judgement(NamedTuple):
    """What is wrong, as (kind, where), and every placement that could be predicted."""

    wrong: list[tuple[str, str]]
    placements: list[Judged]


def judge(plan: dict[str, Any], cards: dict[str, Card] | None = None, tolerance: float = TOLERANCE) -> Judgement:
    """Judge a plan file's content.

    Parameters
    ----------
    cards
        Cards of GPU types (by name) whose coefficients were fitted elsewhere.
    tolerance
        Relative, of latencies and throughputs; of all else it is `TOLERANCE`.
    """
    instance, solver = plan["instance"], plan["solver"]
    types = {entry["name"]: entry for entry in instance["gpu_types"]}
    known = {name: (cards or {}).get(name) or card_of(entry["profile"]) for name, entry in types.items()}
    workloads = {entry["name"]: entry for entry in instance["workloads"]}
    wrong: list[tuple[str, str]] = []
    placements: list[Judged] = []
    for gpu in plan["gpus"]:
        card = known.get(gpu["type"])
        if card is None:
            wrong.append(("gpu-type", gpu["name"]))
            continue
        odd = _malformed(gpu, card, workloads)
        wrong += odd
        if math.fsum(p["share_percent"] for p in gpu["placements"]) > 100.0 * (1 + TOLERANCE):
            wrong.append(("share", gpu["name"]))
        limit = types[gpu["type"]].get("memory_mib") or card.memory
        models = [(card.models.get(p["model"]), p["batch"]) for p in gpu["placements"]]
        needed = math.fsum(model.memory(batch) for model, batch in models if model is not None)
        if limit is not None and needed > limit * (1 + TOLERANCE):
            wrong.append(("memory", gpu["name"]))
        if not odd:
            _predict(gpu, card, workloads, instance, solver.get("margin", 0.0), tolerance, wrong, placements)
    for name, entry in types.items():
        if entry.get("count") is not None and sum(gpu["type"] == name for gpu in plan["gpus"]) > entry["count"]:
            wrong.append(("count", name))
    names = [gpu["name"] for gpu in plan["gpus"]]
    wrong += [("gpu-name", name) for name in set(names) if names.count(name) > 1]
    wrong += _uncovered(plan, workloads)
    wrong += _false_claims(plan, types)
    return Judgement(wrong, placements)


def _where(gpu: dict[str, Any], p: dict[str, Any]) -> str:
    return f"{gpu['name']}/{p['workload']}#{p['replica']}"


def _malformed(gpu: dict[str, Any], card: Card, workloads: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    for p in gpu["placements"]:
        where, workload = _where(gpu, p), workloads.get(p["workload"])
        if workload is None:
            found.append(("workload", where))
        elif p["model"] != workload["model"] or p["model"] not in card.models:
            found.append(("model", where))
        else:
            units = p["share_percent"] / card.unit
            if not 1 <= p["batch"] <= card.models[p["model"]].max_batch:
                found.append(("batch", where))
            whole = abs(units - round(units)) <= 1e-6
            if not (whole and card.least_level <= round(units) and p["share_percent"] <= 100.0 * (1 + TOLERANCE)):
                found.append(("share", where))
            if p["rate_rps"] <= 0:
                found.append(("rate", where))
    return found


def _predict(
    gpu: dict[str, Any],
    card: Card,
    workloads: dict[str, Any],
    instance: dict[str, Any],
    margin: float,
    tolerance: float,
    wrong: list[tuple[str, str]],
    placements: list[Judged],
) -> None:
    rule, q = instance.get("slo_rule", "half"), instance.get("percentile") or 0.99
    places = [Place(card.models[p["model"]], p["batch"], p["share_percent"]) for p in gpu["placements"]]
    for k, (p, place) in enumerate(zip(gpu["placements"], places, strict=True)):
        slo, rate, beside = workloads[p["workload"]]["slo_ms"], p["rate_rps"], neighbours(places, k)
        limit = latency_limit(rule, slo, rate, place.batch)
        plain = gpu_latency(card, place, beside)
        load, back = loading(card, place), feedback(card, place)
        latency, throughput = load + plain + back, 1000.0 * place.batch / (plain + back)
        slow = plain * (1.0 + margin)
        delay = {"half": 500.0 * slo, "deadline": (place.batch - 1) * 1e6 / rate, "p99": 0.0}[rule]
        delay = math.floor(delay * (1 + 1e-9)) if rule == "half" else math.ceil(delay * (1 - 1e-9))
        where = _where(gpu, p)
        for key, found in (("predicted_latency_ms", latency), ("predicted_throughput_rps", throughput)):
            if abs(p[key] - found) > max(1e-6, 10 * tolerance) * found:
                wrong.append(("prediction", where))
        if p.get("queue_delay_us") not in (None, delay):
            wrong.append(("queue-delay", where))
        most = MOST_UTILISATION if rule == "p99" else 1.0
        short = not 1000.0 * place.batch / (slow + back) * most >= rate * (1 - tolerance)
        late = not load + slow + back <= limit + tolerance * abs(limit)
        if rule == "p99":
            late = not keeps_percentile(slo, q, rate, batch_times(card, place, beside, margin), tolerance)
        wrong += [(kind, where) for kind, so in (("latency", late), ("throughput", short)) if so]
        times = batch_times(card, place, beside) if rule == "p99" else None
        name = (gpu["name"], p["workload"], p["replica"])
        placements.append(Judged(*name, plain, latency, limit, throughput, rate, times, not (late or short)))


def _uncovered(plan: dict[str, Any], workloads: dict[str, Any]) -> list[tuple[str, str]]:
    replicas: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for gpu in plan["gpus"]:
        for p in gpu["placements"]:
            replicas[p["workload"]].append(p)
    found = []
    for name, workload in workloads.items():
        rates = [p["rate_rps"] for p in replicas[name]]
        if not rates or abs(math.fsum(rates) / workload["rate_rps"] - 1.0) > TOLERANCE * len(rates):
            found.append(("coverage", name))
        if not rates:
            continue
        most = workload.get("max_replicas")
        unequal = most is not None and max(rates) - min(rates) > TOLERANCE * max(rates)
        many = most is not None and len(rates) > most
        if unequal or many or {p["replica"] for p in replicas[name]} != set(range(1, len(rates) + 1)):
            found.append(("replica", name))
    return found


def _false_claims(plan: dict[str, Any], types: dict[str, Any]) -> list[tuple[str, str]]:
    """What the solver says of its plan, but for what only a proof can show."""
    solver, found = plan["solver"], []
    cost = sum(Fraction(str(types[gpu["type"]]["price_per_hour"])) for gpu in plan["gpus"] if gpu["type"] in types)
    share = math.fsum(p["share_percent"] for gpu in plan["gpus"] for p in gpu["placements"])
    bound, status = solver.get("lower_bound_per_hour"), solver["status"]
    if abs(solver["cost_per_hour"] - cost) > TOLERANCE * max(cost, 1):
        found.append(("cost", "solver"))
    if abs(solver["total_share_percent"] - share) > 1e-6:
        found.append(("share", "solver"))
    least = solver.get("total_share_lower_bound_percent")
    if least is not None and least > max(share, solver["total_share_percent"]) + 1e-6:
        found.append(("bound", "solver"))
    if bound is not None and bound > float(cost) * (1 + TOLERANCE):
        found.append(("bound", "solver"))
    gap = None if bound is None or not cost else float((cost - Fraction(str(bound))) / cost)
    if (gap is None) != (solver.get("gap") is None) or (gap is not None and abs(gap - solver["gap"]) > 1e-6):
        found.append(("gap", "solver"))
    proven = bound is not None and bound >= float(cost) * (1 - TOLERANCE)
    if status != ("heuristic" if bound is None else "optimal" if proven else "feasible"):
        found.append(("status", "solver"))
    return found

"""The independent judge itself, and the package's judge beside it: on shipped instances, and on plans with mistakes."""

import ast
import functools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from igniter_opt import InfeasibleError, read_instance, solve, verify
from igniter_opt.data.plan import Plan, plan_from_data, plan_json
from igniter_opt.problem.configurations import Problem
from tests.independent.cards import Card
from tests.independent.cases import case
from tests.independent.judge import Place, gpu_latency, judge, keeps_percentile, neighbours
from tests.independent.partial import kept_to_limits
from tests.independent.same import assert_judged_alike, cards_of, judged, read, tolerance_of
from tests.independent.waiting import fraction_late, present_at_dispatch
from tests.support.reference_simulation import serve_plainly

INDEPENDENT = ("cards", "waiting", "judge", "partial", "exhaustion", "cases", "refit")


@pytest.mark.parametrize("module", INDEPENDENT)
def test_nothing_of_the_package_is_imported(module: str) -> None:
    tree = ast.parse((Path(__file__).parent / f"{module}.py").read_text("utf-8"))
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    own = {f"tests.independent.{name}" for name in INDEPENDENT}
    assert all(name in own or not name.startswith(("igniter_opt", "tests", "bench")) for name in names)
    assert not any(isinstance(node, ast.Name) and node.id in ("__import__", "importlib") for node in ast.walk(tree))


# ---- waiting ------------------------------------------------------------------------------------------------------


def random_times(rng: np.random.Generator) -> tuple[float, list[float], list[float]]:
    b = int(rng.integers(1, 7))
    sizes = np.arange(1, b + 1)
    shapes = [
        rng.uniform(0.2, 4.0) + sizes * rng.uniform(0.02, 1.5),
        np.sort(rng.uniform(0.3, 6.0, b)),
        rng.uniform(0.5, 3, b),
    ]
    busy = shapes[int(rng.integers(3))]
    rate = float(rng.uniform(0.05, 0.9)) * b / busy[-1]
    return rate, busy.tolist(), (busy + sizes * rng.uniform(0.0, 0.3)).tolist()


@pytest.mark.parametrize("seed", range(8))
def test_late_fractions_are_those_of_a_plain_simulation(seed: int) -> None:
    """Eight runs of 20,000 requests; Student's t with 7 degrees of freedom at 99.9 %."""
    rng = np.random.default_rng(seed)
    rate, busy, latency = random_times(rng)
    load = [answer - s for answer, s in zip(latency, busy, strict=True)]
    runs = []
    for _ in range(8):
        arrivals = np.cumsum(rng.exponential(1.0 / rate, 20_000)).tolist()
        found, _ = serve_plainly(arrivals, 0.0, busy, load, [0.0] * len(busy))
        runs.append(np.array(found[2_000:]))
    for limit in np.quantile(np.concatenate(runs), [0.5, 0.8, 0.95, 0.99]).tolist():
        shares = [float(np.mean(run > limit)) for run in runs]
        expected = fraction_late(rate, busy, latency, limit)
        # A quantile may be the atom, which rounding of the simulation's clock puts on either side.
        if abs(limit - latency[0]) < 1e-6:
            continue
        assert abs(np.mean(shares) - expected) <= 5.41 * np.std(shares, ddof=1) / np.sqrt(8) + 2e-4


def test_balance_holds_at_dispatch() -> None:
    """Requests that arrive from dispatch to dispatch are as many as leave."""
    for seed in range(20):
        rate, busy, _ = random_times(np.random.default_rng(seed))
        present = present_at_dispatch(rate, tuple(busy))
        sizes = np.minimum(np.arange(1, len(present) + 1), len(busy))
        length = float(present @ np.array(busy)[sizes - 1])
        empty = sum(present[n] * np.exp(-rate * busy[n]) for n in range(len(busy))) / rate
        assert float(present @ sizes) == pytest.approx(rate * (length + empty), rel=1e-9)


# ---- plans --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coefficients", ["igniter", "refined"])
@pytest.mark.parametrize(("name", "rule"), [
    ("igniter-table3", "half"),
    ("igniter-table3", "deadline"),
    ("igniter-motivation", "p99"),
    ("cards-table3", "half"),
    ("cards-table3", "deadline"),
    ("today-24-1", "deadline"),
    ("mixed-24-1", "half"),
])  # fmt: skip
def test_plans_of_shipped_instances_are_judged_alike(name: str, rule: Any, coefficients: str) -> None:
    """Whole cards: all batches to 32, shares of 2.5 % or an SM, eight models, the fits that are shipped."""
    instance = read_instance(name).with_options(slo_rule=rule, coefficients=coefficients)
    if rule == "p99":
        instance = instance.model_copy(
            update={"workloads": tuple(w.model_copy(update={"slo_ms": 2 * w.slo_ms}) for w in instance.workloads)}
        )
    plan = solve(instance, "bestfit", margin=0.02).plan
    data = instance.model_dump(mode="json", exclude_none=True)
    assert_judged_alike(plan, cards_of(data), tolerance_of(data))


def damage(rng: random.Random, plan: dict[str, Any]) -> str:
    """Make one mistake in a plan."""
    gpu = rng.choice(plan["gpus"])
    place, solver = rng.choice(gpu["placements"]), plan["solver"]
    unit = next(g for g in plan["instance"]["gpu_types"] if g["name"] == gpu["type"])["profile"]["hardware"][
        "share_unit_percent"
    ]
    kind = rng.choice([
        "batch", "batch", "share", "share", "share", "odd share", "rate", "lost", "moved", "replica", "margin", "cost",
        "bound", "gap", "status", "total", "latency", "throughput", "delay", "name", "slo", "count", "memory", "model",
    ])  # fmt: skip
    if kind == "batch":
        place["batch"] += rng.choice([-2, -1, 1, 2, 40])
    elif kind == "share":
        place["share_percent"] += rng.choice([-2, -1, -1, 1, 1, 3]) * unit
    elif kind == "odd share":
        place["share_percent"] += rng.choice([0.3, 0.5]) * unit
    elif kind == "rate":
        place["rate_rps"] *= rng.choice([0.8, 1.0 + 1e-6, 1.3])
    elif kind == "lost":
        gpu["placements"].remove(place)
        plan["gpus"] = [entry for entry in plan["gpus"] if entry["placements"]]
    elif kind == "moved":
        gpu["placements"].remove(place)
        rng.choice(plan["gpus"])["placements"].append(place)
        plan["gpus"] = [entry for entry in plan["gpus"] if entry["placements"]]
    elif kind == "replica":
        place["replica"] += 1
    elif kind == "margin":
        solver["margin"] += rng.choice([0.01, 0.1, 0.5])
    elif kind in ("cost", "bound", "total"):
        key = {"cost": "cost_per_hour", "bound": "lower_bound_per_hour", "total": "total_share_percent"}[kind]
        solver[key] = (solver[key] or 1.0) * rng.choice([0.9, 1.1])
    elif kind == "gap":
        solver["gap"] = None if rng.random() < 0.5 else 0.25
    elif kind == "status":
        solver["status"] = rng.choice(["feasible", "heuristic", "optimal"])
    elif kind == "latency":
        place["predicted_latency_ms"] *= rng.choice([0.99, 1.01])
    elif kind == "throughput":
        place["predicted_throughput_rps"] *= rng.choice([0.99, 1.01])
    elif kind == "delay":
        place["queue_delay_us"] += 1
    elif kind == "name":
        gpu["name"] = plan["gpus"][0]["name"]
    elif kind == "slo":
        next(w for w in plan["instance"]["workloads"] if w["name"] == place["workload"])["slo_ms"] *= rng.choice(
            [0.6, 0.9]
        )
    elif kind == "model":
        place["model"] = "alexnet" if place["model"] != "alexnet" else "ssd"
    else:
        entry = next(g for g in plan["instance"]["gpu_types"] if g["name"] == gpu["type"])
        entry |= {"count": 1} if kind == "count" else {"memory_mib": 1500.0}
    return kind


@functools.cache
def plan_of(seed: int) -> str | None:
    data, margin = case(seed)
    try:
        return plan_json(solve(read(data), "patterns", margin=margin).plan)
    except InfeasibleError:
        return None


ALL_SEEDS, SAMPLE, EDITS = 200, 12, 25


@pytest.mark.parametrize(
    "seed", [pytest.param(k, marks=[pytest.mark.slow] if k >= SAMPLE else []) for k in range(ALL_SEEDS)]
)
def test_both_judges_find_the_same_mistakes(seed: int) -> None:
    text = plan_of(seed)
    if text is None:
        pytest.skip("no plan exists")
    rng = random.Random(seed)
    cards = cards_of(case(seed)[0])
    for _ in range(EDITS):
        data = json.loads(text)
        kind = damage(rng, data)
        theirs = verify(plan_from_data(json.loads(json.dumps(data)), "edited"))
        own = judge(data, cards, tolerance_of(data["instance"]))
        assert {(v.kind, v.where) for v in theirs.violations} == set(own.wrong), kind


@pytest.mark.parametrize("seed", range(2, 45, 3))
def test_limits_of_rule_p99_are_found_from_below(seed: int) -> None:
    """The largest GPU latency that keeps the rule, by bisection: solvers' limits are at most 4e-4 below it."""
    data, margin = case(seed)
    problem, cards = Problem(read(data), margin), cards_of(data)
    rng = random.Random(seed)
    q = data.get("percentile") or 0.99
    for g, (gpu, w) in enumerate((gpu, rng.randrange(len(data["workloads"]))) for gpu in data["gpu_types"]):
        demand, own = data["workloads"][w], cards[gpu["name"]]
        model = own.models[demand["model"]]
        batch, level = rng.randint(1, model.max_batch), rng.randint(own.least_level, own.levels)
        place = Place(model, batch, level * own.unit)
        found = float(problem.limits_ms(w, g, demand["rate_rps"])[batch - 1, level - 1])
        alone = gpu_latency(own, place, neighbours([place], 0))

        def keeps(own: Card, place: Place, full: float, demand: dict[str, Any] = demand) -> bool:
            times = kept_to_limits(own, place, full, margin)
            return times is not None and keeps_percentile(demand["slo_ms"], q, demand["rate_rps"], times, 0.0)

        if found == 0.0:
            assert not keeps(own, place, alone * (1.0 + 1e-4))
            continue
        apart = max(tolerance_of(data), 1e-7)
        assert keeps(own, place, found * (1.0 - apart))
        assert not keeps(own, place, found * (1.0 + 4e-4 + apart))


def test_mistakes_in_shipped_plans_are_found() -> None:
    """By hand: a share below the least that an H100 grants, a lost workload, a limit missed by a little."""
    data, _ = case(9)
    text = plan_of(9)
    assert text is not None
    cards, tolerance = cards_of(data), tolerance_of(data)
    plan: Plan = plan_from_data(json.loads(text), "case")
    assert judged(plan, cards, tolerance).wrong == []
    for key, value, kind in (("share_percent", cards["T0"].unit / 2, "share"), ("batch", 33, "batch")):
        edited = json.loads(text)
        edited["gpus"][0]["placements"][0][key] = value
        assert kind in {found for found, _ in judge(edited, cards, tolerance).wrong}
    edited = json.loads(text)
    edited["instance"]["workloads"][0]["slo_ms"] = 2 * judge(edited, cards).placements[0].latency * (1.0 - 1e-6)
    assert ("latency", edited["gpus"][0]["name"] + "/w0#1") in judge(edited, cards).wrong

"""Cards under MIG: a peer's published scenarios and random ones, exactly and by its two steps restated.

Readings and scenarios are those that ParvaGPU (SC 2024) published with its artifact; they are not part of this project
and are read from `shared` beside the checkout. Workloads of random instances are of the same eleven models, each with
an SLO and a rate like those of the scenarios: one of the scenarios' for that model, times a random factor. Nothing here
has run on a card under MIG.

Run: python -m bench.mig [--sizes 11,24,...] [--seeds N] [--time-limit S]
"""

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.provenance import header, write
from igniter_opt import Instance, Plan, Result, solve
from igniter_opt.data.slice_profile import SliceProfile
from igniter_opt.profiler.import_mig import import_mig

REFERENCE = next(
    (folder / "shared" / "reference" / "mig" for folder in Path(__file__).parents if (folder / "shared").is_dir()),
    Path("nowhere"),
)
SIZES, SEEDS, TIME_LIMIT_S = (11, 24, 50, 100, 200, 300), 5, 60.0
RULE, OTHER_RULES = "parvagpu", ("half", "deadline", "p99")
# Factors on the SLO and the rate of a scenario's workload, drawn evenly on a scale of logarithms.
SLO_FACTORS, RATE_FACTORS = (0.7, 1.6), (0.1, 2.0)


class Row(NamedTuple):
    """One instance: cards by the two steps and exactly, what is proven, seconds, and the part of the SMs idle."""

    name: str
    workloads: int
    published: int | None
    steps: int
    exact: int
    bound: int
    seconds_steps: float
    seconds: float
    idle_steps: float
    idle: float


def instance(profile: SliceProfile, name: str, workloads: list[dict[str, Any]], rule: str = RULE) -> Instance:
    """Return an instance on A100s at price 1, so that cost counts cards."""
    named = [{"name": f"W{number}", **workload} for number, workload in enumerate(workloads, 1)]
    types = [{"name": "A100", "profile": profile, "price_per_hour": 1.0}]
    return Instance.model_validate({"name": name, "slo_rule": rule, "gpu_types": types, "workloads": named})


def drawn(scenarios: list[dict[str, Any]], number: int, seed: int) -> list[dict[str, Any]]:
    """Draw workloads like those of the scenarios."""
    rng = np.random.default_rng([number, seed])
    known: dict[str, list[dict[str, Any]]] = {}
    for scenario in scenarios:
        for workload in scenario["workloads"]:
            known.setdefault(workload["model"], []).append(workload)
    models = sorted(known)

    def factor(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    found = []
    for _ in range(number):
        own = known[models[int(rng.integers(len(models)))]]
        like = own[int(rng.integers(len(own)))]
        slo, rate = like["slo_ms"] * factor(*SLO_FACTORS), like["rate_rps"] * factor(*RATE_FACTORS)
        found.append({"model": like["model"], "slo_ms": round(slo, 1), "rate_rps": round(rate, 1)})
    return found


def idle(plan: Plan) -> float:
    """Part of the cards' SMs that do nothing: uncut, or in slices that could carry more than they do."""
    card = plan.instance.gpu_types[0].slice_profile.mig_card
    used = 0.0
    for gpu in plan.gpus:
        for placement in gpu.placements:
            kind = card.slice(str(placement.slice))
            used += (0 if kind is None else kind.sms) * placement.rate_rps / placement.predicted_throughput_rps
    return 1.0 - used / (card.sms * len(plan.gpus))


def timed(problem: Instance, method: str, time_limit: float) -> tuple[Result, float]:
    """Solve; return the result and the seconds that it took."""
    began = time.perf_counter()
    result = solve(problem, method, time_limit=time_limit)
    return result, time.perf_counter() - began


def row(problem: Instance, published: int | None, time_limit: float) -> Row:
    """Solve an instance by both."""
    steps, seconds_steps = timed(problem, "parvagpu", time_limit)
    exact, seconds = timed(problem, "patterns", time_limit)
    return Row(
        problem.name,
        len(problem.workloads),
        published,
        len(steps.plan.gpus),
        len(exact.plan.gpus),
        round(exact.lower_bound or 0),
        seconds_steps,
        seconds,
        idle(steps.plan),
        idle(exact.plan),
    )


def table(rows: list[Row]) -> str:
    """Render rows of single instances."""
    lines = [
        "| instance | workloads | published | two steps | exact | proven bound | idle SMs: two steps | exact |"
        " seconds: two steps | exact |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {r.name} | {r.workloads} | {r.published or '-'} | {r.steps} | {r.exact} | {r.bound} |"
        f" {100 * r.idle_steps:.1f} % | {100 * r.idle:.1f} % | {r.seconds_steps:.2f} | {r.seconds:.2f} |"
        for r in rows
    ]
    return "\n".join(lines)


def by_rule(profile: SliceProfile, scenarios: list[dict[str, Any]], time_limit: float) -> str:
    """What the scenarios take under other rules."""
    rules = (RULE, *OTHER_RULES)
    lines = [
        f"| scenario | {' | '.join(f'`{rule}`' for rule in rules)} |",
        f"| --- |{' --- |' * len(rules)}",
    ]
    for scenario in scenarios:
        found = []
        for rule in rules:
            result = solve(instance(profile, scenario["name"], scenario["workloads"], rule), time_limit=time_limit)
            proven = "" if result.status == "optimal" else f" (at least {result.lower_bound:g})"
            found.append(f"{len(result.plan.gpus)}{proven}")
        lines.append(f"| {scenario['name']} | {' | '.join(found)} |")
    return "\n".join(lines)


def summary(rows: list[Row]) -> str:
    """Say where the two steps lose, and by how much."""
    lines = [
        "| workloads | instances | proven | two steps need more | cards: two steps | exact | most for one |"
        " seconds, slowest |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for size in sorted({r.workloads for r in rows}):
        own = [r for r in rows if r.workloads == size]
        worst = max(own, key=lambda r: r.steps - r.exact)
        lines.append(
            f"| {size} | {len(own)} | {sum(r.exact == r.bound for r in own)} | {sum(r.steps > r.exact for r in own)} |"
            f" {sum(r.steps for r in own)} | {sum(r.exact for r in own)} | {worst.steps} for {worst.exact} |"
            f" {max(r.seconds for r in own):.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--time-limit", type=float, default=TIME_LIMIT_S)
    asked = parser.parse_args()
    if not REFERENCE.is_dir():
        sys.exit("the published readings are not at hand (../shared/reference/mig beside the checkout): nothing to do")
    warnings.simplefilter("ignore")
    profile = import_mig(REFERENCE / "a100-80gb.json")
    scenarios = json.loads((REFERENCE / "scenarios.json").read_text())
    published = []
    solve(instance(profile, "warm", scenarios[0]["workloads"]))
    for scenario in scenarios:
        problem = instance(profile, scenario["name"], scenario["workloads"])
        published.append(row(problem, scenario["parvagpu_gpus"], asked.time_limit))
    random = []
    for size in map(int, asked.sizes.split(",")):
        for seed in range(1, asked.seeds + 1):
            problem = instance(profile, f"random-{size}-{seed}", drawn(scenarios, size, seed))
            random.append(row(problem, None, asked.time_limit))
            print(random[-1], file=sys.stderr, flush=True)
    write(
        "mig",
        header("Cards under MIG: exact plans beside ParvaGPU's")
        + "\nReadings and scenarios: ParvaGPU (Lee et al., SC 2024), published with its artifact under the MIT licence,"
        " copyright 2024 sslab6943. *Two steps* is our restatement of its heuristic (`parvagpu`). Nothing here has run"
        " on a card under MIG.\n\n## Published scenarios\n\n"
        + table(published)
        + "\n\n## Published scenarios by SLO rule: least A100s\n\n"
        + by_rule(profile, scenarios, asked.time_limit)
        + "\n\n## Random instances\n\n"
        + summary(random)
        + "\n\n## Random instances, each\n\n"
        + table(random)
        + "\n",
    )


if __name__ == "__main__":
    main()

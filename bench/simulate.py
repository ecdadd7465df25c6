"""The simulation: how fast, how much faster than plain Python, and what it says about Table 3's greedy plan.

Three forms in one run, on the same placements of the same plan: the compiled pass over given arrivals
(`physics.batcher.serve`); all of `simulate`, which also draws the arrivals and sorts the latencies; and the plain
event loop that the tests compare with (`tests/support/reference_simulation.py`). Their latencies are compared, not
only their speed.

Run: taskset -c 0 python -m bench.simulate
"""

import statistics
import sys
import time
from typing import Any, NamedTuple

import numpy as np

from bench.provenance import header, write
from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.nanoseconds import NS_PER_MS, whole_ns
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.instance import SloRule
from igniter_opt.data.instance_files import read_instance
from igniter_opt.data.plan import Plan
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.physics.batcher import serve
from igniter_opt.physics.partial_batches import batch_service_times
from igniter_opt.simulate import simulate
from igniter_opt.simulation.results import Simulation
from igniter_opt.solve import solve
from tests.support.reference_simulation import serve_plainly

INSTANCE = "igniter-table3"
ROUNDS = 5
REQUESTS, REQUESTS_PLAIN = 1_000_000, 20_000
# The runs of the tables of results.
SEEDS = 10
# Rule, most replicas and method of the plans that are simulated.
PLANS: tuple[tuple[SloRule, int, str], ...] = (
    ("half", 1, "igniter"),
    ("half", 3, "bestfit"),
    ("deadline", 1, "bestfit"),
    ("p99", 3, "igniter"),
    ("p99", 3, "bestfit"),
)


class Queue(NamedTuple):
    """One placement's queue, times in ns."""

    arrival: FloatArray
    delay: float
    gpu: FloatArray
    load: FloatArray
    feedback: FloatArray


def queues(plan: Plan, requests: int) -> list[Queue]:
    """Return every placement's queue with Poisson arrivals at its rate."""
    rng = np.random.default_rng(0)
    profiles = {gpu.name: gpu.profile for gpu in plan.instance.gpu_types}
    found = []
    for gpu in plan.gpus:
        coefficients = fit_coefficients(profiles[gpu.type])
        times = batch_service_times(
            coefficients,
            [coefficients.index(placement.model) for placement in gpu.placements],
            [placement.batch for placement in gpu.placements],
            [placement.share_percent for placement in gpu.placements],
        )
        for k, placement in enumerate(gpu.placements):
            parts = [whole_ns(part[k] * NS_PER_MS) for part in (times.gpu_ms, times.load_ms, times.feedback_ms)]
            arrival = Arrivals("poisson").times_ns(placement.rate_rps, requests, rng)
            found.append(Queue(arrival, 1000.0 * (placement.queue_delay_us or 0), *parts))
    return found


def compiled(queue: Queue) -> FloatArray:
    """Serve a queue by the compiled pass; return the latencies."""
    arrival = queue.arrival
    latency, batches = np.empty(len(arrival)), np.zeros(len(queue.gpu), dtype=np.int64)
    times = (queue.delay, queue.gpu, queue.load, queue.feedback)
    serve(arrival, 0, float(arrival[0]), float(arrival[-1]), *times, np.empty(0), latency, batches)
    return latency


def plain(queue: Queue) -> list[float]:
    """Serve a queue by the plain event loop; return the latencies."""
    lists = (queue.gpu.tolist(), queue.load.tolist(), queue.feedback.tolist())
    return serve_plainly(queue.arrival.tolist(), queue.delay, *lists)[0]


def speeds(plan: Plan) -> dict[str, list[float]]:
    """Time every form `ROUNDS` times; return requests per second."""
    long, short = queues(plan, REQUESTS), queues(plan, REQUESTS_PLAIN)
    compiled(short[0])
    simulate(plan, requests=100, seeds=1)
    found: dict[str, list[float]] = {"compiled pass": [], "`simulate`": [], "plain Python": []}
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for queue in long:
            compiled(queue)
        found["compiled pass"].append(len(long) * REQUESTS / (time.perf_counter() - began))
        began = time.perf_counter()
        simulate(plan, requests=REQUESTS, warm_up=0, seeds=1)
        found["`simulate`"].append(len(long) * REQUESTS / (time.perf_counter() - began))
        began = time.perf_counter()
        answers = [plain(queue) for queue in short]
        found["plain Python"].append(len(short) * REQUESTS_PLAIN / (time.perf_counter() - began))
    for queue, answer in zip(short, answers, strict=True):
        if compiled(queue).tolist() != answer:
            raise AssertionError("the compiled pass and plain Python disagree")
    return found


def speed_table(found: dict[str, list[float]]) -> str:
    """Render the speeds."""
    lines = [
        "| form | requests/s, median | least | most | over plain Python |",
        "| --- | --- | --- | --- | --- |",
    ]
    base = statistics.median(found["plain Python"])
    for name, rates in found.items():
        middle = statistics.median(rates)
        lines.append(f"| {name} | {middle:,.0f} | {min(rates):,.0f} | {max(rates):,.0f} | {middle / base:,.1f} |")
    return "\n".join(lines) + "\n"


def _interval(found: Any, scale: float, digits: int) -> str:
    half = "" if found.high is None else f" ± {scale * (found.high - found.value):.{digits}f}"
    return f"{scale * found.value:.{digits}f}{half}"


def result_table(constant: Simulation, poisson: Simulation) -> str:
    """Render what the simulation says about every workload."""
    titles = (
        "workload",
        "model",
        "SLO ms",
        "P99 ms, constant",
        "over SLO, constant",
        "utilisation",
        "P99 ms, Poisson",
        "P99 / SLO",
        "over SLO, Poisson %",
    )
    lines = [f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|"]
    for regular, entry in zip(constant.workloads, poisson.workloads, strict=True):
        before, after = regular.estimates, entry.estimates
        lines.append(
            f"| {entry.workload} | {entry.model} | {entry.slo_ms:g} | {before['p99_ms'].value:.2f}"
            f" | {100 * before['violation_ratio'].value:.2f} % | {after['utilisation'].value:.3f}"
            f" | {_interval(after['p99_ms'], 1.0, 2)} | {entry.p99_over_slo:.1f}"
            f" | {_interval(after['violation_ratio'], 100.0, 2)} |"
        )
    return "\n".join(lines) + "\n"


def plan_table() -> str:
    """Render how the plans of several rules and fast methods fare under both kinds of arrivals."""
    titles = (
        "rule",
        "replicas",
        "method",
        "GPUs",
        "cost/h",
        "over SLO, constant %",
        "over SLO, Poisson %",
        "worst P99 / SLO",
        "its interval",
        "workloads whose P99 holds",
    )
    lines = [f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|"]
    for rule, replicas, method in PLANS:
        plan = solve(read_instance(INSTANCE), method, slo_rule=rule, max_replicas=replicas).plan
        constant = simulate(plan, "constant", requests=REQUESTS)
        poisson = simulate(plan, "poisson", requests=REQUESTS, seeds=SEEDS)
        worst = max(poisson.workloads, key=lambda entry: entry.p99_over_slo)
        _, low, high = worst.estimates["p99_ms"]
        interval = "-" if low is None or high is None else f"{low / worst.slo_ms:.3f} to {high / worst.slo_ms:.3f}"
        count = len(poisson.workloads)
        lines.append(
            f"| `{rule}` | {replicas} | `{method}` | {len(plan.gpus)} | {plan.solver.cost_per_hour:.2f}"
            f" | {100 * constant.violation_ratio:.2f} | {100 * poisson.violation_ratio:.2f}"
            f" | {worst.p99_over_slo:.3f} ({worst.workload}) | {interval}"
            f" | {count - len(poisson.workloads_over_slo)} of {count} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure all and write the table."""
    plan = solve(read_instance(INSTANCE), "igniter").plan
    found = speeds(plan)
    constant = simulate(plan, "constant", requests=REQUESTS)
    poisson = simulate(plan, "poisson", requests=REQUESTS, seeds=SEEDS)
    title = "Simulation: speed, and Table 3's greedy plan under constant and Poisson arrivals"
    write(
        "simulate",
        header(title, ("igniter-opt", "numpy", "numba"))
        + f"\nOne core, the {len(poisson.workloads)} placements of iGniter's greedy plan for {INSTANCE}"
        f" ({len(plan.gpus)} V100), Poisson arrivals, {ROUNDS} rounds in turn; {REQUESTS:,} requests per placement,"
        f" plain Python {REQUESTS_PLAIN:,}, on which its latencies equal those of the compiled pass exactly."
        " `simulate` also draws the arrivals and sorts the latencies.\n\n"
        + speed_table(found)
        + f"\n## What it says\n\nConstant: one run of {REQUESTS:,} requests per workload; Poisson: {SEEDS} runs of"
        f" {REQUESTS:,}, a tenth more before them not counted; ±: 95 % interval over runs (Student t).\n\n"
        + result_table(constant, poisson)
        + f"\nAll requests over their SLO: {100 * constant.violation_ratio:.2f} % with constant,"
        f" {100 * poisson.violation_ratio:.2f} % with Poisson arrivals.\n"
        + "\n## Plans of other rules and methods\n\nThe same numbers of runs and requests.\n\n"
        + plan_table(),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

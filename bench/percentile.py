"""Rule p99: time to make all limits D_c, plans under it, and how far its limits are on the safe side; one core.

Replicas: up to 3. The last table compares, for every placement of the heuristics' plans, the P99 of its queue at
the plan's actual interference with the P99 that the limits' envelope (`partial_batch_bound_ms`) gives for the same
full-batch latency.

Run: python -m bench.percentile
"""

import time

import numpy as np

from bench.provenance import PACKAGES, header, write
from igniter_opt.data.instance import Instance
from igniter_opt.data.instance_files import read_instance
from igniter_opt.data.plan import Plan
from igniter_opt.physics.interference import clock_line, placement_terms
from igniter_opt.physics.partial_batches import batch_service_times, partial_batch_bound_ms
from igniter_opt.problem.configurations import Problem
from igniter_opt.result import Result
from igniter_opt.slo import kept_limits
from igniter_opt.slo.percentile import percentile_limits
from igniter_opt.slo.queueing import BatchQueue
from igniter_opt.solve import solve

# Nothing of earlier runs is read.
kept_limits.cache_folders = list  # type: ignore[attr-defined]
NAMES = ("igniter-table3", "uniform-24-1", "uniform-50-1", "uniform-100-1")
METHODS = ("igniter", "bestfit", "patterns")
REPLICAS, TIME_LIMIT_S = 3, 60.0


def limits_row(instance: Instance) -> str:
    """Time all limits of an instance, made anew."""
    percentile_limits.cache_clear()
    kept_limits.forget()
    problem = Problem(instance)
    cases = [(k, count) for k in range(len(problem.workloads)) for count in range(1, REPLICAS + 1)]
    began, used = time.perf_counter(), time.process_time()
    tables = [problem.limits_ms(k, 0, problem.workloads[k].rate_rps / count) for k, count in cases]
    seconds, used = time.perf_counter() - began, time.process_time() - used
    positive = sum(int((table > 0).sum()) for table in tables)
    found = [problem.configurations(k, 0, count) for k, count in cases]
    kept = sum(len(entry) for entry in found if entry is not None)
    configurations = sum(table.size for table in tables)
    return (
        f"| {instance.name} | {len(cases)} | {configurations:,} | {positive:,} | {kept:,} | {used:.2f}"
        f" | {seconds:.2f} |"
    )


def plan_row(instance: Instance, method: str) -> tuple[str, Result]:
    """Solve an instance."""
    result = solve(instance, method, time_limit=TIME_LIMIT_S)
    bound = "-" if result.lower_bound is None else f"{result.lower_bound:.2f}"
    gap = "-" if result.gap is None else f"{100 * result.gap:.2f} %"
    return (
        f"| {instance.name} | `{method}` | {result.status} | {len(result.plan.gpus)} | {result.cost:.2f} | {bound}"
        f" | {gap} | {result.total_share_percent:g} | {result.plan.solver.runtime_s:.2f} |"
    ), result


def excess(problem: Problem, plan: Plan) -> list[float]:
    """P99 by the envelope over P99 at the actual interference, less 1, of every placement."""
    coefficients = problem.coefficients[0]
    line = clock_line(coefficients.hardware)
    found = []
    for gpu in plan.gpus:
        model = [coefficients.index(placement.model) for placement in gpu.placements]
        batch = [placement.batch for placement in gpu.placements]
        share = [placement.share_percent for placement in gpu.placements]
        times = batch_service_times(coefficients, model, batch, share)
        for k, placement in enumerate(gpu.placements):
            terms = placement_terms(coefficients, model[k], np.arange(1, batch[k] + 1), share[k])
            own = zip(terms.active_ms.tolist(), terms.power_w.tolist(), strict=True)
            envelope = np.array(
                [
                    partial_batch_bound_ms(
                        float(times.gpu_ms[k][-1]), float(terms.delay_ms), active, float(terms.active_ms[-1]),
                        power, float(terms.power_w[-1]), coefficients.hardware.idle_power_w, *line,
                    )
                    for active, power in own
                ]
            )  # fmt: skip
            actual, assumed = (
                BatchQueue(
                    placement.rate_rps, gpu_ms + times.feedback_ms[k], gpu_ms + times.feedback_ms[k] + times.load_ms[k]
                ).percentile_ms(problem.instance.required_percentile)
                for gpu_ms in (times.gpu_ms[k], envelope)
            )
            found.append(assumed / actual - 1.0)
    return found


def main() -> None:
    """Measure and write the tables."""
    Problem(read_instance("igniter-motivation").with_options("p99")).configurations(0, 0)  # compiles
    made, plans, safe = [], [], []
    for name in NAMES:
        instance = read_instance(name).with_options("p99", REPLICAS)
        problem = Problem(instance)
        made.append(limits_row(instance))
        over: list[float] = []
        for method in METHODS:
            row, result = plan_row(instance, method)
            plans.append(row)
            if method != "patterns":
                over += excess(problem, result.plan)
        middle, high, most = (100 * float(value) for value in (np.mean(over), np.quantile(over, 0.95), max(over)))
        safe.append(f"| {name} | {len(over)} | {middle:.2f} % | {high:.2f} % | {most:.2f} % |")
    write(
        "percentile",
        header("Rule p99: limits, plans, and how far the limits are on the safe side", (*PACKAGES, "numba"))
        + f"\nMaking all limits D_c (batches 1..32, 40 share levels, 1 to {REPLICAS} replicas), compilation left out:\n"
        + "\n| instance | tables | configurations | feasible alone | undominated | CPU s | wall s |\n"
        + "| --- | --- | --- | --- | --- | --- | --- |\n"
        + "\n".join(made)
        + f"\n\nPlans with up to {REPLICAS} replicas, time limit {TIME_LIMIT_S:g} s"
        + " (limits made before; compilation and making the first plan not in the time limit):\n"
        + "\n| instance | method | status | GPUs | cost/h | bound/h | gap | total share % | seconds |\n"
        + "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        + "\n".join(plans)
        + "\n\nP99 by the envelope of the limits over P99 at the plan's interference, in the heuristics' plans:\n"
        + "\n| instance | placements | mean | 95 % quantile | largest |\n"
        + "| --- | --- | --- | --- | --- |\n"
        + "\n".join(safe)
        + "\n",
    )


if __name__ == "__main__":
    main()

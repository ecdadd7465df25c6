"""Cost and time of iGniter's greedy at 100, 1,000 and 10,000 random workloads, on one core.

Beside it, in the same run, the published definition as a plain Python program (tests/support/reference_greedy.py), at
the sizes where that is bearable; and both must put the same workloads on every GPU.

Run: python -m bench.greedy
"""

import statistics
import time

from bench.provenance import header, write
from igniter_opt.data.instance import Instance
from igniter_opt.data.instance_files import read_instance
from igniter_opt.data.profile import read_profile
from igniter_opt.generate import generate_instance
from igniter_opt.heuristics.greedy import place
from igniter_opt.problem.configurations import Problem
from tests.support.reference_greedy import reference_greedy

ROUNDS = 15
MOST_FOR_DEFINITION = 1000


def instances() -> list[Instance]:
    """Shipped instances up to 1,000 workloads, and a generated one of 10,000."""
    shipped = [read_instance(f"uniform-{size}-1") for size in (100, 300, 1000)]
    return [*shipped, generate_instance("mixed-10000-1", 10_000, 1, [read_profile("v100")], [3.06])]


def main() -> None:
    """Time the greedy and write the table."""
    rows = []
    for instance in instances():
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            plan = place(Problem(instance), "least-growth")
            times.append(time.perf_counter() - began)
        share = 2.5 * sum(draft.level for gpu in plan for draft in gpu.placements)
        definition = "-"
        if len(instance.workloads) <= MOST_FOR_DEFINITION:
            began = time.perf_counter()
            expected = reference_greedy(instance)
            definition = f"{time.perf_counter() - began:.2f}"
            names = [[instance.workloads[draft.workload].name for draft in gpu.placements] for gpu in plan]
            if names != [[name for name, _, _ in gpu] for gpu in expected]:
                raise AssertionError(f"{instance.name}: the plan differs from the definition's")
        rows.append(
            f"| {instance.name} | {len(instance.workloads):,} | {len(plan):,} | {3.06 * len(plan):,.2f} | {share:,.1f}"
            f" | {statistics.median(times):.4f} | {min(times):.4f} | {definition} |"
        )
    write(
        "greedy",
        header("iGniter's greedy: cost and run time, one core")
        + f"\nSeconds: median and least of {ROUNDS} runs (compiling the instance included); the definition once.\n"
        + "\n| instance | workloads | GPUs | cost/h | total share % | median s | least s | definition s |\n"
        + "| --- | --- | --- | --- | --- | --- | --- | --- |\n"
        + "\n".join(rows)
        + "\n",
    )


if __name__ == "__main__":
    main()

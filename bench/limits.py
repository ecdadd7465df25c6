"""Rule p99: how long all limits D_c of an instance take, on all processors, before a search begins.

Every replica count up to 3, on every GPU type; compilation and fits of profiles, which are kept on disk, left out.

Run: python -m bench.limits
"""

import time

from bench.provenance import PACKAGES, header, write
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.instance_files import read_instance
from igniter_opt.problem.configurations import Problem
from igniter_opt.slo.arrival_counts import forget_tables
from igniter_opt.slo.percentile import percentile_limits
from igniter_opt.slo.stream_limits import stream_limits
from igniter_opt.slo.streams.table import planned_stream

ARRIVALS = (Arrivals(), Arrivals("gamma", burstiness=4.0), Arrivals("mmpp"))
CASES = tuple(("uniform-100-1", arrivals) for arrivals in ARRIVALS) + tuple(
    (name, Arrivals()) for name in ("cards-100-1", "today-100-1")
)
REPLICAS = 3
WARM_UP = "igniter-motivation"


def limits_row(name: str, arrivals: Arrivals) -> str:
    """Time all limits of an instance, made anew."""
    for kept in (percentile_limits, stream_limits, planned_stream):
        kept.cache_clear()
    forget_tables()
    problem = Problem(read_instance(name).with_options("p99", REPLICAS, arrivals=arrivals))
    began, used = time.perf_counter(), time.process_time()
    workloads = sum(1 for _ in problem.limits_at_once())
    seconds, used = time.perf_counter() - began, time.process_time() - used
    tables = sum(problem.knows(k, g) for k in range(workloads) for g in range(len(problem.gpu_types))) * REPLICAS
    return f"| {name} | {arrivals.words} | {tables} | {used:.1f} | {seconds:.1f} |"


def main() -> None:
    """Measure and write the table."""
    for arrivals in ARRIVALS:
        limits_row(WARM_UP, arrivals)
    rows = []
    for case in CASES:
        rows.append(limits_row(*case))
        print(rows[-1], flush=True)
    write(
        "limits",
        header("Rule p99: time that all limits take", (*PACKAGES, "numba"))
        + f"\nAll batches, share levels and GPU types, 1 to {REPLICAS} replicas, on all processors of the machine:\n"
        + "\n| instance | arrivals | tables | CPU s | wall s |\n| --- | --- | --- | --- | --- |\n"
        + "\n".join(rows)
        + "\n",
    )


if __name__ == "__main__":
    main()

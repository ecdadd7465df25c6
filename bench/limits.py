"""Rule p99: how long all limits D_c of an instance take, on all processors, before a search begins: made, and read.

Every replica count up to 3, on every GPU type; compilation and fits of profiles, which are kept on disk, left out. So
are limits of earlier runs: a folder of the bench's own holds what it makes.

Run: python -m bench.limits
"""

import tempfile
import time
from pathlib import Path

from bench.provenance import PACKAGES, header, write
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.instance_files import read_instance
from igniter_opt.problem.configurations import Problem
from igniter_opt.slo import kept_limits
from igniter_opt.slo.arrival_counts import forget_tables
from igniter_opt.slo.percentile import percentile_limits
from igniter_opt.slo.stream_limits import stream_limits
from igniter_opt.slo.streams.table import planned_stream

ARRIVALS = (Arrivals(), Arrivals("gamma", burstiness=4.0), Arrivals("mmpp"))
CASES = tuple(("uniform-100-1", arrivals) for arrivals in ARRIVALS) + tuple(
    (name, Arrivals()) for name in ("cards-100-1", "today-100-1", "uniform-300-1", "uniform-1000-1")
)
REPLICAS = 3
WARM_UP = "igniter-motivation"


def limits_row(name: str, arrivals: Arrivals) -> str:
    """Time all limits of an instance, made anew and then read from disk."""
    with tempfile.TemporaryDirectory() as folder:
        kept_limits.cache_folders = lambda: [Path(folder)]  # type: ignore[attr-defined]
        tables, *made = _timed(name, arrivals)
        _, *read = _timed(name, arrivals)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.json")) / 2**20
    times = " | ".join(f"{seconds:.1f}" for seconds in (*made, *read))
    return f"| {name} | {arrivals.words} | {tables} | {times} | {size:.1f} |"


def _timed(name: str, arrivals: Arrivals) -> tuple[int, float, float]:
    """Return how many tables of limits an instance has, and CPU and wall seconds until all are there."""
    for kept in (percentile_limits, stream_limits, planned_stream):
        kept.cache_clear()
    forget_tables()
    kept_limits.forget()
    problem = Problem(read_instance(name).with_options("p99", REPLICAS, arrivals=arrivals))
    began, used = time.perf_counter(), time.process_time()
    workloads = sum(1 for _ in problem.limits_at_once())
    seconds, used = time.perf_counter() - began, time.process_time() - used
    tables = sum(problem.knows(k, g) for k in range(workloads) for g in range(len(problem.gpu_types))) * REPLICAS
    return tables, used, seconds


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
        + "\n| instance | arrivals | tables | CPU s | wall s | CPU s, read | wall s, read | MiB on disk |\n"
        + "| --- | --- | --- | --- | --- | --- | --- | --- |\n"
        + "\n".join(rows)
        + "\n",
    )


if __name__ == "__main__":
    main()

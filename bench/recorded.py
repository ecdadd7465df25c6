"""Plans from a recorded hour: whether they hold on it, and what a plan from its first half holds on the second.

Times are those of Azure's conversation trace of 2023 (Patel et al., Splitwise, ISCA 2024; CC-BY-4.0), which is not part
of this repository: a file of times in seconds, one a line. Every workload gets all of it, at its own rate and with its
time axis compressed, so that fluctuations stay what they are in numbers of requests. One workload per model of the V100
profile, rule p99, `patterns`. Half of the hour is read as a trace of its own, at its own rate: on the second half the
plan meets other bursts and another rate.

Run: python -m bench.recorded TIMES.csv
"""

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.provenance import PACKAGES, header, write
from igniter_opt.base.arrays import FloatArray
from igniter_opt.base.errors import InfeasibleError
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.instance import Instance, Workload
from igniter_opt.data.instance_files import read_instance
from igniter_opt.data.plan import Plan
from igniter_opt.data.recorded import ANY, record_trace
from igniter_opt.simulate import simulate
from igniter_opt.solve import solve

# SLOs in ms, by how far the hour is compressed: what one replica on a V100 carries. Its limits are the record's own.
_FAST = {"alexnet": 25.0, "resnet50": 60.0}
_ALL = {**_FAST, "vgg19": 60.0, "ssd": 110.0}
SLOS_MS = {1: _ALL, 10: _ALL, 100: _FAST}
TIME_LIMIT_S = 60.0


class Judged(NamedTuple):
    """A plan on some part of the record: late requests, worst P99 over SLO, and how many P99s hold."""

    late: float
    worst: float
    held: int


def written(times_s: FloatArray, path: Path) -> Path:
    """Write a trace."""
    np.savetxt(path, times_s - times_s[0], fmt="%.6f", header="timestamp", comments="")
    return path


def instance_for(trace: Path, slos_ms: Mapping[str, float]) -> Instance:
    """Return the instance whose workloads' requests are all those of a trace, at its rate."""
    base = read_instance("igniter-three").with_options("p99", 1)
    recorded = record_trace(trace, [])
    arrivals, rate = Arrivals("trace", file=str(trace), recorded=recorded), recorded.stream(ANY).rate_rps
    workloads = tuple(
        Workload(name=model, model=model, slo_ms=slo, rate_rps=rate, max_replicas=1) for model, slo in slos_ms.items()
    )
    return base.model_copy(update={"workloads": workloads, "arrivals": arrivals})


def judged(plan: Plan, trace: Path) -> Judged:
    """Serve a trace by a plan, whatever that was made for."""
    found = simulate(plan, "trace", traces=[(entry.name, trace) for entry in plan.instance.workloads])
    return Judged(found.violation_ratio, found.worst_p99_over_slo, sum(entry.holds for entry in found.workloads))


def rows_for(times_s: FloatArray, compression: int, folder: Path) -> list[str]:
    """Plan for the whole and for the first half, and judge both."""
    scaled = times_s / compression
    middle = 0.5 * (scaled[0] + scaled[-1])
    whole = written(scaled, folder / "whole.csv")
    first = written(scaled[scaled < middle], folder / "first.csv")
    second = written(scaled[scaled >= middle], folder / "second.csv")
    rows = []
    for made_from, path, on in (("the hour", whole, (whole,)), ("first half", first, (first, second))):
        instance = instance_for(path, SLOS_MS[compression])
        try:
            plan = solve(instance, "patterns", time_limit=TIME_LIMIT_S).plan
        except InfeasibleError:
            rows.append(f"| {compression} | {made_from} | - | - | - | - | - | - | - |")
            continue
        for part in on:
            found = judged(plan, part)
            rate = record_trace(part, []).stream(ANY).rate_rps
            rows.append(
                f"| {compression} | {made_from} | {len(plan.gpus)} | {plan.solver.cost_per_hour:.2f} | {part.stem}"
                f" | {rate / instance.workloads[0].rate_rps:.2f} | {100.0 * found.late:.2f} % | {found.worst:.2f}"
                f" | {found.held} of {len(plan.instance.workloads)} |"
            )
    return rows


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("times", type=Path, help="times in seconds, one a line")
    times_s = np.loadtxt(parser.parse_args().times)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for compression in SLOS_MS:
            rows += rows_for(times_s, compression, Path(folder))
            print("\n".join(rows), flush=True)
    models = ", ".join(f"{model} {slo:g} ms" for model, slo in _ALL.items())
    write(
        "recorded",
        header("Plans from a recorded hour", (*PACKAGES, "numba"))
        + f"\nSLOs on P99: {models}, the first two at 100 times; each has all requests and one replica.\n"
        + "\n| compressed | made from | GPUs | cost/h | judged on | its rate over the planned | late | worst P99 / SLO"
        + " | P99s held |\n"
        + "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        + "\n".join(rows)
        + "\n",
    )


if __name__ == "__main__":
    main()

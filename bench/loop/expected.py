"""What the simulation expects of a loop that was measured: with full and with actual neighbours.

Run: python -m bench.loop.expected RESULT --allowance MS

RESULT is what `bench.loop` wrote, the allowance that which it was given. Its plans are made again from it: placements,
rates, and the profile of what was served (`bench.loop.plans.served`, with the overheads measured alone). Expected
latencies hold the way to the server and back, as measured alone.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import igniter_opt as ig
from bench.loop.plans import PRICE_PER_HOUR, served
from bench.provenance import PACKAGES, header, write
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.instance import Instance, Workload
from igniter_opt.data.plan import Placement, Plan, PlanGpu, SolverInfo
from igniter_opt.simulate import NEIGHBOURS, simulate

REQUESTS, SEEDS = 50_000, 5
MEASURES = ("mean_ms", "p50_ms")


def averaged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per workload, with the mean over repetitions of its mean and median latency."""
    firsts = {row["workload"]: row for row in reversed(rows)}
    return [
        {
            **firsts[name],
            **{key: float(np.mean([row[key] for row in rows if row["workload"] == name])) for key in MEASURES},
        }
        for name in dict.fromkeys(row["workload"] for row in rows)
    ]


def plan_of(found: dict[str, Any], profile: ig.Profile, allowance_ms: float) -> Plan:
    """Make a plan again from the rows of its result; what it says of latencies is left out."""
    rows = averaged(found["rows"])
    gpu = GpuType(name="H100", profile=served(profile, found["overhead"]), price_per_hour=PRICE_PER_HOUR)
    workloads = tuple(
        Workload(
            name=row["workload"], model=row["model"], slo_ms=row["slo_ms"] - allowance_ms, rate_rps=row["rate_rps"]
        )
        for row in rows
    )
    placements = tuple(
        Placement(
            workload=row["workload"],
            replica=row["replica"],
            model=row["model"],
            batch=row["batch"],
            share_percent=row["share_percent"],
            rate_rps=row["rate_rps"],
            predicted_latency_ms=0.0,
            predicted_throughput_rps=0.0,
        )
        for row in rows
    )
    return Plan(
        instance=Instance(name=found["instance"], slo_rule=found["slo_rule"], gpu_types=(gpu,), workloads=workloads),
        solver=SolverInfo(**found["solver"]),
        gpus=(PlanGpu(name=rows[0]["gpu"], type="H100", placements=placements),),
    )


def main() -> None:
    """Simulate every plan and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, metavar="RESULT")
    parser.add_argument("--allowance", type=float, required=True, metavar="MS", help="as bench.loop was given")
    options = parser.parse_args()
    result = json.loads(options.result.read_text("utf-8"))
    profile = ig.read_profile("h100", coefficients="refined")
    parts = [
        header("The loop as expected", PACKAGES),
        f"Measured: `{options.result.name}` (commit {result['commit']}); {SEEDS} x {REQUESTS:,} requests per"
        " workload on average. Mean and median latency in ms; in brackets expected over measured, less one.\n",
        "| plan | workload | measured | full neighbours | actual neighbours |",
        "| --- | --- | --- | --- | --- |",
    ]
    summary = []
    for name, found in result["plans"].items():
        plan, rows = plan_of(found, profile, options.allowance), averaged(found["rows"])
        errors: dict[str, list[list[float]]] = {kind: [] for kind in NEIGHBOURS}
        cells: dict[str, list[str]] = {row["workload"]: [] for row in rows}
        for kind in NEIGHBOURS:
            simulation = simulate(plan, rows[0]["arrivals"], requests=REQUESTS, seeds=SEEDS, neighbours=kind)
            for row, entry in zip(rows, simulation.workloads, strict=True):
                way = found["overhead"][row["model"]]["client_ms"]
                said = [entry.estimates[measure].value + way for measure in MEASURES]
                off = [each / row[measure] - 1.0 for each, measure in zip(said, MEASURES, strict=True)]
                errors[kind].append(off)
                cells[row["workload"]].append(
                    ", ".join(f"{each:.2f} ({100 * error:+.1f} %)" for each, error in zip(said, off, strict=True))
                )
        for row in rows:
            own = f"{row['mean_ms']:.2f}, {row['p50_ms']:.2f}"
            parts.append(f"| `{name}` | {row['model']} | {own} | " + " | ".join(cells[row["workload"]]) + " |")
        for kind, off in errors.items():
            mean, median = (f"{100 * value:.1f} %" for value in np.abs(off).mean(axis=0))
            worst, last = (f"{100 * value:.1f} %" for value in np.abs(off).max(axis=0))
            summary.append(f"| `{name}` | {kind} | {mean} | {worst} | {median} | {last} |")
    parts += [
        "\n| plan | neighbours | mean latency: mean error | worst | median: mean error | worst |",
        "| --- " * 6 + "|",
        *summary,
    ]
    write("loop-expected", "\n".join(parts) + "\n")


if __name__ == "__main__":
    main()

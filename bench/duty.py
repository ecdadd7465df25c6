"""Neighbours that are not always busy, on a real card: measured, and as predictions with actual neighbours say.

Run: python -m bench.duty --output FILE [--profile NAME] [--groups N] [--seed N] [--within S] [--emulated]

Random groups of two to four placements (`igniter-opt profile colocate` draws such) run batches at fixed periods, each
from its own phase on, so that every placement is busy for a part of the time that is drawn: 15 to 85 % of what a
neighbourhood that is always busy would leave it. Measured is how long its batches take. Predicted is that beside
neighbours that are always busy, as SLO rules plan, and beside the batches that run (`simulate --neighbours actual`,
constant arrivals of whole batches at these periods). The file gets every group as it is measured. `--emulated` tries it
without a card: its readings are the predictions beside busy neighbours.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import igniter_opt as ig
from bench.card import driver
from bench.provenance import commit, machine, today, versions
from igniter_opt import __version__
from igniter_opt.base.files import write_bytes_atomically
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.instance import Instance, Workload
from igniter_opt.data.plan import Placement, Plan, PlanGpu, SolverInfo
from igniter_opt.data.profile import Profile
from igniter_opt.deploy.inventory import read_devices
from igniter_opt.fitting.coefficients import fit_coefficients
from igniter_opt.physics.interference import placement_terms, predict_many
from igniter_opt.profiler.colocate import random_groups
from igniter_opt.profiler.make import colocation_precision
from igniter_opt.profiler.runners.cuda import CudaRunner
from igniter_opt.profiler.runners.runner import Job
from igniter_opt.profiler.runners.synthetic import SyntheticRunner
from igniter_opt.profiler.session import granted_least, granted_step

DUTY, SECONDS, REQUESTS = (0.15, 0.85), 1.0, 4_000


def plan_of(card: Profile, group: list[Job], periods_ms: list[float]) -> Plan:
    """Return a plan of one GPU whose placements get a whole batch in every period."""
    workloads, placements = [], []
    for k, (job, period) in enumerate(zip(group, periods_ms, strict=True)):
        rate = 1000.0 * job.batch / period
        workloads.append(Workload(name=f"w{k}", model=job.model, slo_ms=60_000.0, rate_rps=rate))
        placements.append(
            Placement(
                workload=f"w{k}",
                replica=1,
                model=job.model,
                batch=job.batch,
                share_percent=100.0 * job.sms / card.hardware.sm_count,
                rate_rps=rate,
                predicted_latency_ms=0.0,
                predicted_throughput_rps=0.0,
                queue_delay_us=int(1000.0 * period),
            )
        )
    total = sum(entry.share_percent for entry in placements)
    gpu = GpuType(name="GPU", profile=card, price_per_hour=1.0)
    return Plan(
        instance=Instance(name="duty", slo_rule="deadline", gpu_types=(gpu,), workloads=tuple(workloads)),
        solver=SolverInfo(
            method="duty",
            status="heuristic",
            cost_per_hour=1.0,
            total_share_percent=total,
            runtime_s=0.0,
            version=__version__,
        ),
        gpus=(PlanGpu(name="GPU-1", type="GPU", placements=tuple(placements)),),
    )


def actual_ms(card: Profile, group: list[Job], periods_ms: list[float]) -> list[float]:
    """Return how long batches take beside those that run, transfers left out."""
    plan = plan_of(card, group, periods_ms)
    found = ig.simulate(plan, "constant", neighbours="actual", requests=REQUESTS, seeds=3)
    coefficients = fit_coefficients(card)
    times = []
    for entry, job, period in zip(found.workloads, group, periods_ms, strict=True):
        share = 100.0 * job.sms / card.hardware.sm_count
        back = placement_terms(coefficients, coefficients.index(job.model), job.batch, share).feedback_ms
        times.append(float(entry.estimates["utilisation"].value) * period - float(back))
    return times


def row(card: Profile, group: list[Job], busy_ms: list[float], periods_ms: list[float], wall: list[float]) -> Any:
    """Return what one group says; errors are predicted over measured, less one."""
    said = {"busy": busy_ms, "actual": actual_ms(card, group, periods_ms)}
    return [
        {
            **job._asdict(),
            "period_ms": round(periods_ms[k], 4),
            "measured_ms": round(wall[k], 4),
            "duty": round(wall[k] / periods_ms[k], 4),
            **{f"{name}_ms": round(values[k], 4) for name, values in said.items()},
            **{f"error_{name}": round(values[k] / wall[k] - 1.0, 5) for name, values in said.items()},
        }
        for k, job in enumerate(group)
    ]


def summary(groups: list[Any]) -> dict[str, Any]:
    """Sum errors up: mean and worst of their sizes, and the mean."""
    found: dict[str, Any] = {"groups": len(groups), "readings": sum(map(len, groups))}
    for kind in ("busy", "actual"):
        error = np.array([entry[f"error_{kind}"] for group in groups for entry in group])
        found[kind] = {
            "mean": float(np.abs(error).mean()),
            "p90": float(np.quantile(np.abs(error), 0.9)),
            "worst": float(np.abs(error).max()),
            "bias": float(error.mean()),
        }
    return found


def measure(card: Profile, options: argparse.Namespace) -> dict[str, Any]:
    """Run the groups on the card; what they took is kept after every one."""
    coefficients, until = fit_coefficients(card), time.monotonic() + options.within
    runner: Any = (
        SyntheticRunner(card)
        if options.emulated
        else CudaRunner(read_devices(otherwise="give --emulated")[0].uuid, colocation_precision(card))
    )
    random = np.random.default_rng(options.seed)
    result: dict[str, Any] = {
        "command": "python -m bench.duty " + " ".join(sys.argv[1:]),
        "date": today(),
        "machine": machine(),
        "driver": None if options.emulated else driver(),
        "versions": versions(("igniter-opt", "numpy", "torch")),
        "commit": commit(),
        "emulated": options.emulated,
        "raw": [],
    }
    with runner:
        about = runner.card()._asdict()
        sizes = (int(about["sm_count"]), granted_step(about), granted_least(about))
        numbers = {"pairs": options.groups // 3, "larger": options.groups - options.groups // 3}
        groups = random_groups(list(card.models), *sizes, **numbers, seed=options.seed)
        runner.prepare(groups)
        for group in groups:
            model = np.array([coefficients.index(job.model) for job in group])
            batch = np.array([job.batch for job in group])
            share = np.array([100.0 * job.sms / card.hardware.sm_count for job in group])
            busy = predict_many(coefficients, model[None], batch[None], share[None]).gpu_latency_ms[0]
            periods = busy / random.uniform(*DUTY, size=len(group))
            phases = random.uniform(0.0, periods)
            paced = {} if options.emulated else {"periods_ms": periods.tolist(), "phases_ms": phases.tolist()}
            wall = [entry.wall_ms for entry in runner.measure(group, SECONDS, **paced).readings]
            jobs = [job._asdict() for job in group]
            result["raw"].append(
                {"jobs": jobs, "periods_ms": periods.tolist(), "busy_ms": busy.tolist(), "wall_ms": wall}
            )
            write_bytes_atomically(options.output, (json.dumps(result) + "\n").encode())
            if time.monotonic() > until:
                break
    return result


def main() -> None:
    """Measure and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--profile", default="h200")
    parser.add_argument("--groups", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--within", type=float, default=120.0, metavar="S")
    parser.add_argument("--emulated", action="store_true")
    parser.add_argument("--only", choices=("measure", "compare"), help="compare: what --output holds already")
    options = parser.parse_args()
    card = ig.read_profile(options.profile).bare()
    if options.only == "compare":
        result = json.loads(options.output.read_text(encoding="utf-8"))
    else:
        result = measure(card, options)
    if options.only == "measure":
        return
    rows = []
    for entry in result.pop("raw"):
        if min(entry["wall_ms"]) > 0.0:
            group = [Job(**job) for job in entry["jobs"]]
            rows.append(row(card, group, entry["busy_ms"], entry["periods_ms"], entry["wall_ms"]))
    result |= {"summary": summary(rows), "groups": rows}
    write_bytes_atomically(options.output, (json.dumps(result, indent=1) + "\n").encode())
    print(json.dumps(result["summary"]))


if __name__ == "__main__":
    main()

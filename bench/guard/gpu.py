"""The guard on a real card: six models on Triton under MPS, one of which takes longer than its profile says.

Run: python -m bench.guard.gpu --triton DIR [--libraries DIR] [--gpu UUID] [--overhead FILE] [--wrong NAME] [--error F]
[--allowance MS] [--scale X] [--confidence C] [--output FILE]

The plan is that of `bench.loop.plans` (rule deadline, constant arrivals), but made from a profile that has the GPU
latency of one model F times too short. All six are loaded for the same time; the load of the wrong one falls to a
quarter and comes back, as in `bench.guard`. ``--emulated`` tries the script without a card: there every model takes
what the plan expects, so the guard has nothing to do.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import igniter_opt as ig
from bench.guard.figure import COOL_DOWN_S, PHASES, SHOWN, draw, series, trace
from bench.loop.plans import PRICE_PER_HOUR, WORKLOADS, served, workloads
from bench.loop.site import Deployed, Site, Watch, add_arguments, site
from bench.provenance import RESULTS, today
from igniter_opt.data.gpu_type import GpuType
from igniter_opt.data.instance import Instance
from igniter_opt.data.plan import Placement, Plan
from igniter_opt.data.profile import Profile
from igniter_opt.guard.journal import GuardLog

BASE_PORT = 36000


def mistaken(profile: Profile, model: str, error: float) -> Profile:
    """Return the profile with all latencies of a model divided by `error`; its readings elsewhere are left out."""
    entry = profile.models[model]
    grid = entry.solo_grid
    shorter = grid.model_copy(
        update={"gpu_latency_ms": tuple(tuple(value / error for value in row) for row in grid.gpu_latency_ms)}
    )
    own = {"solo_grid": shorter, "scheduling_delay_ms": entry.scheduling_delay_ms / error}
    return profile.model_copy(
        update={
            "name": f"{profile.name}-mistaken",
            "models": {**profile.models, model: entry.model_copy(update=own)},
            "solo_measurements": None,
            "colocated_measurements": None,
        }
    )


def plan_for(options: argparse.Namespace) -> Plan:
    """Solve for the mistaken profile."""
    overhead = json.loads(options.overhead.read_text("utf-8"))["models"]
    model = next(entry.model for entry in WORKLOADS if entry.name == options.wrong)
    profile = mistaken(served(ig.read_profile("h100", coefficients="refined"), overhead), model, options.error)
    instance = Instance(
        name="h100-guarded",
        slo_rule="deadline",
        gpu_types=(GpuType(name="H100", profile=profile, price_per_hour=PRICE_PER_HOUR),),
        workloads=workloads(options.allowance, options.scale),
    )
    return ig.solve(instance, time_limit=20.0, confidence=options.confidence).plan


def load(plan: Plan, wrong: str) -> str:
    """Return a trace of all workloads at constant rates, that of the wrong one falling and coming back."""
    lines = ["timestamp,workload"]
    for entry in plan.instance.workloads:
        seconds = sum(PHASES)
        steady = np.arange(round(seconds * entry.rate_rps)) / entry.rate_rps
        times = trace(entry.rate_rps, 0.0) if entry.name == wrong else steady
        lines += [f"{at:.6f},{entry.name}" for at in times]
    return "\n".join(lines) + "\n"


def run(place: Site, deployed: Deployed, plan: Plan, options: argparse.Namespace) -> dict[str, Any]:
    """Load and guard; return what was fed, decided and measured."""
    folder = deployed.plan.parent
    feed, arrivals = folder / "feed.jsonl", folder / "trace.csv"
    arrivals.write_text(load(plan, options.wrong))
    program = [sys.executable, "-m", "igniter_opt"]
    common = ["--state", str(deployed.store.root), "--name", deployed.store.name, "--feed", str(feed)]
    common += ["--allowance", f"{options.allowance:g}"]
    server = [] if place.server is None else ["--tritonserver", str(place.server)]
    own = ["--cool-down", f"{COOL_DOWN_S:g}", "--base-port", str(BASE_PORT), *server]
    how = ["--trace", str(arrivals), "--warm-up", "0", "--duration", f"{sum(PHASES):g}"]
    how += ["--processes", str(len(plan.instance.workloads))]
    log = GuardLog(deployed.store.folder)
    guard = subprocess.Popen([*program, "guard", str(deployed.plan), *common, *own], stdout=sys.stderr)
    try:
        with Watch() as watch:
            done = subprocess.run(
                [*program, "measure", str(deployed.plan), *common, "--json", "--shared-memory", *how],
                capture_output=True,
                text=True,
                check=False,
            )
            host = watch.read()
    finally:
        guard.terminate()
        guard.wait()
    if not done.stdout:
        raise SystemExit(f"measure: {done.stderr}")
    rows = [json.loads(line) for line in feed.read_text().splitlines()]
    return {"rows": rows, "events": log.read(), "measured": json.loads(done.stdout), "host": host}


def _placements(plan: Plan) -> list[Placement]:
    return [placement for gpu in plan.gpus for placement in gpu.placements]


def main() -> None:
    """Run once and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument(
        "--overhead",
        type=Path,
        default=RESULTS / "served-overhead-2026-11-24.json",
        help="what bench.loop.overhead wrote",
    )
    parser.add_argument("--wrong", default="res", choices=[entry.name for entry in WORKLOADS])
    parser.add_argument("--error", type=float, default=1.5)
    parser.add_argument("--allowance", type=float, default=2.0, help="ms taken off the SLOs for the plan")
    parser.add_argument("--scale", type=float, default=0.9, help="multiplies all rates")
    parser.add_argument("--confidence", type=float, default=0.99)
    parser.add_argument("--output", type=Path, default=RESULTS / f"guard-gpu-{today()}.json")
    options = parser.parse_args()
    plan = plan_for(options)
    shares = {entry.workload: entry.share_percent for entry in _placements(plan)}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with site(options) as place, place.deployed(plan) as deployed:
        command = "python -m bench.guard.gpu --triton DIR"
        for name in ("wrong", "error", "allowance", "scale", "confidence"):
            command += f" --{name} {getattr(options, name)}"
        found = {**place.header(command), **run(place, deployed, plan, options)}
    rows = [row for row in found.pop("rows") if row["workload"] == options.wrong]
    begin = rows[0]["at"] - max(rows[0]["latencies_ms"]) / 1000.0
    events = [(event.seconds - begin, event) for event in found.pop("events") if event.event in SHOWN]
    measured = found.pop("measured")
    switches = [entry for entry in measured["switches"] if entry["workload"] == options.wrong]
    windows = series(rows, begin, switches)
    slo_ms = next(entry["slo_ms"] for entry in measured["workloads"] if entry["workload"] == options.wrong)
    result = {
        **found,
        "error": options.error,
        "wrong": options.wrong,
        "margin": plan.solver.margin,
        "placements": {entry.workload: [entry.batch, entry.share_percent] for entry in _placements(plan)},
        "cpu_percent": measured["cpu_percent"],
        "workloads": [
            {key: entry[key] for key in ("workload", "slo_ms", "requests", "failed", "p99_ms", "sent_late_ms")}
            for entry in measured["workloads"]
        ],
        "switches": measured["switches"],
        "events": [{"after_s": round(at, 3), **json.loads(event.line())} for at, event in events],
        "series": windows,
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    own = [(at, event) for at, event in events if event.workload == options.wrong]
    draw(windows, own, slo_ms, shares[options.wrong], options.output.with_suffix(".svg"))


if __name__ == "__main__":
    main()

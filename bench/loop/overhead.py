"""What a server adds to the profile, by model, measured on the card: `igniter-opt profile serve`, in our own form.

Run: python -m bench.loop.overhead [--profile NAME] [--only A,B] [--output FILE] [-- OPTIONS of `profile serve`]

`bench.loop.plans --overhead`, `bench.guard.gpu` and `bench.two_cards.plans` make plans from the result. `bench.loop`
measures the same of a plan that it has deployed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import igniter_opt as ig
from bench.provenance import RESULTS, commit, machine, today
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.plan import Plan
from igniter_opt.data.profile import Profile
from igniter_opt.data.serving import ServedModel
from igniter_opt.deploy.endpoints import Endpoints
from igniter_opt.measure.options import MeasureOptions
from igniter_opt.measure.run import measure
from igniter_opt.overhead.added import served_model, sizes_known
from igniter_opt.overhead.plans import expected_ms


def with_profile(plan: Plan, profile: Profile) -> Plan:
    """Return the plan with another profile of its card; what the plan says of latencies stays."""
    cards = tuple(entry.model_copy(update={"profile": profile}) for entry in plan.instance.gpu_types)
    return plan.model_copy(update={"instance": plan.instance.model_copy(update={"gpu_types": cards})})


def row(found: ServedModel) -> dict[str, Any]:
    """Return what serving adds to a model, as the results here have it."""
    return {
        "ms": found.batch_ms,
        "ms_per_item": found.request_ms,
        "residual_ms": found.residual_ms,
        "client_ms": found.way_ms,
        "batches": found.batches,
    }


def overhead(where: Endpoints, plan: Plan, profile: Profile, seconds: float) -> dict[str, dict[str, Any]]:
    """Load the workloads of a deployed plan one after the other and return by model what serving adds to the profile.

    Parameters
    ----------
    profile
        Of the bare models.
    seconds
        Per workload.
    """
    rows = {}
    for placement in (entry for gpu in plan.gpus for entry in gpu.placements):
        options = MeasureOptions(
            arrivals=Arrivals("poisson"),
            duration_s=seconds,
            warm_up_s=1.0,
            only=(placement.workload,),
            shared_memory=True,
        )
        loads = measure(where, options, plan=plan).workloads
        own = (placement.model, placement.batch, placement.share_percent)
        rows[placement.model] = row(
            served_model(loads, expected_ms(profile, *own), sizes_known(profile, own[0], own[2]))
        )
    return rows


def main() -> None:
    """Measure by the command, and write what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="h100", help="the card's, of the bare models")
    parser.add_argument("--only", help="models; default: all")
    parser.add_argument("--output", type=Path, default=RESULTS / f"served-overhead-{today()}.json")
    parser.add_argument("rest", nargs="*", help="options of `profile serve`")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        served = Path(name) / "served.json"
        words = ["profile", "serve", options.profile, "-o", str(served), *options.rest]
        words += [] if options.only is None else ["--only", options.only]
        subprocess.run([sys.executable, "-m", "igniter_opt", *words], check=True)
        serving = ig.read_profile(served).serving
    assert serving is not None  # noqa: S101 (written by the command)
    result = {
        "command": "python -m bench.loop.overhead " + " ".join(sys.argv[1:]),
        "date": today(),
        "machine": machine(),
        "commit": commit(),
        "models": {name: row(found) for name, found in serving.models.items()},
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""What a server adds to the profile: a time per batch and one per request in it, by model; measured on the card.

Run: python -m bench.loop.overhead PLAN --triton DIR [--libraries DIR] [--gpu UUID] [--profile NAME] [--output FILE]

A profile holds what a model takes on the card as a CUDA graph. Triton and its Python backend add to that: they wake up,
gather inputs, copy, and answer, and nothing of it overlaps with the next batch. A plan for one card is deployed, and
its workloads are loaded one after the other, each alone, under Poisson arrivals, so that batches of many sizes form.
What the server's own statistics say that batches of k took (input, compute and output) less the prediction alone is
fitted by a + c k, both at least 0, by least squares, sizes weighted by how often they occurred. What requests took at
the client beyond that and the queue is the way there and back. `bench.loop.plans --overhead` makes plans for served
models from the result.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import igniter_opt as ig
from bench.loop.site import add_arguments, site
from bench.provenance import RESULTS, today
from igniter_opt.base.nanoseconds import NS_PER_MS
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.data.plan import Plan
from igniter_opt.data.profile import Profile
from igniter_opt.deploy.endpoints import Endpoints
from igniter_opt.measure.options import MeasureOptions
from igniter_opt.measure.run import measure
from igniter_opt.simulation.servers import servers_of


def alone(plan: Plan, workload: str) -> Plan:
    """Return the plan with nothing but one workload."""
    gpus = [
        gpu.model_copy(update={"placements": tuple(p for p in gpu.placements if p.workload == workload)})
        for gpu in plan.gpus
    ]
    kept = tuple(entry for entry in plan.instance.workloads if entry.name == workload)
    return plan.model_copy(
        update={
            "gpus": tuple(gpu for gpu in gpus if gpu.placements),
            "instance": plan.instance.model_copy(update={"workloads": kept}),
        }
    )


def with_profile(plan: Plan, profile: Profile) -> Plan:
    """Return the plan with another profile of its card; what the plan says of latencies stays."""
    cards = tuple(entry.model_copy(update={"profile": profile}) for entry in plan.instance.gpu_types)
    return plan.model_copy(update={"instance": plan.instance.model_copy(update={"gpu_types": cards})})


def predicted_ms(plan: Plan, workload: str) -> list[float]:
    """Return how long batches of 1, 2, ... take alone, transfers included."""
    ((server,),) = servers_of(alone(plan, workload))
    return [float(value) / NS_PER_MS for value in server.gpu + server.load + server.feedback]


def fitted(taken_ms: Mapping[int, float], counts: Mapping[int, int], expected_ms: list[float]) -> dict[str, float]:
    """Fit what batches took beyond what was expected of them.

    Parameters
    ----------
    taken_ms, counts
        By batch size: how long, and how many.
    expected_ms
        Of batches of 1, 2, ...
    """
    size = np.array(sorted(taken_ms), dtype=float)
    added = np.array([taken_ms[int(k)] - expected_ms[int(k) - 1] for k in size])
    weight = np.array([counts[int(k)] for k in size], dtype=float)
    root = np.sqrt(weight)
    design = np.column_stack([np.ones_like(size), size])
    a, c = np.linalg.lstsq(design * root[:, None], added * root, rcond=None)[0]
    if c < 0.0 or len(size) == 1:
        a, c = float(np.average(added, weights=weight)), 0.0
    elif a < 0.0:
        a, c = 0.0, float(np.sum(weight * size * added) / np.sum(weight * size**2))
    a, c = max(0.0, float(a)), max(0.0, float(c))
    residual = np.average(np.abs(added - a - c * size), weights=weight)
    return {"ms": round(a, 4), "ms_per_item": round(c, 4), "residual_ms": round(float(residual), 4)}


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
    for workload in plan.instance.workloads:
        options = MeasureOptions(
            arrivals=Arrivals("poisson"),
            duration_s=seconds,
            warm_up_s=1.0,
            only=(workload.name,),
            shared_memory=True,
        )
        (entry,) = measure(where, options, plan=plan).workloads
        split = entry.server
        if split is None or split.input_ms is None or entry.mean_ms is None:
            raise SystemExit(f"{workload.name}: the server gave no statistics")
        around = split.input_ms + (split.output_ms or 0.0)
        expected = predicted_ms(with_profile(plan, profile), workload.name)
        taken = {int(k): value + around for k, value in split.batch_ms.items()}
        counts = {int(k): value for k, value in split.batches.items()}
        rows[workload.model] = {
            **fitted(taken, counts, expected),
            "client_ms": round(entry.mean_ms - (split.queue_ms or 0.0) - around - (split.compute_ms or 0.0), 4),
            "sent_late_ms": entry.sent_late_ms,
            "batches": counts,
            "batch_ms": {k: round(value, 4) for k, value in taken.items()},
            "predicted_ms": {k: round(expected[k - 1], 4) for k in taken},
        }
    return rows


def main() -> None:
    """Measure, fit and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    add_arguments(parser)
    parser.add_argument("--profile", default="h100", help="the card's, of the bare models")
    parser.add_argument("--seconds", type=float, default=6.0, help="per workload")
    parser.add_argument("--output", type=Path, default=RESULTS / f"served-overhead-{today()}.json")
    options = parser.parse_args()
    plan, profile = ig.read_plan(options.plan), ig.read_profile(options.profile, coefficients="refined")
    with site(options) as place:
        result = place.header(f"python -m bench.loop.overhead {options.plan.name}")
        with place.deployed(plan) as (where, _, _):
            result["models"] = overhead(where, plan, profile, options.seconds)
    options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

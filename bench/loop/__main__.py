"""The whole loop on one real card: plans deployed on Triton under MPS, loaded, and measured against their predictions.

Run: python -m bench.loop PLAN... --triton DIR [--libraries DIR] [--gpu UUID] [--profile NAME] [--allowance MS]
[--output FILE]

Every plan must need one GPU and models that are built in. Plans come from `bench.loop.plans`, or from `igniter-opt
solve` with the card's profile; DIR is where the server's wheel was unpacked (``pip install --no-deps --target DIR
nvidia-pytriton==0.7.0``). Each plan is approved and deployed; its workloads are measured alone, one after the other,
which says what serving adds to the profile (`bench.loop.overhead`); then together, under constant and under Poisson
arrivals, with inputs in shared memory; and it is torn down.

The result says per workload what was measured: the batches' latency (by the server's own statistics), the mean, P50 and
P99 at the client, and requests over the SLO; and what was expected, from the bare models' profile and what serving
adds: the batches' latency, and the simulated latencies (``mean_error``: with the way to the server and back). SLOs are
those of the plan and the allowance, which the plan left for that way. Where the generator sent too late there is no
verdict (``holds`` is null). ``host`` says whether the machine kept its pace.
"""

import argparse
import json
from itertools import product
from pathlib import Path
from typing import Any

import igniter_opt as ig
from bench.loop.overhead import overhead, with_profile
from bench.loop.plans import served
from bench.loop.site import Site, Watch, add_arguments, site
from bench.provenance import RESULTS, today
from igniter_opt.base.nanoseconds import NS_PER_MS
from igniter_opt.data.arrivals import ArrivalKind, Arrivals
from igniter_opt.data.plan import Plan
from igniter_opt.measure.options import MeasureOptions
from igniter_opt.measure.results import LoadStatistics, Measurement
from igniter_opt.measure.run import measure
from igniter_opt.simulate import simulate
from igniter_opt.simulation.servers import Server, servers_of

# Random arrivals are measured for longer.
KINDS: dict[ArrivalKind, float] = {"constant": 1.0, "poisson": 2.0}


def main() -> None:
    """Run every plan and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plans", type=Path, nargs="+", metavar="PLAN")
    add_arguments(parser)
    parser.add_argument("--seconds", type=float, default=15.0, help="that count (Poisson arrivals: twice that)")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies all rates")
    parser.add_argument("--profile", default="h100", help="the card's, of the bare models")
    parser.add_argument("--alone", type=float, default=5.0, help="seconds per workload alone")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="of arrivals")
    parser.add_argument(
        "--repeat", type=int, default=1, metavar="N", help="measure each kind N times, with seeds 0, 1, ..."
    )
    parser.add_argument("--allowance", type=float, default=0.0, help="ms added to the plans' SLOs")
    parser.add_argument("--output", type=Path, default=RESULTS / f"loop-{today()}.json")
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with site(options) as place:
        command = " ".join(["python -m bench.loop", *(path.name for path in options.plans)])
        for name in ("allowance", "alone", "seconds", "scale", "repeat"):
            command += f" --{name} {getattr(options, name):g}"
        result = place.header(f"{command} --kinds {' '.join(options.kinds)}")
        result["plans"] = {}
        for path in options.plans:
            result["plans"][path.stem] = _run(place, ig.read_plan(path), options)
            options.output.write_text(json.dumps(result, indent=1) + "\n")


def _run(place: Site, plan: Plan, options: Any) -> dict[str, Any]:
    measured, stalls = {}, {}
    profile = ig.read_profile(options.profile, coefficients="refined")
    with place.deployed(plan) as (where, _, _):
        added = overhead(where, plan, profile, options.alone)
        for kind, seed in product(options.kinds, range(options.repeat)):
            key = kind if options.repeat == 1 else f"{kind} {seed}"
            with Watch() as watch:
                measured[key] = measure(
                    where,
                    MeasureOptions(
                        arrivals=Arrivals(kind),
                        duration_s=KINDS[kind] * options.seconds,
                        warm_up_s=2.0,
                        scale=options.scale,
                        shared_memory=True,
                        processes=len(plan.instance.workloads),
                        seed=seed,
                        allowance_ms=options.allowance,
                    ),
                    plan=plan,
                    source=f"{kind} arrivals",
                )
                stalls[key] = watch.read()
    as_served = with_profile(plan, served(profile, added))
    predicted = {server.placement.workload: server for own in servers_of(as_served) for server in own}
    rows = []
    simulations = {
        kind: {entry.workload: entry for entry in simulate(as_served, kind, requests=20_000, seeds=3).workloads}
        for kind in options.kinds
    }
    for key, found in measured.items():
        kind, _, seed = key.partition(" ")
        simulation = simulations[kind]
        for entry in found.workloads:
            estimates = simulation[entry.workload].estimates
            expected = estimates["mean_ms"].value + added[entry.model]["client_ms"]
            rows.append(
                {
                    "arrivals": kind,
                    "seed": int(seed or 0),
                    **_row(entry, found, predicted[entry.workload]),
                    **{f"simulated_{name}": estimates[name].value for name in ("mean_ms", "p50_ms", "p99_ms")},
                    "mean_error": None if entry.mean_ms is None else expected / entry.mean_ms - 1.0,
                }
            )
    return {
        "instance": plan.instance.name,
        "solver": plan.solver.model_dump(mode="json"),
        "slo_rule": plan.instance.slo_rule,
        "total_share_percent": plan.total_share_percent,
        "cpu_percent": {kind: found.cpu_percent for kind, found in measured.items()},
        "host": stalls,
        "partial": {kind: found.partial for kind, found in measured.items()},
        "overhead": added,
        "rows": rows,
    }


def _row(entry: LoadStatistics, found: Measurement, own: Server) -> dict[str, Any]:
    split = entry.server
    batches = {} if split is None else split.batches
    around = 0.0 if split is None else (split.input_ms or 0.0) + (split.output_ms or 0.0)
    times = {} if split is None else {k: value + around for k, value in split.batch_ms.items()}
    asked = {k: float(own.gpu[int(k) - 1] + own.feedback[int(k) - 1]) / NS_PER_MS for k in batches}
    taken = sum(n * times[k] for k, n in batches.items())
    return {
        **entry.model_dump(mode="json", exclude={"replicas"}),
        **({"holds": None} if entry.workload in found.sent_too_late else {}),
        "batch": own.placement.batch,
        "share_percent": own.placement.share_percent,
        "predicted_batch_ms": {k: round(value, 4) for k, value in asked.items()},
        "batch_time_error": sum(n * asked[k] for k, n in batches.items()) / taken - 1.0 if taken else None,
    }


if __name__ == "__main__":
    main()

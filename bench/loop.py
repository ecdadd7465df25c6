"""The whole loop on one real card: plans deployed on Triton under MPS, loaded, and measured against their predictions.

Run: python -m bench.loop PLAN... --triton DIR [--libraries DIR] [--gpu UUID] [--output FILE]

Every plan must need one GPU and models that are built in. Plans come from `igniter-opt solve` with the card's profile;
DIR is where the server's wheel was unpacked (``pip install --no-deps --target DIR nvidia-pytriton==0.7.0``). The models
run with this interpreter's packages and need torch. Each plan is approved and deployed, then measured under constant
and under Poisson arrivals, and torn down. The result says per workload what was predicted and measured: the batches'
GPU latency (by the server's own statistics), the mean, P50 and P99 at the client, and requests over the SLO.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import igniter_opt as ig
from bench.deploy_gpu import _driver, _server
from bench.provenance import RESULTS, commit, machine, today, versions
from igniter_opt.deploy import launch
from igniter_opt.deploy.apply import Options as ApplyOptions
from igniter_opt.deploy.approval import approval_path, make_approval, write_approval
from igniter_opt.deploy.endpoints import endpoints
from igniter_opt.deploy.inventory import Device, read_devices
from igniter_opt.deploy.process_backend import ProcessBackend
from igniter_opt.deploy.state import Store
from igniter_opt.measure.options import Options
from igniter_opt.measure.run import measure
from igniter_opt.plan import Plan
from igniter_opt.profiler.export import export_torch
from igniter_opt.profiler.models import find_model
from igniter_opt.simulate import simulate
from igniter_opt.simulation.arrivals import Arrivals
from igniter_opt.simulation.engine import NS_PER_MS
from igniter_opt.simulation.servers import servers_of


def main() -> None:
    """Run every plan and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plans", type=Path, nargs="+", metavar="PLAN")
    parser.add_argument("--triton", type=Path, required=True, help="where the server's wheel was unpacked")
    parser.add_argument("--libraries", type=Path, help="folder of libpython, where that is no usual place")
    parser.add_argument("--gpu", help="UUID of the card; default: the first")
    parser.add_argument("--seconds", type=float, default=15.0, help="of every measurement that count")
    parser.add_argument("--precision", default="tf32")
    parser.add_argument("--output", type=Path, default=RESULTS / f"loop-{today()}.json")
    options = parser.parse_args()
    devices = read_devices()
    device = devices[0] if options.gpu is None else next(entry for entry in devices if entry.uuid == options.gpu)
    result: dict[str, Any] = {
        "command": "python -m bench.loop " + " ".join(path.name for path in options.plans),
        "date": today(),
        "machine": machine(),
        "card": device.name,
        "driver": _driver(),
        "versions": versions(("igniter-opt", "numpy", "torch", "tritonclient")),
        "commit": commit(),
        "plans": {},
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="loop-") as folder:
        server = _server(Path(folder), options.triton)
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        if options.libraries is not None:
            found = [str(options.libraries), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
            os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(found)
        for path in options.plans:
            result["plans"][path.stem] = _run(Path(folder) / path.stem, ig.read_plan(path), server, device, options)
            options.output.write_text(json.dumps(result, indent=1) + "\n")


def read_plan_card(plan: Plan) -> str:
    """Return the only GPU of a plan."""
    if len(plan.gpus) != 1:
        raise SystemExit(f"plan {plan.instance.name} needs {len(plan.gpus)} GPUs; this script runs plans for one")
    return plan.gpus[0].name


def _run(folder: Path, plan: Plan, server: Path, device: Device, options: Any) -> dict[str, Any]:
    gpu = read_plan_card(plan)
    path = folder / "plan.json"
    folder.mkdir()
    ig.write_plan(plan, path)
    write_approval(make_approval(plan), approval_path(path))
    for model in {placement.model for placement in plan.gpus[0].placements}:
        largest = max(placement.batch for placement in plan.gpus[0].placements if placement.model == model)
        export_torch(model, find_model(model), folder / "models", largest, options.precision)
    store, backend = Store(folder / "state", "loop"), ProcessBackend(server)
    request = launch.Request(
        plan=path,
        models=folder / "models",
        backend_name="process",
        devices=[device],
        overrides={gpu: device.uuid},
        options=ApplyOptions(report=lambda line: print(line, file=sys.stderr)),
    )
    try:
        launch.deploy(request, store, backend)
        state = store.load()
        if state is None:
            raise SystemExit("the deployment left no state")
        where = endpoints(state)
        measured = {
            kind: measure(
                where,
                Options(arrivals=Arrivals(kind), duration_s=seconds, warm_up_s=2.0, scale=scale),
                plan=plan,
                source=f"{kind} arrivals",
            )
            for kind, seconds, scale in (
                ("constant", options.seconds, 1.0),
                ("poisson", 2 * options.seconds, 1.0),
            )
        }
    finally:
        launch.teardown(store, backend, ApplyOptions())
    predicted = {server.placement.workload: server for own in servers_of(plan) for server in own}
    rows = []
    for kind, found in measured.items():
        simulation = simulate(plan, kind, requests=20_000, seeds=3)
        for entry, simulated in zip(
            sorted(found.workloads, key=lambda entry: entry.workload),
            sorted(simulation.workloads, key=lambda entry: entry.workload),
            strict=True,
        ):
            own = predicted[entry.workload]
            batches = {} if entry.server is None else entry.server.batches
            times = {} if entry.server is None else entry.server.batch_ms
            asked = sum(
                n * float(own.gpu[int(k) - 1] + own.feedback[int(k) - 1]) / NS_PER_MS for k, n in batches.items()
            )
            taken = sum(n * times[k] for k, n in batches.items())
            rows.append(
                {
                    "arrivals": kind,
                    **entry.model_dump(mode="json", exclude={"replicas"}),
                    "batch": own.placement.batch,
                    "share_percent": own.placement.share_percent,
                    "predicted_batch_ms": {k: round(float(own.gpu[int(k) - 1]) / NS_PER_MS, 4) for k in batches},
                    "batch_time_error": asked / taken - 1.0 if taken else None,
                    **{
                        f"simulated_{name}": simulated.estimates[name].value for name in ("mean_ms", "p50_ms", "p99_ms")
                    },
                }
            )
    return {
        "instance": plan.instance.name,
        "solver": plan.solver.model_dump(mode="json"),
        "slo_rule": plan.instance.slo_rule,
        "total_share_percent": plan.total_share_percent,
        "cpu_percent": {kind: found.cpu_percent for kind, found in measured.items()},
        "partial": {kind: found.partial for kind, found in measured.items()},
        "rows": rows,
    }


if __name__ == "__main__":
    main()

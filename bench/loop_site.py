"""One card with Triton on it, for the scripts that run plans there (`bench.loop`, `bench.loop_overhead`).

Models run with this interpreter's packages and need torch. With ``--emulated`` the same goes on without a card:
servers on the processor, whose models take the predicted times. That tries the scripts and says nothing about any card.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import igniter_opt as ig
from bench.deploy_gpu import _driver, _server
from bench.provenance import commit, machine, today, versions
from igniter_opt.deploy import launch
from igniter_opt.deploy.apply import Options
from igniter_opt.deploy.approval import approval_path, make_approval, write_approval
from igniter_opt.deploy.endpoints import Endpoints, endpoints
from igniter_opt.deploy.inventory import Device, read_devices
from igniter_opt.deploy.process_backend import ProcessBackend
from igniter_opt.deploy.state import Store
from igniter_opt.plan import Plan
from igniter_opt.profiler.export import export_torch
from igniter_opt.profiler.models import find_model
from igniter_opt.rehearse.emulation import write_emulated_models


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says where the server and the card are."""
    parser.add_argument("--triton", type=Path, help="where the server's wheel was unpacked")
    parser.add_argument("--libraries", type=Path, help="folder of libpython, where that is no usual place")
    parser.add_argument("--gpu", help="UUID of the card; default: the first")
    parser.add_argument("--precision", default="tf32")
    parser.add_argument("--emulated", action="store_true", help="no card: models that take the predicted times")


@dataclass(frozen=True)
class Site:
    """Where plans run; ``device`` and ``server`` are None without a card."""

    folder: Path
    server: Path | None
    device: Device | None
    precision: str

    @contextmanager
    def deployed(self, plan: Plan) -> Iterator[Endpoints]:
        """Approve and deploy a plan for one card; torn down afterwards."""
        if len(plan.gpus) != 1:
            raise SystemExit(f"plan {plan.instance.name} needs {len(plan.gpus)} GPUs; this runs plans for one")
        (gpu,) = plan.gpus
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            folder = Path(name)
            path = folder / "plan.json"
            ig.write_plan(plan, path)
            write_approval(make_approval(plan), approval_path(path))
            if self.device is None:
                write_emulated_models(plan, folder / "models")
            else:
                for model in {placement.model for placement in gpu.placements}:
                    largest = max(placement.batch for placement in gpu.placements if placement.model == model)
                    export_torch(model, find_model(model), folder / "models", largest, self.precision)
            store, backend = Store(folder / "state", "loop"), ProcessBackend(self.server)
            request = launch.Request(
                plan=path,
                models=folder / "models",
                backend_name="process",
                cpu=self.device is None,
                devices=[] if self.device is None else [self.device],
                overrides={} if self.device is None else {gpu.name: self.device.uuid},
                options=Options(report=lambda line: print(line, file=sys.stderr)),
            )
            try:
                launch.deploy(request, store, backend)
                state = store.load()
                if state is None:
                    raise SystemExit("the deployment left no state")
                yield endpoints(state)
            finally:
                launch.teardown(store, backend, Options())

    def header(self, command: str) -> dict[str, Any]:
        """Say where results come from."""
        return {
            "command": command,
            "date": today(),
            "machine": machine(),
            "card": "none: emulated models on the processor" if self.device is None else self.device.name,
            "driver": None if self.device is None else _driver(),
            "versions": versions(("igniter-opt", "numpy", "torch", "tritonclient")),
            "commit": commit(),
        }


@contextmanager
def site(options: argparse.Namespace) -> Iterator[Site]:
    """Prepare the server, and find the card."""
    with tempfile.TemporaryDirectory(prefix="loop-") as name:
        folder = Path(name)
        if options.emulated:
            yield Site(folder, None, None, options.precision)
            return
        if options.triton is None:
            raise SystemExit("--triton says where the server's wheel was unpacked")
        devices = read_devices()
        device = devices[0] if options.gpu is None else next(entry for entry in devices if entry.uuid == options.gpu)
        server = _server(folder, options.triton)
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        if options.libraries is not None:
            found = [str(options.libraries), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
            os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(found)
        yield Site(folder, server, device, options.precision)


def throttled_s() -> float | None:
    """Return for how long this control group's processes were kept from running so far; None where nothing says so."""
    try:
        lines = Path("/sys/fs/cgroup/cpu.stat").read_text("utf-8").splitlines()
    except OSError:
        return None
    found = {key: float(value) for key, value in (line.split() for line in lines)}
    return found["throttled_usec"] / 1e6 if "throttled_usec" in found else None

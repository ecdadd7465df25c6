"""One card with Triton on it, for the scripts that run plans there (`bench.loop`, `bench.loop.overhead`).

Models run with this interpreter's packages and need torch. With ``--emulated`` the same goes on without a card:
servers on the processor, whose models take the predicted times. That tries the scripts and says nothing about any card.
"""

import argparse
import gc
import multiprocessing
import os
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import psutil

import igniter_opt as ig
from bench.card import copy_server, driver
from bench.provenance import commit, machine, today, versions
from igniter_opt.data.plan import Plan
from igniter_opt.deploy import launch
from igniter_opt.deploy.apply import Options
from igniter_opt.deploy.approval import approval_path, make_approval, write_approval
from igniter_opt.deploy.backends.process import ProcessBackend
from igniter_opt.deploy.endpoints import Endpoints, endpoints
from igniter_opt.deploy.inventory import Device, read_devices
from igniter_opt.deploy.state import Store
from igniter_opt.profiler.models.catalogue import find_model
from igniter_opt.profiler.models.export import export_torch
from igniter_opt.rehearse.emulation import write_emulated_models

# A copy is slow at so many times the median; slow ones less than so far apart are one spell, if they are so many.
_SLOW, _APART_S, _FEWEST = 4.0, 0.05, 3
_SETTLING = 20  # the first copies meet memory that was never touched


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says where the server and the card are."""
    parser.add_argument("--triton", type=Path, help="where the server's wheel was unpacked")
    parser.add_argument("--libraries", type=Path, help="folder of libpython, where that is no usual place")
    parser.add_argument("--gpu", help="UUID of the card; default: the first")
    parser.add_argument("--precision", default="tf32")
    parser.add_argument("--emulated", action="store_true", help="no card: models that take the predicted times")


class Deployed(NamedTuple):
    """A plan that runs: its endpoints, its file, and where the deployment is kept."""

    where: Endpoints
    plan: Path
    store: Store


@dataclass(frozen=True)
class Site:
    """Where plans run; ``device`` and ``server`` are None without a card."""

    folder: Path
    server: Path | None
    device: Device | None
    precision: str

    @contextmanager
    def deployed(self, plan: Plan) -> Iterator[Deployed]:
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
                yield Deployed(endpoints(state), path, store)
            finally:
                launch.teardown(store, backend, Options())

    def header(self, command: str) -> dict[str, Any]:
        """Say where results come from."""
        return {
            "command": command,
            "date": today(),
            "machine": machine(),
            "card": "none: emulated models on the processor" if self.device is None else self.device.name,
            "driver": None if self.device is None else driver(),
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
        devices = read_devices(otherwise="try this script with --emulated")
        device = devices[0] if options.gpu is None else next(entry for entry in devices if entry.uuid == options.gpu)
        server = copy_server(folder, options.triton)
        os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        if options.libraries is not None:
            found = [str(options.libraries), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
            os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(found)
        yield Site(folder, server, device, options.precision)


class Watch:
    """A process that copies a megabyte every millisecond, to see whether the machine keeps its pace.

    Virtual machines can slow down for tens of milliseconds at a time although none of their processors is taken away,
    and nothing that runs in them accounts for it. Latencies measured then are no plan's fault.
    """

    def __enter__(self) -> "Watch":
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_copy, args=(theirs,), daemon=True)
        self._process.start()
        self._pipe.recv()
        self._throttled_s, self._stolen_s = throttled_s(), psutil.cpu_times().steal
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()

    def read(self) -> dict[str, Any]:
        """Return what was seen since entering: copies and sleeps that took too long, and what the host kept back."""
        self._pipe.send(None)
        begin_s, copy_ms, late_ms = self._pipe.recv()
        slow = begin_s[copy_ms > _SLOW * np.median(copy_ms)]
        spells = np.split(slow, np.flatnonzero(np.diff(slow) > _APART_S) + 1)
        throttled = throttled_s()
        return {
            "seconds": round(float(begin_s[-1] - begin_s[0]), 2),
            "slow_spells": sum(len(spell) >= _FEWEST for spell in spells),
            "slow_spells_ms": [round(1e3 * float(spell[-1] - spell[0])) for spell in spells if len(spell) >= _FEWEST],
            "copy_p50_ms": round(float(np.median(copy_ms)), 3),
            "copy_p999_ms": round(float(np.quantile(copy_ms, 0.999)), 3),
            "late_p99_ms": round(float(np.quantile(late_ms, 0.99)), 3),
            "late_most_ms": round(float(late_ms.max()), 3),
            "stolen_s": round(psutil.cpu_times().steal - self._stolen_s, 3),
            "throttled_s": None if throttled is None else round(throttled - (self._throttled_s or 0.0), 3),
        }


def _copy(pipe: Connection) -> None:
    gc.disable()
    rng = np.random.default_rng(0)
    source, target = rng.random(2**24), np.empty(2**17)
    begin, middle, end = array("q"), array("q"), array("q")
    pipe.send(None)
    while not pipe.poll():
        first = int(rng.integers(0, len(source) - len(target)))
        begin.append(time.monotonic_ns())
        target[:] = source[first : first + len(target)]
        middle.append(time.monotonic_ns())
        time.sleep(0.001)
        end.append(time.monotonic_ns())
    at = np.array([begin, middle, end])[:, _SETTLING:]
    pipe.send((at[0] / 1e9, (at[1] - at[0]) / 1e6, (at[2] - at[1]) / 1e6 - 1.0))


def throttled_s() -> float | None:
    """Return for how long this control group's processes were kept from running so far; None where nothing says so."""
    try:
        lines = Path("/sys/fs/cgroup/cpu.stat").read_text("utf-8").splitlines()
    except OSError:
        return None
    found = {key: float(value) for key, value in (line.split() for line in lines)}
    return found["throttled_usec"] / 1e6 if "throttled_usec" in found else None

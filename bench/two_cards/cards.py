"""Several cards of one host with Triton on them, and what is looked at there; `--emulated` stands in for cards."""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.card import copy_server, driver, processes_of
from bench.provenance import commit, machine, today, versions
from igniter_opt.data.plan import Placement, Plan
from igniter_opt.deploy.backends.process import ProcessBackend
from igniter_opt.deploy.inventory import Device, read_devices
from igniter_opt.deploy.state import Deployment, Store
from igniter_opt.guard.choose import variants
from igniter_opt.profiler.models.catalogue import find_model
from igniter_opt.profiler.models.export import export_torch
from igniter_opt.rehearse.emulation import write_emulated_models

PRECISION = "tf32"
# Every server says how many SMs it sees and on which card, in its log.
_TOLD = re.compile(r"igniter-opt sees (\d+) SMs of (GPU-\S+)")
_TELL = """

class _Telling(TritonPythonModel):
    def initialize(self, args):
        super().initialize(args)
        import torch

        seen = torch.cuda.get_device_properties(0)
        print(f"igniter-opt sees {seen.multi_processor_count} SMs of GPU-{seen.uuid}", flush=True)


TritonPythonModel = _Telling
"""


@dataclass(frozen=True)
class Cards:
    """Where the plans run: no devices and no server of its own where models are emulated."""

    folder: Path
    server: Path | None
    devices: tuple[Device, ...]

    @property
    def emulated(self) -> bool:
        """Whether servers run on the processor."""
        return not self.devices

    def backend(self) -> ProcessBackend:
        """Return what starts servers."""
        return ProcessBackend(self.server)

    def header(self, command: str) -> dict[str, Any]:
        """Say where results come from."""
        return {
            "command": command,
            "date": today(),
            "machine": machine(),
            "cards": [device.name for device in self.devices] or "none: emulated models on the processor",
            "driver": None if self.emulated else driver(),
            "versions": versions(("igniter-opt", "numpy", "torch", "tritonclient")),
            "commit": commit(),
        }


def find_cards(folder: Path, count: int, options: argparse.Namespace) -> Cards:
    """Prepare the server, and find so many cards."""
    if options.emulated:
        return Cards(folder, None, ())
    if options.triton is None:
        raise SystemExit("--triton says where the server's wheel was unpacked")
    devices = read_devices(otherwise="try this script with --emulated")
    if len(devices) < count:
        raise SystemExit(f"the plans need {count} cards; found {len(devices)}")
    server = copy_server(folder, options.triton)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    if options.libraries is not None:
        found = [str(options.libraries), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(found)
    return Cards(folder, server, tuple(devices[:count]))


def write_models(cards: Cards, plans: Iterable[Plan], guarded: str | None) -> Path:
    """Write the models that all of some plans serve; the last one's migration, and what a guard may do, included."""
    plans, folder = list(plans), cards.folder / "models"
    if cards.emulated:
        write_emulated_models(plans[-1], folder, variants=[*plans, *_on_the_way(plans[-1], guarded)])
        return folder
    largest: dict[str, int] = {}
    for placement in (p for plan in plans for gpu in plan.gpus for p in gpu.placements):
        largest[placement.model] = max(largest.get(placement.model, 0), placement.batch)
    for model, batch in largest.items():
        export_torch(model, find_model(model), folder, batch, PRECISION)
        with (folder / model / "1" / "model.py").open("a", encoding="utf-8") as file:
            file.write(_TELL)
    return folder


def _on_the_way(plan: Plan, guarded: str | None) -> Iterable[Plan]:
    """Yield the plan with servers where a migration or a guard may have them, by whatever number."""
    names = {guarded} if guarded else set()
    names |= {server.workload for step in (plan.migration.steps if plan.migration else ()) for server in step.start}
    for gpu in plan.gpus:
        for placement in gpu.placements:
            if placement.workload not in names:
                continue
            for moved in variants(plan, (placement.workload, placement.replica)):
                place = next(
                    p for g in moved.gpus for p in g.placements
                    if (p.workload, p.replica) == (placement.workload, placement.replica)
                )  # fmt: skip
                if placement.workload == guarded or abs(place.share_percent - placement.share_percent) < 1e-6:
                    yield moved
                    # Beside the one that it stands for, a server has the next number.
                    yield _renumbered(moved, place)


def _renumbered(plan: Plan, placement: Placement) -> Plan:
    other = placement.model_copy(update={"replica": placement.replica + 1})
    gpus = [
        gpu.model_copy(update={"placements": tuple(other if p is placement else p for p in gpu.placements)})
        for gpu in plan.gpus
    ]
    return plan.model_copy(update={"gpus": tuple(gpus)})


def shares_seen(state: Deployment, store: Store, total_sms: int) -> list[dict[str, Any]]:
    """Return what every server said it sees, beside what its share should give it."""
    found = []
    for record in state.replicas:
        log = (store.server_folder(record.token) / "log").read_text("utf-8", "replace")
        told = _TOLD.findall(log)
        expected = 2 * int(record.share_percent / 100 * total_sms / 2 + 1e-6)
        found.append(
            {
                "placement": record.placement,
                "share_percent": round(record.share_percent, 3),
                "sms": [int(sms) for sms, _ in told],
                "expected_sms": expected,
                "right_share": bool(told) and all(int(sms) == expected for sms, _ in told),
                "right_card": bool(told) and all(uuid == record.device for _, uuid in told),
            }
        )
    return found


def sm_count(device: Device) -> int:
    """Ask a whole card, in a process of its own, so that no context stays open here."""
    code = "import torch; print(torch.cuda.get_device_properties(0).multi_processor_count)"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": device.uuid}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return int(done.stdout)


def leftovers(cards: Cards, store: Store, tokens: Iterable[str]) -> dict[str, bool]:
    """Look for what a teardown should not leave, on any card."""
    names = list(tokens)
    places = [Path("/dev/shm"), Path(os.environ.get("TMPDIR", "/tmp"))]  # noqa: S108
    found = {
        "no_process_left": not processes_of(store.owner),
        "no_file_left": not any(list(place.glob(f"*{name}*")) for place in places for name in names),
        "no_state_left": not store.folder.exists(),
    }
    for number, device in enumerate(cards.devices):
        found[f"nothing_computes_on_card_{number}"] = not _computing(device)
    return found


def _computing(device: Device) -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-compute-apps=pid", "--format=csv,noheader", "-i", device.uuid]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()

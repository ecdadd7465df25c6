"""The launcher on a real card: three servers under MPS at a plan's shares, checked from inside.

Run: python -m bench.deploy_gpu --triton DIR [--libraries DIR] [--gpu UUID]

DIR is where the server's wheel was unpacked (``pip install --no-deps --target DIR nvidia-pytriton==0.7.0``). The
models run with this interpreter's packages and need torch. Approves and deploys the three-workload plan on one
card, asks every server, all at once, how many SMs it sees and for values that its GPU computed, compares with what
the shares should give, deploys again (nothing may change), tears down and looks for leftovers. Exit code 1 if
anything is not as it should be.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient import grpc

import igniter_opt as ig
from bench.card import copy_server, driver, processes_of
from bench.provenance import RESULTS, commit, machine, today, versions
from igniter_opt.deploy import launch
from igniter_opt.deploy.apply import Options
from igniter_opt.deploy.approval import approval_path, make_approval, write_approval
from igniter_opt.deploy.backends.process import ProcessBackend
from igniter_opt.deploy.inventory import Device, read_devices
from igniter_opt.deploy.records import ReplicaRecord
from igniter_opt.deploy.state import Deployment, Store
from igniter_opt.deploy.status import read_status

CONFIG = """\
backend: "python"
max_batch_size: 32
input [{ name: "x", data_type: TYPE_FP32, dims: [256] }]
output [{ name: "y", data_type: TYPE_FP32, dims: [256] }, { name: "sms", data_type: TYPE_INT32, dims: [1] }]
"""

# Tensors travel by DLPack: this server's NumPy path needs numpy < 2.
MODEL = """\
import torch
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.sms = torch.cuda.get_device_properties(0).multi_processor_count
        self.matrix = 2 * torch.eye(256, device="cuda")

    def execute(self, requests):
        answers = []
        for request in requests:
            x = torch.from_dlpack(pb_utils.get_input_tensor_by_name(request, "x").to_dlpack())
            y = (x.cuda() @ self.matrix).cpu().contiguous()
            sms = torch.full((x.shape[0], 1), self.sms, dtype=torch.int32)
            tensors = [pb_utils.Tensor.from_dlpack("y", y), pb_utils.Tensor.from_dlpack("sms", sms)]
            answers.append(pb_utils.InferenceResponse(tensors))
        return answers
"""


def main() -> None:
    """Deploy, look, tear down, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triton", type=Path, required=True, help="where the server's wheel was unpacked")
    parser.add_argument("--libraries", type=Path, help="folder of libpython, where that is no usual place")
    parser.add_argument("--gpu", help="UUID of the card; default: the first")
    parser.add_argument("--output", type=Path, default=RESULTS / f"deploy-gpu-{today()}.json")
    options = parser.parse_args()
    devices = read_devices(otherwise="run this where there is one")
    device = devices[0] if options.gpu is None else next(entry for entry in devices if entry.uuid == options.gpu)
    with tempfile.TemporaryDirectory(prefix="deploy-gpu-") as folder:
        result = _run(Path(folder), options.triton, options.libraries, device)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    sys.exit(0 if all(result["checks"].values()) else 1)


def _run(folder: Path, triton: Path, libraries: Path | None, device: Device) -> dict[str, Any]:
    server = copy_server(folder, triton)
    paths = [str(Path(sys.executable).parent), os.environ["PATH"]]
    os.environ["PATH"] = os.pathsep.join(paths)
    if libraries is not None:
        found = [str(libraries), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        os.environ["LD_LIBRARY_PATH"] = os.pathsep.join(found)
    plan = ig.solve(ig.read_instance("igniter-three"), "igniter").plan
    path = folder / "plan.json"
    ig.write_plan(plan, path)
    write_approval(make_approval(plan), approval_path(path))
    for model in {placement.model for gpu in plan.gpus for placement in gpu.placements}:
        (folder / "models" / model / "1").mkdir(parents=True)
        (folder / "models" / model / "config.pbtxt").write_text(CONFIG)
        (folder / "models" / model / "1" / "model.py").write_text(MODEL)
    store, backend = Store(folder / "state", "gpu"), ProcessBackend(server)
    request = launch.Request(
        plan=path,
        models=folder / "models",
        devices=[device],
        overrides={plan.gpus[0].name: device.uuid},
        options=Options(report=lambda line: print(line, file=sys.stderr)),
    )
    total = _sm_count()
    try:
        launch.deploy(request, store, backend)
        state = store.load()
        if state is None:
            raise SystemExit("the deployment left no state")
        with ThreadPoolExecutor(len(state.replicas)) as pool:
            placements = list(pool.map(lambda record: _ask(record, total), state.replicas))
        ready = read_status(store, state, backend).ok
        again = launch.deploy(request, store, backend).nothing
    finally:
        launch.teardown(store, backend, Options())
    return {
        "command": "python -m bench.deploy_gpu",
        "date": today(),
        "machine": machine(),
        "card": device.name,
        "card_sms": total,
        "driver": driver(),
        "versions": versions(("igniter-opt", "numpy", "torch", "tritonclient")),
        "commit": commit(),
        "placements": placements,
        "checks": {
            "sm_counts_match_shares": all(entry["sms"] == entry["expected_sms"] for entry in placements),
            "values_are_right": all(entry["values_are_right"] for entry in placements),
            "status_ok": ready,
            "redeploy_changes_nothing": again,
            **_leftovers(store, state),
        },
    }


def _sm_count() -> int:
    """Ask the whole card, in a process of its own, so that no context stays open here."""
    code = "import torch; print(torch.cuda.get_device_properties(0).multi_processor_count)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


def _ask(record: ReplicaRecord, total: int) -> dict[str, Any]:
    values = np.random.default_rng(record.batch).normal(size=(record.batch, 256)).astype(np.float32)
    with grpc.InferenceServerClient(f"127.0.0.1:{record.ports.grpc}") as client:
        tensor = grpc.InferInput("x", list(values.shape), "FP32")
        tensor.set_data_from_numpy(values)
        right = True
        for _ in range(50):
            answer = client.infer(record.model, [tensor])
            right = right and bool(np.allclose(answer.as_numpy("y"), 2 * values, rtol=1e-2, atol=1e-2))
    return {
        "placement": record.placement,
        "model": record.model,
        "batch": record.batch,
        "share_percent": record.share_percent,
        "sms": int(answer.as_numpy("sms").ravel()[0]),
        # MPS gives whole pairs of SMs, rounded down.
        "expected_sms": 2 * int(record.share_percent / 100 * total / 2 + 1e-6),
        "values_are_right": right,
    }


def _leftovers(store: Store, state: Deployment) -> dict[str, bool]:
    tokens = [record.token for record in state.records]
    temporary = Path(tempfile.gettempdir())
    ports = [port for record in state.replicas for port in (record.ports.http, record.ports.grpc, record.ports.metrics)]
    return {
        "no_process_left": not processes_of(store.owner),
        "no_shared_memory_left": not any(list(Path("/dev/shm").glob(f"*{token}*")) for token in tokens),  # noqa: S108
        "no_pipe_directory_left": not any(list(temporary.glob(f"*{token}*")) for token in tokens),
        "no_port_left": not any(_answers(port) for port in ports),
        "no_state_left": not store.folder.exists(),
    }


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    main()

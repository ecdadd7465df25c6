"""A process that runs models on a GPU at one MPS share, as told over its pipes: one JSON object a line.

It stays for a whole session, because a share is fixed when a process starts to use the GPU, and starting one takes
seconds. Every (model, batch) is captured in a CUDA graph once; its input is copied in before and its output out after
each replay, as a server does.
"""

import json
import sys
import time
from typing import Any

import numpy as np

from igniter_opt.base.errors import explained
from igniter_opt.base.optional import load
from igniter_opt.profiler.models.catalogue import Precision, built, find_model, set_precision

_WARM_UPS = 3
# A sleeping process wakes up late; the rest is waited for awake.
_SPIN_S = 2e-4
# What a process takes on the card before any model, for the libraries' code and handles.
_CONTEXT_MIB = 600.0


class Graphs:
    """The models of one process, each captured per batch."""

    def __init__(self, precision: Precision) -> None:
        self.torch = load("torch")
        self.precision = precision
        set_precision(precision)
        self.modules: dict[str, Any] = {}
        self.graphs: dict[tuple[str, int], tuple[Any, Any, Any, list[Any], list[Any]]] = {}
        self.pool: Any = None

    def prepare(self, model: str, batch: int) -> None:
        """Capture a model at a batch, unless that was done."""
        if (model, batch) in self.graphs:
            return
        torch = self.torch
        spec = find_model(model)
        if model not in self.modules:
            self.modules[model] = built(spec, self.precision, "cuda")
        module = self.modules[model]
        host = spec.inputs(batch, "cpu").pin_memory()
        device = host.cuda()
        stream = torch.cuda.Stream()
        with torch.no_grad(), torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                module(device)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        if self.pool is None:
            self.pool = torch.cuda.graph_pool_handle()
        with torch.no_grad(), torch.cuda.graph(graph, pool=self.pool):
            result = module(device)
        outputs = [result] if torch.is_tensor(result) else list(result)
        self.graphs[model, batch] = (
            graph, host, device, outputs, [torch.empty_like(out, device="cpu").pin_memory() for out in outputs],
        )  # fmt: skip

    def forget(self) -> None:
        """Free everything."""
        self.graphs.clear()
        self.modules.clear()
        self.pool = None
        self.torch.cuda.empty_cache()

    def run(
        self,
        model: str,
        batch: int,
        start_ns: int,
        ramp_s: float,
        seconds: float,
        tail_s: float,
        period_ms: float = 0.0,
        phase_ms: float = 0.0,
    ) -> dict[str, Any]:
        """Run batches one after the other; summarize those that began after the ramp and before the tail.

        Parameters
        ----------
        period_ms, phase_ms
            With a period, one batch begins in each, or as soon as the one before has ended; the first after the phase.

        Returns
        -------
        dict
            Times in ms: `wall_ms` from handing a batch to the GPU to having its answer, copies left out;
            `gpu_ms` of it as the GPU's own events say; `copy_ms` of copying in and out.
        """
        torch = self.torch
        graph, host, device, outputs, answers = self.graphs[model, batch]
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        rows = []
        while time.monotonic_ns() < start_ns:
            time.sleep(max(0.0, (start_ns - time.monotonic_ns()) / 1e9))
        first, last = start_ns + ramp_s * 1e9, start_ns + (ramp_s + seconds) * 1e9
        stop, due = last + tail_s * 1e9, start_ns + phase_ms * 1e6
        while time.monotonic_ns() < stop:
            if period_ms > 0.0:
                while (early := due - time.monotonic_ns()) > 0:
                    time.sleep(max(0.0, early / 1e9 - _SPIN_S))
                due += period_ms * 1e6
            now = time.monotonic_ns()
            device.copy_(host, non_blocking=True)
            torch.cuda.synchronize()
            loaded = time.perf_counter()
            begin.record()
            graph.replay()
            end.record()
            torch.cuda.synchronize()
            done = time.perf_counter()
            for out, answer in zip(outputs, answers, strict=True):
                answer.copy_(out, non_blocking=True)
            torch.cuda.synchronize()
            if first <= now < last:
                over = (time.monotonic_ns() - now) / 1e6
                wall = (done - loaded) * 1e3
                rows.append((wall, begin.elapsed_time(end), over - wall))
        table = np.array(rows) if rows else np.empty((0, 3))
        if len(table) == 0:
            return {
                "batches": 0,
                "wall_ms": 0.0,
                "wall_std_ms": 0.0,
                "wall_median_ms": 0.0,
                "gpu_ms": 0.0,
                "copy_ms": 0.0,
            }
        mean, std = table.mean(axis=0), table.std(axis=0)
        return {
            "batches": len(table),
            "wall_ms": float(mean[0]),
            "wall_std_ms": float(std[0]),
            "wall_median_ms": float(np.median(table[:, 0])),
            "gpu_ms": float(mean[1]),
            "copy_ms": float(mean[2]),
        }

    def sms(self) -> int:
        """Return the number of SMs that this process may use."""
        return int(self.torch.cuda.get_device_properties(0).multi_processor_count)

    def copy_bytes_per_ms(self) -> float:
        """Measure how fast pinned memory is copied to the GPU."""
        torch = self.torch
        host = torch.empty(64 * 2**20, dtype=torch.uint8).pin_memory()
        device = host.cuda()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        times = []
        for _ in range(20):
            begin.record()
            device.copy_(host, non_blocking=True)
            end.record()
            torch.cuda.synchronize()
            times.append(begin.elapsed_time(end))
        return float(host.numel() / np.median(times))

    def facts(self, model: str, batches: list[int]) -> dict[str, Any]:
        """Count a model's kernels, bytes, and the memory that it takes, captured at its least and largest batch (MiB).

        For a process that has the GPU to itself.
        """
        torch = self.torch
        spec = find_model(model)
        used = []
        least, largest = min(batches), max(batches)
        for batch in (least, largest):
            self.forget()
            before = torch.cuda.mem_get_info()[0]
            self.prepare(model, batch)
            torch.cuda.empty_cache()
            used.append((before - torch.cuda.mem_get_info()[0]) / 2**20)
        self.forget()
        module = built(spec, self.precision, "cuda")
        inputs = spec.inputs(1, "cuda")
        with torch.no_grad():
            module(inputs)
            activities = [torch.profiler.ProfilerActivity.CUDA]
            with torch.profiler.profile(activities=activities) as profiler:
                result = module(inputs)
                torch.cuda.synchronize()
        kernels = sum(
            1
            for event in profiler.events()
            if event.device_type == torch.autograd.DeviceType.CUDA and not event.name.startswith(("Memcpy", "Memset"))
        )
        outputs = [result] if torch.is_tensor(result) else list(result)
        size = sum(out.numel() * out.element_size() for out in outputs)
        del module, result, outputs, inputs
        torch.cuda.empty_cache()
        per_item = max(0.0, (used[1] - used[0]) / (largest - least))
        return {
            "kernels": kernels,
            "input_bytes": spec.input_bytes,
            "output_bytes": size,
            "fixed_mib": max(0.0, used[0] - per_item * least) + _CONTEXT_MIB,
            "per_item_mib": per_item,
        }


def answer(graphs: Graphs, order: dict[str, Any]) -> Any:
    """Do what an order says."""
    match order["do"]:
        case "prepare":
            graphs.prepare(order["model"], order["batch"])
            return None
        case "run":
            return graphs.run(**{key: value for key, value in order.items() if key != "do"})
        case "forget":
            graphs.forget()
            return None
        case "sms":
            return graphs.sms()
        case "copy":
            return graphs.copy_bytes_per_ms()
        case "facts":
            return graphs.facts(order["model"], order["batches"])
    raise ValueError(order["do"])


def main() -> None:
    """Answer orders from stdin on stdout until stdin ends."""
    out, sys.stdout = sys.stdout, sys.stderr  # libraries may print
    graphs = Graphs(sys.argv[1])  # type: ignore[arg-type]
    for line in sys.stdin:
        try:
            reply = {"result": answer(graphs, json.loads(line))}
        except Exception as error:  # the other side decides what to do about it
            reply = {"error": explained(error)}
        print(json.dumps(reply), file=out, flush=True)


if __name__ == "__main__":
    main()

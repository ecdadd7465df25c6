"""A model for Triton's Python backend: a torch module, captured in a CUDA graph for every batch size.

This file is copied into a model's version folder and runs in the server's Python environment, which needs torch and
this package. Beside it lies ``served.json``: the model (as `catalogue.find_model` takes it) and its precision;
a model in a file lies in the same folder. Where the configuration asks for an instance on the CPU (``KIND_CPU``, as
``deploy --cpu`` writes it) the module runs there, without graphs.
Tensors travel by DLPack, because the backend's NumPy path needs numpy < 2.
"""

import gc
import importlib
import json
from pathlib import Path
from typing import Any

# Stands for this file's folder in the name of a model.
FOLDER = "{folder}"


class Captured:
    """A module on the GPU, with a graph for every batch size up to the largest; `host` takes the inputs."""

    def __init__(self, torch: Any, module: Any, inputs: Any) -> None:
        largest = len(inputs)
        self.host = inputs.pin_memory()
        self.device = self.host.cuda()
        stream, pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
        self.graphs, self.results = {}, {}
        with torch.no_grad():
            # Everything runs once before anything is captured, and what that took is given back: else it would lie
            # beside the graphs' own memory, and the server need more than its model was profiled with.
            for size in range(largest, 0, -1):
                with torch.cuda.stream(stream):
                    for _ in range(2):
                        module(self.device[:size])
                stream.synchronize()
            torch.cuda.empty_cache()
            for size in range(largest, 0, -1):
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, pool=pool):
                    result = module(self.device[:size]).float()
                self.graphs[size], self.results[size] = graph, result
        self.answer = torch.empty_like(self.results[largest], device="cpu").pin_memory()
        # Waiting spins on a processor unless told otherwise, and cards are shared by many servers.
        self.done = torch.cuda.Event(blocking=True)

    def run(self, size: int) -> Any:
        """Return the outputs of the first inputs, valid until the next run."""
        self.device[:size].copy_(self.host[:size], non_blocking=True)
        self.graphs[size].replay()
        self.answer[:size].copy_(self.results[size], non_blocking=True)
        self.done.record()
        self.done.synchronize()
        return self.answer[:size]


class Plain:
    """The same on the CPU, where nothing is captured."""

    def __init__(self, torch: Any, module: Any, inputs: Any) -> None:
        self.torch, self.module, self.host = torch, module, inputs
        self.run(len(inputs))  # what is set up at first use

    def run(self, size: int) -> Any:
        """Return the outputs of the first inputs."""
        with self.torch.no_grad():
            return self.module(self.host[:size]).float()


class TritonPythonModel:
    """The interface that Triton's Python backend asks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Build the model, and on a GPU capture every batch size that the batcher may form."""
        from igniter_opt.profiler.models.catalogue import built, find_model, set_precision

        torch: Any = importlib.import_module("torch")
        folder = Path(__file__).parent
        order = json.loads((folder / "served.json").read_text(encoding="utf-8"))
        config = json.loads(args["model_config"])
        torch.set_num_threads(1)
        set_precision(order["precision"])
        spec = find_model(order["model"].replace(FOLDER, str(folder)))
        self.torch, self.name = torch, config["output"][0]["name"]
        inputs = spec.inputs(max(1, int(config["max_batch_size"])), "cpu")
        self.model: Captured | Plain
        if args["model_instance_kind"] == "CPU":
            self.model = Plain(torch, built(spec, order["precision"], "cpu"), inputs)
        else:
            self.model = Captured(torch, built(spec, order["precision"], "cuda"), inputs)
        gc.collect()
        gc.freeze()  # or a full collection goes through all of torch and stalls a batch

    def execute(self, requests: Any) -> list[Any]:
        """Run all requests as one batch."""
        import triton_python_backend_utils as backend

        host, counts, filled = self.model.host, [], 0
        for request in requests:
            tensor = self.torch.from_dlpack(backend.get_input_tensor_by_name(request, "INPUT").to_dlpack())
            host[filled : filled + len(tensor)].copy_(tensor)
            counts.append(len(tensor))
            filled += len(tensor)
        return [
            backend.InferenceResponse([backend.Tensor.from_dlpack(self.name, part.clone())])
            for part in self.model.run(filled).split(counts)
        ]

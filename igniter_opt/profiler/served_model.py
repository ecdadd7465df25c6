"""A model for Triton's Python backend: a torch module, captured in a CUDA graph for every batch size.

This file is copied into a model's version folder and runs in the server's Python environment, which needs torch and
this package. Beside it lies ``served.json``: the model (as `profiler.models.find_model` takes it) and its precision;
a model in a file lies in the same folder.
Tensors travel by DLPack, because the backend's NumPy path needs numpy < 2.
"""

import gc
import importlib
import json
from pathlib import Path
from typing import Any

# Stands for this file's folder in the name of a model.
FOLDER = "{folder}"


class TritonPythonModel:
    """The interface that Triton's Python backend asks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Build the model, and capture every batch size that the batcher may form."""
        from igniter_opt.profiler.models import built, find_model, set_precision

        torch: Any = importlib.import_module("torch")
        folder = Path(__file__).parent
        order = json.loads((folder / "served.json").read_text(encoding="utf-8"))
        config = json.loads(args["model_config"])
        largest = max(1, int(config["max_batch_size"]))
        torch.set_num_threads(1)
        set_precision(order["precision"])
        spec = find_model(order["model"].replace(FOLDER, str(folder)))
        self.torch, self.name = torch, config["output"][0]["name"]
        module = built(spec, order["precision"], "cuda")
        self.host = spec.inputs(largest, "cpu").pin_memory()
        self.device = self.host.cuda()
        stream, pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()
        self.graphs, self.results = {}, {}
        with torch.no_grad():
            for size in range(largest, 0, -1):
                with torch.cuda.stream(stream):
                    for _ in range(2):
                        module(self.device[:size])
                stream.synchronize()
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, pool=pool):
                    result = module(self.device[:size]).float()
                self.graphs[size], self.results[size] = graph, result
        self.answer = torch.empty_like(self.results[largest], device="cpu").pin_memory()
        # Waiting spins on a processor unless told otherwise, and cards are shared by many servers.
        self.done = torch.cuda.Event(blocking=True)
        gc.collect()
        gc.freeze()  # or a full collection goes through all of torch and stalls a batch

    def execute(self, requests: Any) -> list[Any]:
        """Run all requests as one batch."""
        import triton_python_backend_utils as backend

        torch: Any = self.torch
        counts, filled = [], 0
        for request in requests:
            tensor = torch.from_dlpack(backend.get_input_tensor_by_name(request, "INPUT").to_dlpack())
            self.host[filled : filled + len(tensor)].copy_(tensor)
            counts.append(len(tensor))
            filled += len(tensor)
        self.device[:filled].copy_(self.host[:filled], non_blocking=True)
        self.graphs[filled].replay()
        self.answer[:filled].copy_(self.results[filled], non_blocking=True)
        self.done.record()
        self.done.synchronize()
        return [
            backend.InferenceResponse([backend.Tensor.from_dlpack(self.name, part.clone())])
            for part in self.answer[:filled].split(counts)
        ]

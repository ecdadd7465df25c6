"""Small models for tests: a Triton model folder, and its python-backend code."""

import json
from pathlib import Path
from typing import Any

DOUBLE = """\
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", 2 * x)]))
        return answers
"""

CONFIG = """\
backend: "python"
max_batch_size: %d
input [{ name: "x", data_type: TYPE_FP32, dims: [3] }]
output [{ name: "y", data_type: TYPE_FP32, dims: [3] }]
"""

CHECK: dict[str, Any] = {"data": [{"x": [1.0, 2.0, -3.5]}], "validation_data": [{"y": [2.0, 4.0, -7.0]}]}


def write_model(folder: Path, name: str, *, max_batch: int = 32, code: str = DOUBLE, check: Any = CHECK) -> Path:
    """Write a model that doubles its input."""
    model = folder / name
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(CONFIG % max_batch)
    (model / "1" / "model.py").write_text(code)
    if check is not None:
        (model / "check.json").write_text(json.dumps(check))
    return model


def write_models(folder: Path, names: tuple[str, ...] = ("alexnet", "resnet50", "ssd"), **options: Any) -> Path:
    """Write the models of the three-workload instance."""
    for name in names:
        write_model(folder, name, **options)
    return folder


def write_installation(folder: Path) -> Path:
    """Write what looks like a fetched server (it cannot be started)."""
    server = folder / "server/pytriton/tritonserver/bin/tritonserver"
    server.parent.mkdir(parents=True)
    server.write_text("")
    server.chmod(0o755)
    (folder / "installation.json").write_text(json.dumps({"wheel": "none", "python": "3.11", "libraries": None}))
    return server

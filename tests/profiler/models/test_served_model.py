"""What the exported Python-backend model answers, run on the CPU as the backend runs it."""

import gc
import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from igniter_opt.profiler.models.catalogue import Precision, built, find_model
from igniter_opt.profiler.models.export import export_torch

torch = pytest.importorskip("torch")

TINY = "tiny=tests.profiler.tiny:pictures@3x16x16"
BATCH = 8


@dataclass
class Tensor:
    """The backend's tensor: values that travel by DLPack."""

    name: str
    values: Any

    def to_dlpack(self) -> Any:
        return torch.utils.dlpack.to_dlpack(self.values)

    @staticmethod
    def from_dlpack(name: str, values: Any) -> "Tensor":
        return Tensor(name, torch.from_dlpack(values))


@dataclass
class Response:
    """The backend's response."""

    tensors: list[Tensor]


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module that the backend gives to models."""
    module = ModuleType("triton_python_backend_utils")
    module.Tensor, module.InferenceResponse = Tensor, Response  # type: ignore[attr-defined]
    module.get_input_tensor_by_name = lambda request, name: request[name]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    gc.unfreeze()


def start(folder: Path, precision: Precision) -> Any:
    """Export the model and start it, as a server does with ``instance_group [ { kind: KIND_CPU } ]``."""
    path = export_torch(TINY, find_model(TINY), folder, BATCH, precision) / "1" / "model.py"
    spec = importlib.util.spec_from_file_location("served", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.TritonPythonModel()
    config = {"max_batch_size": BATCH, "output": [{"name": "OUTPUT"}]}
    model.initialize({"model_config": json.dumps(config), "model_instance_kind": "CPU"})
    return model


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.usefixtures("backend")
def test_requests_run_as_one_batch_and_each_gets_its_own_answers(tmp_path: Path, precision: Precision) -> None:
    model = start(tmp_path, precision)
    module = built(find_model(TINY), precision, "cpu")
    sizes = []
    model.model.module.register_forward_hook(lambda _, given, __: sizes.append(len(given[0])))
    kept = []
    for counts in ((1,), (3, 1, 2), (BATCH,), (2, 2)):
        given = [torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8) for count in counts]
        responses = model.execute([{"INPUT": Tensor("INPUT", part)} for part in given])
        kept += list(zip(given, responses, strict=True))
    assert sizes == [1, 6, BATCH, 4]
    for part, response in kept:  # compared last: a later batch must not have changed an answer
        (answer,) = response.tensors
        assert (answer.name, answer.values.dtype) == ("OUTPUT", torch.float32)
        with torch.no_grad():
            error = 1e-5 if precision == "fp32" else 2e-3
            torch.testing.assert_close(answer.values, module(part).float(), rtol=error, atol=error)

"""From a model to the folder that Triton serves, as ``deploy --models`` takes it."""

import json
import shutil
from importlib import resources
from pathlib import Path

from igniter_opt.deploy.extras import load
from igniter_opt.errors import InputError
from igniter_opt.profiler.models import ModelSpec, Precision
from igniter_opt.profiler.served_model import FOLDER

CONFIG = """\
backend: "{backend}"
max_batch_size: {batch}
input [ {{ name: "INPUT", data_type: TYPE_{kind}, dims: [ {dims} ] }} ]
output [ {{ name: "OUTPUT", data_type: TYPE_FP32, dims: [ {output} ] }} ]
"""


def output_shape(spec: ModelSpec) -> tuple[int, ...]:
    """Return the shape of a model's output for one input; it must have a single output.

    Nothing is computed, but for models in files.
    """
    torch = load("torch")
    device = "cpu" if spec.from_file else "meta"
    with torch.device(device), torch.no_grad():
        module = spec.build().eval()
        result = module(spec.inputs(1, device))
    if not torch.is_tensor(result):
        raise InputError(f"model {spec.name}: has several outputs; wrap it in a module that returns one tensor")
    return tuple(int(size) for size in result.shape[1:])


def export_torch(text: str, spec: ModelSpec, folder: Path, batch: int, precision: Precision) -> Path:
    """Write the Python-backend model that serves a torch module with CUDA graphs; return its folder.

    Parameters
    ----------
    text
        The model as `models.find_model` takes it; the server's Python environment must be able to build it. Of a
        model in a file, the folder keeps a copy.
    batch
        The largest batch that the batcher may form.

    Raises
    ------
    InputError
        The folder exists or cannot be written, or the model has several outputs.
    """
    config = CONFIG.format(
        backend="python",
        batch=batch,
        kind=spec.data_type,
        dims=", ".join(map(str, spec.shape)),
        output=", ".join(map(str, output_shape(spec))),
    )
    code = (resources.files("igniter_opt.profiler") / "served_model.py").read_text("utf-8")
    target = folder / spec.name
    try:
        (target / "1").mkdir(parents=True)
        (target / "1" / "model.py").write_text(code, encoding="utf-8")
        if spec.from_file:
            name, _, source = text.partition("=")
            source, at, form = source.partition("@")
            shutil.copyfile(source, target / "1" / Path(source).name)
            text = f"{name}={FOLDER}/{Path(source).name}{at}{form}"
        (target / "1" / "served.json").write_text(
            json.dumps({"model": text, "precision": precision}) + "\n", encoding="utf-8"
        )
        (target / "config.pbtxt").write_text(config, encoding="utf-8")
    except FileExistsError:
        raise InputError(f"{target}: exists; remove it, or give another folder") from None
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror})") from None
    return target

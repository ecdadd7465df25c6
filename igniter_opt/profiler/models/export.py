"""From a model to the folder that Triton serves, as ``deploy --models`` takes it."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from igniter_opt.base.errors import InputError, explained
from igniter_opt.base.optional import load
from igniter_opt.deploy.triton.how_run import PRECISION_PARAMETER
from igniter_opt.profiler.models.catalogue import ModelSpec, Precision, made
from igniter_opt.profiler.models.served_model import FOLDER

# Batches that models are tried at: one, and one that no tracer has seen.
TRIED = (1, 3)
CONFIG = """\
backend: "{backend}"
max_batch_size: {batch}
input [ {{ name: "INPUT", data_type: TYPE_{kind}, dims: [ {dims} ] }} ]
output [ {{ name: "OUTPUT", data_type: TYPE_FP32, dims: [ {output} ] }} ]
parameters {{ key: "igniter_opt_precision" value: {{ string_value: "{precision}" }} }}
"""


@contextmanager
def in_place_of(folder: Path, name: str) -> Iterator[Path]:
    """Give a folder to make a model's folder in, which takes the place of one that was exported before.

    The old one stays until the new one is whole.

    Raises
    ------
    InputError
        What is there was not exported by this package, or the folder cannot be written.
    """
    target = folder / name
    if target.exists() and not _is_exported(target):
        raise InputError(f"{target}: was not made by `models export`, and is left as it is; give another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder, prefix=".igniter-opt-"))
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from None
    try:
        yield scratch / "new"
        if target.exists():
            target.rename(scratch / "old")
        (scratch / "new" / name).rename(target)
    except OSError as error:
        if (scratch / "old").exists() and not target.exists():
            (scratch / "old").rename(target)
        raise InputError(f"{target}: cannot be replaced ({error.strerror})") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _is_exported(target: Path) -> bool:
    try:
        text = (target / "config.pbtxt").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    # Folders of older versions say no precision; those of torch modules are known by the file beside their code.
    return PRECISION_PARAMETER in text or (target / "1" / "served.json").is_file()


def output_shape(spec: ModelSpec) -> tuple[int, ...]:
    """Return the shape of a model's output for one input.

    Raises
    ------
    InputError
        It cannot be made or run, has several outputs, or one whose first dimension is not the batch.
    """
    torch = load("torch")
    module = made(spec)
    for batch in TRIED:
        try:
            with torch.no_grad():
                result = module(spec.inputs(batch, "cpu"))
        except Exception as error:  # what a module of the user's raises
            raise InputError(
                f"model {spec.name}: does not run on a batch of {batch} of shape {list(spec.shape)}"
                f" ({explained(error)})"
            ) from None
        if not torch.is_tensor(result):
            raise InputError(
                f"model {spec.name}: returns {type(result).__name__}, perhaps several outputs; wrap it in a module that"
                " returns one tensor"
            )
        if tuple(result.shape[:1]) != (batch,):
            raise InputError(
                f"model {spec.name}: answers a batch of {batch} in shape {list(result.shape)}; the first dimension must"
                " be the batch"
            )
    return tuple(int(size) for size in result.shape[1:])


def served_code() -> str:
    """Return the code that serves a torch module in Triton's Python backend."""
    return (resources.files("igniter_opt.profiler.models") / "served_model.py").read_text("utf-8")


def export_torch(text: str, spec: ModelSpec, folder: Path, batch: int, precision: Precision) -> Path:
    """Write the Python-backend model that serves a torch module with CUDA graphs; return its folder.

    Parameters
    ----------
    text
        The model as `catalogue.find_model` takes it; the server's Python environment must be able to build it. Of a
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
        precision=precision,
    )
    code = served_code()
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
        raise InputError(f"{target}: exists; --overwrite replaces it, or give another folder") from None
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror})") from None
    return target

"""From a model to ONNX with a free batch, and from there to a TensorRT plan; ONNX answers are compared with torch's."""

import base64
import json
import logging
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from igniter_opt.base.errors import InputError, explained
from igniter_opt.base.optional import load
from igniter_opt.deploy.triton.model_config import CONFIG_FILE
from igniter_opt.deploy.triton.samples import CHECK_FILE
from igniter_opt.profiler.models.catalogue import ModelSpec, Precision, built
from igniter_opt.profiler.models.export import CONFIG, TRIED, output_shape

TRTEXEC = "trtexec"
# Largest ‖ONNX - torch‖ / ‖torch‖ over a batch, both on the processor; float16 keeps three digits.
TOLERANCE: dict[Precision, float] = {"fp32": 1e-4, "tf32": 1e-4, "fp16": 2e-2}
# What a server on a GPU may differ by from the sample's answer, which torch computed in float32: TF32 keeps three
# digits, and errors add up over layers.
SERVED_TOLERANCE = 2e-2
_OPSET = 18
_TRTEXEC_S = 3600.0


def export_onnx(spec: ModelSpec, folder: Path, batch: int, precision: Precision) -> Path:
    """Write the folder of an ONNX model with a dynamic batch axis, compared with torch; return it.

    Parameters
    ----------
    batch
        The largest batch that the batcher may form.

    Raises
    ------
    InputError
        The model cannot be exported, its answers differ from torch's, or the folder exists or cannot be written.
    """
    with _new_folder(folder, spec.name) as target:
        sample = _write_onnx(spec, target / "1" / "model.onnx", precision)
        _write_config(spec, target, "onnxruntime", batch, precision, sample)
    return folder / spec.name


def export_tensorrt(spec: ModelSpec, folder: Path, batch: int, precision: Precision) -> Path:
    """Write the folder of a TensorRT plan for batches of 1 up to `batch`, built on this machine's GPU by ``trtexec``.

    The ONNX model that it is built from is compared with torch; the plan is not, since that takes TensorRT's runtime.
    The sample beside it lets a deployment check the plan's answers.

    Raises
    ------
    InputError
        There is no ``trtexec``, it fails, or what `export_onnx` raises.
    """
    program = shutil.which(TRTEXEC)
    if program is None:
        raise InputError(f"{TRTEXEC} is not on PATH; it comes with TensorRT (or export with --format onnx or torch)")
    with _new_folder(folder, spec.name) as target, tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "model.onnx"
        # Half precision is the builder's work: it keeps layers in float32 where that is better.
        sample = _write_onnx(spec, source, "fp32")
        _build_plan(program, spec, source, target / "1" / "model.plan", batch, precision)
        _write_config(spec, target, "tensorrt", batch, precision, sample)
    return folder / spec.name


class _new_folder:  # noqa: N801
    """A model's folder with version 1, put in place only when everything in it was written."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.target = folder, folder / name
        if self.target.exists():
            raise InputError(f"{self.target}: exists; --overwrite replaces it, or give another folder")

    def __enter__(self) -> Path:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.scratch = Path(tempfile.mkdtemp(dir=self.folder, prefix=".igniter-opt-"))
            self.scratch.chmod(0o755)
            (self.scratch / "1").mkdir()
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be written ({error.strerror})") from None
        return self.scratch

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                self.scratch.rename(self.target)
        except OSError as failure:
            raise InputError(f"{self.target}: cannot be written ({failure.strerror})") from None
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)


def _write_onnx(spec: ModelSpec, path: Path, precision: Precision) -> tuple[Any, Any]:
    """Export and compare; return one input and torch's answer to it."""
    torch = load("torch")
    load("onnxscript")
    output_shape(spec)  # one output, or an error that says so
    module = _in_float32(built(spec, precision, "cpu"))
    free = torch.export.Dim("batch", min=1)
    logging.disable(logging.ERROR)  # or the exporter shows its stack besides
    try:
        program = torch.onnx.export(
            module,
            (spec.inputs(2, "cpu"),),
            dynamo=True,
            dynamic_shapes=({0: free},),
            input_names=["INPUT"],
            output_names=["OUTPUT"],
            opset_version=_OPSET,
            verbose=False,
        )
        program.save(str(path), external_data=False)
    except InputError:
        raise
    except Exception as error:  # the exporter raises what the module's own code and a dozen passes raise
        reason = explained(error.__cause__ or error)
        raise InputError(f"model {spec.name}: torch cannot export it to ONNX ({reason})") from None
    finally:
        logging.disable(logging.NOTSET)
    return _compare(spec, module, path, precision)


def _in_float32(inner: Any) -> Any:
    """Answer in float32, whatever a module computes in."""
    nn = load("torch").nn

    class InFloat32(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, given: Any) -> Any:
            return self.inner(given).float()

    return InFloat32().eval()


def _compare(spec: ModelSpec, module: Any, path: Path, precision: Precision) -> tuple[Any, Any]:
    torch, runtime = load("torch"), load("onnxruntime")
    try:
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common type
        raise InputError(f"model {spec.name}: onnxruntime cannot load it ({explained(error)})") from None
    torch.manual_seed(1)
    for size in TRIED:
        given = spec.inputs(size, "cpu")
        try:
            with torch.no_grad():
                wanted = module(given).numpy()
        except Exception as error:  # what a module of the user's raises
            raise InputError(
                f"model {spec.name}: does not run at batch {size} in {precision} on the processor ({explained(error)})"
            ) from None
        try:
            (found,) = session.run(None, {session.get_inputs()[0].name: given.numpy()})
        except Exception as error:  # onnxruntime's errors have no common type
            raise InputError(
                f"model {spec.name}: its ONNX model does not run at batch {size} ({explained(error)})"
            ) from None
        size_of_wanted = max(float(np.linalg.norm(wanted)), 1e-30)
        same_shape = found.shape == wanted.shape
        off = float(np.linalg.norm(found.astype(np.float64) - wanted)) / size_of_wanted if same_shape else np.inf
        if not off <= TOLERANCE[precision]:
            raise InputError(
                f"model {spec.name}: its ONNX model answers otherwise than torch at batch {size}: shape"
                f" {list(found.shape)} for {list(wanted.shape)}, error {off:.2g} (at most {TOLERANCE[precision]:g})"
            )
    return given[0].numpy(), wanted[0]


def _build_plan(program: str, spec: ModelSpec, source: Path, plan: Path, batch: int, precision: Precision) -> None:
    inner = "x".join(map(str, spec.shape))
    command = [
        program,
        f"--onnx={source}",
        f"--saveEngine={plan}",
        f"--minShapes=INPUT:1x{inner}",
        f"--optShapes=INPUT:{batch}x{inner}",
        f"--maxShapes=INPUT:{batch}x{inner}",
        "--skipInference",
    ]
    command += {"fp32": ["--noTF32"], "tf32": [], "fp16": ["--fp16"]}[precision]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TRTEXEC_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise InputError(f"model {spec.name}: {TRTEXEC} did not end within {_TRTEXEC_S:g} s") from None
    if done.returncode != 0 or not plan.is_file():
        said = [line for line in (done.stdout + done.stderr).splitlines() if "[E]" in line or "rror" in line][:3]
        raise InputError(
            "\n".join([f"model {spec.name}: {TRTEXEC} built no plan (exit code {done.returncode})", *said])
        )


def _write_config(
    spec: ModelSpec, target: Path, backend: str, batch: int, precision: Precision, sample: tuple[Any, Any]
) -> None:
    given, answer = sample
    text = CONFIG.format(
        backend=backend,
        batch=batch,
        kind=spec.data_type,
        dims=", ".join(map(str, spec.shape)),
        output=", ".join(map(str, answer.shape)),
        precision=precision,
    )
    (target / CONFIG_FILE).write_text(text, encoding="utf-8")
    check = {
        "data": [{"INPUT": _tensor(given)}],
        "validation_data": [{"OUTPUT": _tensor(answer.astype(np.float32))}],
        "tolerance": SERVED_TOLERANCE,
    }
    (target / CHECK_FILE).write_text(json.dumps(check) + "\n", encoding="utf-8")


def _tensor(values: Any) -> dict[str, Any]:
    return {"b64": base64.b64encode(np.ascontiguousarray(values).tobytes()).decode(), "shape": list(values.shape)}

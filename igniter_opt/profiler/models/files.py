"""Models in files: TorchScript, and ONNX by way of ``onnx2torch``, whose answers are compared with onnxruntime's."""

import functools
import hashlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from igniter_opt.base.errors import InputError, explained
from igniter_opt.base.optional import load
from igniter_opt.profiler.models.capturable import capturable

# Largest ‖torch - ONNX‖ / ‖ONNX‖ over a batch, both on the processor in float32.
TOLERANCE = 1e-4
# The newest that onnx2torch converts but for a few operators; what does not convert as it is, is put in terms of it.
_OPSET = 17
_TRIED = (1, 3)
# Environment variable: the folder of `conversions_kept`, for the processes that are started in it.
_KEPT = "IGNITER_OPT_CONVERTED"


class Input(NamedTuple):
    """One input without its batch dimension, and numpy's name of its type."""

    shape: tuple[int, ...]
    kind: str


@contextmanager
def conversions_kept() -> Iterator[None]:
    """Let this process, and those that it starts meanwhile, convert every ONNX file once.

    Converting takes up to a minute, and a session on a card has dozens of processes.
    """
    before = os.environ.get(_KEPT)
    with tempfile.TemporaryDirectory(prefix="igniter-opt-") as folder:
        os.environ[_KEPT] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ[_KEPT]
            else:
                os.environ[_KEPT] = before


def torchscript_module(path: Path) -> Any:
    """Load a TorchScript file.

    Raises
    ------
    InputError
        Torch cannot read it.
    """
    torch = load("torch")
    try:
        return torch.jit.load(str(path), map_location="cpu").eval()
    except Exception as error:  # of its reader and of what it unpickles
        raise InputError(f"{path}: is no TorchScript file ({explained(error)})") from None


def onnx_input(path: Path) -> Input:
    """Read what an ONNX model takes.

    Raises
    ------
    InputError
        The file is no ONNX model, or does not take one tensor whose first dimension, the batch, is free.
    """
    return _input(path, _stamp(path))


def _stamp(path: Path) -> tuple[int, int]:
    """Say which state of a file this is; one that is not there is found out when it is read."""
    with suppress(OSError):
        found = path.stat()
        return found.st_mtime_ns, found.st_size
    return 0, 0


@functools.lru_cache(maxsize=64)
def _input(path: Path, _: tuple[int, int]) -> Input:
    """Parsing a large file takes seconds, and processes ask for every batch."""
    model = _read_onnx(path)
    if not model.graph.node:
        raise _no_onnx(path, "it holds no operations")
    weights = {entry.name for entry in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in weights]
    if len(inputs) != 1:
        raise InputError(f"{path}: has {len(inputs)} inputs; wrap it in a module that takes one tensor")
    tensor = inputs[0].type.tensor_type
    first, *rest = tensor.shape.dim or [None]
    if first is None or first.HasField("dim_value"):
        raise InputError(f"{path}: its batch is not free; export it with a dynamic first dimension")
    sizes = tuple(int(dim.dim_value) for dim in rest)
    if not sizes or min(sizes) < 1:
        raise InputError(f"{path}: has a free dimension beside the batch; export it with fixed ones")
    return Input(sizes, str(load("onnx").helper.tensor_dtype_to_np_dtype(tensor.elem_type)))


def onnx_module(path: Path) -> Any:
    """Convert an ONNX model to a torch module that fits in a CUDA graph, on the processor.

    It may be captured at a batch, on any device, after it ran at that batch once.

    Raises
    ------
    InputError
        It has operations that cannot be converted or captured, or the module answers otherwise than onnxruntime.
    """
    torch = load("torch")
    kept = _kept(path)
    # What onnx2torch's ways make torch warn of matters only if answers differ.
    with torch.device("cpu"), warnings.catch_warnings(action="ignore"):
        if kept is not None and kept.is_file():
            # Written below by a process of this session, in a folder that nobody else may enter.
            return capturable(torch.load(kept, weights_only=False), str(path)).eval()
        model = _read_onnx(path)
        _check_onnx(model, path)
        inner = _converted(model, path)
        module = capturable(inner, str(path)).eval()
        _compare(module, model, onnx_input(path), path)
        if kept is not None:
            _keep(inner, kept)
    return module


def _kept(path: Path) -> Path | None:
    """Return where the converted model is or will be kept, if it is to be."""
    folder = os.environ.get(_KEPT)
    if not folder:
        return None
    name = hashlib.sha256(repr((str(path.absolute()), _stamp(path))).encode()).hexdigest()
    return Path(folder) / f"{name}.pt"


def _keep(inner: Any, kept: Path) -> None:
    """Write a converted model; where that fails, for want of room say, every process converts it itself."""
    torch = load("torch")
    # Several processes may write the same.
    own = kept.with_suffix(f".{os.getpid()}")
    try:
        torch.save(inner, own)
        own.replace(kept)
    except Exception:  # also what cannot be pickled, which has many types
        own.unlink(missing_ok=True)


def _read_onnx(path: Path) -> Any:
    """Parse a file."""
    try:
        return load("onnx").load(str(path))
    except Exception as error:  # protobuf's and onnx's errors have no common type
        raise _no_onnx(path, explained(error)) from None


def _check_onnx(model: Any, path: Path) -> None:
    try:
        load("onnx").checker.check_model(model)
    except Exception as error:  # protobuf's and onnx's errors have no common type
        raise _no_onnx(path, explained(error)) from None


def _no_onnx(path: Path, why: str) -> InputError:
    return InputError(f"{path}: is no ONNX model ({why})")


def _converted(model: Any, path: Path) -> Any:
    onnx, onnx2torch = load("onnx"), load("onnx2torch")
    try:
        return onnx2torch.convert(model)
    except NotImplementedError:
        pass
    try:
        return onnx2torch.convert(onnx.version_converter.convert_version(_without_allowzero(model), _OPSET))
    except (NotImplementedError, RuntimeError) as error:
        raise InputError(
            f"{path}: cannot be converted to torch ({explained(error)}); export it with opset {_OPSET} or lower, or"
            " give the module that it was exported from, as NAME=package.module:function or as TorchScript"
        ) from None


def _without_allowzero(model: Any) -> Any:
    """Drop an attribute of reshapes that means nothing where their constant shape holds no zero."""
    onnx = load("onnx")
    constants = {entry.name: onnx.numpy_helper.to_array(entry) for entry in model.graph.initializer}
    for node in model.graph.node:
        shape = constants.get(node.input[1]) if node.op_type == "Reshape" else None
        if shape is not None and np.all(shape != 0):
            kept = [entry for entry in node.attribute if entry.name != "allowzero"]
            del node.attribute[:]
            node.attribute.extend(kept)
    return model


def _compare(module: Any, model: Any, given: Input, path: Path) -> None:
    torch, runtime = load("torch"), load("onnxruntime")
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for size in _TRIED:
        whole = np.issubdtype(given.kind, np.integer)
        shape = (2, size, *given.shape)
        # The first batch is what the module is recorded with; nothing of it may be left in another one's answers.
        first, values = (rng.integers(0, 2, shape) if whole else rng.random(shape)).astype(given.kind)
        try:
            with torch.no_grad():
                module(torch.from_numpy(first))
                found = module(torch.from_numpy(values))
            expected = session.run(None, {session.get_inputs()[0].name: values})
        except InputError:
            raise
        except Exception as error:  # of two runtimes
            raise InputError(f"{path}: does not run at batch {size} ({explained(error)})") from None
        pairs = zip(found if isinstance(found, list | tuple) else [found], expected, strict=True)
        for ours, theirs in pairs:
            difference = np.linalg.norm(ours.numpy() - theirs) / max(float(np.linalg.norm(theirs)), 1e-30)
            if ours.shape != theirs.shape or not difference <= TOLERANCE:
                raise InputError(f"{path}: converted to torch, it answers otherwise than onnxruntime at batch {size}")

"""What can be profiled and exported: built-in models, factories of modules, TorchScript and ONNX files.

Weights are random: how long a model takes does not depend on their values. Built-in image models take bytes (uint8, as
decoded pictures come) and scale them on the GPU; the transformer takes token ids.
"""

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from igniter_opt.base.errors import InputError, explained
from igniter_opt.base.optional import load
from igniter_opt.base.schema import NAME_RULE, is_name, nearest
from igniter_opt.profiler.models.files import onnx_input, onnx_module, torchscript_module

Precision = Literal["fp32", "tf32", "fp16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "fp16")
# What a model takes: bytes (uint8), token ids (int64) or floats (float32).
Kind = Literal["bytes", "tokens", "floats"]
_TYPES: dict[Kind, tuple[str, int]] = {"bytes": ("UINT8", 1), "tokens": ("INT64", 8), "floats": ("FP32", 4)}
_ONNX_KINDS: dict[str, Kind] = {"uint8": "bytes", "int64": "tokens", "float32": "floats"}
IMAGE = (3, 224, 224)
TOKENS = (128,)
_VOCABULARY = 30_000


@dataclass(frozen=True)
class ModelSpec:
    """A model to profile.

    Attributes
    ----------
    build
        Makes the module, in evaluation mode, on the default device. Called as ``module(batch)``, it returns a tensor
        or a sequence of tensors whose first dimension is the batch.
    shape, kind
        Shape of one input without the batch dimension, and what it holds.
    from_file
        Whether the module comes from a file, with tensors of its own.
    """

    name: str
    build: Callable[[], Any]
    shape: tuple[int, ...] = IMAGE
    kind: Kind = "bytes"
    from_file: bool = False

    def inputs(self, batch: int, device: str) -> Any:
        """Return random inputs of one batch."""
        torch = load("torch")
        shape = (batch, *self.shape)
        if self.kind == "floats":
            return torch.rand(shape, device=device)
        high, kind = (_VOCABULARY, torch.int64) if self.kind == "tokens" else (256, torch.uint8)
        return torch.randint(0, high, shape, dtype=kind, device=device)

    @property
    def data_type(self) -> str:
        """Triton's name of the input's type."""
        return _TYPES[self.kind][0]

    @property
    def input_bytes(self) -> int:
        """Bytes of one input."""
        count = _TYPES[self.kind][1]
        for size in self.shape:
            count *= size
        return count


def _pictures(name: str) -> Callable[[], Any]:
    """A torchvision classifier that takes bytes."""

    def build() -> Any:
        return _from_bytes(getattr(load("torchvision").models, name)(weights=None))

    return build


def _from_bytes(inner: Any) -> Any:
    nn = load("torch").nn

    class FromBytes(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, pictures: Any) -> Any:
            kind = next(self.inner.parameters()).dtype
            return self.inner(pictures.to(kind) / 255.0)

    return FromBytes()


def _ssd() -> Any:
    """SSD300's backbone and heads; boxes are decoded elsewhere, for their number varies."""
    torch = load("torch")
    whole = load("torchvision").models.detection.ssd300_vgg16(weights=None, weights_backbone=None)

    class Detector(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = whole.backbone, whole.head

        def forward(self, pictures: Any) -> Any:
            found = self.head(list(self.backbone(pictures).values()))
            return torch.cat([found["bbox_regression"], found["cls_logits"]], dim=2)

    return _from_bytes(Detector())


def _transformer() -> Any:
    """An encoder of BERT's base size over 128 tokens, with a two-class head."""
    torch = load("torch")
    nn = torch.nn

    class Encoder(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(_VOCABULARY, 768)
            self.places = nn.Parameter(torch.randn(1, TOKENS[0], 768) * 0.02)
            layer = nn.TransformerEncoderLayer(768, 12, 3072, activation="gelu", batch_first=True)
            self.layers = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)
            self.head = nn.Linear(768, 2)

        def forward(self, tokens: Any) -> Any:
            return self.head(self.layers(self.words(tokens) + self.places)[:, 0])

    return Encoder()


def _unet() -> Any:
    """A U-Net with four levels of 32 to 256 channels for segmenting pictures."""
    torch = load("torch")
    nn = torch.nn

    def block(before: int, after: int) -> Any:
        steps = []
        for channels in (before, after):
            steps += [
                nn.Conv2d(channels, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
        return nn.Sequential(*steps)

    class UNet(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            widths = (32, 64, 128, 256)
            self.down = nn.ModuleList(block(a, b) for a, b in zip((3, *widths[:-1]), widths, strict=True))
            self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(widths))
            self.join = nn.ModuleList(block(2 * a, a) for a in widths[:-1])
            self.head = nn.Conv2d(widths[0], 2, 1)
            self.pool = nn.MaxPool2d(2)

        def forward(self, pictures: Any) -> Any:
            kept = []
            x = pictures
            for level, step in enumerate(self.down):
                x = step(x if level == 0 else self.pool(x))
                kept.append(x)
            for level in (2, 1, 0):
                x = self.join[level](torch.cat([self.up[level](x), kept[level]], dim=1))
            return self.head(x)

    return _from_bytes(UNet())


BUILT_IN: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec("alexnet", _pictures("alexnet")),
        ModelSpec("resnet50", _pictures("resnet50")),
        ModelSpec("vgg19", _pictures("vgg19")),
        ModelSpec("ssd", _ssd, (3, 300, 300)),
        ModelSpec("vit_b_16", _pictures("vit_b_16")),
        ModelSpec("bert_base", _transformer, TOKENS, "tokens"),
        ModelSpec("efficientnet_b0", _pictures("efficientnet_b0")),
        ModelSpec("unet", _unet),
    )
}


def find_model(text: str) -> ModelSpec:
    """Return the model that a text names.

    Parameters
    ----------
    text
        A built-in name, or ``NAME=package.module:function`` (a factory of a ``torch.nn.Module`` that takes
        pictures as bytes, shape (batch, 3, 224, 224)), or ``NAME=FILE.pt`` (TorchScript, the same inputs). Another
        shape follows as ``@3x300x300``, floats as ``@3x224x224f``, token ids as ``@128t``. ``NAME=FILE.onnx`` takes
        what the file says.

    Raises
    ------
    InputError
        It names nothing.
    """
    name, equals, source = text.partition("=")
    if not equals:
        if text not in BUILT_IN:
            raise InputError(
                f"unknown model {text!r}{nearest(text, BUILT_IN)} (built in: {', '.join(BUILT_IN)}; others as"
                " NAME=package.module:function, NAME=FILE.pt or NAME=FILE.onnx)"
            )
        return BUILT_IN[text]
    # It becomes a folder's name and a profile's key.
    if not is_name(name):
        raise InputError(f"model {text!r}: the name {name!r} {NAME_RULE}")
    source, _, form = source.partition("@")
    shape, kind = _shape(form, text) if form else (IMAGE, _BYTES)
    if not source.endswith((".pt", ".ts", ".onnx")):
        return ModelSpec(name, _factory(source, text), shape, kind)
    path = Path(source).absolute()
    if not path.is_file():
        raise InputError(f"model {text!r}: {source}: no such file")
    if not source.endswith(".onnx"):
        return ModelSpec(name, lambda: torchscript_module(path), shape, kind, from_file=True)
    if form:
        raise InputError(f"model {text!r}: an ONNX file says itself what it takes; leave out @{form}")
    given = onnx_input(path)
    if given.kind not in _ONNX_KINDS:
        raise InputError(f"{source}: takes {given.kind}; models must take {', '.join(_ONNX_KINDS)}")
    return ModelSpec(name, lambda: onnx_module(path), given.shape, _ONNX_KINDS[given.kind], from_file=True)


_BYTES: Kind = "bytes"


def _shape(form: str, text: str) -> tuple[tuple[int, ...], Kind]:
    marks: dict[str, Kind] = {"t": "tokens", "f": "floats"}
    kind = marks.get(form[-1], _BYTES)
    try:
        shape = tuple(int(part) for part in (form[:-1] if form[-1] in marks else form).split("x"))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise InputError(
            f"model {text!r}: the shape {form!r} must be whole numbers such as 3x300x300, with f for floats"
            " (3x224x224f) or t for tokens (128t)"
        )
    return shape, kind


def _factory(source: str, text: str) -> Callable[[], Any]:
    module, colon, function = source.partition(":")
    if not colon:
        raise InputError(f"model {text!r}: expected package.module:function, or a file .pt or .onnx")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # a file beside the user; what is installed comes first
    try:
        home = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # what a module of the user's raises
        raise InputError(
            f"model {text!r}: {module!r} cannot be imported ({explained(error)}); it must be installed, or be a file or"
            f" package in the current folder, {here}"
        ) from None
    found = getattr(home, function, None)
    if found is None:
        raise InputError(f"model {text!r}: {module} has no {function!r}")
    if not callable(found):
        raise InputError(f"model {text!r}: {source} is no function")
    return found  # type: ignore[no-any-return]


def made(spec: ModelSpec) -> Any:
    """Make a model's module, in evaluation mode.

    Raises
    ------
    InputError
        Its factory fails, or makes something else.
    """
    torch = load("torch")
    try:
        module = spec.build()
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # what a factory of the user's raises
        raise InputError(f"model {spec.name}: cannot be made ({explained(error)})") from None
    if not isinstance(module, torch.nn.Module):
        raise InputError(f"model {spec.name}: its factory returns {type(module).__name__}, not a torch.nn.Module")
    return module.eval()


def set_precision(precision: Precision) -> None:
    """Let torch use tensor cores for float32, or not (fp16 is set per module)."""
    torch = load("torch")
    allowed = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cudnn.benchmark = False


def built(spec: ModelSpec, precision: Precision, device: str) -> Any:
    """Build a model on a device in a precision."""
    torch = load("torch")
    torch.manual_seed(0)
    with torch.device(device):
        module = made(spec).to(device)
    for parameter in module.parameters():  # scripted modules have no requires_grad_ of their own
        parameter.requires_grad_(False)
    if precision != "fp16":
        return module
    return _taking_floats(module.half()) if spec.kind == "floats" else module.half()


def _taking_floats(inner: Any) -> Any:
    """A half precision module that takes float32."""
    nn = load("torch").nn

    class TakingFloats(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, given: Any) -> Any:
            return self.inner(given.half())

    return TakingFloats()

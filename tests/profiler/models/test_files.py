"""Models in files run as they did where they come from; what cannot is refused in one line."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from igniter_opt import InputError
from igniter_opt.data.profile import read_profile
from igniter_opt.profiler.make import make_measurements, make_profile
from igniter_opt.profiler.models import files as model_files
from igniter_opt.profiler.models.catalogue import built, find_model
from igniter_opt.profiler.models.export import export_torch, output_shape
from igniter_opt.profiler.models.export_onnx import export_onnx
from igniter_opt.profiler.runners.runner import Card
from igniter_opt.profiler.runners.synthetic import SyntheticRunner
from tests.cli.helpers import rejected
from tests.profiler.helpers import use_made_up_card
from tests.profiler.models.test_capturable import operations, reads_or_brings
from tests.profiler.tiny import pictures

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx2torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

TINY = "tiny=tests.profiler.tiny:pictures@3x16x16"
WORDS = "words=tests.profiler.tiny:words@8t"


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """An ONNX file of the newest opset that torch writes, with reductions and reshapes in it."""
    return export_onnx(find_model(TINY), tmp_path, 4, "fp32") / "1" / "model.onnx"


def _model(path: Path, *nodes: Any, given: tuple[Any, ...] = ("n", 4), opset: int = 13, **weights: Any) -> Path:
    """Write an ONNX model from x to y."""
    make = onnx.helper
    graph = make.make_graph(
        list(nodes),
        "made",
        [make.make_tensor_value_info("x", onnx.TensorProto.FLOAT, given)],
        [make.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ("n", "m"))],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", opset)], ir_version=8), path)
    return path


def test_an_exported_model_answers_as_before(exported: Path) -> None:
    spec = find_model(f"again={exported}")
    assert (spec.shape, spec.kind, spec.data_type) == ((3, 16, 16), "bytes", "UINT8")
    assert output_shape(spec) == (3,)
    given = spec.inputs(5, "cpu")
    with torch.no_grad():
        before, after = built(find_model(TINY), "fp32", "cpu")(given), built(spec, "fp32", "cpu")(given)
    np.testing.assert_allclose(after.numpy(), before.numpy(), rtol=1e-4, atol=1e-6)


def test_a_session_converts_a_file_once(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert, converted = model_files._converted, list[Path]()

    def counted(model: Any, path: Path) -> Any:
        converted.append(path)
        return convert(model, path)

    monkeypatch.setattr(model_files, "_converted", counted)
    spec = find_model(f"again={exported}")
    given = spec.inputs(5, "cpu")
    with torch.no_grad():
        expected = built(spec, "fp32", "cpu")(given)
        with model_files.conversions_kept():
            folder = Path(os.environ[model_files._KEPT])
            answers = [built(spec, "fp32", "cpu")(given) for _ in range(3)]
            assert len(converted) == 2
            exported.write_bytes(exported.read_bytes())  # another state of the file
            answers.append(built(spec, "fp32", "cpu")(given))
            assert len(converted) == 3
            assert len(list(folder.iterdir())) == 2
    for answer in answers:
        assert torch.equal(answer, expected)
    assert model_files._KEPT not in os.environ and not folder.exists()


@pytest.mark.parametrize("error", [RuntimeError("no space left on device"), TypeError("cannot pickle 'module' object")])
def test_what_cannot_be_kept_is_converted_by_every_process(
    exported: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(_: Any, path: Path) -> None:
        path.write_bytes(b"begun")
        raise error

    monkeypatch.setattr(torch, "save", full)
    with model_files.conversions_kept():
        assert built(find_model(f"again={exported}"), "fp32", "cpu") is not None
        assert list(Path(os.environ[model_files._KEPT]).iterdir()) == []


def test_sessions_keep_what_they_convert(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Looking(SyntheticRunner):
        def card(self) -> Card:
            seen.extend(Path(os.environ[model_files._KEPT]).iterdir())
            raise InputError("seen enough")

    profile = read_profile("h100")
    for make in (
        lambda: make_profile(Looking(profile), "p", [f"vgg19={exported}"]),
        lambda: make_measurements(Looking(profile), profile, [f"vgg19={exported}"]),
    ):
        with pytest.raises(InputError, match="seen enough"):
            make()
    assert len(seen) == 2


@pytest.mark.parametrize("text", [TINY, WORDS])
def test_an_exported_model_fits_in_a_cuda_graph(text: str, tmp_path: Path) -> None:
    file = export_onnx(find_model(text), tmp_path, 4, "fp32") / "1" / "model.onnx"
    nodes = {node.op_type for node in onnx.load(file).graph.node}
    assert nodes >= ({"Reshape"} if text == TINY else {"Reshape", "Shape", "LayerNormalization"})
    spec = find_model(f"again={file}")
    before, after = built(find_model(text), "fp32", "cpu"), built(spec, "fp32", "cpu")
    for batch in (1, 4):
        given, other = spec.inputs(batch, "cpu"), spec.inputs(batch, "cpu")
        with torch.no_grad():
            after(given)
            np.testing.assert_allclose(after(other).numpy(), before(other).numpy(), rtol=1e-4, atol=1e-5)
        assert any(map(reads_or_brings, operations(after.inner, other)))
        assert not any(map(reads_or_brings, operations(after, other)))
    with torch.no_grad():
        found, expected = built(spec, "fp16", "cpu")(other), built(find_model(text), "fp16", "cpu")(other)
    assert found.dtype == torch.float16
    np.testing.assert_allclose(found.float().numpy(), expected.float().numpy(), atol=0.02)


def test_torchscript_of_floats(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5)).eval()
    torch.jit.trace(module, torch.rand(2, 3, 2, 2)).save(str(path))
    spec = find_model(f"net={path}@3x2x2f")
    assert (spec.data_type, spec.input_bytes, output_shape(spec)) == ("FP32", 48, (5,))
    given = spec.inputs(4, "cpu")
    assert given.dtype == torch.float32
    assert built(spec, "fp32", "cpu")(given).shape == (4, 5)
    half = built(spec, "fp16", "cpu")(given)
    np.testing.assert_allclose(half.float().numpy(), module(given).detach().numpy(), atol=0.01)


@pytest.mark.parametrize("form", ["onnx", "pt"])
def test_a_served_folder_has_its_file(exported: Path, tmp_path: Path, form: str) -> None:
    text = f"mine={exported}"
    if form == "pt":
        path = tmp_path / "net.pt"
        torch.jit.trace(pictures().eval(), find_model(TINY).inputs(2, "cpu")).save(str(path))
        text = f"mine={path}@3x16x16"
    folder = export_torch(text, find_model(text), tmp_path / "models", 4, "fp32") / "1"
    named = json.loads((folder / "served.json").read_text())["model"]
    assert "{folder}" in named
    again = find_model(named.replace("{folder}", str(folder)))
    assert again.shape == (3, 16, 16)
    assert output_shape(again) == (3,)


def test_answers_are_compared(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = model_files.load("onnx2torch").convert

    class Off(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, given: Any) -> Any:
            return 1.001 * self.inner(given)

    monkeypatch.setattr(model_files.load("onnx2torch"), "convert", lambda model: Off(real(model)))
    with pytest.raises(InputError, match="answers otherwise than onnxruntime at batch 1"):
        model_files.onnx_module(exported)


def test_what_cannot_be_a_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = onnx.helper.make_node
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    two = _model(tmp_path / "two.onnx", node("Add", ["x", "z"], ["y"]))
    graph = onnx.load(two)
    graph.graph.input.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["n", 4]))
    onnx.save(graph, two)
    relu = node("Relu", ["x"], ["y"])
    for path, says in (
        (broken, "is no ONNX model"),
        (two, "has 2 inputs"),
        (_model(tmp_path / "fixed.onnx", relu, given=(1, 4)), "its batch is not free"),
        (_model(tmp_path / "free.onnx", relu, given=("n", "m")), "free dimension beside the batch"),
    ):
        with pytest.raises(InputError, match=says):
            find_model(f"net={path}")
    with pytest.raises(InputError, match="leave out @3x2x2"):
        find_model(f"net={broken}@3x2x2")
    odd = _model(tmp_path / "odd.onnx", node("Det", ["x"], ["y"]), given=("n", 4, 4))
    with pytest.raises(InputError, match=r"cannot be converted to torch .*; export it with opset 17 or lower"):
        find_model(f"net={odd}").build()
    fixed = _model(tmp_path / "inner.onnx", node("Reshape", ["x", "s"], ["y"]), s=np.array([1, 4], np.int64))
    with pytest.raises(InputError, match="does not run at batch 3"):
        find_model(f"net={fixed}").build()
    steps = [node("NonZero", ["x"], ["z"], name="places"), node("Cast", ["z"], ["y"], to=onnx.TensorProto.FLOAT)]
    where = _model(tmp_path / "where.onnx", *steps)
    with pytest.raises(InputError, match=r"where\.onnx: cannot be captured in a CUDA graph, .*places: aten\.nonzero"):
        find_model(f"net={where}").build()
    monkeypatch.chdir(tmp_path)
    made = use_made_up_card(monkeypatch, "v100")
    rejected(
        "profile", "measure", "--models", f"net={where}", "-o", tmp_path / "p.json", says=("places: aten.nonzero",)
    )
    assert not any(runner.measured for runner in made)
    script = tmp_path / "net.pt"
    script.write_bytes(b"nothing")
    with pytest.raises(InputError, match="is no TorchScript file"):
        find_model(f"net={script}").build()

"""Exported folders: ONNX answers as torch does, `deploy` takes them, and nothing is left of what failed."""

import json
import stat
from pathlib import Path

import numpy as np
import pytest

from igniter_opt import InputError
from igniter_opt.deploy.triton.model_repository import read_model
from igniter_opt.profiler.models import export_onnx as module
from igniter_opt.profiler.models.catalogue import BUILT_IN, find_model
from igniter_opt.profiler.models.export import export_torch
from igniter_opt.profiler.models.export_onnx import export_onnx, export_tensorrt
from tests.cli.helpers import invoke, rejected, script

torch = pytest.importorskip("torch")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

TINY = "tiny=tests.profiler.tiny:pictures@3x16x16"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_onnx_folder_is_one_that_deploy_takes_and_answers_like_torch(tmp_path: Path, precision: str) -> None:
    spec = find_model(TINY)
    folder = export_onnx(spec, tmp_path, 8, precision)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny"]
    source = read_model(tmp_path, "tiny", 8)
    assert source.config.max_batch_size == 8
    assert source.sample is not None
    (given,), (wanted,) = source.sample.inputs(source.config, "in"), source.sample.expected(source.config, "out")
    assert given["INPUT"].dtype == np.uint8
    session = onnxruntime.InferenceSession(str(folder / "1" / "model.onnx"), providers=["CPUExecutionProvider"])
    assert session.get_outputs()[0].type == "tensor(float)"
    for size in (1, 2, 7):
        (found,) = session.run(["OUTPUT"], {"INPUT": np.repeat(given["INPUT"][None], size, axis=0)})
        np.testing.assert_allclose(found, np.repeat(wanted["OUTPUT"][None], size, axis=0), rtol=0.02, atol=1e-3)


def test_batches_beyond_the_folder_are_refused_by_deploy(tmp_path: Path) -> None:
    export_onnx(find_model(TINY), tmp_path, 4, "fp32")
    with pytest.raises(InputError, match="max_batch_size 4 is below the plan's batch 8"):
        read_model(tmp_path, "tiny", 8)


def test_wrong_answers_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison is not a formality: an answer that is off by a part in a thousand is refused."""
    real = module.load("onnxruntime").InferenceSession

    class Off:
        def __init__(self, *arguments: object, **options: object) -> None:
            self.inner = real(*arguments, **options)

        def get_inputs(self) -> object:
            return self.inner.get_inputs()

        def run(self, *arguments: object) -> list[np.ndarray]:
            return [1.001 * self.inner.run(*arguments)[0]]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Off)
    with pytest.raises(InputError, match=r"answers otherwise than torch at batch 1: .* error 0\.001"):
        export_onnx(find_model(TINY), tmp_path, 8, "fp32")
    assert not list(tmp_path.iterdir())


def test_models_that_cannot_be_served_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="several outputs"):
        export_onnx(find_model("two=tests.profiler.tiny:two_answers@3x16x16"), tmp_path, 8, "fp32")
    with pytest.raises(InputError, match=r"model fixed: answers a batch of 1 in shape .*; the first dimension"):
        export_onnx(find_model("fixed=tests.profiler.tiny:fixed_batch@4x4x4"), tmp_path, 8, "fp32")
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    for export in (export_onnx, export_tensorrt):
        if export is export_tensorrt:
            write_trtexec(tmp_path)
        with pytest.raises(InputError, match=r"exists|trtexec is not on PATH"):
            export(find_model(TINY), tmp_path, 8, "fp32")
    assert not list((tmp_path / "tiny").iterdir())


def write_trtexec(folder: Path, *, works: bool = True) -> Path:
    """Write a stand-in that notes its arguments in the plan it writes."""
    program = folder / "bin" / "trtexec"
    program.parent.mkdir(exist_ok=True)
    plan = 'for a in "$@"; do case $a in --saveEngine=*) echo "$@" > "${a#*=}";; esac; done\n'
    program.write_text("#!/bin/sh\n" + (plan if works else "echo '[E] no kernel for this card'; exit 1\n"))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program.parent


@pytest.mark.parametrize(("precision", "flag"), [("fp32", "--noTF32"), ("fp16", "--fp16"), ("tf32", None)])
def test_tensorrt_plan_is_built_for_the_batches_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, flag: str | None
) -> None:
    monkeypatch.setenv("PATH", f"{write_trtexec(tmp_path)}:/usr/bin:/bin")
    folder = export_tensorrt(find_model(TINY), tmp_path / "models", 6, precision)  # type: ignore[arg-type]
    said = (folder / "1" / "model.plan").read_text().split()
    assert {"--minShapes=INPUT:1x3x16x16", "--maxShapes=INPUT:6x3x16x16", "--skipInference"} <= set(said)
    assert {"--noTF32", "--fp16"} & set(said) == ({flag} if flag else set())
    config = read_model(tmp_path / "models", "tiny", 6).config
    assert (config.backend, config.max_batch_size) == ("tensorrt", 6)


def test_trtexec_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{write_trtexec(tmp_path, works=False)}:/usr/bin:/bin")
    with pytest.raises(InputError, match=r"built no plan \(exit code 1\)\n\[E\] no kernel for this card"):
        export_tensorrt(find_model(TINY), tmp_path / "models", 6, "fp32")
    assert not list((tmp_path / "models").iterdir())


def test_torch_folder_is_one_that_deploy_takes(tmp_path: Path) -> None:
    folder = export_torch(TINY, find_model(TINY), tmp_path, 8, "fp16")
    assert json.loads((folder / "1" / "served.json").read_text()) == {"model": TINY, "precision": "fp16"}
    config = read_model(tmp_path, "tiny", 8).config
    assert list(config.output[0].dims) == [3]


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_models_have_one_output_with_the_batch_first(name: str) -> None:
    spec = BUILT_IN[name]
    with torch.device("meta"):
        module, given = spec.build().eval(), spec.inputs(3, "meta")
        assert module(given).shape[0] == 3
    assert given.numel() * given.element_size() == 3 * spec.input_bytes


@pytest.mark.parametrize("form", ["onnx", "torch"])
@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("fails", "model x: cannot be made (weights.pt is not there [FileNotFoundError])"),
        ("ends", "model x: cannot be made (3 [SystemExit])"),
        ("not_a_model", "model x: its factory returns NoneType, not a torch.nn.Module"),
        ("other_inputs", "model x: does not run on a batch of 1 of shape [3, 16, 16] ("),
        ("two_answers", "returns tuple, perhaps several outputs"),
        ("no_batch", "answers a batch of 1 in shape []; the first dimension must be the batch"),
        ("one_at_a_time", "does not run on a batch of 3 of shape [3, 16, 16] ("),
        ("nothing", "tests.profiler.tiny has no 'nothing'"),
    ],
)
def test_models_that_are_none_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, says: str, form: str
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"x=tests.profiler.tiny:{model}@3x16x16"
    message = rejected("models", "export", name, "-o", "models", "--format", form, says=(says,))
    assert message.count("\n") <= 3 and "many lines" not in message


def test_a_model_that_cannot_be_traced_is_refused_in_one_line(tmp_path: Path) -> None:
    done = script("models", "export", "x=tests.profiler.tiny:by_value@3x16x16", "-o", tmp_path / "models")
    assert (done.code, done.out) == (2, "")
    assert [line for line in done.err.splitlines() if "Warning" not in line][-1].startswith(
        "error: model x: torch cannot export it to ONNX ("
    )
    assert "Traceback" not in done.err and "\x1b" not in done.err


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = invoke("models", "export", TINY, "-o", str(tmp_path / "models"), "--batch", "4")
    assert run.code == 0
    assert (tmp_path / "models" / "tiny" / "1" / "model.onnx").is_file()
    monkeypatch.setenv("PATH", "/nowhere")
    for options, says in (
        (("--format", "onx"), "did you mean 'onnx'?"),
        (("--format", "tensorrt"), "trtexec is not on PATH"),
        (("--batch", "0"), "--batch: must be 1 to 1024; found 0"),
        (("--precision", "fp8"), "--precision: unknown 'fp8'"),
    ):
        refused = invoke("models", "export", TINY, "-o", str(tmp_path / "other"), *options)
        assert (refused.code, refused.out) == (2, "")
        assert says in refused.err
        assert not (tmp_path / "other").exists()

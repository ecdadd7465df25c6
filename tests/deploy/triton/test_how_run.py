"""What folders say about how their models are run, and what a server's Python lacks for them."""

import json
from pathlib import Path

import pytest

import igniter_opt as ig
from igniter_opt import InputError
from igniter_opt.data.plan import Plan
from igniter_opt.deploy.backends.process import ProcessBackend
from igniter_opt.deploy.triton.how_run import HowRun, differences, how_run, profiled
from igniter_opt.deploy.triton.install import Installation, find_installation, install
from igniter_opt.deploy.triton.model_repository import ModelSource, read_model
from tests.deploy.models import write_installation, write_model


def torch_folder(folder: Path, name: str, precision: str = "tf32") -> ModelSource:
    """Write what looks like an exported torch module."""
    model = write_model(folder, name)
    (model / "1" / "served.json").write_text(json.dumps({"model": name, "precision": precision}))
    return read_model(folder, name, 4)


def test_formats_and_precisions_are_read(tmp_path: Path) -> None:
    assert how_run(torch_folder(tmp_path, "a")) == HowRun("torch", "tf32")
    write_model(tmp_path, "b")
    assert how_run(read_model(tmp_path, "b", 4)) == HowRun(None, None)  # somebody's own code
    (tmp_path / "b" / "config.pbtxt").write_text(
        'backend: "onnxruntime"\nmax_batch_size: 8\n'
        'parameters { key: "igniter_opt_precision" value: { string_value: "fp16" } }\n'
    )
    (tmp_path / "b" / "1" / "model.onnx").write_text("")
    assert how_run(read_model(tmp_path, "b", 4)) == HowRun("onnx", "fp16")
    (tmp_path / "a" / "1" / "served.json").write_text("[]")
    assert how_run(read_model(tmp_path, "a", 4)) == HowRun("torch", None)


def test_profiles_say_how_their_models_were_run() -> None:
    assert profiled(ig.read_profile("h200")) == HowRun("torch", "tf32")
    assert profiled(ig.read_profile("v100")).format == "tensorrt"


@pytest.fixture(scope="module")
def plan() -> Plan:
    instance = ig.read_instance("igniter-three")
    (gpu,) = instance.gpu_types
    card = gpu.model_copy(update={"profile": ig.read_profile("h200")})
    return ig.solve(instance.model_copy(update={"gpu_types": (card,)}), "bestfit").plan


def test_models_that_are_run_otherwise_are_named(tmp_path: Path, plan: Plan) -> None:
    alike = {name: torch_folder(tmp_path, name) for name in ("alexnet", "resnet50")}
    assert differences(plan, alike) == []
    other = {"resnet50": torch_folder(tmp_path / "other", "resnet50", "fp32")}
    (text,) = differences(plan, alike | other)
    assert str(tmp_path / "other" / "resnet50") in text
    assert "precision fp32 (profiled: tf32)" in text and "format" not in text


def test_a_python_without_the_packages_is_found_out_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho igniter_opt torch\n")
    python.chmod(0o755)
    monkeypatch.setenv("PATH", str(python.parent), prepend=":")
    server = write_installation(tmp_path / "server")
    source = torch_folder(tmp_path, "alexnet")
    backend = ProcessBackend()
    backend.installation = Installation(server)
    with pytest.raises(InputError, match=r"has no igniter_opt, torch; install them there") as error:
        backend.check_python({"alexnet": source})
    assert str(python) in str(error.value) and str(source.folder) in str(error.value)
    backend.installation = Installation(server, python.parent)
    with pytest.raises(InputError, match=r"triton install --package igniter-opt"):
        backend.check_python({"alexnet": source})
    write_model(tmp_path, "own")
    backend.check_python({"own": read_model(tmp_path, "own", 4)})  # what it needs, its author knows
    python.write_text("#!/bin/sh\necho\n")
    backend.check_python({"alexnet": source})


def unpacked(folder: Path) -> Path:
    """Write what looks like the unpacked wheel."""
    triton = write_installation(folder).parent.parent
    (triton / "backends/python").mkdir(parents=True)
    for version in ("3.11", "3.12", "3.13"):
        stub = triton / "python_backend_stubs" / version / "triton_python_backend_stub"
        stub.parent.mkdir(parents=True)
        stub.write_text(version)
    return folder / "server"


def test_a_server_is_installed_without_a_network_for_an_interpreter_that_is_there(tmp_path: Path) -> None:
    target = tmp_path / "target"
    found = install(target, source=unpacked(tmp_path / "from"), existing=True)
    assert found == find_installation(target)
    assert found.existing and found.python is not None and (found.python / "python").exists()
    stub = found.server.parent.parent / "backends/python/triton_python_backend_stub"
    assert stub.read_text().startswith("3.") and stub.stat().st_mode & 0o111
    with pytest.raises(InputError, match="are not ours to change"):
        from igniter_opt.deploy.triton.install import add_packages

        add_packages(found, ["torch"])


def test_what_is_no_server_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "wheel.whl").write_text("no wheel")
    (tmp_path / "empty").mkdir()
    for name, says in (("wheel.whl", "is not the wheel of nvidia-pytriton"), ("empty", "holds no pytriton")):
        with pytest.raises(InputError, match=says):
            install(tmp_path / "target", source=tmp_path / name, existing=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "wheel.whl"]

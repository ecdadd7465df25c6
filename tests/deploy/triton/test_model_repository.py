"""Model folders are checked before anything starts; repositories hold what the plan says."""

import os
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from igniter_opt.base.errors import InputError
from igniter_opt.deploy.triton.model_config import config_text, read_config, serving_config
from igniter_opt.deploy.triton.model_repository import create_repository, read_model, read_models
from tests.deploy.models import write_model

RICH = """
# a comment, and fields that must survive
platform: "tensorrt_plan"
max_batch_size: 16
input { name: "in" data_type: TYPE_FP16 format: FORMAT_NCHW dims: [3, 224, 224] reshape { shape: [3, 224, 224] } }
output: [ { name: "out" data_type: TYPE_FP32 dims: 1000 label_filename: "labels.txt" } ]
instance_group [ { count: 4 kind: KIND_GPU profile: "2" }, { count: 1 kind: KIND_CPU } ]
dynamic_batching { preferred_batch_size: [ 2, 4 ] max_queue_delay_microseconds: 7 preserve_ordering: true }
optimization { cuda { graphs: true } }
parameters { key: "k" value { string_value: "a } { \\"quoted\\" # no comment" } }
version_policy { specific { versions: [3] } }
"""


def rejected(folder: Path, name: str, batch: int, *says: str) -> None:
    with pytest.raises(InputError) as error:
        read_model(folder, name, batch)
    for text in says:
        assert text in str(error.value)


def test_serving_config_keeps_the_users_fields(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_text(RICH)
    made = text_format.Parse(
        config_text(serving_config(read_config(path), "m", 6, 12345, cpu=False)), model_config_pb2.ModelConfig()
    )
    expected = text_format.Parse(RICH, model_config_pb2.ModelConfig())
    assert made.name == "m"
    assert made.max_batch_size == 6
    assert list(made.dynamic_batching.preferred_batch_size) == [6]
    assert made.dynamic_batching.max_queue_delay_microseconds == 12345
    assert made.dynamic_batching.preserve_ordering
    assert len(made.instance_group) == 1
    group = made.instance_group[0]
    assert (group.count, group.kind, list(group.gpus), list(group.profile)) == (1, group.KIND_GPU, [0], ["2"])
    for message in (made, expected):
        for field in ("name", "max_batch_size", "dynamic_batching", "instance_group"):
            message.ClearField(field)
    assert made == expected


def test_on_the_processor_there_is_one_processor_instance(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_text(RICH)
    made = serving_config(read_config(path), "m", 6, 0, cpu=True)
    assert [(group.count, group.kind) for group in made.instance_group] == [(1, made.instance_group[0].KIND_CPU)]


def test_a_model_without_batch_dimension_stays_without(tmp_path: Path) -> None:
    write_model(tmp_path, "m", max_batch=0)
    source = read_model(tmp_path, "m", 1)
    made = serving_config(source.config, "m", 1, 500, cpu=True)
    assert made.max_batch_size == 0
    assert not made.HasField("dynamic_batching")
    rejected(tmp_path, "m", 2, "max_batch_size is 0", "batch 2")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_batch_size: 4", "max_batch_size 4 is below the plan's batch 6"),
        ("max_batch_size: 8 sequence_batching {}", "sequence batching"),
        ("ensemble_scheduling {}", "ensemble"),
        ('name: "other" max_batch_size: 8', "name is 'other'"),
        ("max_batch_size: eight", "not a Triton model configuration (1:17"),
        ("max_batch_sizes: 8", "max_batch_sizes"),
        ("input [", "not a Triton model configuration"),
        ('max_batch_size: 8 backend: "onnxruntime"', "has no model.onnx"),
        ('max_batch_size: 8 platform: "pytorch_libtorch"', "has no model.pt"),
        ('max_batch_size: 8 default_model_filename: "x.bin"', "has no x.bin"),
        ("max_batch_size: 8 version_policy { specific { versions: [1, 7] } }", "names versions [7], found are [1]"),
    ],
)
def test_inconsistent_configurations(tmp_path: Path, text: str, says: str) -> None:
    (write_model(tmp_path, "m") / "config.pbtxt").write_text(text)
    rejected(tmp_path, "m", 6, str(tmp_path / "m"), says)


def test_missing_parts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_models(tmp_path / "nowhere", {"m": 1})
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is no folder"):
        read_models(tmp_path / "file", {"m": 1})
    write_model(tmp_path, "resnet50")
    rejected(tmp_path, "resnet5", 1, "did you mean 'resnet50'?")
    (tmp_path / "resnet50" / "config.pbtxt").unlink()
    rejected(tmp_path, "resnet50", 1, "config.pbtxt: no such file")
    model = write_model(tmp_path, "noversion")
    (model / "1").rename(model / "01")
    rejected(tmp_path, "noversion", 1, "has no version folder")
    model = write_model(tmp_path, "empty")
    (model / "1" / "model.py").unlink()
    rejected(tmp_path, "empty", 1, "has no model.py")
    (model / "config.pbtxt").write_text('max_batch_size: 8 backend: "mine"')
    rejected(tmp_path, "empty", 1, "version folder is empty")


def test_special_files_and_link_loops_are_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path, "loop")
    (model / "1" / "up").symlink_to(model)
    rejected(tmp_path, "loop", 1, "link to a folder that contains it")
    model = write_model(tmp_path, "fifo")
    os.mkfifo(model / "1" / "pipe")
    rejected(tmp_path, "fifo", 1, "no regular file")


def test_repository_has_the_files_and_leaves_the_users_alone(tmp_path: Path) -> None:
    models = tmp_path / "models"
    model = write_model(models, "m")
    blob = tmp_path / "blob"
    blob.write_bytes(b"weights")
    (model / "1" / "weights.bin").symlink_to(blob)
    (model / "1" / "__pycache__").mkdir()
    (model / "1" / "__pycache__" / "x.pyc").write_bytes(b"x")
    before = {path: path.read_bytes() for path in models.rglob("*") if path.is_file()}
    source = read_model(models, "m", 6)
    create_repository(tmp_path / "repo", source, "CONFIG")
    made = {str(path.relative_to(tmp_path / "repo")) for path in (tmp_path / "repo").rglob("*") if path.is_file()}
    assert made == {"m/config.pbtxt", "m/1/model.py", "m/1/weights.bin"}
    assert (tmp_path / "repo/m/1/weights.bin").read_bytes() == b"weights"
    assert not (tmp_path / "repo/m/1/weights.bin").is_symlink()
    assert (tmp_path / "repo/m/config.pbtxt").read_text() == "CONFIG"
    (tmp_path / "repo/m/1/model.py").unlink()
    assert {path: path.read_bytes() for path in models.rglob("*") if path.is_file()} == before


def test_files_on_another_device_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(18, "cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    create_repository(tmp_path / "repo", read_model(write_model(tmp_path, "m").parent, "m", 1), "")
    assert (tmp_path / "repo/m/1/model.py").stat().st_nlink == 1


def test_digest_follows_names_and_contents(tmp_path: Path) -> None:
    model = write_model(tmp_path, "m")
    first = read_model(tmp_path, "m", 1).digest
    (model / "check.json").unlink()
    (model / "config.pbtxt").write_text((model / "config.pbtxt").read_text() + "\n# comment")
    assert read_model(tmp_path, "m", 1).digest == first
    (model / "1" / "model.py").write_text("other")
    second = read_model(tmp_path, "m", 1).digest
    (model / "1" / "extra").write_text("")
    assert len({first, second, read_model(tmp_path, "m", 1).digest}) == 3


@pytest.mark.parametrize(
    ("check", "says"),
    [
        ('{"data": [{"z": [1]}]}', "data[0]: the model has no tensor 'z'"),
        ('{"data": [{"INPUT": [1, 2, 3]}], "validation_data": [{"z": [1]}]}', "validation_data[0]: the model has no"),
        ('{"data": [{"INPUT": [1, 2, 3, 4, 5, 6, 7]}]}', "cannot become FP32 of shape"),
    ],
)
def test_a_sample_that_does_not_suit_the_model_is_said_before_anything_starts(
    tmp_path: Path, check: str, says: str
) -> None:
    model = write_model(tmp_path, "m")
    declared = read_config(model / "config.pbtxt").input[0].name
    (model / "check.json").write_text(check.replace("INPUT", declared))
    rejected(tmp_path, "m", 1, str(model / "check.json"), says)

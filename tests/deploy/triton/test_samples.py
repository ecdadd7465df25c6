"""Sample requests in perf_analyzer's JSON format."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from igniter_opt.base.errors import InputError
from igniter_opt.deploy.triton.samples import generic_inputs, read_sample

CONFIG = """
input [{ name: "x", data_type: TYPE_FP32, dims: [2, 2] }, { name: "s", data_type: TYPE_STRING, dims: [-1] },
       { name: "o", data_type: TYPE_INT8, dims: [5], optional: true }]
output [{ name: "y", data_type: TYPE_INT64, dims: [2] }]
"""


def config() -> Any:
    return text_format.Parse(CONFIG, model_config_pb2.ModelConfig())


def sample(tmp_path: Path, data: Any) -> Any:
    path = tmp_path / "check.json"
    path.write_text(json.dumps(data))
    return read_sample(path)


def test_lists_shapes_and_base64(tmp_path: Path) -> None:
    made = sample(
        tmp_path,
        {
            "data": [
                {"x": [1, 2, 3, 4], "s": ["a", "bc"]},
                {"x": {"content": [[1, 2], [3, 4]], "shape": [2, 2]}, "s": {"b64": "aGk=", "shape": [1]}},
                {"x": {"b64": "AACAPwAAAEAAAEBAAACAQA=="}, "s": ["x"]},
            ],
            "validation_data": [{"y": [1, 2]}, {}, {"y": {"content": [3, 4], "shape": [2]}}],
        },
    )
    inputs = made.inputs(config(), "check.json")
    for request in inputs:
        np.testing.assert_array_equal(request["x"], np.array([[1, 2], [3, 4]], np.float32))
        assert request["x"].dtype == np.float32
    assert list(inputs[0]["s"]) == [b"a", b"bc"]
    assert list(inputs[1]["s"]) == [b"hi"]
    expected = made.expected(config(), "check.json")
    assert expected[0]["y"].dtype == np.int64
    assert expected[1] == {}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([], "expected a mapping"),
        ({"data": []}, "at least 1"),
        ({"data": [{"x": 3}]}, "data[0].x"),
        ({"data": [{"x": {"shape": [1]}}]}, "either 'content' or 'b64'"),
        ({"data": [{"x": [1]}], "validation_data": [{}, {}]}, "one entry for every entry"),
        ({"data": [{}], "tolerance": -1}, "tolerance"),
        ({"data": [{}], "validation": []}, "did you mean 'validation_data'?"),
    ],
)
def test_files_that_are_no_sample(tmp_path: Path, data: Any, says: str) -> None:
    with pytest.raises(InputError, match=r"check\.json") as error:
        sample(tmp_path, data)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"z": [1]}, "no tensor 'z'"),
        ({"x": [1, 2, 3]}, "shape [2, 2]"),
        ({"x": ["one", 2, 3, 4]}, "FP32"),
        ({"x": [1e300, 2, 3, 4]}, "cannot become FP32 of shape [2, 2] (overflow"),
        ({"x": {"b64": "%%%"}}, "FP32"),
        ({"x": {"content": [1, 2], "shape": [3]}}, "shape [3]"),
        ({"x": [1, 2, None, 4]}, "check.json: data[0].x: content[2] is null"),
        ({"x": {"content": [[1, 2], [3, None]]}}, "check.json: data[0].x: content[1][1] is null"),
        ({"s": ["a", None]}, "check.json: data[0].s: content[1] is null"),
    ],
)
def test_values_that_do_not_fit_the_model(tmp_path: Path, data: Any, says: str) -> None:
    made = sample(tmp_path, {"data": [data]})
    with pytest.raises(InputError) as error:
        made.inputs(config(), "check.json")
    assert says in str(error.value)
    assert "data[0]" in str(error.value)


def test_generic_inputs_fill_the_required_tensors() -> None:
    (request,) = generic_inputs(config())
    assert set(request) == {"x", "s"}
    assert request["x"].shape == (2, 2)
    assert list(request["s"]) == [b"1"]


@pytest.mark.parametrize("kind", ["", "data_type: 99,"])
def test_tensors_without_a_known_type_are_named(tmp_path: Path, kind: str) -> None:
    text = 'input [{ name: "x", ' + kind + " dims: [1] }]"
    made = sample(tmp_path, {"data": [{"x": [1]}]})
    with pytest.raises(InputError, match="tensor 'x' has no known data_type; give one"):
        made.inputs(text_format.Parse(text, model_config_pb2.ModelConfig()), "check.json")

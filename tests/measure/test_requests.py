"""What is sent: serialized requests, random or from the user's data in perf_analyzer's format."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import serialize_byte_tensor

from igniter_opt.base.errors import InputError
from igniter_opt.deploy.triton.samples import read_sample
from igniter_opt.measure.requests import files_of, least_bytes, model_config, read_inputs, serialized_requests
from tests.measure.fake_server import MODEL, Behaviour, serving


def config(max_batch: int = 8, **inputs: tuple[str, list[int]]) -> Any:
    made = model_config_pb2.ModelConfig(name="m", max_batch_size=max_batch)
    for name, (kind, dims) in (inputs or {"x": ("FP32", [3])}).items():
        made.input.add(name=name, data_type=getattr(model_config_pb2, f"TYPE_{kind}"), dims=dims)
    return made


def parsed(raw: bytes) -> tuple[str, dict[str, tuple[str, list[int], bytes]]]:
    """A request as protobuf reads it: the model, and every input's type, shape and bytes."""
    message = service_pb2.ModelInferRequest.FromString(raw)
    inputs = zip(message.inputs, message.raw_input_contents, strict=True)
    return message.model_name, {entry.name: (entry.datatype, list(entry.shape), raw) for entry, raw in inputs}


def test_random_inputs_are_of_the_models_types_and_differ() -> None:
    made = config(a=("FP32", [3, 2]), b=("INT64", [5]), c=("BOOL", [2]))
    requests = serialized_requests(made, None, "", seed=1)
    assert requests == serialized_requests(made, None, "", seed=1)
    assert requests != serialized_requests(made, None, "", seed=2)
    assert len(set(requests)) == len(requests) > 1
    for raw in requests:
        model, inputs = parsed(raw)
        assert model == "m"
        assert {name: (kind, shape) for name, (kind, shape, _) in inputs.items()} == {
            "a": ("FP32", [1, 3, 2]),
            "b": ("INT64", [1, 5]),
            "c": ("BOOL", [1, 2]),
        }
        floats = np.frombuffer(inputs["a"][2], np.float32)
        assert floats.shape == (6,) and (floats >= 0).all() and (floats <= 1).all()
        assert set(np.frombuffer(inputs["b"][2], np.int64)) <= {0, 1}


def test_models_without_a_batch_dimension_get_none() -> None:
    (raw, *_) = serialized_requests(config(0), None, "", seed=0)
    assert parsed(raw)[1]["x"][1] == [3]


def test_the_users_data_are_sent_in_turn(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(
        json.dumps(
            {"data": [{"x": [1, 2, 3], "t": ["one"]}, {"x": {"content": [4, 5, 6], "shape": [3]}, "t": ["two"]}]}
        )
    )
    made = config(x=("FP32", [3]), t=("STRING", [1]))
    first, second = (parsed(raw)[1] for raw in serialized_requests(made, read_sample(path), str(path), seed=0))
    assert np.frombuffer(first["x"][2], np.float32).tolist() == [1, 2, 3]
    assert np.frombuffer(second["x"][2], np.float32).tolist() == [4, 5, 6]
    assert first["t"][0] == "BYTES"
    assert first["t"][2] == serialize_byte_tensor(np.array([b"one"], dtype=np.object_)).item()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([{"x": [1, 2]}], "x"),
        ([{"y": [1, 2, 3]}], "y"),
        ([{}], r"data\[0\]: input 'x' of model m is missing"),
        ([{"x": [1, 2, 3]}, {}], r"data\[1\]: input 'x' of model m is missing"),
        ([{"x": ["a", "b", "c"]}], "x"),
    ],
)
def test_data_that_do_not_fit(tmp_path: Path, data: Any, says: str) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"data": data}))
    with pytest.raises(InputError, match=says) as error:
        serialized_requests(config(), read_sample(path), str(path), seed=0)
    assert str(path) in str(error.value)


def test_options_that_name_inputs(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"data": [{"x": [1, 2, 3]}]}))
    models = ["a", "b", "a"]
    assert set(read_inputs([f"a={path}", f"b={path}"], models)) == {"a", "b"}
    assert read_inputs([str(path)], ["a", "a"])["a"][1] == str(path)
    assert files_of([f"a={path}", str(path)]) == [str(path), str(path)]
    for texts, says in (
        ([str(path)], f"say whose inputs these are, as in a={path}"),
        ([f"c={path}"], r"no such model is deployed \(models: a, b\)"),
        ([f"a={path}", f"a={path}"], "model a is given twice"),
        (["a=nowhere.json"], r"nowhere\.json: no such file"),
    ):
        with pytest.raises(InputError, match=says):
            read_inputs(texts, models)


def test_an_answer_is_as_long_as_its_values() -> None:
    with serving(Behaviour()) as (authority, _):
        found = model_config(authority, MODEL, "W")
        (request, *_) = serialized_requests(found, None, "", 0)
        # An answer without its 12 bytes of values is shorter than this, one with them is not.
        least = least_bytes(authority, found, request, "W")
        answer = service_pb2.ModelInferResponse(model_name=MODEL)
        answer.outputs.add(name="y", datatype="FP32", shape=[1, 3])
        answer.raw_output_contents.append(b"")
        assert answer.ByteSize() < least
        answer.raw_output_contents[0] = bytes(12)
        assert answer.ByteSize() >= least

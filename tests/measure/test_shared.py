"""Inputs in shared memory: the server reads what it would have been sent, and nothing is left."""

from pathlib import Path

import pytest
from tritonclient.grpc import service_pb2

from igniter_opt.base.errors import InputError
from igniter_opt.data.arrivals import Arrivals
from igniter_opt.measure.options import MeasureOptions
from igniter_opt.measure.run import measure
from igniter_opt.measure.shared_memory import SharedInputs
from tests.measure.fake_server import MODEL, Behaviour, endpoints_of, serving


def _left(behaviour: Behaviour) -> list[Path]:
    assert behaviour.offered
    return [path for path in behaviour.offered if path.exists()]


def _request(*tensors: bytes) -> bytes:
    message = service_pb2.ModelInferRequest(model_name=MODEL)
    for number, content in enumerate(tensors):
        message.inputs.add(name=f"x{number}", datatype="UINT8", shape=[1, len(content)])
        message.raw_input_contents.append(content)
    return bytes(message.SerializeToString())


def test_requests_point_to_their_inputs() -> None:
    behaviour = Behaviour()
    sent = [(b"abc", b""), (b"\0" * 5, b"defgh")]
    with serving(behaviour) as (grpc_at, _), SharedInputs() as shared:
        moved = shared.moved(grpc_at, [_request(*tensors) for tensors in sent], "W")
        (path,) = behaviour.offered
        memory = path.read_bytes()
        for request, tensors in zip(moved, sent, strict=True):
            message = service_pb2.ModelInferRequest.FromString(request)
            assert not message.raw_input_contents and message.model_name == MODEL
            for tensor, content in zip(message.inputs, tensors, strict=True):
                begin = tensor.parameters["shared_memory_offset"].int64_param
                size = tensor.parameters["shared_memory_byte_size"].int64_param
                assert memory[begin : begin + size] == content
    assert not behaviour.regions and not _left(behaviour)


def test_a_measurement_by_shared_memory() -> None:
    behaviour = Behaviour()
    with serving(behaviour) as place:
        options = MeasureOptions(arrivals=Arrivals("constant"), duration_s=1.0, warm_up_s=0.2, shared_memory=True)
        found = measure(endpoints_of(place, rate=100.0), options)
    (entry,) = found.workloads
    assert (entry.requests, entry.failed) == (100, 0)
    assert found.settings["shared_memory"] is True
    assert not behaviour.regions and not _left(behaviour)


def test_a_server_elsewhere() -> None:
    says = r"cannot read this machine's shared memory .* leave out --shared-memory"
    behaviour = Behaviour(foreign=True)
    with serving(behaviour) as place, pytest.raises(InputError, match=says):
        measure(endpoints_of(place, rate=10.0), MeasureOptions(duration_s=0.5, warm_up_s=0.0, shared_memory=True))
    assert not _left(behaviour)


def test_a_server_that_has_gone_leaves_nothing() -> None:
    shared, behaviour = SharedInputs(), Behaviour()
    with serving(behaviour) as (grpc_at, _):
        shared.moved(grpc_at, [_request(b"abcd")], "W")
    with shared:
        assert _left(behaviour)
    assert not _left(behaviour)

"""The load generator by itself."""

import asyncio
import gc
import multiprocessing
import threading
import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from igniter_opt.measure import client
from igniter_opt.measure.client import HELD_BACK, OK, Load, RequestStream
from tests.measure.fake_server import MODEL, Behaviour, serving


@given(st.integers(0, 2**63 - 1), st.binary(max_size=40))
def test_a_stamp_is_the_parameter_it_says(sent: int, raw: bytes) -> None:
    request = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[raw])
    stamped = service_pb2.ModelInferRequest.FromString(request.SerializeToString() + client.stamp(sent))
    assert stamped.parameters["igniter_sent_ns"].int64_param == sent
    assert (stamped.model_name, list(stamped.raw_input_contents)) == ("m", [raw])


def request() -> bytes:
    message = service_pb2.ModelInferRequest(model_name=MODEL)
    message.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    message.raw_input_contents.append(np.ones(3, np.float32).tobytes())
    return bytes(message.SerializeToString())


def test_the_generator_ends_when_its_parent_is_gone() -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with serving(Behaviour()) as (authority, _):
        stream = RequestStream(authority, (request(),), np.arange(1e4) * 1e9, 12)
        child = context.Process(target=client.main, args=(theirs, Load([stream], [0], 5.0, 100, stamped=False)))
        child.start()
        theirs.close()
        assert ours.recv() == ("ready",)
        ours.send(("start", time.monotonic_ns()))
        ours.close()
        child.join(10)
        assert child.exitcode == 0


def test_grpc_is_over_before_the_event_loop_is() -> None:
    """Its last objects, whoever drops them, close the socket that a loop which still runs would then read from."""
    ours, theirs = multiprocessing.Pipe()

    def pollers() -> int:
        return sum("_poll_wrapper" in thread.name for thread in threading.enumerate())

    def parent() -> None:
        assert ours.recv() == ("ready",)
        ours.send(("start", time.monotonic_ns()))
        while ours.recv()[0] != "done":
            pass

    async def run() -> tuple[int, int]:
        generator = client._Generator(theirs, Load([stream], [0], 5.0, 100, stamped=False))
        before = pollers()
        await generator.run()  # its listening thread lives on, and with it what the generator holds
        return before, pollers()

    with serving(Behaviour()) as (authority, _):
        stream = RequestStream(authority, (request(),), np.arange(20) * 1e6, 12)
        other = threading.Thread(target=parent)
        other.start()
        gc.disable()  # as in the generator's process
        try:
            before, after = asyncio.run(run())
        finally:
            gc.enable()
            other.join(10)
            ours.send(("stop",))
    assert after <= before


def test_what_is_too_much_in_flight_is_held_back_and_said() -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    behaviour = Behaviour(service_s=0.5)
    with serving(behaviour) as (authority, _):
        stream = RequestStream(authority, (request(),), np.arange(50) * 1e6, 12)
        child = context.Process(target=client.main, args=(theirs, Load([stream], [7], 5.0, 10, stamped=True)))
        child.start()
        theirs.close()
        assert ours.recv() == ("ready",)
        before = time.monotonic_ns()
        ours.send(("start", before))
        records = []
        while (message := ours.recv())[0] == "records":
            records.append(message[1])
        ours.send(("stop",))
        child.join(10)
    found = np.sort(np.concatenate(records), order="request")
    assert set(found["stream"]) == {7}
    assert list(found["request"]) == list(range(50))
    assert list(found["due"]) == [k * 1_000_000 for k in range(50)]
    assert np.count_nonzero(found["outcome"] == OK) == 10
    assert np.count_nonzero(found["outcome"] == HELD_BACK) == 40
    # The parameter holds the time of sending, in the order of requests.
    sent = np.sort(found["sent"][found["outcome"] == OK])
    assert sorted(behaviour.sent) == [before + int(at) for at in sent]

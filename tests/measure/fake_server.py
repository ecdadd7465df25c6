"""An inference server whose behaviour tests control: delays, stalls, failures, short answers, health, statistics."""

import http.server
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from igniter_opt.deploy.endpoints import Endpoints, ReplicaEndpoint, WorkloadEndpoints

MODEL = "double"


@dataclass
class Behaviour:
    """What the server does; times in seconds on the monotonic clock."""

    service_s: float = 0.0
    stall_from: float = 0.0
    stall_until: float = 0.0
    fail: bool = False
    short: bool = False
    alive: bool = True
    good: int = 0  # so many requests at first are answered at once, whatever comes after
    foreign: bool = False  # a server elsewhere, which cannot read this machine's memory
    regions: dict[str, str] = field(default_factory=dict)  # names of shared memory by the name registered
    offered: list[Path] = field(default_factory=list)  # all shared memory that it was ever told of
    released: threading.Event = field(default_factory=threading.Event)  # ends a stall
    arrivals: list[float] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)


class _Service(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.lock = threading.Lock()

    def ModelConfig(self, request: Any, context: Any) -> Any:
        if request.name != MODEL:
            context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model {request.name}")
        config = model_config_pb2.ModelConfig(name=MODEL, max_batch_size=8)
        config.input.add(name="x", data_type=model_config_pb2.TYPE_FP32, dims=[3])
        config.output.add(name="y", data_type=model_config_pb2.TYPE_FP32, dims=[3])
        return service_pb2.ModelConfigResponse(config=config)

    def ModelInfer(self, request: Any, context: Any) -> Any:
        behaviour = self.behaviour
        now = time.monotonic()
        with self.lock:
            behaviour.arrivals.append(now)
            if "igniter_sent_ns" in request.parameters:
                behaviour.sent.append(request.parameters["igniter_sent_ns"].int64_param)
        first = len(behaviour.arrivals) <= behaviour.good
        if behaviour.fail and not first:
            context.abort(grpc.StatusCode.INTERNAL, "made to fail")
        if behaviour.stall_from <= now < behaviour.stall_until:
            behaviour.released.wait(min(60.0, behaviour.stall_until - now))
        time.sleep(0.0 if first else behaviour.service_s)
        values = 2 * np.frombuffer(self._content(request), np.float32)
        response = service_pb2.ModelInferResponse(model_name=MODEL)
        response.outputs.add(name="y", datatype="FP32", shape=[1, 3])
        response.raw_output_contents.append(b"" if behaviour.short and not first else values.tobytes())
        return response

    def SystemSharedMemoryRegister(self, request: Any, context: Any) -> Any:
        self.behaviour.offered.append(_memory(request.key))
        if self.behaviour.foreign:
            context.abort(grpc.StatusCode.INTERNAL, "Unable to open shared memory region")
        self.behaviour.regions[request.name] = request.key
        return service_pb2.SystemSharedMemoryRegisterResponse()

    def SystemSharedMemoryUnregister(self, request: Any, context: Any) -> Any:
        del self.behaviour.regions[request.name]
        return service_pb2.SystemSharedMemoryUnregisterResponse()

    def _content(self, request: Any) -> bytes:
        if request.raw_input_contents:
            return bytes(request.raw_input_contents[0])
        where = request.inputs[0].parameters
        path = _memory(self.behaviour.regions[where["shared_memory_region"].string_param])
        begin = where["shared_memory_offset"].int64_param
        return path.read_bytes()[begin : begin + where["shared_memory_byte_size"].int64_param]


def _memory(key: str) -> Path:
    return Path("/dev/shm") / key.lstrip("/")


def _handler(behaviour: Behaviour) -> type[http.server.BaseHTTPRequestHandler]:
    class Health(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stats = json.dumps({"model_stats": [statistics(len(behaviour.arrivals))]}).encode()
            known = {"/v2/health/live": b"", f"/v2/models/{MODEL}/stats": stats}
            body = known.get(self.path)
            self.send_response(404 if body is None or not behaviour.alive else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: Any) -> None:
            pass

    return Health


def statistics(requests: int) -> dict[str, Any]:
    """What Triton would say after so many requests in batches of 2: 3 ms in queue, 5 ms of compute each."""
    duration = {"count": requests, "ns": 3_000_000 * requests}
    compute = {"count": requests, "ns": 5_000_000 * requests}
    return {
        "execution_count": requests // 2,
        "inference_stats": {
            "success": duration,
            "queue": duration,
            "compute_input": {"count": requests, "ns": 1_000_000 * requests},
            "compute_infer": compute,
            "compute_output": {"count": requests, "ns": 0},
        },
        "batch_stats": [
            {"batch_size": 2, "compute_infer": {"count": requests // 2, "ns": 5_000_000 * (requests // 2)}}
        ],
    }


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[tuple[str, str]]:
    """Run a server; yields its gRPC authority and its HTTP URL."""
    server = grpc.server(ThreadPoolExecutor(400))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Service(behaviour), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    health = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(behaviour))
    threading.Thread(target=health.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"127.0.0.1:{port}", f"http://127.0.0.1:{health.server_address[1]}"
    finally:
        health.shutdown()
        health.server_close()
        server.stop(None)


def endpoints_of(*places: tuple[str, str], rate: float, workload: str = "W") -> Endpoints:
    """Endpoints of one workload with a replica at every place."""
    replicas = tuple(
        ReplicaEndpoint(replica=k + 1, gpu="G-1", rate_rps=rate / len(places), grpc=grpc_at, http=http_at)
        for k, (grpc_at, http_at) in enumerate(places)
    )
    return Endpoints(workloads={workload: WorkloadEndpoints(model=MODEL, replicas=replicas)})

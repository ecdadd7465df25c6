"""A stand-in for ``tritonserver``: the options, health, metadata and inference that the launcher uses.

It serves models that double their input. A file ``1/behaviour`` in the model's folder makes it misbehave:
exit, hang, wrong, empty, short, nan, shape, missing. Like the real one it has a child process
and a shared-memory segment.

Tests start hundreds of it, so it loads little: neither NumPy nor a client, only the client's definitions.
"""

import argparse
import http.server
import json
import signal
import subprocess
import sys
import threading
import types
from array import array
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import tritonclient
from google.protobuf import text_format

DEFINITIONS = types.ModuleType("tritonclient.grpc")
DEFINITIONS.__path__ = [str(Path(entry) / "grpc") for entry in tritonclient.__path__]
sys.modules["tritonclient.grpc"] = DEFINITIONS

from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc  # noqa: E402


def options() -> Any:
    parser = argparse.ArgumentParser()
    for name in ("id", "model-repository", "http-address", "grpc-address", "backend-config"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("http-port", "grpc-port", "metrics-port"):
        parser.add_argument(f"--{name}", type=int, required=True)
    return parser.parse_known_args()[0]


OPTIONS = options()
MODEL = next(Path(OPTIONS.model_repository).iterdir())
CONFIG = text_format.Parse((MODEL / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
BEHAVIOUR = (MODEL / "1/behaviour").read_text().strip() if (MODEL / "1/behaviour").exists() else ""
SEGMENT = Path("/dev/shm") / (OPTIONS.backend_config.split("shm-region-prefix-name=")[1] + "segment")


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/v2/health/ready":
            body, status = b"", 400 if BEHAVIOUR == "hang" else 200
        elif self.path == "/v2":
            body, status = json.dumps({"name": OPTIONS.id}).encode(), 200
        else:
            body, status = b"", 404
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


class Inference(service_pb2_grpc.GRPCInferenceServiceServicer):
    def ModelConfig(self, _: Any, __: Any) -> Any:
        return service_pb2.ModelConfigResponse(config=CONFIG)

    def ModelInfer(self, request: Any, context: Any) -> Any:
        (given,) = request.inputs
        shape = list(given.shape)
        if CONFIG.max_batch_size and shape[0] > CONFIG.max_batch_size:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "batch too large")
        values = array("f", (2 * value for value in array("f", request.raw_input_contents[0])))
        response = service_pb2.ModelInferResponse(model_name=request.model_name)
        if BEHAVIOUR == "missing":
            return response
        if BEHAVIOUR == "nan":
            values = array("f", (float("nan") for _ in values))
        if BEHAVIOUR == "wrong":
            values = array("f", (value + 1 for value in values))
        raw = values.tobytes()
        if BEHAVIOUR == "empty":
            shape, raw = [0], b""
        if BEHAVIOUR == "short":
            raw = b""
        if BEHAVIOUR == "shape":
            shape = [*shape, 1]
        response.outputs.add(name="y", datatype="FP32", shape=shape)
        response.raw_output_contents.append(raw)
        return response


def main() -> None:
    if BEHAVIOUR == "exit":
        print("error: creating server: Internal - failed to load all models", flush=True)
        sys.exit(1)
    try:
        web = http.server.ThreadingHTTPServer((OPTIONS.http_address, OPTIONS.http_port), Health)
    except OSError as error:
        print(f"failed to start HTTP service: {error}", flush=True)
        sys.exit(1)
    child = subprocess.Popen(["sleep", "1000"])
    SEGMENT.write_bytes(b"x")
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Inference(), server)
    server.add_insecure_port(f"{OPTIONS.grpc_address}:{OPTIONS.grpc_port}")
    server.start()
    threading.Thread(target=web.serve_forever, daemon=True).start()
    print("started", flush=True)
    end = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: end.set())
    end.wait()
    child.kill()
    child.wait()
    SEGMENT.unlink(missing_ok=True)


main()

"""Whether a server is ready, is ours, and answers with the right values.

Readiness alone proves nothing: a server can be ready and answer with empty tensors, and another server may
listen on the port.
"""

import http.client
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from igniter_opt.base.errors import IgniterOptError
from igniter_opt.base.optional import load
from igniter_opt.deploy.records import ReplicaRecord
from igniter_opt.deploy.triton.samples import Array, Sample, data_type, generic_inputs

# How long one health request, and one inference (the first may compile kernels), may take.
HEALTH_TIMEOUT_S, INFERENCE_TIMEOUT_S = 2.0, 60.0


class WrongAnswerError(IgniterOptError):
    """A server that is ready does not answer right."""


@dataclass(frozen=True)
class Endpoint:
    """Where a server listens, and who it should be."""

    address: str
    http: int
    grpc: int
    server_id: str
    model: str
    batch: int


def endpoint(record: ReplicaRecord, address: str) -> Endpoint:
    """Return the endpoint of a recorded server."""
    return Endpoint(address, record.ports.http, record.ports.grpc, record.server_id, record.model, record.batch)


def is_ready(server: Endpoint, timeout_s: float = HEALTH_TIMEOUT_S) -> bool:
    """Whether the server is ready, and the one that was started (not another one on its port)."""
    ready = get(server, "/v2/health/ready", timeout_s)
    if ready is None:
        return False
    metadata = get(server, "/v2", timeout_s)
    try:
        return metadata is not None and json.loads(metadata)["name"] == server.server_id
    except (ValueError, KeyError, TypeError):
        return False


def get(server: Endpoint, path: str, timeout_s: float = HEALTH_TIMEOUT_S) -> bytes | None:
    """Return the body of a successful GET from a server; None if there is none."""
    return http_get(server.address, server.http, path, timeout_s)


def http_get(address: str, port: int, path: str, timeout_s: float = HEALTH_TIMEOUT_S) -> bytes | None:
    """Return the body of a successful GET; None if there is none."""
    connection = http.client.HTTPConnection(address, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read(2**24)
        return body if response.status == http.HTTPStatus.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def check_inference(
    server: Endpoint, sample: Sample | None, sample_file: Path, timeout_s: float = INFERENCE_TIMEOUT_S
) -> None:
    """Infer, alone and as a full batch, and check the values of all outputs.

    With a sample its expected values are compared; in any case outputs must be there, finite, not empty, and
    of the shape in the model's configuration.

    Raises
    ------
    WrongAnswerError
        Saying what is wrong with which output.
    InputError
        If the sample does not fit the model.
    """
    grpc = load("tritonclient.grpc")
    with grpc.InferenceServerClient(_url(server.address, server.grpc)) as client:
        try:
            config = client.get_model_config(server.model, client_timeout=timeout_s).config
            requests = generic_inputs(config) if sample is None else sample.inputs(config, str(sample_file))
            expected = [{}] if sample is None else sample.expected(config, str(sample_file))
            tolerance = 0.0 if sample is None else sample.tolerance
            for request, answer in zip(requests, expected, strict=True):
                sizes = (None,) if config.max_batch_size == 0 else tuple(sorted({1, server.batch}))
                for size in sizes:
                    outputs = _infer(grpc, client, config, request, size, timeout_s)
                    _check(config, outputs, answer, size, tolerance)
        except grpc.InferenceServerException as error:
            hint = "" if sample is not None else f"; if the model cannot take ones, give a sample in {sample_file}"
            raise WrongAnswerError(f"inference fails: {error.message()}{hint}") from None


def _url(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _infer(
    grpc: Any, client: Any, config: Any, request: dict[str, Array], size: int | None, timeout_s: float
) -> dict[str, Array | None]:
    declared = {entry.name: entry for entry in config.input}
    inputs = []
    for name, values in request.items():
        batch = values if size is None else np.repeat(values[np.newaxis], size, axis=0)
        tensor = grpc.InferInput(name, batch.shape, data_type(declared[name]))
        tensor.set_data_from_numpy(np.ascontiguousarray(batch))
        inputs.append(tensor)
    result = client.infer(config.name, inputs, client_timeout=timeout_s)
    outputs: dict[str, Array | None] = {}
    for entry in config.output:
        try:
            outputs[entry.name] = result.as_numpy(entry.name)
        except ValueError:  # fewer bytes than the shape takes
            raise WrongAnswerError(
                f"output {entry.name!r} has fewer bytes than its shape needs (is numpy < 2 used by the Python backend?)"
            ) from None
    return outputs


def _check(
    config: Any, outputs: dict[str, Array | None], expected: dict[str, Array], size: int | None, tolerance: float
) -> None:
    for entry in config.output:
        values = outputs[entry.name]
        what = f"output {entry.name!r}" + ("" if size is None else f" at batch {size}")
        if values is None:
            raise WrongAnswerError(f"{what} is missing")
        if values.size == 0:
            raise WrongAnswerError(f"{what} is empty")
        dims = list(entry.dims) if size is None else [size, *entry.dims]
        if len(values.shape) != len(dims) or any(
            dim not in (-1, found) for dim, found in zip(dims, values.shape, strict=True)
        ):
            raise WrongAnswerError(f"{what} has shape {list(values.shape)}, its configuration says {dims}")
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise WrongAnswerError(f"{what} has values that are not finite")
        if entry.name in expected:
            wanted = expected[entry.name]
            _compare(values, wanted if size is None else np.repeat(wanted[np.newaxis], size, axis=0), what, tolerance)


def _compare(values: Array, wanted: Array, what: str, tolerance: float) -> None:
    """Compare with the expected values; the error is relative to the largest of them."""
    if values.shape != wanted.shape:
        raise WrongAnswerError(f"{what} has shape {list(values.shape)}, expected is {list(wanted.shape)}")
    if np.issubdtype(values.dtype, np.floating):
        error = np.abs(values.astype(np.float64) - wanted.astype(np.float64))
        allowed = tolerance * np.abs(wanted.astype(np.float64)).max()
        wrong = ~(error <= allowed)
    else:
        wrong = values != wanted
    if wrong.any():
        at = tuple(int(k) for k in np.argwhere(wrong)[0])
        found, right = (array.item(at) for array in (values, wanted))
        raise WrongAnswerError(
            f"{what}: {int(wrong.sum())} wrong value(s), at {list(at)} {found!r}, expected {right!r}"
        )

"""What to send: serialized inference requests for a model, from the user's data or made up."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from igniter_opt.base.errors import InputError
from igniter_opt.base.optional import load
from igniter_opt.deploy.triton.samples import NUMPY_TYPES, Array, Sample, data_type, generic_inputs, read_sample
from igniter_opt.measure.client import LARGE_MESSAGES, METHOD

_CONFIG_TIMEOUT_S = 10.0
# The first inference may compile kernels.
_FIRST_TIMEOUT_S = 60.0
# Random inputs, so that servers cannot gain from repetition; so many different ones are sent in turn.
_RANDOM_REQUESTS = 4
# Bytes of one element of an output whose size is fixed.
_WIDTH = {"BOOL": 1, "UINT8": 1, "INT8": 1, "FP16": 2, "BF16": 2, "UINT16": 2, "INT16": 2}
_WIDTH |= {"UINT32": 4, "INT32": 4, "FP32": 4, "UINT64": 8, "INT64": 8, "FP64": 8}


def model_config(authority: str, model: str, where: str) -> Any:
    """Ask a server for a model's configuration.

    Raises
    ------
    InputError
        Nobody answers there, or the server has no such model.
    """
    grpc = load("tritonclient.grpc")
    with grpc.InferenceServerClient(authority) as client:
        try:
            return client.get_model_config(model, client_timeout=_CONFIG_TIMEOUT_S).config
        except grpc.InferenceServerException as error:
            if "StatusCode.UNAVAILABLE" in str(error.status()) or "DEADLINE" in str(error.status()):
                raise InputError(
                    f"{where}: nobody answers at {authority}; is it deployed (`igniter-opt status`)?"
                ) from None
            raise InputError(f"{where}: the server at {authority} has no model {model!r} ({error.message()})") from None


def serialized_requests(config: Any, sample: Sample | None, source: str, seed: int) -> tuple[bytes, ...]:
    """Serialize requests of one item each for a model.

    Parameters
    ----------
    config
        The model's configuration, as its server reports it.
    sample
        The user's data; without it inputs are random (floating-point numbers from 0 to 1, whole numbers 0 or 1).

    Raises
    ------
    InputError
        The data do not fit the model.
    """
    if sample is None:
        random = np.random.default_rng(seed)
        entries = [_random(generic_inputs(config)[0], random) for _ in range(_RANDOM_REQUESTS)]
    else:
        entries = sample.inputs(config, source)
        required = [entry.name for entry in config.input if not entry.optional]
        for k, entry in enumerate(entries):
            missing = [name for name in required if name not in entry]
            if missing:
                raise InputError(f"{source}: data[{k}]: input {missing[0]!r} of model {config.name} is missing")
    return tuple(_serialize(config, entry) for entry in entries)


def files_of(texts: Sequence[str]) -> list[str]:
    """Return the files that options ``[MODEL=]FILE`` name."""
    return [text.partition("=")[2] or text for text in texts]


def read_inputs(texts: Sequence[str], models: Sequence[str]) -> dict[str, tuple[Sample, str]]:
    """Read options ``MODEL=FILE`` (or a file, where there is but one model): per model its data and their source."""
    found: dict[str, tuple[Sample, str]] = {}
    for text in texts:
        model, equals, path = text.partition("=")
        if not equals:
            if len(set(models)) != 1:
                raise InputError(f"--input {text!r}: say whose inputs these are, as in {models[0]}={text}")
            model, path = models[0], text
        if model not in models:
            raise InputError(f"--input {text!r}: no such model is deployed (models: {', '.join(sorted(set(models)))})")
        if model in found:
            raise InputError(f"--input: model {model} is given twice")
        found[model] = (read_sample(Path(path)), path)
    return found


def least_bytes(authority: str, config: Any, request: bytes, where: str) -> int:
    """Try a request; return how many bytes an answer has at least that holds its values.

    A server can be ready and answer with empty tensors, so answers that lack half the bytes of their values count as
    failed. (0 where the size of the values is not fixed.)

    Raises
    ------
    InputError
        The server does not answer the request, or without values.
    """
    grpc, service = load("grpc"), load("tritonclient.grpc.service_pb2")
    with grpc.insecure_channel(authority, LARGE_MESSAGES) as channel:
        try:
            raw = channel.unary_unary(METHOD)(request, timeout=_FIRST_TIMEOUT_S)
        except grpc.RpcError as error:
            raise InputError(f"{where}: inference fails: {error.details()}; `--input` says what to send") from None
    values = _value_bytes(config)
    answer = service.ModelInferResponse.FromString(raw)
    if sum(len(content) for content in answer.raw_output_contents) < values:
        raise InputError(f"{where}: the server's answer lacks its values (is numpy < 2 used by the Python backend?)")
    return len(raw) - values // 2 if values else 0


def _value_bytes(config: Any) -> int:
    """Bytes of the values of all outputs whose size is fixed, for one request."""
    total = 0
    for entry in config.output:
        dims = [int(dim) for dim in (entry.reshape.shape or entry.dims)]
        if all(dim > 0 for dim in dims):
            total += _WIDTH.get(data_type(entry), 0) * int(np.prod(dims))
    return total


def _random(ones: dict[str, Array], random: np.random.Generator) -> dict[str, Array]:
    made = {}
    for name, values in ones.items():
        if np.issubdtype(values.dtype, np.floating):
            made[name] = random.random(values.shape).astype(values.dtype)
        elif values.dtype == np.object_:
            made[name] = values
        else:
            made[name] = random.integers(0, 2, values.shape).astype(values.dtype)
    return made


def _serialize(config: Any, entry: dict[str, Array]) -> bytes:
    grpc, service = load("tritonclient.grpc"), load("tritonclient.grpc.service_pb2")
    types = {tensor.name: data_type(tensor) for tensor in config.input}
    message = service.ModelInferRequest(model_name=config.name)
    for name, values in entry.items():
        batch = values[np.newaxis] if config.max_batch_size > 0 else values
        tensor = grpc.InferInput(name, batch.shape, types[name])
        tensor.set_data_from_numpy(np.ascontiguousarray(batch.astype(NUMPY_TYPES[types[name]], copy=False)))
        message.inputs.append(tensor._get_tensor())
        message.raw_input_contents.append(tensor._get_content())
    return bytes(message.SerializeToString())

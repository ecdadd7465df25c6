"""Inputs in shared memory of this machine: requests carry only where their tensors are.

What a client and a server on one machine spend on copying large inputs through a socket is no part of serving them.
Triton reads such inputs where they lie, if it is told of the region beforehand.
"""

import contextlib
import secrets
from collections.abc import Sequence
from multiprocessing.shared_memory import SharedMemory
from types import TracebackType
from typing import Any

from igniter_opt.base.errors import InputError
from igniter_opt.base.optional import load

_TIMEOUT_S = 10.0


class SharedInputs:
    """Regions of shared memory, known to servers until this is left."""

    def __init__(self) -> None:
        self._regions: dict[str, SharedMemory] = {}
        self._known_to: list[tuple[str, str]] = []

    def __enter__(self) -> "SharedInputs":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for authority, name in self._known_to:
            with contextlib.suppress(Exception), _client(authority) as client:  # the server may be gone
                client.unregister_system_shared_memory(name, client_timeout=_TIMEOUT_S)
        for region in self._regions.values():
            region.close()
            region.unlink()

    def moved(self, authority: str, requests: Sequence[bytes], where: str) -> tuple[bytes, ...]:
        """Put the inputs of serialized requests into memory that a server reads; return requests that point to it.

        Raises
        ------
        InputError
            There is not enough shared memory, or the server cannot open it.
        """
        service, grpc = load("tritonclient.grpc.service_pb2"), load("tritonclient.grpc")
        messages = [service.ModelInferRequest.FromString(request) for request in requests]
        size = max(1, sum(len(content) for message in messages for content in message.raw_input_contents))
        name = f"igniter-opt-measure-{secrets.token_hex(8)}"
        try:
            region = SharedMemory(name, create=True, size=size)
        except OSError as error:
            raise InputError(f"shared memory of {size:,} bytes cannot be created ({error.strerror})") from None
        self._regions[name] = region
        memory = region.buf
        assert memory is not None  # it is open  # noqa: S101
        offset = 0
        for message in messages:
            for tensor, content in zip(message.inputs, message.raw_input_contents, strict=True):
                memory[offset : offset + len(content)] = content
                tensor.parameters["shared_memory_region"].string_param = name
                tensor.parameters["shared_memory_byte_size"].int64_param = len(content)
                tensor.parameters["shared_memory_offset"].int64_param = offset
                offset += len(content)
            del message.raw_input_contents[:]
        try:
            with _client(authority) as client:
                client.register_system_shared_memory(name, f"/{name}", size, client_timeout=_TIMEOUT_S)
        except grpc.InferenceServerException as error:
            raise InputError(
                f"{where}: the server at {authority} cannot read this machine's shared memory ({error.message()});"
                " leave out --shared-memory"
            ) from None
        self._known_to.append((authority, name))
        return tuple(message.SerializeToString() for message in messages)

    def taken_over(self, authority: str, successor: str) -> bool:
        """Make what a server knows known to the one that takes over from it; whether that one can read it."""
        grpc = load("tritonclient.grpc")
        for name in dict.fromkeys(name for known_to, name in self._known_to if known_to == authority):
            try:
                with _client(successor) as client:
                    client.register_system_shared_memory(
                        name, f"/{name}", self._regions[name].size, client_timeout=_TIMEOUT_S
                    )
            except grpc.InferenceServerException:
                return False
            self._known_to.append((successor, name))
        return True


def _client(authority: str) -> Any:
    return load("tritonclient.grpc").InferenceServerClient(authority)

"""What serving adds to a profile: the server's part of every batch, of every request, and the way there and back."""

from typing import Literal

from pydantic import Field

from igniter_opt.base.schema import Count, Name, NonNegative, Record

# How a model is run: the format of its folder, as `models export` takes it.
ServedFormat = Literal["torch", "onnx", "tensorrt"]


class ServedModel(Record):
    """What was measured of one model beyond its profile (ms).

    Attributes
    ----------
    batch_ms, request_ms
        A batch of k takes ``batch_ms + k request_ms`` longer than the model alone; nothing of it overlaps with the
        next batch.
    way_ms
        A request's way to the server and back, beyond waiting and its batch; other requests do not wait for it.
    residual_ms
        Mean distance of the measured batches from that line.
    batches, requests
        How many were measured.
    """

    batch_ms: NonNegative
    request_ms: NonNegative
    way_ms: NonNegative
    residual_ms: NonNegative
    batches: Count
    requests: Count


class Serving(Record):
    """What serves, and what it adds by model.

    Attributes
    ----------
    backend, server, machine
        What started the servers, which server, and on which machine.
    format, precision
        How the models were run; None where their folders do not say.
    stolen_s
        Processor time that the host of this virtual machine gave to others while it was measured.
    """

    backend: str
    server: str | None = None
    machine: str | None = None
    format: ServedFormat | None = None
    precision: str | None = None
    date: str
    note: str | None = None
    stolen_s: NonNegative | None = None
    models: dict[Name, ServedModel] = Field(min_length=1)

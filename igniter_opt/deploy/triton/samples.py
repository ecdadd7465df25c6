"""A sample request with its expected answer, in perf_analyzer's JSON format.

``check.json`` in a model's folder::

    {"data":            [{"INPUT0":  {"content": [1, 2, 3], "shape": [3]}}],
     "validation_data": [{"OUTPUT0": [2, 4, 6]}],
     "tolerance": 0.001}

Shapes are those of one request, without the batch dimension; a plain list has the shape of the
configuration. ``tolerance`` is ours: the largest relative error of a floating-point output.
"""

import base64
import binascii
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from igniter_opt.base.errors import InputError, explained
from igniter_opt.base.files import parse_json, read_text
from igniter_opt.base.schema import Integer, NonNegative, Record, describe, invalid, nearest, parse_record

CHECK_FILE = "check.json"
DEFAULT_TOLERANCE = 1e-3
# Far more than any request holds.
MOST_VALUES = 10**8
_MOST_BYTES = 2**30

NUMPY_TYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BF16": np.float32,  # the client library converts
    "BYTES": np.object_,
    "STRING": np.object_,
}
Array = npt.NDArray[Any]


class Tensor(Record):
    """Values of one tensor: a flat or nested list, or base64 of its bytes, with a shape."""

    content: list[Any] | None = None
    b64: str | None = None
    shape: tuple[Annotated[Integer, Field(ge=0)], ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, data: object) -> object:
        return {"content": data} if isinstance(data, list) else data

    @model_validator(mode="after")
    def _one_of(self) -> "Tensor":
        if (self.content is None) == (self.b64 is None):
            raise invalid("must have either 'content' or 'b64'")
        return self

    def array(self, datatype: str, dims: tuple[int, ...], where: str) -> Array:
        """Return the values as an array of a Triton data type; `dims` is the shape where none is given."""
        kind = NUMPY_TYPES[datatype]
        null = None if self.content is None else _first_null(self.content)
        if null is not None:  # NumPy would make it NaN, false or the text None
            raise InputError(f"{where}: content{null} is null; give a value")
        shape = dims if self.shape is None else self.shape
        try:
            if self.b64 is not None:
                raw = base64.b64decode(self.b64, validate=True)
                values: Array = np.array([raw], dtype=np.object_) if kind is np.object_ else np.frombuffer(raw, kind)
            elif kind is np.object_:
                values = np.array([str(entry).encode() for entry in np.ravel(np.array(self.content, np.object_))])
                values = values.astype(np.object_)
            else:
                with np.errstate(over="raise", invalid="raise"):  # a number beyond its type, not infinity instead
                    values = np.ravel(np.array(self.content, dtype=kind))
            return values.reshape(shape)
        except (ValueError, TypeError, ArithmeticError, binascii.Error) as error:
            raise InputError(f"{where}: cannot become {datatype} of shape {list(shape)} ({explained(error)})") from None


def _first_null(content: list[Any]) -> str | None:
    """Return where in nested lists there is no value: ``[1][0]``; None where there is one everywhere."""
    for position, entry in enumerate(content):
        if entry is None:
            return f"[{position}]"
        if isinstance(entry, list) and (inner := _first_null(entry)) is not None:
            return f"[{position}]{inner}"
    return None


class Sample(Record):
    """One request, its expected answer (outputs left out are only checked to be sane), and a tolerance."""

    data: tuple[dict[str, Tensor], ...] = Field(min_length=1)
    validation_data: tuple[dict[str, Tensor], ...] = ()
    tolerance: NonNegative = DEFAULT_TOLERANCE

    @model_validator(mode="after")
    def _paired(self) -> "Sample":
        if self.validation_data and len(self.validation_data) != len(self.data):
            raise invalid("validation_data: must have one entry for every entry of data")
        return self

    def inputs(self, config: Any, where: str) -> list[dict[str, Array]]:
        """Return the requests' input tensors for a model's effective configuration."""
        return [_arrays(entry, config.input, f"{where}: data[{k}]") for k, entry in enumerate(self.data)]

    def expected(self, config: Any, where: str) -> list[dict[str, Array]]:
        """Return the expected output tensors of every request."""
        if not self.validation_data:
            return [{} for _ in self.data]
        return [
            _arrays(entry, config.output, f"{where}: validation_data[{k}]")
            for k, entry in enumerate(self.validation_data)
        ]


def read_sample(path: Path) -> Sample:
    """Read a ``check.json``; raise InputError if it is none."""
    text = read_text(path, _MOST_BYTES)
    return parse_record(Sample, parse_json(text, str(path), MOST_VALUES), str(path))


def generic_inputs(config: Any) -> list[dict[str, Array]]:
    """Return one request of ones, for a model without a sample; variable dimensions are 1."""
    request: dict[str, Array] = {}
    for entry in config.input:
        if entry.optional:
            continue
        shape = tuple(max(1, dim) for dim in entry.dims)
        if int(np.prod(shape, dtype=object)) > MOST_VALUES:
            raise InputError(
                f"the input {entry.name!r} has {list(shape)} values; give a smaller sample in {CHECK_FILE}"
            )
        kind = NUMPY_TYPES[data_type(entry)]
        request[entry.name] = np.full(shape, b"1", np.object_) if kind is np.object_ else np.ones(shape, kind)
    return [request]


def data_type(entry: Any) -> str:
    """Return the protocol's name of a tensor's data type, such as FP32; raise InputError if it has none."""
    from igniter_opt.deploy.triton.model_config import protobuf

    names = {number: str(name).removeprefix("TYPE_") for name, number in protobuf().DataType.items()}
    name = names.get(entry.data_type)
    if name not in NUMPY_TYPES:
        raise InputError(f"tensor {describe(entry.name)} has no known data_type; give one, such as TYPE_FP32")
    return "BYTES" if name == "STRING" else name


def _arrays(entry: dict[str, Tensor], declared: Any, where: str) -> dict[str, Array]:
    known = {tensor.name: tensor for tensor in declared}
    result = {}
    for name, tensor in entry.items():
        if name not in known:
            raise InputError(f"{where}: the model has no tensor {describe(name)}{nearest(name, known)}")
        dims = tuple(int(dim) for dim in known[name].dims)
        result[name] = tensor.array(data_type(known[name]), dims, f"{where}.{name}")
    return result

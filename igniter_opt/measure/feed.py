"""The feed: latencies of answered requests, as they come, for whoever watches a deployment.

A text file that is only appended to, one JSON object a line. `measure --feed` writes it; a gateway may write the same.
"""

import json
import os
from pathlib import Path
from typing import Annotated

from pydantic import Field

from igniter_opt.base.errors import InputError
from igniter_opt.base.schema import Integer, Name, NonNegative, Positive, Record
from igniter_opt.deploy.endpoints import Authority


class FeedLine(Record):
    """What became of some requests of one workload, written soon after.

    Attributes
    ----------
    at
        Unix time in seconds when the line was written.
    server
        Host and port of the gRPC service (as in ``endpoints.json``) that the requests went to; None if not known.
    latencies_ms
        Of every answered request, as its user sees it.
    failed
        Number of requests without a good answer.
    """

    at: Positive
    workload: Name
    server: Authority | None = None
    latencies_ms: tuple[NonNegative, ...] = ()
    failed: Annotated[Integer, Field(ge=0)] = 0


class FeedWriter:
    """Appends lines to a feed; every call writes whole lines at once.

    Raises
    ------
    InputError
        The file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # Without waiting, for ever maybe, for somebody to read a pipe.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            self._file = os.open(path, flags, 0o666)
            os.set_blocking(self._file, True)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror})") from None

    def write(self, lines: list[FeedLine]) -> None:
        """Append lines."""
        text = "".join(json.dumps(line.model_dump(mode="json"), separators=(",", ":")) + "\n" for line in lines)
        try:
            os.write(self._file, text.encode())
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror})") from None

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
